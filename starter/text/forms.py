"""Small exact tasks on given words: repeat, change case, sort, reverse, compare, count, yes or no."""

import json
from collections.abc import Callable

from . import words as w
from .kit import Draw, Sample, Skill, an, cap, chat, listed, split, words_of

SHORT = split(
    "cat dog sun cup box hat bed car bus tea egg ice key map pen red big hot old new sea sky tree bird fish milk "
    "rain snow wind door hand lamp "
    "book ball boat cake coat farm fire frog gate gold hill home king lake leaf moon nest park ring road rose salt "
    "ship shoe shop star tent town wall"
)
LONG = split(
    "kitchen elephant mountain umbrella computer bicycle hospital birthday sandwich chocolate dinosaur butterfly "
    "telephone newspaper "
    "strawberry vegetable adventure telescope crocodile furniture astronaut waterfall lighthouse dictionary "
    "restaurant calculator "
    "helicopter university photograph blackboard"
)
PLAIN = split(
    "apple bread chair dance earth field glass horse island juice knife lemon mouse night ocean paper queen river "
    "stone table uncle voice water "
    "young zebra candle garden flower basket window market summer winter silver orange pencil letter school "
    "teacher doctor sister "
    "brother family friend music story train plane light house green black white happy little quick quiet sweet strong"
)
ALL = SHORT + PLAIN


def phrase(d: Draw) -> str:
    """One to four known words in an order that belongs to this side."""
    return d.side(" ".join(d.some(ALL, d.pick((1, 2, 2, 3, 4)) if not d.held else d.pick((2, 3)))))


def sentence(d: Draw) -> str:
    """A short sentence of its own words."""
    thing, things = d.slot(w.ITEMS)
    return d.pick(
        (
            f"{w.person(d).name} lives in {w.town(d)}.",
            f"I have {d.number(2, 99)} {things}.",
            f"The {thing} is {d.pick(w.COLOURS)}.",
            f"{w.person(d).name} likes {d.slot(w.HOBBIES)}.",
            f"We meet {w.person(d).name} on {d.pick(w.DAYS)}.",
            f"{w.town(d)} is far from {w.town(d)}.",
            f"My code is {w.code(d)}.",
            f"The {d.slot(w.SHOPS)} sells {things} and {d.slot(w.FOODS)}.",
            f"{w.person(d).name} {w.surname(d)} works as {an(d.slot(w.JOBS))}.",
        )
    )


def nonsense(d: Draw) -> str:
    """Some made-up words, which can only be copied."""
    words = (w.invented(d, w.ENDS) if d.chance(0.5) else w.syllables(d).lower() for _ in range(d.number(2, 5)))
    return d.side(" ".join(words))


def repeat(d: Draw) -> tuple[str, str]:
    """Say exactly this."""
    text = d.pick((sentence, sentence, sentence, phrase, nonsense))(d)
    ask = d.pick(
        (
            "Repeat after me: {}",
            "Say: {}",
            "Repeat this: {}",
            "Please say exactly this: {}",
            'Repeat "{}"',
            "Copy this text: {}",
        )
    )
    return ask.format(text), text


def upper(d: Draw) -> tuple[str, str]:
    """Capital letters."""
    text = phrase(d)
    ask = d.pick(
        ("Write in capital letters: {}", "Uppercase: {}", "Put this in upper case: {}", "Change to capitals: {}")
    )
    return ask.format(text), text.upper()


def lower(d: Draw) -> tuple[str, str]:
    """Small letters."""
    text = phrase(d)
    ask = d.pick(
        ("Write in small letters: {}", "Lowercase: {}", "Put this in lower case: {}", "Change to small letters: {}")
    )
    return ask.format(text.upper() if d.chance(0.7) else text.title()), text


def ordered(d: Draw) -> tuple[str, str]:
    """Three words by their first letters, which all differ."""
    words: dict[str, str] = {}
    while len(words) < 3:
        word = d.pick(ALL)
        words.setdefault(word[0], word)
    text = d.side(", ".join(words.values()))
    ask = d.pick(
        (
            "Put these words in alphabetical order: {}",
            "Sort alphabetically: {}",
            "Alphabetical order, please: {}",
            "Sort these words from A to Z: {}",
        )
    )
    return ask.format(text), ", ".join(sorted(words.values()))


def names(d: Draw, count: int) -> list[str]:
    """Different things or names."""
    return (
        [person.name for person in w.people(d, count)]
        if d.chance(0.5)
        else [pair[0] for pair in d.slots(w.ITEMS, count)]
    )


def backwards(d: Draw) -> tuple[str, str]:
    """A list from its end."""
    items = names(d, d.pick((3, 3, 4)))
    ask = d.pick(
        ("Reverse this list: {}", "Write this list backwards: {}", "Reverse the order: {}", "Turn the list around: {}")
    )
    return ask.format(", ".join(items)), ", ".join(reversed(items))


def edges(d: Draw) -> tuple[str, str]:
    """The first, second or last thing of a list."""
    items = names(d, d.pick((3, 4, 5)))
    which, at = d.pick((("first", 0), ("second", 1), ("third", 2), ("last", -1)))
    ask = d.pick(
        (
            "What is the {} item in this list? {}",
            "Give me the {} of these: {}",
            "Which is the {} one? {}",
            "Take the {} of this list: {}",
        )
    )
    return ask.format(which, ", ".join(items)), items[at]


