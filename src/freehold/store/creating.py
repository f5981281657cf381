"""New models from Modelfiles, Modelfiles of models, and second names."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, FreeholdError, Unsupported
from freehold.core.manifest import FILENAMES, Lineage, Manifest, Part, Role
from freehold.core.name import Name
from freehold.core.parameters import Parameters, decode_messages, decode_parameters
from freehold.core.paths import expanded, there
from freehold.formats import chat_template, gguf, projector
from freehold.formats.go_template import is_go, to_jinja
from freehold.formats.modelfile import Modelfile
from freehold.formats.reading import shown
from freehold.store import adapting, projectors
from freehold.store.check import prune
from freehold.store.importing import import_folder, import_gguf
from freehold.store.store import Store

_PROBE = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "?"},
]
_PATHS = (".", "/", "~")


class Base(NamedTuple):
    """What FROM names: a model in the store, or a file or folder to import; and a projector, if one is named too."""

    name: Name | None
    path: Path | None
    projector: Path | None = None


def base_of(modelfile: Modelfile, folder: Path) -> Base:
    """What FROM means; relative paths are relative to the Modelfile's `folder`.

    A projector may be named by a second FROM or, as Ollama has it too, by ADAPTER. Raises BadName, BadInput,
    BadModelFile.
    """
    named = [_named(modelfile.base, modelfile.base_line, folder)]
    if modelfile.beside:
        named.append(_named(modelfile.beside, modelfile.beside_line, folder))
    models = [base for base in named if not _sees(base.path)]
    eyes = [base.path for base in named if _sees(base.path)]
    eyes += [path for path in _adapter_files(modelfile, folder) if _sees(path)]
    line = modelfile.beside_line or modelfile.base_line
    if len(models) != 1:
        reason = "a second FROM names another model" if models else "FROM names a projector and no model"
        raise BadInput(f"line {line}: {reason}", "Name one model, and the GGUF file of its projector")
    if len(eyes) > 1:
        raise BadInput(f"line {line}: {len(eyes)} projectors are named", "Name one")
    return models[0]._replace(projector=eyes[0] if eyes else None)


def _named(text: str, line: int, folder: Path) -> Base:
    path = folder / expanded(text)
    if text.startswith(_PATHS) or text.endswith(".gguf"):
        if not there(path):
            raise BadInput(f"line {line}: FROM names {shown(text)}, which is not there", "Check the path")
        return Base(None, path)
    return Base(Name.parse(text), None)


def _adapter_files(modelfile: Modelfile, folder: Path) -> list[Path]:
    return [folder / expanded(adapter) for adapter in modelfile.adapters]


def _sees(path: Path | None) -> bool:
    """Whether a file is a projector. Raises BadModelFile."""
    return path is not None and there(path) and path.is_file() and projector.is_projector(gguf.read_header(path))


def create(store: Store, name: Name, modelfile: Modelfile, folder: Path, converter: adapting.Converter) -> Manifest:
    """Make a model as a Modelfile says and let `name` point to it. `converter` is `freehold.convert`.

    Raises UnknownModel, BadInput, BadModelFile, Unsupported and DiskFull; then the name is as it was.
    """
    check(modelfile, folder)
    with _back(store, name), store.lease():
        origin = base_of(modelfile, folder)
        named = _base(store, name, origin)
        adapters = [path for path in _adapter_files(modelfile, folder) if not _sees(path)]
        base = adapting.as_gguf(store, named, f"{name.model}.gguf", converter) if adapters else named
        for path in adapters:
            adapting.check_fits(store, path, base)
        new = list(_new_texts(store, modelfile, base))
        new += [adapting.add(store, path, named, number, converter) for number, path in enumerate(adapters)]
        if origin.projector is not None:
            new.append(_seeing(store, base, origin.projector))
        parts = _merged(base, new)
        lineage = Lineage(base=named.digest, source=base.lineage.source) if parts != base.parts else base.lineage
        manifest = msgspec.structs.replace(base, parts=parts, lineage=lineage)
        store.put(name, manifest)
    return manifest


@contextmanager
def _back(store: Store, name: Name) -> Iterator[None]:
    """After an error, `name` points to what it did before, and nothing new is left in the store."""
    before = store.catalog.bound(name)
    try:
        yield
    except FreeholdError:
        if before:
            store.catalog.bind(name, before[0].digest, store.manifest(before[0].digest))
        else:
            store.catalog.unbind(name)
        with suppress(FreeholdError):
            prune(store)
        raise


def check(modelfile: Modelfile, folder: Path) -> None:
    """What can be said against it before anything is written. Raises BadInput, BadModelFile, Unsupported."""
    eye = base_of(modelfile, folder).projector
    if eye is not None:
        projector.read(eye)
    template_of(modelfile)
    for path in _adapter_files(modelfile, folder):
        if path != eye:
            adapting.check(path)


def _base(store: Store, name: Name, base: Base) -> Manifest:
    if base.name is not None:
        return store.get(base.name)
    path = base.path or Path()
    return import_folder(store, path, name) if path.is_dir() else import_gguf(store, path, name)


def template_of(modelfile: Modelfile) -> str | None:
    """The chat template in Jinja, tried on a conversation. Raises Unsupported and BadInput naming the line."""
    if modelfile.template is None:
        return None
    try:
        made = to_jinja(modelfile.template) if is_go(modelfile.template) else modelfile.template
        chat_template.render(made, _PROBE, add_generation_prompt=True, bos_token="", eos_token="")
    except FreeholdError as error:
        raise type(error)(f"line {modelfile.template_line}: {error.message}", error.remedy) from error
    return made


def _seeing(store: Store, base: Manifest, path: Path) -> Part:
    """The part with which a model sees images. Raises Unsupported, BadModelFile and DiskFull."""
    if base.part("gguf") is None and base.part("weights") is None:
        raise Unsupported(f"{shown(path, 400)} is a projector, and FROM names no model", "Name a model in FROM")
    return projectors.keep(store, path, [part.filename for part in base.parts if part.role != "projector"])


def _new_texts(store: Store, modelfile: Modelfile, base: Manifest) -> Iterator[Part]:
    template = template_of(modelfile)
    texts: list[tuple[Role, bytes | None]] = [
        ("chat_template", None if template is None else template.encode()),
        ("system", None if modelfile.system is None else modelfile.system.encode()),
        ("messages", msgspec.json.encode(modelfile.messages) if modelfile.messages else None),
        ("parameters", _parameters(store, modelfile, base)),
        ("licence", "\n\n".join(modelfile.licences).encode() if modelfile.licences else None),
    ]
    for role, data in texts:
        if data is not None:
            yield Part(role, store.add_bytes(data), len(data), FILENAMES[role])


def _parameters(store: Store, modelfile: Modelfile, base: Manifest) -> bytes | None:
    if modelfile.parameters == Parameters():
        return None
    part = base.part("parameters")
    inherited = decode_parameters(store.path(part.digest).read_bytes()) if part else Parameters()
    return modelfile.parameters.over(inherited).encode()


def _merged(base: Manifest, new: list[Part]) -> tuple[Part, ...]:
    """The base's parts, those of a role that the new ones have replaced."""
    roles = {part.role for part in new}
    parts = [*(part for part in base.parts if part.role not in roles), *new]
    names = [part.filename for part in parts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadInput(f"two files of the model would be called {shown(twice)}", "Rename the adapter's file")
    return tuple(parts)


def modelfile_of(store: Store, name: Name) -> Modelfile:
    """The Modelfile of a model. FROM names the model's file, as `freehold cp NAME ./folder` would write it."""
    manifest = store.get(name)

    def text(role: Role) -> str | None:
        part = manifest.part(role)
        return None if part is None else store.path(part.digest).read_text("utf-8", "replace")

    parameters, messages, licence = text("parameters"), text("messages"), text("licence")
    file, eye = manifest.part("gguf"), manifest.part("projector")
    return Modelfile(
        base=f"./{file.filename}" if file else "./",
        beside=f"./{eye.filename}" if eye else "",
        parameters=decode_parameters(parameters.encode()) if parameters else Parameters(),
        template=text("chat_template") if file else None,
        system=text("system"),
        adapters=tuple(f"./{part.filename}" for part in manifest.parts if part.role == "adapter" and file),
        licences=(licence,) if licence else (),
        messages=decode_messages(messages.encode()) if messages else (),
    )


def copy(store: Store, old: Name, new: Name) -> Digest:
    """Let a second name point to a model. Raises UnknownModel."""
    return store.put(new, store.get(old))
