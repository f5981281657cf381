"""New models from Modelfiles, Modelfiles of models, and second names."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, FreeholdError
from freehold.core.manifest import FILENAMES, Lineage, Manifest, Part, Role
from freehold.core.name import Name
from freehold.core.parameters import Parameters, decode_messages, decode_parameters
from freehold.core.paths import expanded, there
from freehold.formats import chat_template
from freehold.formats.go_template import is_go, to_jinja
from freehold.formats.modelfile import Modelfile
from freehold.formats.reading import shown
from freehold.store import adapting
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
    """What FROM names: a model in the store, or a file or folder to import."""

    name: Name | None
    path: Path | None


def base_of(modelfile: Modelfile, folder: Path) -> Base:
    """What FROM means; relative paths are relative to the Modelfile's `folder`. Raises BadName, BadInput."""
    text = modelfile.base
    path = folder / expanded(text)
    if text.startswith(_PATHS) or text.endswith(".gguf"):
        if not there(path):
            raise BadInput(
                f"line {modelfile.base_line}: FROM names {shown(text)}, which is not there", "Check the path"
            )
        return Base(None, path)
    return Base(Name.parse(text), None)


def create(store: Store, name: Name, modelfile: Modelfile, folder: Path, converter: adapting.Converter) -> Manifest:
    """Make a model as a Modelfile says and let `name` point to it. `converter` is `freehold.convert`.

    Raises UnknownModel, BadInput, BadModelFile, Unsupported and DiskFull; then the name is as it was.
    """
    check(modelfile, folder)
    with _back(store, name), store.lease():
        named = _base(store, name, base_of(modelfile, folder))
        base = adapting.as_gguf(store, named, f"{name.model}.gguf", converter) if modelfile.adapters else named
        for adapter in modelfile.adapters:
            adapting.check_fits(store, folder / expanded(adapter), base)
        parts = _merged(base, list(_new_parts(store, modelfile, folder, named, converter)))
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
    base_of(modelfile, folder)
    template_of(modelfile)
    for adapter in modelfile.adapters:
        adapting.check(folder / expanded(adapter))


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


def _new_parts(
    store: Store, modelfile: Modelfile, folder: Path, base: Manifest, converter: adapting.Converter
) -> Iterator[Part]:
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
    for number, adapter in enumerate(modelfile.adapters):
        yield adapting.add(store, folder / expanded(adapter), base, number, converter)


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
    file = manifest.part("gguf")
    return Modelfile(
        base=f"./{file.filename}" if file else "./",
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
