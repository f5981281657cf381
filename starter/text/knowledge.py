"""General knowledge: tables of plain facts, how-tos, lists of three things, and stories or descriptions on request."""

from . import words as w
from .facts_plain import FACTS, LISTS
from .facts_tables import TABLES
from .kit import Draw, Sample, Skill, an, cap, reply, typed

QUESTIONS = tuple((questions.split("|"), answer) for questions, answer in FACTS)


def table(d: Draw) -> tuple[str, str]:
    """A fact from a table, such as a capital or an opposite."""
    asks, answers, rows = d.pick(TABLES)
    left, right = d.pick(rows)
    question = d.phrase([cap(ask.format(a=left, an_a=an(left), b=right)) for ask in asks])
    return question, cap(answers.format(a=left, an_a=cap(an(left)), b=right, an_b=an(right)))


def fact(d: Draw) -> tuple[str, str]:
    """A hand-written fact or how-to."""
    questions, answer = d.pick(QUESTIONS)
    return d.phrase(questions), answer


def neighbours(d: Draw) -> tuple[str, str]:
    """The day or month before or after another."""
    names, kind = (w.DAYS, "day") if d.chance(0.5) else (w.MONTHS, "month")
    at = d.number(0, len(names) - 1)
    word, step = d.pick((("after", 1), ("before", -1)))
    ask = d.pick(
        (
            "Which {kind} comes {word} {name}?",
            "What {kind} is {word} {name}?",
            "What comes {word} {name}?",
            "Name the {kind} {word} {name}.",
        )
    )
    other = names[(at + step) % len(names)]
    return d.side(ask.format(kind=kind, word=word, name=names[at])), f"{other} comes {word} {names[at]}."


def alphabet(d: Draw) -> tuple[str, str]:
    """The letter before or after another."""
    at = d.number(1, 24)
    word, step = d.pick((("after", 1), ("before", -1)))
    ask = d.pick(
        (
            "Which letter comes {word} {letter}?",
            "What letter is {word} {letter}?",
            "Which letter is {word} {letter} in the alphabet?",
        )
    )
    letter, other = chr(65 + at), chr(65 + at + step)
    return d.side(ask.format(word=word, letter=letter)), f"{other} comes {word} {letter}."


def three(d: Draw) -> tuple[str, str]:
    """A list of three things of a kind; always the same three, so that the answer can be checked."""
    kind, things = d.pick(LISTS)
    asks = (
        "Name three {}.",
        "Give me three {}.",
        "List three {}.",
        "Tell me three {}.",
        "Can you name three {}?",
        "I need three {}.",
        "Three {}, please.",
    )
    return d.phrase([ask.format(kind) for ask in asks]), cap(things) + "."


TALES = (
    "{P} found {an_item} at the {spot}, took it home and showed it to {q}. They were both very happy.",
    "One day, {p} and {q} went to the {spot}. They saw {an_animal} with {an_item}. They laughed all day.",
    "{P} wanted {an_item}, but had no money. So {p} worked at the {shop} for a week. Then {p} bought the {item} and "
    "smiled.",
    "There was once {an_animal} that lived near the {spot}. It was afraid of the {item}. {P} helped it, and they "
    "became friends.",
    "It was a cold night. {P} heard a noise and took the {item}. It was only {an_animal}, and {p} went back to bed.",
)
LOOK = "The {item} is {colour} and quite {adj}. It stands in the {spot}. People like to look at it."


def tale(d: Draw) -> tuple[str, str]:
    """Three sentences about given things; in training also about fewer things, with the rest made up."""
    fewer = not d.held and d.chance(0.3)
    slot = d.known if fewer else d.slot
    somebody, other = w.people(d, 2)
    item, spot, animal = slot(w.ITEMS)[0], slot(w.SPOTS), slot(w.ANIMALS)
    values = {
        "P": somebody.name,
        "p": somebody.name,
        "q": other.name,
        "item": item,
        "an_item": an(item),
        "spot": spot,
        "animal": animal,
        "an_animal": an(animal),
        "shop": slot(w.SHOPS),
    }
    form, told = d.pick(
        (
            ("{p} and {q} at the {spot} with {an_animal} and {an_item}", 1),
            ("{p}, {q}, {an_item} and the {spot}", 0),
            ("{p}, {an_animal}, the {spot} and {an_item}", 3),
            ("{p}, {an_animal} and {an_item} at night", 4),
            ("{p}, the {shop} and {an_item}", 2),
        )
    )
    if fewer:
        form, told = d.pick(
            (("{an_animal}", 3), ("{an_item}", 0), ("{p}", 2), ("{an_animal} and {an_item}", 1), ("{p} and {q}", 1))
        )
    ask = d.pick(
        (
            "Write a short story about {}.",
            "Tell me a story with {}.",
            "A short story about {}, please.",
            "Write three sentences about {}.",
        )
    )
    return ask.format(form.format(**values)), TALES[told].format(**values)


def look(d: Draw) -> tuple[str, str]:
    """A description of a thing from what the user says about it."""
    item, colour, adj, spot = d.slot(w.ITEMS)[0], d.pick(w.COLOURS), d.slot(w.ADJECTIVES), d.slot(w.SPOTS)
    ask = d.pick(
        ("Describe {}.", "Write a description of {}.", "Tell me what {} looks like.", "Describe {} in three sentences.")
    )
    thing = f"{an(adj)} {colour} {item} in the {spot}"
    return ask.format(thing), LOOK.format(item=item, colour=colour, adj=adj, spot=spot)


def make(d: Draw) -> Sample:
    """One question or one wish."""
    roll = d.rng.random()
    if roll < 0.16:
        return reply(d, *tale(d))
    if roll < 0.22:
        return reply(d, *look(d))
    kind = d.pick((table, table, table, table, fact, fact, fact, neighbours, alphabet, three))
    question, answer = kind(d)
    return reply(d, question if d.held else typed(d, question), answer)


SKILL = Skill("knowledge", make, "exact")
