"""Show what a model is, where it came from and what is known about it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli._options import Home, Json, Model, opened
from freehold.cli._outlook import described, print_outlook
from freehold.cli._output import count, emit, line, pairs, size, table
from freehold.core.errors import FreeholdError
from freehold.core.name import SEPARATOR, Name
from freehold.core.settings import load

if TYPE_CHECKING:
    from freehold.convert.outlook import Outlook
    from freehold.core.manifest import Details, Manifest
    from freehold.core.settings import Settings
    from freehold.engines.base import Fit
    from freehold.formats.projector import Projector
    from freehold.store import Store


def command(
    name: Model,
    modelfile: Annotated[bool, typer.Option("--modelfile", help="Print its Modelfile only.")] = False,
    json: Json = False,
    home: Home = None,
) -> None:
    """Show what a model is, where it came from and what is known about it."""
    if modelfile:
        _print_modelfile(Name.parse(name), home, json)
        return
    if SEPARATOR in name:
        _show_foreign(name, load({"home": home}), json)
        return
    from freehold.proofs.card import facts_in

    with opened(home) as (settings, store):
        parsed = Name.parse(name)
        manifest = store.get(parsed)
        labels = _labels(store, manifest)
        facts = [fact for digest in manifest.evidence for fact in facts_in(store.path(digest).read_bytes())]
        fit, outlook = _fit(store, manifest, settings)
        eye = _eye(store, manifest)
    if json:
        shown = {"name": str(parsed), "digest": manifest.digest, "manifest": manifest, "facts": facts}
        shown["memory"] = None if fit is None else {"needed": fit.needed, "available": fit.available}
        emit(shown | {"outlook": None if outlook is None else described(outlook), "projector": eye})
        return
    _print_details(parsed, manifest, fit, eye)
    if outlook is not None:
        print_outlook(outlook)
    _print_lineage(manifest, labels)
    _print_facts(facts, labels)


def _print_modelfile(name: Name, home: Path | None, json: bool) -> None:
    from freehold.store import creating

    with opened(home) as (_, store):
        text = creating.modelfile_of(store, name).text()
    if json:
        emit({"name": str(name), "modelfile": text})
        return
    line(f"# Its files: freehold cp {name} ./folder, and this Modelfile beside them")
    line(text.removesuffix("\n"))


def _show_foreign(name: str, settings: "Settings", json: bool) -> None:
    """A model of another tool: what its header says and whether it fits."""
    from freehold.convert.outlook import outlook
    from freehold.formats import projector
    from freehold.store import projectors, splits
    from freehold.store.neighbours import inspect, lookup

    found = lookup(name)
    details = inspect(found)
    seen, eye = None, None
    if found.path is not None and not found.path.is_dir():
        files = splits.files(found.path)
        seeing = projectors.usable(found.projector)
        eye = projector.read(seeing) if seeing else None
        seen = outlook(splits.header(files, files), settings, eye)
    if json:
        emit({"name": found.label, "found": found, "details": details, "outlook": described(seen) if seen else None})
        return
    line(found.label)
    rows = [*_details(details), ("sees images with", _seeing(eye))]
    pairs([*rows, ("size", size(found.size)), ("file", str(found.path)), ("remark", found.remark)])
    if seen is not None:
        print_outlook(seen)


def _labels(store: "Store", manifest: "Manifest") -> dict[str, str]:
    """What to call the digests that come up: models by name, this model's own parts by file name."""
    entries = store.list()
    named = {str(entry.digest): str(entry.name) for entry in entries}
    named |= {str(p.digest): str(e.name) for e in entries for p in e.manifest.parts if p.role == "gguf"}
    return named | {str(part.digest): part.filename for part in manifest.parts}


def _fit(store: "Store", manifest: "Manifest", settings: "Settings") -> "tuple[Fit | None, Outlook | None]":
    """What running it takes, as this home is set up and at other lengths; None for what no engine runs."""
    from freehold.convert.outlook import outlook
    from freehold.formats import projector
    from freehold.serving import defaults, ready
    from freehold.serving.engine import Lazy
    from freehold.store import splits

    if manifest.part("gguf") is None:
        return None, _converted(store, manifest, settings)
    try:
        file = defaults.dressed(store, manifest, ready.gguf_for(store, manifest))
        files = splits.files(file.path)
        eye = projector.read(file.projector) if file.projector else None
        return Lazy().fits(file, settings), outlook(splits.header(files, files), settings, eye)
    except FreeholdError:
        return None, None


def _converted(store: "Store", manifest: "Manifest", settings: "Settings") -> "Outlook | None":
    """The same of a model of safetensors, which is converted when it is first run."""
    from freehold.convert.outlook import of_folder
    from freehold.store import importing

    if manifest.part("weights") is None:
        return None
    with store.room() as room:
        try:
            importing.materialise(store, manifest, room)
            return of_folder(room, settings)
        except FreeholdError:
            return None


def _eye(store: "Store", manifest: "Manifest") -> "Projector | None":
    """What it sees images with; None too for what cannot be read, as fsck tells."""
    from freehold.formats import projector

    part = manifest.part("projector")
    try:
        return projector.read(store.path(part.digest)) if part else None
    except FreeholdError:
        return None


def _seeing(eye: "Projector | None") -> str:
    if eye is None:
        return ""
    return f"a projector of kind {eye.kind}" + (f", at most {eye.tokens} tokens each" if eye.tokens else "")


def _print_details(name: Name, manifest: "Manifest", fit: "Fit | None", eye: "Projector | None") -> None:
    details = manifest.details
    memory = f"{size(fit.needed)} of {size(fit.available)} free" if fit else ""
    line(str(name))
    pairs(
        [
            ("digest", str(manifest.digest)),
            *_details(details),
            ("sees images with", _seeing(eye)),
            ("size", size(manifest.size)),
            ("memory to run", memory),
            ("licence", manifest.licence),
        ]
    )
    line("\nparts")
    pairs([(part.filename, f"{size(part.size):>8}  {part.role:<17} {part.digest.short}") for part in manifest.parts])


def _details(details: "Details") -> list[tuple[str, str]]:
    return [
        ("architecture", details.architecture),
        ("parameters", count(details.parameters)),
        ("quantisation", details.quantization),
        ("context", f"{details.context_length} tokens" if details.context_length else ""),
    ]


def _print_lineage(manifest: "Manifest", labels: dict[str, str]) -> None:
    lineage = manifest.lineage
    rows = [("base", lineage.base), ("recipe", lineage.recipe), *(("data", digest) for digest in lineage.data)]
    shown = [(what, f"{digest.short}  {labels.get(str(digest), '')}".rstrip()) for what, digest in rows if digest]
    if shown or lineage.source:
        line("\nmade from")
        pairs([*shown, ("source", lineage.source)])


def _print_facts(facts: list[dict[str, Any]], labels: dict[str, str]) -> None:
    """A row per fact name, a column per subject: base beside tuned beside quantised."""
    if not facts:
        return
    subjects = list(dict.fromkeys(_text(fact["subject"]) for fact in facts))
    values = {(fact["name"], _text(fact["subject"])): f"{_text(fact['value'])}" for fact in facts}
    head = [labels.get(subject, subject.removeprefix("sha256:")[:12]) for subject in subjects]
    rows = [
        [name, *(values.get((name, subject), "") for subject in subjects)]
        for name in dict.fromkeys(fact["name"] for fact in facts)
    ]
    line("\nevidence")
    table(["FACT", *head], rows)


def _text(value: Any) -> str:
    if isinstance(value, dict):  # a digest, as it is stored
        return str(value.get("text", value))
    if value is None:
        return "unknown"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
