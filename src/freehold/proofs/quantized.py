"""Quantised models between the store and the workbench: where the source comes from, how what was made is kept."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from freehold import convert, data
from freehold.core.digest import Digest
from freehold.core.errors import BadData, BadInput, Damaged, NotFound, Unsupported
from freehold.core.manifest import Lineage, Manifest, Part
from freehold.core.name import Name
from freehold.core.paths import expanded
from freehold.formats.gguf import read_header
from freehold.formats.reading import shown
from freehold.proofs import texts
from freehold.proofs.loss import Report
from freehold.proofs.quantizing import Made
from freehold.proofs.texts import Texts
from freehold.store import Store
from freehold.store.importing import import_gguf, materialise

_WHOLE = ("F32", "F16", "BF16")
_WORK = re.compile(r"quantize-(\d{1,10})-(\d{1,20})-[0-9a-f]{8}")


@dataclass(frozen=True)
class Source:
    """An unquantised GGUF file and the model that it belongs to, if it is in the store."""

    path: Path
    label: str
    manifest: Manifest | None = None

    @property
    def digest(self) -> Digest:
        """Of the file, which is read unless the store knows it."""
        part = self.manifest.part("gguf") if self.manifest else None
        return part.digest if part else Digest.of_file(self.path)

    @property
    def lineage(self) -> Lineage:
        """What a model made from it says about its origin."""
        if self.manifest is None:
            return Lineage(source=self.path.name)
        known = self.manifest.lineage
        return Lineage(base=self.manifest.digest, recipe=known.recipe, data=known.data)


def is_file(text: str) -> bool:
    """Whether somebody who types this means a file and not a name."""
    return text.startswith((".", "/", "~")) or text.endswith(".gguf")


def source(store: Store, text: str, folder: Path) -> Source:
    """The unquantised GGUF file that a file's path or a model's name leads to.

    Weights in safetensors are converted into `folder` first. Raises UnknownModel, NotFound, BadModelFile, Unsupported.
    """
    if is_file(text):
        path = expanded(text)
        return _checked(store, Source(path, path.name))
    name = Name.parse(text)
    manifest = store.get(name)
    part = manifest.part("gguf")
    if part is not None:
        return _checked(store, Source(store.path(part.digest), str(name), manifest), name)
    if manifest.part("weights") is None:
        raise Unsupported(f"{name} holds no weights of a whole model", "Name a model, not an adapter")
    materialise(store, manifest, folder / "weights")
    convert.to_gguf(folder / "weights", folder / "source.gguf", tools=store.tools)
    return Source(folder / "source.gguf", str(name), manifest)


def _checked(store: Store, found: Source, name: Name | None = None) -> Source:
    kind = read_header(found.path).quantization
    if kind not in _WHOLE:
        whole = Name(name.org, name.model, "weights") if name else None
        known = whole is not None and any(entry.name == whole for entry in store.list())
        remedy = f"Quantise {whole}, which it was made from" if known else "Quantise the model's F32, F16 or BF16 file"
        raise Unsupported(f"{shown(found.label, 400)} is already quantised ({kind})", remedy)
    return found


def held_out(store: Store, found: Source) -> Texts | None:
    """The rows that the recipe which made the model held out; None where no recipe did, or they are gone."""
    if found.manifest is None or found.manifest.lineage.recipe is None or len(found.manifest.lineage.data) != 2:
        return None
    try:
        rows = data.read_rows(store.path(found.manifest.lineage.data[1]))
    except (NotFound, Damaged, BadData):
        return None
    return texts.from_rows(rows, read_header(found.path)) if rows else None


def names(name: Name, types: Sequence[str], *, picked: bool) -> dict[str, Name]:
    """What each type will be called: `name` itself for a single one, else `name:type`. Raises BadInput."""
    if picked or len(types) == 1:
        return dict.fromkeys(types, name)
    if name.tag != "latest":
        raise BadInput(f"{name} cannot name {len(types)} types", f"Leave the tag out: --as {name.model}")
    return {kind: Name(name.org, name.model, kind.lower()) for kind in types}


def _seeing(manifest: Manifest | None) -> tuple[Part, ...]:
    """The part with which the model sees images: as it is, for quantising it saves little and costs much."""
    part = manifest.part("projector") if manifest else None
    return (part,) if part else ()


def keep(
    store: Store, found: Source, kept: Sequence[Made], called: dict[str, Name], report: Report | None
) -> dict[Name, Manifest]:
    """Move files into the store under their names, with the report as evidence. Raises DiskFull."""
    done = {}
    with store.lease():
        evidence = (store.add_bytes(report.encode()),) if report else ()
        for made in kept:
            name = called[made.measured.type]
            path = made.path.rename(made.path.with_name(f"{name.model}.{made.measured.type}.gguf"))
            licence = found.manifest.licence if found.manifest else ""
            done[name] = import_gguf(
                store,
                path,
                name,
                lineage=found.lineage,
                evidence=evidence,
                licence=licence,
                move=True,
                beside=_seeing(found.manifest),
            )
    return done
