"""Personal data that has a form: e-mail addresses, telephone numbers, IBANs, card numbers, IP addresses.

Numbers with a checksum count only when it is right (ISO 13616 for IBANs, Luhn for cards). Names and addresses have no
form: nothing here finds them.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from freehold.data.findings import Action, Finding, finding
from freehold.data.rows import AnyRow, map_texts, texts

KINDS = {
    "email": "e-mail addresses",
    "iban": "IBANs",
    "card": "card numbers",
    "ip": "IP addresses",
    "phone": "telephone numbers",
}
"""In the order in which they are looked for: what one has found, the next ones do not see."""

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]){11,30}")
_DIGITS = re.compile(r"(?<![\w.+-])[2-6](?:[ -]?\d){12,18}(?![\w-])")
_CARD = re.compile(r"4\d{12}(\d{3}){0,2}|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3[068]\d{12}|35\d{14}|6\d{15,18}")
"""Beginnings and lengths as the card schemes give them out."""
_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_VERSION = re.compile(r"(?:\bv|version|release|ver\.?) ?$", re.IGNORECASE)
_PHONE = re.compile(r"(?<![\w.,/+-])(?:\+|00)?\(?\d(?:(?! / \(?[0+])[ ./()-]{0,3}\d){6,15}(?![\w/-]|[.,]\d)")
"""What begins with 0 or + after a stroke is another number."""
_NORTH_AMERICAN = re.compile(r"(?:\+?1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{4}")
_DATE = re.compile(r"\d{4}[./-]\d{1,2}[./-]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-]\d{4}")
# Lengths as the IBAN registry lists them, release 99.
_LENGTHS = {
    code: length
    for length, codes in {
        15: "NO", 16: "BE BI", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR", 27: "BY FR GR IT MC MR SM",
        28: "AL AZ BY CY DO EG GT HN HU LB NI PL SV", 29: "BR PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC",
        33: "RU",
    }.items()
    for code in codes.split()
}  # fmt: skip


class Hit(NamedTuple):
    """Where in a text something of a kind stands."""

    kind: str
    begin: int
    end: int


def find(text: str) -> list[Hit]:
    """All hits, in their order, none over another."""
    if not any(character.isdigit() or character in "@:" for character in text):
        return []
    found: list[Hit] = []
    for kind, look in _LOOKS.items():
        for begin, end in look(text):
            if all(end <= hit.begin or hit.end <= begin for hit in found):
                found.append(Hit(kind, begin, end))
    return sorted(found, key=lambda hit: hit.begin)


def mask(text: str) -> str:
    """The text with `[email]`, `[phone]` and so on in place of each hit."""
    pieces, at = [], 0
    for hit in find(text):
        pieces += [text[at : hit.begin], f"[{hit.kind}]"]
        at = hit.end
    return "".join([*pieces, text[at:]])


def kinds_in(row: AnyRow) -> Counter[str]:
    """How many hits of each kind a row's texts have."""
    return Counter(hit.kind for text in texts(row) for hit in find(text))


def kept(rows: Sequence[AnyRow], unit: str) -> list[Finding]:
    """What is found in rows that stay as they are: a finding for each kind."""
    return list(_by_kind([(row.line, kinds_in(row)) for row in rows], "kept", unit))


def masked(rows: Sequence[AnyRow], unit: str) -> tuple[list[AnyRow], list[Finding]]:
    """The rows with `[email]` and so on in place of personal data, and where that was done."""
    seen = [(row, kinds_in(row)) for row in rows]
    made = [map_texts(row, mask) if kinds else row for row, kinds in seen]
    return made, list(_by_kind([(row.line, kinds) for row, kinds in seen], "masked", unit))


def dropped(rows: Sequence[AnyRow], unit: str) -> tuple[list[AnyRow], list[Finding]]:
    """The rows without those that hold personal data, and what was left out."""
    seen = [(row, kinds_in(row)) for row in rows]
    lines = [(row.line, ", ".join(KINDS[kind] for kind in KINDS if kind in kinds)) for row, kinds in seen if kinds]
    found = [finding("pii", "dropped", "row{s} with personal data {are} left out", lines, unit)] if lines else []
    return [row for row, kinds in seen if not kinds], found


