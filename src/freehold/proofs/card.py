"""The model card that goes with a pushed model: a view of its manifest and facts, with gaps left visible."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import FreeholdError
from freehold.core.manifest import Manifest
from freehold.core.name import Name
from freehold.store import Store

_KEYS = {"subject", "name", "value", "grade"}
_Value = str | int | float | bool | None


def of(store: Store, name: Name) -> str:
    """The card of a model, in Markdown with the Hub's front matter."""
    manifest = store.get(name)
    facts = [fact for digest in manifest.evidence for fact in facts_in(store.path(digest).read_bytes())]
    sections = [_front(manifest), f"# {name}\n", _details(manifest), _parts(manifest), _lineage(store, manifest)]
    return "\n".join([*sections, _facts(facts), _END])


_END = """## About this card

Written by Freehold from the model's manifest and the facts recorded when it was made.
What is not listed is not known. `verified` means that the program saw it, `declared` that somebody says so.
`freehold-manifest.json` lists every part by digest; `proofs/` holds the facts in full.
"""


def facts_in(data: bytes) -> list[dict[str, Any]]:
    """The facts of one piece of evidence; none when it is in a form that this version does not read."""
    try:
        proof = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    facts = proof.get("facts") if isinstance(proof, dict) else None
    if not isinstance(facts, list):
        return []
    return [_plain(fact) for fact in facts if isinstance(fact, dict) and _is_fact(fact)]


def _is_fact(found: dict[str, Any]) -> bool:
    """Whether it says something of something in plain values: evidence comes from whoever made a bundle."""
    if not found.keys() >= _KEYS or not isinstance(found["value"], _Value):
        return False
    subject = found["subject"]
    if isinstance(subject, dict):
        subject = subject["text"] if subject.keys() == {"text"} else None
    return all(isinstance(each, str) for each in (subject, found["name"], found["grade"]))


def _plain(fact: dict[str, Any]) -> dict[str, Any]:
    """Without what else it holds that is no plain value."""
    return {key: value for key, value in fact.items() if key == "subject" or isinstance(value, _Value)}


def _front(manifest: Manifest) -> str:
    """YAML that is JSON too, so that no value can end its line."""
    values: dict[str, Any] = {"tags": ["freehold"]}
    if manifest.part("gguf"):
        values |= {"library_name": "gguf", "tags": [*values["tags"], "gguf"]}
    if manifest.licence:
        values["license"] = manifest.licence.lower()
    rows = [f"{key}: {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(["---", *rows, "---", ""])


def _details(manifest: Manifest) -> str:
    details = manifest.details
    rows = [
        ("digest", str(manifest.digest)),
        ("architecture", details.architecture or "unknown"),
        ("parameters", str(details.parameters or "unknown")),
        ("quantisation", details.quantization or "unknown"),
        ("context", f"{details.context_length} tokens" if details.context_length else "unknown"),
        ("licence", manifest.licence or "unknown"),
    ]
    return table(("", ""), rows)


def _parts(manifest: Manifest) -> str:
    rows = [(part.filename, part.role, str(part.size), part.digest.text) for part in manifest.parts]
    return "## Files\n\n" + table(("file", "role", "bytes", "digest"), rows)


def _lineage(store: Store, manifest: Manifest) -> str:
    lineage = manifest.lineage
    rows = [("base", lineage.base), ("recipe", lineage.recipe), *(("data", digest) for digest in lineage.data)]
    known = [(what, digest.text, _label(store, digest)) for what, digest in rows if digest]
    text = table(("", "digest", ""), known) if known else "Unknown.\n"
    return "## Made from\n\n" + text


def _label(store: Store, digest: Digest) -> str:
    try:
        return next((str(entry.name) for entry in store.list() if entry.digest == digest), "")
    except FreeholdError:
        return ""


def _facts(facts: Sequence[dict[str, Any]]) -> str:
    if not facts:
        return "## Evidence\n\nNone was recorded.\n"
    rows = [(str(fact["name"]), _value(fact["value"]), str(fact["grade"]), _value(fact["subject"])) for fact in facts]
    return "## Evidence\n\n" + table(("fact", "value", "grade", "about"), rows)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("text", value)
    if value is None:
        return "unknown"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of plain text."""
    lines = [head, ["---"] * len(head), *([cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines) + "\n"


def cell(text: str) -> str:
    """Text that stays in its cell and is no markup."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return "".join(f"\\{c}" if c in "\\|`*[]<>&" else c for c in plain)
