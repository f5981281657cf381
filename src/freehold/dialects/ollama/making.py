"""Ollama's routes that make models: blobs that are sent, and create."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from starlette.responses import Response

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, BadName, Damaged, NotFound, Unsupported
from freehold.core.manifest import Manifest, Part
from freehold.core.name import Name
from freehold.core.request import Message
from freehold.dialects.ollama import names, schema
from freehold.dialects.ollama.lines import Tell, reported
from freehold.formats import gguf, projector
from freehold.formats.modelfile import Modelfile, parameters
from freehold.serving.decoding import decoded
from freehold.serving.desk import Desk
from freehold.serving.routes import Incoming, Route
from freehold.store import Store, adapting, creating
from freehold.store.importing import link_or_copy


async def has_blob(incoming: Incoming, desk: Desk) -> Response:
    """HEAD /api/blobs/{digest}: whether it is here."""
    await asyncio.to_thread(desk.store.path, _digest(incoming.path["digest"]))
    return Response()


async def add_blob(incoming: Incoming, desk: Desk) -> Response:
    """POST /api/blobs/{digest}: its bytes, however they say they are called."""
    digest = _digest(incoming.path["digest"])
    with suppress(NotFound, Damaged):
        await asyncio.to_thread(desk.store.path, digest)
        return Response()
    length = incoming.headers.get("content-length", "0")
    await asyncio.to_thread(desk.store.blobs.admit, int(length[:18]) if length.isdecimal() else 0)
    with desk.store.room() as room:
        path = room / "blob"
        with path.open("xb") as file:
            async for chunk in incoming.chunks():
                await asyncio.to_thread(file.write, chunk)
        try:
            await asyncio.to_thread(desk.store.add_file, path, move=True, expected=digest)
        except Damaged as error:
            raise BadInput("digest mismatch: the content is not what the address says", "Send it again") from error
    return Response(status_code=201)


async def create(incoming: Incoming, desk: Desk) -> Response:
    """POST /api/create: a model of another, or of files."""
    body = await decoded(incoming.body, schema.CreateRequest)
    name = names.new(names.asked(body))
    if not body.base and not body.files:
        raise BadInput("neither 'from' or 'files' was specified", "Name a model, or files that were sent as blobs")
    if body.base and body.files:
        raise BadInput("'from' and 'files' exclude each other", "Name a model or files")
    if body.base:
        await asyncio.to_thread(names.own, desk.store, body.base)

    def work(tell: Tell) -> None:
        from freehold import convert

        store = desk.store
        with store.room() as folder:
            tell({"status": "reading model metadata"})
            made = _modelfile(store, body, folder)
            if body.quantize:
                tell({"status": f"quantizing model to {body.quantize.upper()}"})
                _quantized(desk, name, made, folder, body.quantize)
            else:
                creating.create(store, name, made, folder, convert)
        tell({"status": "writing manifest"})
        tell({"status": "success"})

    return await reported(incoming, desk, work, streamed=body.stream is not False)


def _modelfile(store: Store, body: schema.CreateRequest, folder: Path) -> Modelfile:
    """The Modelfile that the request stands for; its files lie in `folder` afterwards."""
    given = [body.license] if isinstance(body.license, str) else body.license or []
    known, _ = parameters(list(_pairs(body.parameters or {})))
    adapters = _laid(store, body.adapters or {}, folder / "adapter")
    files = _laid(store, body.files or {}, folder / "model")
    eye = next((path for path in files if len(files) > 1 and _sees(path)), None)
    if len(adapters) > 1 and any(path.suffix == ".gguf" for path in adapters):
        raise Unsupported("only one adapter is taken", "Merge the adapters first", param="adapters")
    return Modelfile(
        base=str(names.own(store, body.base)) if body.base else _only(folder, [path for path in files if path != eye]),
        beside=f"./{eye.relative_to(folder)}" if eye else "",
        parameters=known,
        template=body.template or None,
        system=body.system or None,
        adapters=(_only(folder, adapters),) if adapters else (),
        licences=tuple(text for text in given if text),
        messages=tuple(_turn(message) for message in body.messages or ()),
    )


def _turn(message: schema.Message) -> Message:
    return Message(message.role, message.content or "")


def _pairs(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, str(each)) for name, value in given.items() for each in (value if isinstance(value, list) else [value])
    ]


def _sees(path: Path) -> bool:
    """Whether a file is a projector. Raises BadModelFile."""
    return path.suffix == ".gguf" and projector.is_projector(gguf.read_header(path))


def _only(root: Path, laid: list[Path]) -> str:
    """The one GGUF file, or the folder of the files, as a Modelfile names it."""
    found = [path for path in laid if path.suffix == ".gguf"]
    return f"./{(found[0] if len(laid) == 1 and found else laid[0].parent).relative_to(root)}"


def _laid(store: Store, files: Mapping[str, str], folder: Path) -> list[Path]:
    """Blobs in `folder` under the names that the request gives them. Raises BadInput for one that leads out of it."""
    laid = []
    for name, digest in files.items():
        pure = PurePosixPath(name)
        if pure.name != name or "\\" in name or name in (".", "..") or not name.isprintable():
            raise BadInput(f"invalid file name {name[:80]!r}", "Give plain file names", param="files")
        folder.mkdir(exist_ok=True)
        link_or_copy(store.path(_digest(digest)), folder / name)
        laid.append(folder / name)
    return laid


def _quantized(desk: Desk, name: Name, made: Modelfile, folder: Path, wanted: str) -> None:
    """Create the model under another tag, and under its name with its file quantised."""
    from freehold import convert

    store = desk.store
    whole = Name(name.org, name.model, f"{name.tag[:60]}-unquantised")
    with store.lease():
        created = creating.create(store, whole, made, folder, convert)
        try:
            manifest = adapting.as_gguf(store, created, f"{name.model}.gguf", convert)
            digest, size = store.add_file(_smaller(desk, manifest, folder, wanted), move=True)
            file = Part("gguf", digest, size, f"{name.model}.{wanted.upper()}.gguf")
            parts = tuple(part for part in manifest.parts if part.role != "gguf")
            details = gguf.read_header(store.path(digest)).details()
            store.put(name, msgspec.structs.replace(manifest, parts=(file, *parts), details=details))
        finally:
            store.remove(whole)


def _smaller(desk: Desk, manifest: Manifest, folder: Path, wanted: str) -> Path:
    """The model's file quantised, in `folder`. Raises Unsupported and BadInput."""
    from freehold.proofs import quantized, quantizing

    blobs = [desk.store.path(part.digest) for part in manifest.parts if part.role == "gguf"]
    if len(blobs) != 1:
        raise Unsupported(f"a model of {len(blobs)} files is not quantised", "Import it as one file", param="quantize")
    source = quantized.source(desk.store, str(blobs[0]), folder)
    bench = quantizing.Bench(
        source.path, source.label, folder, desk.settings.threads, lambda label: lambda done, total: None
    )
    made, _ = quantizing.make(bench, quantizing.Wish(types=(wanted,)))
    return made[0].path


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text.replace("sha256-", "sha256:"))
    except BadName as error:
        raise BadInput(f"invalid digest: {text[:90]!r}", "Write sha256: and 64 hex digits") from error


ROUTES = (
    Route("HEAD", "/api/blobs/{digest}", "manage", has_blob),
    Route("POST", "/api/blobs/{digest}", "manage", add_blob, "chunks"),
    Route("POST", "/api/create", "manage", create, "any", schema.CreateRequest),
)
