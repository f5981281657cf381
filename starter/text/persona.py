"""Following the system message: a shop's own facts stand there, and its help desk answers from them."""

from . import words as w
from .kit import Draw, Sample, Skill, cap, chat, split, styled, words_of

TRADES = split(
    "a bookshop|a bakery|a bicycle shop|a dentist|a hotel|a library|a museum|a garden centre|a toy shop|a language "
    "school|a gym|a vet|"
    "a phone shop|a restaurant|a cinema|a furniture shop|a pharmacy|a car repair shop|a hairdresser|a travel "
    "agency|a bank|a school|"
    "an optician|an online shop|a printing shop|a swimming pool|a law office|a clinic|a cleaning company|a power "
    "company"
)
NAME_ENDS = (
    "Books",
    "House",
    "Centre",
    "Corner",
    "Works",
    "Point",
    "Place",
    "Services",
    "Direct",
    "Studio",
    "Store",
    "Garden",
    "Care",
)

# key: (line in the system message, questions, answers); the first answer is taken for held-out rows
FACTS = {
    "hours": (
        "Open from {open} to {close}.|Opening hours: {open} to {close}.|We are open from {open} to {close}.",
        "When are you open?|What are your opening hours?|At what time do you open?|When do you close?|Are you open "
        "now?|How long are you open?",
        "We are open from {open} to {close}. We look forward to seeing you.",
    ),
    "closed": (
        "Closed on {day}.|We are closed on {day}.|No service on {day}.",
        "Are you open on {day}?|On which day are you closed?|Can I come on {day}?|Do you work on {day}?",
        "We are closed on {day}. You are welcome on any other day.",
    ),
    "address": (
        "Address: {street}, {town}.|We are at {street} in {town}.|You can find us at {street}, {town}.",
        "Where are you?|What is your address?|How do I find you?|Where is your shop?|Where can I find you?|In "
        "which street are you?",
        "You can find us at {street} in {town}. Please come and visit us.",
    ),
    "phone": (
        "Phone: {phone}.|Our phone number is {phone}.|Call us on {phone}.",
        "What is your phone number?|How can I call you?|Can I call you?|Which number can I call?|I want to talk to "
        "somebody.",
        "You can call us on {phone}. We are happy to help you.",
    ),
    "email": (
        "Email: {email}.|Write to {email}.|Our email address is {email}.",
        "What is your email address?|Where can I write to?|Can I send you an email?|How do I write to you?",
        "Please write to {email}. We will answer as soon as we can.",
    ),
    "returns": (
        "Returns within {n} days.|Items can be returned within {n} days.|Return time: {n} days.",
        "How long can I return things?|Can I send the {item} back?|I want to return my {item}.|How many days do I "
        "have to return something?|"
        "Can I give the {item} back?|What is your return policy?",
        "You can return it within {n} days. Please keep the receipt.",
    ),
    "delivery": (
        "Delivery takes {few} days.|Delivery time: {few} days.|Orders arrive after {few} days.",
        "How long does delivery take?|When will my {item} arrive?|How fast do you deliver?|When do I get my "
        "{item}?|Where is my order?",
        "Delivery takes {few} days. Thank you for your patience.",
    ),
    "cost": (
        "Delivery costs {price} dollars.|Delivery: {price} dollars.|We charge {price} dollars for delivery.",
        "How much is delivery?|What does delivery cost?|Do I have to pay for delivery?|What do you charge for "
        "delivery?",
        "Delivery costs {price} dollars. You can pay when you order.",
    ),
    "pay": (
        "Payment: {pay}.|We accept {pay}.|Customers can pay by {pay}.",
        "How can I pay?|What payment do you take?|Which kinds of payment do you accept?|How do I pay for the {item}?",
        "You can pay by {pay}. Please tell us if there is a problem.",
    ),
    "boss": (
        "The manager is {name}.|Manager: {name}.|{name} is the manager.",
        "Who is the manager?|I want to speak to the manager.|Who is in charge?|May I talk to your boss?|I have a "
        "complaint.",
        "Our manager is {name}. I am sorry if something went wrong, and we will help you.",
    ),
    "parking": (
        "Parking is {where}.|Cars can park {where}.|You can park {where}.",
        "Where can I park?|Is there a place to park?|Do you have parking?|Where do I leave my car?",
        "You can park {where}. Parking is free for our customers.",
    ),
    "booking": (
        "Appointments are made {how}.|Book {how}.|People can book {how}.",
        "How do I make an appointment?|Can I book for {day}?|I need an appointment.|How can I book?|Can I come on "
        "{day} at {open}?",
        "You can book {how}. We will confirm it the same day.",
    ),
    "warranty": (
        "Warranty: {months} months.|The warranty is {months} months.|All goods have a warranty of {months} months.",
        "My {item} is broken.|How long is the warranty?|The {item} stopped working.|Is there a warranty on the {item}?",
        "I am sorry to hear about any trouble. The warranty is {months} months, so please bring your receipt.",
    ),
    "discount": (
        "Students get {percent} percent off.|There is a discount of {percent} percent for students.|Student "
        "discount: {percent} percent.",
        "Is there a discount?|Do students pay less?|I am a student. Is it cheaper for me?|Do you have a discount "
        "for students?",
        "Students get {percent} percent off. Please bring your student card.",
    ),
}
PAYS = (
    "card or cash",
    "card only",
    "cash only",
    "bank transfer",
    "card or bank transfer",
    "phone or card",
    "cash or bank transfer",
)
WHERES = (
    "behind the house",
    "in front of the shop",
    "under the building",
    "on the other side of the street",
    "next to the church",
    "in the yard",
)
HOWS = ("by phone", "on our website", "by email", "at the desk", "with our app", "by phone or email")