def longer(d: Draw) -> tuple[str, str]:
    """The longer or shorter of two words."""
    long, short = d.pick(LONG), d.pick(SHORT)
    first, second = (long, short) if d.chance(0.5) else (short, long)
    which, answer = d.pick((("longer", long), ("shorter", short)))
    ask = d.pick(("Which word is {}: {} or {}?", "Which is the {} word, {} or {}?", "Pick the {} word: {} or {}."))
    d.side(f"{long} {short}")
    return ask.format(which, first, second), answer


def spelled(d: Draw) -> tuple[str, str]:
    """A known number in words, or words as a number."""
    number = d.number(0, 100) if d.chance(0.6) else d.number(101, 999)
    ask = d.pick(
        (
            "Write {} in words.",
            "Write the number {} in words.",
            "How do you write {} in words?",
            "{} in words, please.",
            "Say {} in words.",
        )
    )
    back = d.pick(("Write {} as a number.", "Write {} in figures.", "Which number is {}?", "{} as a number, please."))
    d.side(f"number {number}")
    if d.chance(0.6):
        return ask.format(number), words_of(number)
    return cap(back.format(words_of(number))), str(number)


def yes_no(d: Draw) -> tuple[str, str]:
    """A question on a given sentence that is answered by yes or no."""
    somebody, other = w.people(d, 2)
    right, wrong = d.slots(w.ITEMS, 2)
    place, elsewhere = w.town(d), w.town(d)
    colour, another = d.some(w.COLOURS, 2)
    true = d.chance(0.5)
    if place == elsewhere:
        elsewhere += "ford"
    text, question = d.pick(
        (
            (
                f"{somebody.name} bought {an(right[0])}.",
                f"Did {somebody.name} buy {an((right if true else wrong)[0])}?",
            ),
            (f"{somebody.name} lives in {place}.", f"Does {somebody.name} live in {place if true else elsewhere}?"),
            (f"The {right[0]} of {somebody.name} is {colour}.", f"Is the {right[0]} {colour if true else another}?"),
            (
                f"{somebody.name} has {right[1]} in {place}.",
                f"Does {(somebody if true else other).name} have {right[1]}?",
            ),
            (f"{somebody.name} went to {place} by train.", f"Did {(somebody if true else other).name} go to {place}?"),
            (f"There are {right[1]} and {wrong[1]} in the {colour} bag.", f"Is the bag {colour if true else another}?"),
        )
    )
    ask = d.pick(
        ("{0} {1} Answer yes or no.", "Text: {0}\nYes or no: {1}", "{0}\n\n{1} (yes or no)", "Yes or no? {0} {1}")
    )
    return ask.format(text, question), "Yes." if true else "No."


def count(d: Draw) -> tuple[str, str]:
    """How many things stand in a list."""
    items = names(d, d.number(2, 6))
    ask = d.pick(
        (
            "How many items are in this list? {}",
            "Count the items: {}",
            "How many words are there? {}",
            "Count these words: {}",
        )
    )
    if any(" " in item for item in items):
        ask = "How many items are in this list? {}"
    return ask.format(", ".join(items)), words_of(len(items))


def joined(d: Draw) -> tuple[str, str]:
    """A list as a sentence, or as bullet points."""
    items = names(d, 3)
    if d.chance(0.5):
        return f"Write this as a bullet list: {', '.join(items)}", "\n".join(f"- {item}" for item in items)
    return f"Join these with commas and the word and: {' / '.join(items)}", listed(items)


def anything(d: Draw) -> str:
    """A word, a name, a code or a number, known or made up."""
    kind = d.number(0, 7)
    if kind < 2:
        return w.invented(d, d.pick((w.ENDS, w.TOWN_ENDS)))
    if kind == 2:
        return w.syllables(d).lower()
    if kind == 3:
        return d.pick((w.code, w.clock, w.date, w.phone))(d)
    return d.pick((d.slot(w.ITEMS)[0], d.pick(ALL), w.person(d).name, w.town(d), w.surname(d), d.slot(w.SPOTS)))


def drill(d: Draw) -> tuple[str, str]:
    """A long list to copy in another shape: the training text's lesson in copying."""
    items = list(dict.fromkeys(anything(d) for _ in range(d.number(4, 14))))
    quoted = json.dumps(items, ensure_ascii=False)
    ask, shown, answer = d.pick(
        (
            ("Repeat this: {}", ", ".join(items), ", ".join(items)),
            ("Copy this text: {}", " ".join(items), " ".join(items)),
            ("Make a JSON list of these: {}", ", ".join(items), quoted),
            ("Write this JSON list with commas only: {}", quoted, ", ".join(items)),
            ("Write each on its own line: {}", ", ".join(items), "\n".join(items)),
            ("Write this as a bullet list: {}", ", ".join(items), "\n".join(f"- {item}" for item in items)),
        )
    )
    return ask.format(shown), answer


KINDS: tuple[Callable[[Draw], tuple[str, str]], ...] = (
    repeat,
    repeat,
    upper,
    lower,
    ordered,
    backwards,
    edges,
    longer,
    spelled,
    yes_no,
    yes_no,
    count,
    joined,
)


def make(d: Draw) -> Sample:
    """One small task, or two in a row."""
    if not d.held and d.chance(0.4):
        return Sample(chat(*drill(d)))
    turns = list(d.pick(KINDS)(d))
    if not d.held and d.chance(0.4):
        turns += d.pick(KINDS)(d)
    return Sample(chat(*turns))


SKILL = Skill("forms", make, "literal")
