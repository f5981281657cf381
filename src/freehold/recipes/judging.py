"""The model that grades answers while another learns: found by its name, as a file that an engine loads."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from freehold.core.errors import Unsupported
from freehold.core.manifest import Manifest
from freehold.core.name import Name
from freehold.recipes.schema import TuneSection
from freehold.store import Store
from freehold.store.importing import materialise
from freehold.tuning.job import Judge


def judge_of(section: TuneSection, store: Store) -> Manifest:
    """The model that `section` names. Raises UnknownModel, BadName, Unsupported for what cannot be run alone."""
    found = store.get(Name.parse(section.judge))
    files = [part for part in found.parts if part.role == "gguf"]
    if len(files) > 1 or (not files and found.part("weights") is None):
        kind = "in several files" if files else "no model that runs alone"
        raise Unsupported(f"the judge {section.judge} is {kind}", "Name a model of one GGUF file")
    return found


@contextmanager
def judging(section: TuneSection, store: Store, out: Path) -> Iterator[Judge | None]:
    """The judge for as long as it is needed; one of safetensors is converted to the file `out`."""
    if not section.judge:
        yield None
        return
    found = judge_of(section, store)
    with store.lease(*(part.digest for part in found.parts)):
        file = found.part("gguf")
        path = _converted(found, store, out) if file is None else store.path(file.digest)
        template = found.part("chat_template") if file is not None else None
        yield Judge(
            name=section.judge,
            path=path,
            rubric=section.rubric,
            template="" if template is None else store.path(template.digest).read_text("utf-8"),
            adapters=tuple(store.path(part.digest) for part in found.parts if part.role == "adapter"),
        )


def _converted(found: Manifest, store: Store, out: Path) -> Path:
    from freehold.convert import to_gguf

    if not out.exists():
        with store.room() as room:
            materialise(store, found, room)
            to_gguf(room, out)
    return out
