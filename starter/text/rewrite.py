"""Rewriting: a brusque request made polite or formal, a story in one sentence, mistakes put right."""

from . import words as w
from .kit import Draw, Sample, Skill, an, cap, chat, split

ACTIONS = split(
    "send me the {item}|send {name} the invoice|open the door|close the window|call {name} back|call me at {time}|"
    "fix the {item}|"
    "bring the {items} to the {spot}|tell me the price of the {item}|give me your address|wait in the {spot}|check "
    "order {code}|"
    "cancel order {code}|book a table for {day}|move my appointment to {day}|change my password|reply to {name}|"
    "print the letter for {name}|clean the {colour} {item}|help me with the {item}|show me the {colour} {items}|"
    "return my money|"
    "turn off the music|read the email from {name}|sign the form|pay the bill by {day}|send {n} {items} to {town}|"
    "tell {name} about the meeting|come to the {spot} at {time}|write to the {shop} in {town}|stop talking|move "
    "your car|"
    "explain the problem to {name}|repair my {colour} {item}|deliver the {items} on {day}|"
    "find my {item}|take the {item} to {name}|update my address to {street}|give the {colour} {item} back"
)
BRUSQUE = (
    "{Do}.",
    "{Do} now.",
    "{Do}!",
    "{Do} now!",
    "{Do} immediately.",
    "hey, {do}",
    "{Do}, quick.",
    "I said {do}!",
    "{Do} at once.",
)

CLAIMS = split(
    "my {item} is broken|the {item} is late|the {food} is cold|the price of the {item} is wrong|the {spot} is too loud|"
    "{name} did not call me|the {colour} {item} is missing|the invoice is wrong|the {shop} was closed on {day}|"
    "order {code} has not arrived|you sent me {n} {items} too many|the {item} does not work"
)

POLITE_FORMS = (
    "Make this polite: {text}",
    "Rewrite politely: {text}",
    "Please say this in a polite way: {text}",
    "Can you make this sound nicer? {text}",
    "Rewrite this message so that it is polite.\n\n{text}",
    "{text}\n\nMake that polite, please.",
)
FORMAL_FORMS = (
    "Make this formal: {text}",
    "Rewrite this in formal English: {text}",
    "Turn this into a formal message.\n\n{text}",
    "{text}\n\nRewrite it as a formal message.",
)
SUMMARY_FORMS = (
    "Summarise this in one sentence.\n\n{text}",
    "Summary in one sentence, please: {text}",
    "{text}\n\nSum this up in one sentence.",
    "Give me a one-sentence summary.\n\n{text}",
    "What is the main point of this text?\n\n{text}",
)
FIX_FORMS = (
    "Fix the grammar: {text}",
    "Correct this sentence: {text}",
    "Please correct the mistakes: {text}",
    "{text}\n\nCorrect this, please.",
    "Fix the mistakes in this text: {text}",
)


def filled(d: Draw, template: str) -> str:
    """A template with its slots filled."""
    item, items = d.slot(w.ITEMS)
    return template.format(
        item=item,
        items=items,
        an_item=an(item),
        name=w.person(d).name,
        other=w.person(d).name,
        town=w.town(d),
        day=d.pick(w.DAYS),
        month=d.pick(w.MONTHS),
        time=w.clock(d),
        n=d.number(3, 60),
        code=w.code(d),
        street=w.street(d),
        shop=d.slot(w.SHOPS),
        spot=d.slot(w.SPOTS),
        food=d.slot(w.FOODS),
        hobby=d.slot(w.HOBBIES),
        colour=d.pick(w.COLOURS),
        job=d.slot(w.JOBS),
    )


def polite(d: Draw) -> tuple[str, str, tuple[str, ...]]:
    """An order or a complaint, and its polite form."""
    form = d.pick(POLITE_FORMS)
    if d.chance(0.7):
        do = d.side(filled(d, d.pick(ACTIONS)))
        text = d.pick(BRUSQUE).format(do=do, Do=cap(do))
        return form.format(text=text), f"Could you please {do}?", (f"Would you please {do}?", f"Please {do}.")
    claim = d.side(filled(d, d.pick(CLAIMS)))
    text = d.pick(
        ("{Claim}!", "{Claim}. Do something!", "{Claim}, and I am angry.", "{Claim}. This is terrible.")
    ).format(Claim=cap(claim))
    return form.format(text=text), f"I am sorry to bother you, but {claim}. Could you please help me?", ()


CASUAL = ("hey, can u {do}? thx", "yo, {do}, ok?", "hi! {do} pls, thanks!", "hey there, {do} asap", "pls {do}. cheers")


def formal(d: Draw) -> tuple[str, str, tuple[str, ...]]:
    """A chatty message as a formal one."""
    do = d.side(filled(d, d.pick(ACTIONS)))
    answer = f"Dear Sir or Madam, I would be grateful if you could {do}. Kind regards"
    return d.pick(FORMAL_FORMS).format(text=d.pick(CASUAL).format(do=do)), answer, ()