def _by_kind(seen: Sequence[tuple[int, Counter[str]]], action: Action, unit: str) -> Iterator[Finding]:
    for kind, name in KINDS.items():
        lines = [line for line, kinds in seen if kind in kinds]
        said = f"{name}: masked as [{kind}]" if action == "masked" else name
        if lines:
            yield finding(f"pii.{kind}", action, f"row{{s}} hold{{v}} {said}", lines, unit)


def _emails(text: str) -> Iterator[tuple[int, int]]:
    if "@" in text:
        yield from (match.span() for match in _EMAIL.finditer(text))


def _ends(pattern: re.Pattern[str], text: str, end: Callable[[str, re.Match[str]], int]) -> Iterator[tuple[int, int]]:
    """What begins where the pattern matches and ends where `end` says; 0 for nothing, and then it is looked for anew.

    A pattern takes as much as it may: what it takes too much may be the next of its kind.
    """
    at = 0
    while match := pattern.search(text, at):
        at = end(text, match)
        if at:
            yield match.start(), at
        at = at or match.start() + 1


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    return _ends(_IBAN, text, _iban_end)


def _iban_end(text: str, match: re.Match[str]) -> int:
    wanted = _LENGTHS.get(match[0][:2].upper())
    places = [place for place, character in enumerate(match[0], match.start()) if character != " "]
    if wanted is None or len(places) < wanted:
        return 0
    end = places[wanted - 1] + 1
    holds = not text[end : end + 1].isalnum() and _iban_holds(text[match.start() : end].replace(" ", "").upper())
    return end if holds else 0


def _iban_holds(iban: str) -> bool:
    """Letters as numbers, the first four behind the rest, modulo 97."""
    return int("".join(str(int(character, 36)) for character in iban[4:] + iban[:4])) % 97 == 1


def _cards(text: str) -> Iterator[tuple[int, int]]:
    return _ends(_DIGITS, text, _card_end)


def _card_end(text: str, match: re.Match[str]) -> int:
    """The end of the longest number that holds: after it and a blank, what is no part of it may follow, as a date."""
    places = [place for place in range(*match.span()) if text[place].isdigit()]
    ends = (place + 1 for place in reversed(places) if place + 1 == match.end() or text[place + 1] == " ")
    return next((end for end in ends if _card_holds(text[match.start() : end])), 0)


def _card_holds(text: str) -> bool:
    digits = "".join(character for character in text if character.isdigit())
    return bool(_CARD.fullmatch(digits)) and len(set(digits)) > 1 and _luhn([int(digit) for digit in digits])


def _luhn(digits: Sequence[int]) -> bool:
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    for match in [*_IPV4.finditer(text), *_IPV6.finditer(text)]:
        if _is_address(match[0]) and not _VERSION.search(text[max(0, match.start() - 10) : match.start()]):
            yield match.span()


def _is_address(text: str) -> bool:
    """Whether this is an address that can be somebody's."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_loopback or address.is_multicast)


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for match in _PHONE.finditer(text):
        if _is_phone(match[0]):
            yield match.span()


def _is_phone(text: str) -> bool:
    """An international number, a North American one, or a national one that begins with 0 and is written in groups."""
    digits = sum(character.isdigit() for character in text)
    if _DATE.search(text) or text.count("(") != text.count(")"):
        return False
    if text.startswith(("+", "00")):
        country = text.lstrip("+").removeprefix("00").lstrip(" (")
        return 8 <= digits - 2 * text.startswith("00") <= 15 and not country.startswith("0")
    if _NORTH_AMERICAN.fullmatch(text):
        return True
    grouped = any(mark in text for mark in " -/()")
    return text.lstrip("(").startswith("0") and 9 <= digits <= 12 and grouped


_LOOKS: dict[str, Callable[[str], Iterator[tuple[int, int]]]] = {
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "ip": _addresses,
    "phone": _phones,
}