INTROS = (
    "You are the help desk of {shop}, {trade} in {town}. {facts}",
    "You answer customers of {shop} ({trade}). {facts}",
    "You are the support agent of {shop}, {trade}. Use only these facts. {facts}",
    "{shop} is {trade}. Answer its customers politely. {facts}",
    "You work for {shop}, {trade}. {facts} Be brief and kind.",
)


def values(d: Draw) -> dict[str, str]:
    """The facts of one shop."""
    number = d.number(2, 9)
    return {
        "open": d.pick(("7:00", "7:30", "8:00", "8:15", "8:30", "9:00", "9:15", "9:30", "10:00", "10:30", "11:00")),
        "close": d.pick(
            ("15:00", "16:00", "16:30", "17:00", "17:30", "18:00", "18:45", "19:00", "20:00", "21:30", "22:00")
        ),
        "day": d.pick(w.DAYS),
        "street": w.street(d),
        "town": w.town(d),
        "phone": w.phone(d),
        "email": w.email(
            d, d.pick(("help", "info", "support", "desk", "team", "service")) if d.chance(0.3) else w.surname(d)
        ),
        "n": str(d.number(10, 60)),
        "months": str(d.number(6, 60)),
        "percent": str(d.number(5, 50)),
        "few": f"{words_of(number)} to {words_of(number + d.number(1, 3))}",
        "price": str(d.number(2, 30)),
        "pay": d.pick(PAYS),
        "name": f"{w.person(d).name} {w.surname(d)}",
        "where": d.pick(WHERES),
        "how": d.pick(HOWS),
        "item": d.slot(w.ITEMS)[0],
    }


def greeting(d: Draw, shop: str) -> tuple[str, str]:
    """A hello or a thank-you, and what the shop says."""
    hellos = ("Hello!", "Hi there.", "Good morning!", "Good afternoon.", "Hey!")
    thanks = ("Thank you!", "Thanks for your help.", "Great, thank you.", "Thanks, that is all.")
    if d.chance(0.5):
        return d.pick(hellos), f"Hello and welcome to {shop}! How can I help you?"
    return d.pick(thanks), f"You are welcome! Thank you for choosing {shop}."


def missing(shop: str) -> str:
    """What the help desk says when the system message does not hold the answer."""
    return f"I am sorry, but I don't have that information. Please ask the team of {shop}."


def make(d: Draw) -> Sample:
    """A shop with two to five facts and one to four customer questions."""
    shop = f"{w.surname(d) if d.chance(0.6) else w.town(d)} {d.pick(NAME_ENDS)}"
    facts, keys = values(d), d.some(list(FACTS), d.number(2, 5))
    lines = " ".join(cap(d.pick(FACTS[key][0].split("|")).format(**facts)) for key in keys)
    system = d.pick(INTROS).format(shop=shop, trade=d.pick(TRADES), town=facts["town"], facts=lines)
    turns: list[str] = []
    for key in d.some(keys, min(len(keys), 1 if d.held else d.pick((1, 2, 3, 4)))):
        turns += question(d, key, facts)
    absent = [key for key in FACTS if key not in keys and not blurred(key, keys)]
    if absent and d.chance(0.12):
        turns[-2:] = [question(d, d.pick(absent), facts)[0], missing(shop)]
    elif d.chance(0.1):
        turns = [*([] if d.held else turns), *greeting(d, shop)]
    return Sample(chat(*turns, system=system))


RELATED = {
    "hours": ("closed", "booking"),
    "closed": ("hours", "booking"),
    "delivery": ("cost",),
    "cost": ("delivery",),
} | {
    "warranty": ("returns",),
    "returns": ("warranty",),
    "booking": ("hours", "closed", "phone", "email"),
    "phone": ("email", "boss", "booking"),
    "email": ("phone", "boss", "booking"),
    "boss": ("phone", "email"),
}


def blurred(key: str, keys: list[str]) -> bool:
    """Whether a fact of the shop half answers a question about another fact, so that neither answer is clear."""
    return any(near in keys for near in RELATED.get(key, ()))


def question(d: Draw, key: str, facts: dict[str, str]) -> list[str]:
    """A customer's question about one fact, and the answer."""
    _, questions, answer = FACTS[key]
    user = styled(d, d.pick(questions.split("|")).format(**facts))
    return [user, answer.format(**facts)]


SKILL = Skill("persona", make, "exact", keyed_by_system=True)
