"""Short arithmetic: sums and differences up to 50, times tables to ten, comparisons and word problems."""

from . import words as w
from .kit import Draw, Retry, Sample, Skill, chat, checksum

SYMBOLS = {"+": ("+", "plus"), "-": ("-", "minus"), "*": ("*", "times", "x")}


def held_pair(a: int, b: int, sign: str) -> bool:
    """Whether a sum is kept for held-out rows; the facts of small numbers stay known from their mirror image."""
    small = max(a, b) <= 10 or sign == "*"
    if small and sign != "-":
        return a < b and checksum(f"{a}{sign}{b}") % 6 == 0
    return not (a <= 20 and b <= 20) and checksum(f"{a}{sign}{b}") % 8 == 0


def pair(d: Draw, sign: str) -> tuple[int, int]:
    """Two numbers of this side of the split."""
    if sign == "*":
        a, b = d.number(0, 10), d.number(0, 10)
    elif sign == "+":
        top = d.pick((10, 20, 20, 50))
        a = d.number(1, top - 1)
        b = d.number(1, top - a)
        a, b = (b, a) if d.chance(0.5) else (a, b)
    else:
        a = d.number(2, d.pick((10, 20, 20, 50)))
        b = d.number(1, a)
    if held_pair(a, b, sign) != d.held:
        raise Retry
    return a, b


def value(a: int, b: int, sign: str) -> int:
    """The result of the sum."""
    return {"+": a + b, "-": a - b, "*": a * b}[sign]


ASKS = (
    "What is {sum}?",
    "{sum} = ?",
    "Calculate {sum}.",
    "How much is {sum}?",
    "{sum}",
    "Work out {sum}.",
    "what is {sum}",
)


def plain(d: Draw) -> tuple[str, str]:
    """A sum in figures."""
    sign = d.pick("++--*")
    a, b = pair(d, sign)
    question = d.pick(ASKS).format(sum=f"{a} {d.pick(SYMBOLS[sign])} {b}")
    return question, f"{a} {sign} {b} = {value(a, b, sign)}."


def word_problem(d: Draw) -> tuple[str, str]:
    """A sum told as a story."""
    somebody, other = w.people(d, 2)
    things = d.slot(w.ITEMS)[1]
    name = somebody.name
    sign = d.pick("++--*")
    a, b = pair(d, sign)
    if a < 2 or b < 2 or (sign == "-" and a == b):
        raise Retry
    tales = {
        "+": (
            f"{name} has {a} {things} and buys {b} more. How many {things} does {name} have now?",
            f"There are {a} {things} on the table. {name} adds {b} more. How many are there now?",
            f"{name} has {a} {things} and {other.name} has {b}. How many do they have together?",
            f"A shop sold {a} {things} on Monday and {b} on Tuesday. How many did it sell in all?",
        ),
        "-": (
            f"{name} has {a} {things} and gives {b} to {other.name}. How many are left?",
            f"There were {a} {things} in the shop. {name} bought {b}. How many are left?",
            f"{name} had {a} {things}, but lost {b}. How many does {name} still have?",
            f"{name} has {a} {things} and {other.name} has {b}. How many more does {name} have?",
        ),
        "*": (
            f"{name} has {a} boxes with {b} {things} in each. How many {things} are there?",
            f"One of the {things} costs {b} dollars. How many dollars do {a} of them cost?",
            f"{a} children have {b} {things} each. How many {things} is that?",
        ),
    }
    return d.pick(tales[sign]), f"{a} {sign} {b} = {value(a, b, sign)}."


def compare(d: Draw) -> tuple[str, str]:
    """Which of two numbers is larger or smaller."""
    a, b = d.number(0, 100), d.number(0, 100)
    if a == b or (checksum(f"{min(a, b)}?{max(a, b)}") % 8 == 0) != d.held:
        raise Retry
    larger = d.chance(0.5)
    best, word = (
        (max(a, b), d.pick(("larger", "bigger", "greater"))) if larger else (min(a, b), d.pick(("smaller", "less")))
    )
    if word == "less":
        return f"Which is less, {a} or {b}?", f"{best} is less than {a + b - best}."
    question = d.pick((f"Which number is {word}, {a} or {b}?", f"Which is {word}: {a} or {b}?"))
    return question, f"{best} is {word} than {a + b - best}."


def doubled(d: Draw) -> tuple[str, str]:
    """Twice or half of a number, and the neighbours of a number."""
    n = d.number(1, 99)
    if (checksum(f"n{n}") % 8 == 0) != d.held:
        raise Retry
    after, before = f"The number after {n} is {n + 1}.", f"The number before {n} is {n - 1}."
    return d.pick(((f"Which number comes after {n}?", after), (f"Which number comes before {n}?", before)))


KINDS = (plain, plain, plain, plain, word_problem, word_problem, compare, doubled)


def make(d: Draw) -> Sample:
    """One to four sums in a row; held-out rows ask one."""
    count = 1 if d.held else d.pick((1, 2, 3, 4))
    turns: list[str] = []
    while len(turns) < 2 * count:
        try:
            turns += d.pick(KINDS)(d)
        except Retry:
            continue
    return Sample(chat(*turns))


SKILL = Skill("arithmetic", make, "number")