STORIES = (
    (
        "{name} opened a new {shop} in {town} in {month}. Many people came on the first day. They liked the {items}.",
        "{name} opened a new {shop} in {town}.",
    ),
    (
        "Last {day}, {name} lost {an_item} at the {spot}. It was {colour} and quite old. {other} found it and "
        "brought it back.",
        "{other} found the {item} that {name} had lost.",
    ),
    (
        "The {spot} in {town} will be closed in {month}. Workers will repair the roof. It will open again after "
        "{n} days.",
        "The {spot} in {town} will be closed in {month} for repairs.",
    ),
    (
        "{name} wanted to learn {hobby}. At first it was hard. After {n} weeks of lessons with {other}, it became "
        "easy.",
        "{name} learned {hobby} with {other}.",
    ),
    (
        "I ordered {an_item} from you on {day}. When I opened the parcel, it was broken. I would like to have my "
        "money back. {name}",
        "{name} wants a refund for a broken {item}.",
    ),
    (
        "The meeting was planned for {day} at {time}. {name} is ill and cannot come. So we will meet one week later.",
        "The meeting is moved by one week because {name} is ill.",
    ),
    (
        "{name} works as {job} in {town}. Every day the bus was late. Now {name} goes to work by bicycle and is "
        "never late.",
        "{name} now goes to work by bicycle because the bus was late.",
    ),
    (
        "It rained for {n} days in {town}. The river rose, and the {spot} was under water. Nobody was hurt.",
        "After {n} days of rain, the {spot} in {town} was under water.",
    ),
    (
        "Our {shop} has a sale this {day}. All {items} cost half the price. Come early, since there are only {n} left.",
        "The {shop} sells {items} at half the price this {day}.",
    ),
    (
        "{name} and {other} cooked {food} for the whole street. They put long tables in front of the {spot}. "
        "Everybody ate and sang until late.",
        "{name} and {other} cooked {food} for the whole street.",
    ),
    (
        "{name} called because the {colour} {item} does not work. I told {name} to check the cable. After that it "
        "worked.",
        "{name} had a problem with the {item}, and checking the cable fixed it.",
    ),
)


def summary(d: Draw) -> tuple[str, str, tuple[str, ...]]:
    """Three sentences and the one that says what they are about."""
    story, point = d.pick(STORIES)
    text, answer = filled(d, f"{story}\n\n{point}".replace("as {job}", "as a {job}")).split("\n\n")
    for vowel in "aeiou":
        text = text.replace(f"as a {vowel}", f"as an {vowel}")
    return d.pick(SUMMARY_FORMS).format(text=d.side(text)), answer, ()


FAULTS = (
    ("{name} go to the {spot} every {day}.", "{name} goes to the {spot} every {day}."),
    ("{name} have {n} {items}.", "{name} has {n} {items}."),
    ("They was at the {spot} with {name}.", "They were at the {spot} with {name}."),
    ("{name} don't like {food}.", "{name} doesn't like {food}."),
    ("{name} and {other} is at the {spot}.", "{name} and {other} are at the {spot}."),
    ("Yesterday {name} buyed {n} {items}.", "Yesterday {name} bought {n} {items}."),
    ("{name} buy {an_item} yesterday.", "{name} bought {an_item} yesterday."),
    ("There is {n} {items} in the {shop}.", "There are {n} {items} in the {shop}."),
    ("I has {an_item} from {town}.", "I have {an_item} from {town}."),
    ("He want to meet {name} on {day}.", "He wants to meet {name} on {day}."),
    ("She are a good friend of {name}.", "She is a good friend of {name}."),
    ("{name} live on {street}.", "{name} lives on {street}."),
    ("{name} is more taller than {other}.", "{name} is taller than {other}."),
    ("I didn't saw {name} at the {spot}.", "I didn't see {name} at the {spot}."),
    ("{name} dont know {other}.", "{name} doesn't know {other}."),
    ("We goes to {town} in {month}.", "We go to {town} in {month}."),
    ("{name} writed a letter to {other}.", "{name} wrote a letter to {other}."),
    ("I am agree with {name}.", "I agree with {name}."),
    ("{name} is live in {town}.", "{name} lives in {town}."),
    ("Does {name} likes {hobby}?", "Does {name} like {hobby}?"),
    ("{name} can to play with {other}.", "{name} can play with {other}."),
    ("Its cold in {town} today.", "It's cold in {town} today."),
    ("{name} give me a apple.", "{name} gave me an apple."),
    ("The {items} is on the table of {name}.", "The {items} are on the table of {name}."),
)
PLAIN = (
    "{name} lives in {town}.",
    "{name} met {other} on {day}.",
    "The {shop} in {town} opens at {time}.",
    "We are going to {town} in {month}.",
    "On {day}, {name} will call {other}.",
    "{name} bought {n} {items} in {town}.",
)


def fix(d: Draw) -> tuple[str, str, tuple[str, ...]]:
    """A sentence with a mistake of grammar, or without its capitals and full stop."""
    form = d.pick(FIX_FORMS)
    if d.chance(0.3):
        right = d.side(filled(d, d.pick(PLAIN)))
        return form.format(text=right.lower().rstrip(".")), right, ()
    wrong, right = filled(d, "\n".join(d.pick(FAULTS))).split("\n")
    return form.format(text=d.side(wrong)), right, ()


def make(d: Draw) -> Sample:
    """One rewriting of one kind."""
    user, answer, accept = d.pick((polite, polite, formal, summary, fix, fix))(d)
    return Sample(chat(user, answer), accept)


SKILL = Skill("rewrite", make, "literal")
