"""LM Studio's folder of models: PUBLISHER/MODEL/FILE.gguf, or PUBLISHER/MODEL/ with safetensors."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from freehold.core.errors import FreeholdError
from freehold.formats.reading import shown
from freehold.store import projectors, splits
from freehold.store.neighbours.base import (
    Found,
    Place,
    Shared,
    entries,
    gguf_file,
    home,
    one_file,
    proposed,
    quantization_of,
    read_json,
    read_text,
)
from freehold.store.neighbours.huggingface import weights_folder


class _Settings(msgspec.Struct, rename={"downloads_folder": "downloadsFolder"}):
    downloads_folder: str = ""


class LMStudio:
    """Reads what LM Studio downloaded or `lms import` put there."""

    name = "lmstudio"
    title = "LM Studio"

    def roots(self, environ: Mapping[str, str]) -> list[Path]:
        """The folder that its settings name, else `models` in its home: ~/.lmstudio, or what a pointer file says."""
        base = _base(home(environ))
        try:
            chosen = read_json(base / "settings.json", _Settings).downloads_folder
        except FreeholdError:
            chosen = ""
        return [Path(chosen)] if chosen and Path(chosen).is_absolute() else [base / "models"]

    def models(self, root: Path) -> Iterator[Found]:
        """One model for each GGUF file, or folder with safetensors."""
        for publisher in entries(root):
            if publisher.is_dir():
                for model in entries(publisher):
                    yield from self._folder(publisher, model)
            elif gguf_file(publisher):
                yield self._misplaced(root, publisher)

    def _folder(self, publisher: Path, model: Path) -> Iterator[Found]:
        if not model.is_dir():
            if gguf_file(model):
                yield self._misplaced(publisher.parent, model)
            return
        inside = entries(model)
        for path in (each for each in inside if gguf_file(each)):
            name = proposed(publisher.name, model.name, quantization_of(splits.base(path.name)))
            label = shown(f"{publisher.name}/{model.name}/{path.name}", 400)
            yield one_file(path, tool=self.name, id=label, name=name, projector=projectors.beside(path, inside))
        if any(each.name.endswith(".safetensors") for each in inside):
            label = shown(f"{publisher.name}/{model.name}", 400)
            yield weights_folder(model, inside, tool=self.name, id=label, name=proposed(publisher.name, model.name))

    def _misplaced(self, root: Path, path: Path) -> Found:
        label = shown(path.relative_to(root), 400)
        return Found(tool=self.name, id=label, problem="it is not in a folder PUBLISHER/MODEL, where LM Studio looks")

    def places(self, root: Path, shared: Shared) -> list[Place]:
        """PUBLISHER/MODEL/FILE.gguf, with a publisher of our own where the name has none."""
        name = shared.name
        folder = root / (name.org or "freehold") / (name.model if name.tag == "latest" else f"{name.model}-{name.tag}")
        eye = shared.projector()
        parts = [*shared.ggufs(), *([eye] if eye else [])]
        return [Place(folder / part.filename, blob=part.digest) for part in parts]

    def used(self, root: Path, place: Place) -> bool:
        """Each model has its own folder."""
        return False


def _base(user: Path) -> Path:
    try:
        pointed = read_text(user / ".lmstudio-home-pointer").decode("utf-8", "replace").strip()
    except FreeholdError:
        pointed = ""
    if pointed and Path(pointed).is_absolute():
        return Path(pointed)
    old = user / ".cache" / "lm-studio"
    return old if old.is_dir() else user / ".lmstudio"


NEIGHBOUR = LMStudio()
