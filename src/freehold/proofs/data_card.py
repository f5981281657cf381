"""What is known of the data that a model was made of: as evidence, and as the data card, a view of it with its gaps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadData
from freehold.data.checks import Found, Value
from freehold.data.findings import Finding, Named
from freehold.proofs.card import table
from freehold.proofs.facts import Fact, Grade

SCHEMA = 1
KIND = "data"
ABOUT = {
    "source": "Where it comes from",
    "licence": "The licence under which it may be used",
    "collected": "When and how it was collected",
    "people": "Whom it is about",
    "consent": "Whether they know and agree",
    "contact": "Who answers for it",
}
"""What no program can see: somebody has to say it."""
_INFERRED = ("language", "pii.")
"""Facts that are guesses from the form of a text."""


class Sides(msgspec.Struct, frozen=True):
    """What the facts are about: the rows to learn from, and those held out where there are any."""

    train: Digest
    held_out: Digest | None = None


def evidence(sides: Sides, found: Found, seen: Mapping[str, Value], about: Mapping[str, str]) -> bytes:
    """Facts, findings and counts as canonical JSON; the same for the same data. Of its texts, only classes are in it.

    `seen` are more facts, of the reading; `about` is what somebody declares, by the keys of ABOUT.
    """
    content = {
        "schema": SCHEMA,
        "kind": KIND,
        "facts": list(_facts(sides, found, seen, about)),
        "findings": [_bare(finding) for finding in found.findings],
        "tables": found.tables,
    }
    return msgspec.json.encode(content, order="sorted")


def _bare(finding: Finding) -> Finding:
    """A finding without reasons, which may quote the data: evidence goes where the model goes."""
    return msgspec.structs.replace(finding, named=tuple(Named(each.line) for each in finding.named))


def _facts(sides: Sides, found: Found, seen: Mapping[str, Value], about: Mapping[str, str]) -> Iterator[Fact]:
    for name, value in {**seen, **found.facts}.items():
        held = sides.held_out if name.startswith("held_out.") else None
        grade: Grade = "inferred" if name.startswith(_INFERRED) else "verified"
        yield Fact(held or sides.train, f"data.{name}", value, grade)
    for finding in found.findings:
        yield Fact(sides.train, f"data.{finding.action}.{finding.check}", finding.rows, "verified")
    for key in ABOUT:
        said = about.get(key)
        yield Fact(sides.train, f"data.{key}", said or None, "declared" if said else "unknown")


class _Evidence(msgspec.Struct, frozen=True):
    """What the card reads of the evidence."""

    facts: tuple[Fact, ...]
    findings: tuple[Finding, ...]
    tables: dict[str, tuple[tuple[str, int], ...]]
    kind: str = ""


def is_one(data: bytes) -> bool:
    """Whether a piece of evidence is about data."""
    try:
        return msgspec.json.decode(data, type=_Kind).kind == KIND
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


class _Kind(msgspec.Struct):
    kind: str = ""


def card(data: bytes) -> str:
    """The data card, in Markdown. Raises BadData for what is no such evidence."""
    try:
        known = msgspec.json.decode(data, type=_Evidence)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadData(f"this is no evidence about data: {error}", "Make it again: freehold data card FILE") from error
    sections = [_HEAD, _what(known.facts), _gaps(known.facts), _done(known.findings), *_tables(known.tables), _END]
    return "\n".join(sections)


_HEAD = "# Data card\n"
_END = """## About this card

Written by Freehold from the facts recorded when the data was read. What is not listed is not known. `verified` means
that the program saw it, `inferred` that it follows from the form of the texts, `declared` that somebody says so.
Personal data is looked for by form (addresses, numbers); names and what people tell of themselves are not found so.
"""


def _what(facts: Sequence[Fact]) -> str:
    rows = [
        (_spelt(fact.name), _value(fact.value), fact.grade)
        for fact in facts
        if fact.value is not None and not _of_finding(fact)
    ]
    subjects = dict.fromkeys(fact.subject.text for fact in facts)
    sides = zip(("rows to learn from", "rows held out"), subjects, strict=False)
    return table(("", "", ""), [*((f"digest of the {name}", text, "verified") for name, text in sides), *rows])


def _of_finding(fact: Fact) -> bool:
    """Whether a fact says what a finding says."""
    return fact.name.split(".")[1] in ("kept", "cut", "masked", "dropped", "refused")


def _gaps(facts: Sequence[Fact]) -> str:
    missing = [fact.name.removeprefix("data.") for fact in facts if fact.grade == "unknown"]
    rows = [f"- {ABOUT.get(name, name)}: nobody said." for name in missing]
    return "## Gaps\n\n" + ("\n".join(rows) if rows else "None of the questions that are asked here is open.") + "\n"


def _done(findings: Sequence[Finding]) -> str:
    rows = [(finding.text, finding.action, finding.where) for finding in findings]
    text = table(("found", "the rows were", "the first"), rows) if rows else "Nothing was found wrong.\n"
    return "## What was found, and done about it\n\n" + text


def _tables(tables: Mapping[str, Sequence[tuple[str, int]]]) -> Iterator[str]:
    for name, counts in tables.items():
        total = sum(count for _, count in counts)
        rows = [(label, f"{count:,}", f"{count / total:.1%}" if total else "") for label, count in counts]
        yield f"## {name.capitalize()}\n\n" + table((name, "rows", "share"), rows)


def _spelt(name: str) -> str:
    """A fact's name for people."""
    short = name.removeprefix("data.")
    return ABOUT.get(short, short.replace("_", " ").replace(".", ", "))


def _value(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
