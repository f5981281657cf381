"""Extraction: a message and a list of keys; the answer is compact JSON with the values copied from the message."""

import json

from . import words as w
from .kit import Draw, Sample, Skill, an, chat

Field = str | int | None


def order(d: Draw) -> tuple[list[str], dict[str, Field]]:
    """Somebody orders something."""
    name, count = f"{w.person(d).name} {w.surname(d)}", d.number(2, 40)
    item, number, town = d.slot(w.ITEMS)[1], w.code(d), w.town(d)
    tellings = [
        f"{name} from {town} ordered {count} {item}. The order number is {number}.",
        f"Order {number}: {count} {item} for {name} in {town}.",
        f"Please send {count} {item} to {name} in {town}. Order: {number}.",
        f"Hello, this is {name}. I ordered {count} {item} to {town}, order number {number}.",
    ]
    return tellings, {"name": name, "quantity": count, "item": item, "town": town, "order": number}


def contact(d: Draw) -> tuple[list[str], dict[str, Field]]:
    """Somebody leaves an address."""
    first = w.person(d).name
    name, mail, call, town = f"{first} {w.surname(d)}", w.email(d, first), w.phone(d), w.town(d)
    job = d.slot(w.JOBS)
    tellings = [
        f"{name} is {an(job)} in {town}. The email is {mail} and the phone number is {call}.",
        f"My name is {name}, I live in {town}. Write to {mail} or call {call}. I work as {an(job)}.",
        f"Contact: {name}, {job}, {town}, {mail}, {call}.",
        f"You can reach {name} ({job}, {town}) at {mail} or on {call}.",
    ]
    return tellings, {"name": name, "email": mail, "phone": call, "town": town, "job": job}


def appointment(d: Draw) -> tuple[list[str], dict[str, Field]]:
    """Somebody books a visit."""
    name, day, time, place = w.person(d).name, w.date(d), w.clock(d), d.slot(w.SPOTS)
    doctor = w.surname(d)
    tellings = [
        f"{name} has an appointment with Dr {doctor} on {day} at {time} at the {place}.",
        f"Please book {name} in with Dr {doctor} at the {place}, {day}, {time}.",
        f"Reminder: {name}, {day} at {time}, Dr {doctor}, {place}.",
        f"On {day} at {time}, Dr {doctor} will see {name} at the {place}.",
    ]
    return tellings, {"name": name, "date": day, "time": time, "place": place, "doctor": doctor}


def invoice(d: Draw) -> tuple[list[str], dict[str, Field]]:
    """A bill."""
    customer, amount, number, due = f"{w.person(d).name} {w.surname(d)}", d.number(10, 990), w.code(d), w.date(d)
    item = d.slot(w.ITEMS)[1]
    tellings = [
        f"Invoice {number} for {customer}: {amount} dollars for {item}, due on {due}.",
        f"{customer} must pay {amount} dollars for {item} by {due}. The invoice number is {number}.",
        f"We sent {customer} invoice {number} for {item}. The amount is {amount} dollars and it is due on {due}.",
    ]
    return tellings, {"customer": customer, "amount": amount, "invoice": number, "due": due, "item": item}


def booking(d: Draw) -> tuple[list[str], dict[str, Field]]:
    """A trip or a table for some people."""
    name, guests, day, time = f"{w.person(d).name} {w.surname(d)}", d.number(2, 12), w.date(d), w.clock(d)
    town = w.town(d)
    tellings = [
        f"{name} would like a table for {guests} people in {town} on {day} at {time}.",
        f"A table in {town} for {guests}, please, on {day} at {time}. The name is {name}.",
        f"Booking for {name}: {guests} guests, {town}, {day}, {time}.",
    ]
    return tellings, {"name": name, "guests": guests, "town": town, "date": day, "time": time}


def problem(d: Draw) -> tuple[list[str], dict[str, Field]]:
    """A fault that somebody reports."""
    name, thing, colour, number = w.person(d).name, d.slot(w.ITEMS)[0], d.pick(w.COLOURS), w.code(d)
    day = d.pick(w.DAYS)
    tellings = [
        f"{name} writes that the {colour} {thing} from order {number} broke on {day}.",
        f"My {colour} {thing} arrived damaged on {day}. My order is {number}. Regards, {name}",
        f"On {day} {name} returned {an(colour)} {thing} from order {number}.",
    ]
    return tellings, {"name": name, "item": thing, "colour": colour, "order": number, "day": day}


def lesson(d: Draw) -> tuple[list[str], dict[str, Field]]:
    """A course at a school."""
    teacher, subject, day, time = w.person(d).name, d.slot(w.HOBBIES), d.pick(w.DAYS), w.clock(d)
    room, price = d.number(1, 40), d.number(5, 95)
    tellings = [
        f"{teacher} teaches {subject} every {day} at {time} in room {room}. A lesson costs {price} dollars.",
        f"The {subject} class is on {day} at {time}, room {room}, with {teacher}. The price is {price} dollars.",
        f"Course: {subject}, {day}, {time}, room {room}. Teacher: {teacher}. Price: {price} dollars.",
    ]
    return tellings, {"teacher": teacher, "subject": subject, "day": day, "time": time, "room": room, "price": price}


KINDS = (order, contact, appointment, invoice, booking, problem, lesson)
ABSENT = ("email", "phone", "colour", "price", "doctor", "room", "invoice", "guests", "country", "age")

FORMS = (
    "Extract {keys} as JSON.\n\n{text}",
    "Give me JSON with the keys {keys}.\n\n{text}",
    "{text}\n\nReturn JSON with these keys: {keys}.",
    "Text: {text}\nKeys: {keys}\nAnswer with JSON only.",
    "Read this message and fill in {keys}. Answer as JSON.\n{text}",
    "Turn this into JSON ({keys}): {text}",
)


def make(d: Draw) -> Sample:
    """A message, some of its keys in any order, at times one key that the message does not answer."""
    tellings, fields = d.pick(KINDS)(d)
    keys = d.some(list(fields), d.number(2, min(5, len(fields))))
    if d.chance(0.12):
        missing = [key for key in ABSENT if key not in fields]
        keys.insert(d.number(0, len(keys)), d.pick(missing))
    record = {key: fields.get(key) for key in keys}
    answer = json.dumps(record, ensure_ascii=False, separators=(", ", ": "))
    user = d.pick(FORMS).format(keys=", ".join(keys), text=d.pick(tellings))
    system = "Answer with JSON only. Use null for what is not in the text." if d.chance(0.15) else ""
    return Sample(chat(user, answer, system=system))


SKILL = Skill("extract", make, "json")
