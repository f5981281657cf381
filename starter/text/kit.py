"""What every skill shares: drawing from split pools, chat samples, small grammar helpers and users' styles."""

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

T = TypeVar("T")
Message = dict[str, str]
HELD_SHARE = 7
MADE_SHARE = 0.4
"""How often a slot is filled with an invented value in training, where its pool can invent."""


def split(text: str) -> list[str]:
    """A word list: parts between bars, or words between spaces where there are no bars."""
    return text.split("|" if "|" in text else None)


def checksum(text: str) -> int:
    """A number for a text that is the same on every machine (CRC-32)."""
    return zlib.crc32(text.encode())


def normalise(text: str) -> str:
    """A text without case, punctuation and spacing, for comparing prompts and answers."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def is_held(text: str) -> bool:
    """Whether a text belongs to the held-out side of the split (about one in seven do)."""
    return checksum(normalise(text)) % HELD_SHARE == 0


class Pool(Generic[T]):
    """A list of slot values, about an eighth of which (at least two) only ever appear in held-out rows.

    `made` invents further values for training, so that what stands in a slot has to be read, not known.
    """

    def __init__(self, values: Sequence[T], made: "Callable[[Draw], T] | None" = None) -> None:
        ordered = sorted(values, key=lambda value: (checksum(repr(value)), repr(value)))
        cut = max(2, len(ordered) // 8)
        self.held = tuple(ordered[:cut])
        self.train = tuple(ordered[cut:])
        self.made = made


@dataclass(frozen=True)
class Person:
    """Somebody in a story, with the pronouns that the story uses for them."""

    name: str
    he: str
    his: str


@dataclass(frozen=True)
class Sample:
    """One chat; the last message is the assistant's. `accept` lists other right last answers."""

    messages: list[Message]
    accept: tuple[str, ...] = ()


class Retry(Exception):
    """A draw led nowhere on this side of the split; the caller draws again."""


class Draw:
    """The only source of chance: one seeded generator and the side of the split that slots come from."""

    def __init__(self, rng: Random, held: bool) -> None:
        self.rng = rng
        self.held = held

    def pick(self, values: Sequence[T]) -> T:
        """One of the values, whichever side of the split this is."""
        return values[int(self.rng.random() * len(values))]

    def slot(self, pool: Pool[T]) -> T:
        """One value of this side of the split, in training at times an invented one."""
        if not self.held and pool.made is not None and self.chance(MADE_SHARE):
            while (value := pool.made(self)) in pool.held:
                pass
            return value
        return self.known(pool)

    def known(self, pool: Pool[T]) -> T:
        """One listed value of this side of the split."""
        return self.pick(pool.held if self.held else pool.train)

    def slots(self, pool: Pool[T], count: int) -> list[T]:
        """Several different values of this side of the split."""
        found: list[T] = []
        while len(found) < count:
            value = self.slot(pool)
            if value not in found:
                found.append(value)
        return found

    def some(self, values: Sequence[T], count: int) -> list[T]:
        """Several different values in random order."""
        return self.rng.sample(list(values), count)

    def chance(self, share: float) -> bool:
        """True for about this share of draws."""
        return self.rng.random() < share

    def number(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.rng.random() * (high - low + 1))

    def side(self, text: str) -> str:
        """The text itself if it belongs to this side of the split; otherwise Retry."""
        if is_held(text) != self.held:
            raise Retry
        return text

    def phrase(self, variants: Sequence[str]) -> str:
        """One of several phrasings that belongs to this side; Retry when there is none."""
        mine = [variant for variant in variants if is_held(variant) == self.held]
        if not mine:
            raise Retry
        return self.pick(mine)


@dataclass(frozen=True)
class Skill:
    """One ability: how to draw a sample, how answers are scored, and whether the system text is part of the prompt."""

    name: str
    make: Callable[[Draw], Sample]
    rule: str
    keyed_by_system: bool = False


SYSTEMS = (
    "You are a helpful assistant.",
    "You are a friendly assistant. Answer briefly.",
    "You are a careful assistant. Say so when you do not know.",
    "You are a small model that runs on this machine. Be polite.",
    "Answer in plain English.",
    "You are Starter, an assistant made with Freehold.",
)


def chat(*turns: str, system: str = "") -> list[Message]:
    """Messages of a chat whose turns alternate, the user first."""
    roles = ("user", "assistant")
    head = [{"role": "system", "content": system}] if system else []
    return head + [{"role": roles[index % 2], "content": turn} for index, turn in enumerate(turns)]


def reply(d: Draw, user: str, answer: str, accept: Sequence[str] = (), system_share: float = 0.08) -> Sample:
    """A chat of one question and one answer, sometimes under a general system message."""
    system = d.pick(SYSTEMS) if d.chance(system_share) else ""
    return Sample(chat(user, answer, system=system), tuple(accept))


VOWEL_SOUNDS = re.compile(r"^(?:[aeiou]|hour|honest)", re.IGNORECASE)
CONSONANT_SOUNDS = re.compile(r"^(?:uni|use|one|eu)", re.IGNORECASE)


def an(noun: str) -> str:
    """The noun with the article that its sound asks for: "a cup", "an apple", "an hour"."""
    vowel = VOWEL_SOUNDS.match(noun) and not CONSONANT_SOUNDS.match(noun)
    return f"{'an' if vowel else 'a'} {noun}"


def cap(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def low(text: str) -> str:
    """The text with its first letter in lower case, unless that is the word I."""
    return text if re.match(r"I\b", text) else text[:1].lower() + text[1:]


def listed(items: Sequence[str], word: str = "and") -> str:
    """Items as a person writes them: "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {word} {items[-1]}"


SMALL = split(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = split("zero ten twenty thirty forty fifty sixty seventy eighty ninety")


def words_of(number: int) -> str:
    """A number from 0 to 999 in English words."""
    if number < 20:
        return SMALL[number]
    if number < 100:
        tail = number % 10
        return TENS[number // 10] + (f"-{SMALL[tail]}" if tail else "")
    tail = number % 100
    return f"{SMALL[number // 100]} hundred" + (f" and {words_of(tail)}" if tail else "")


OPENERS = ("Hi, ", "Hello, ", "Please tell me: ", "Quick question: ", "Hey, ", "One more thing: ", "Sorry, ", "OK, ")


def styled(d: Draw, text: str) -> str:
    """A question as a hurried, polite or careless person might type it; names keep their capitals."""
    roll = d.rng.random()
    if roll < 0.08:
        return d.pick(OPENERS) + low(text)
    if roll < 0.17:
        return low(text)
    if roll < 0.24:
        return low(text).rstrip("?.!")
    if roll < 0.27 and text.endswith("?"):
        return f"{text[:-1]}, please?"
    return text


def typed(d: Draw, text: str) -> str:
    """A question in a user's style, sometimes all in lower case or with a typing error."""
    roll = d.rng.random()
    if roll < 0.1:
        return text.lower()
    if roll < 0.13 and len(text) > 12:
        at = d.number(3, len(text) - 4)
        return text[:at] + text[at + 1 :]
    return styled(d, text)
