"""Fuzz targets, by kinds of text: bytes are read, or refused in one line. test_fuzz runs `targets.py NAME`."""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["freehold"]):
    from freehold import data as rows
    from freehold.convert import imatrix, spmodel
    from freehold.core.errors import FreeholdError
    from freehold.core.manifest import Manifest
    from freehold.core.reference import parse as parse_reference
    from freehold.data.checks import Material, examine
    from freehold.formats import go_template, images, modelfile, ollama_texts, projector
    from freehold.formats.bundle.layout import header
    from freehold.formats.bundle.reading import Bundle
    from freehold.formats.gguf import read_header as read_gguf
    from freehold.formats.safetensors import read_header as read_safetensors
    from freehold.guard import strict_json
    from freehold.proofs.sign import envelope
    from freehold.recipes import schema
    from freehold.store import folders
    from freehold.store.neighbours.base import read_json
    from freehold.store.neighbours.ollama import OllamaManifest
    from freehold.store.sources import ollama

FOLDER = Path(tempfile.mkdtemp(prefix="freehold-fuzz-"))
REGISTRY = parse_reference("ollama://tiny:1b")


def file(name: str, content: bytes) -> Path:
    path = FOLDER / name
    path.write_bytes(content)
    return path


def bundle(content: bytes) -> None:
    """As it is when it begins as a tar does, otherwise as the index of a bundle."""
    whole = content if content[257:262] == b"ustar" else header("freehold-bundle.json", len(content)) + content
    with Bundle.open(file("x.fhb", whole + bytes(4096))) as opened:
        opened.verify()


def signature(content: bytes) -> None:
    envelope.verify(content, [])
    raise AssertionError("nobody's key verified it")


def gguf(content: bytes) -> None:
    read = read_gguf(file("x.gguf", content))
    assert read.data_offset <= len(content)
    assert all(tensor.elements >= 0 for tensor in read.tensors)


def modelfiles(content: bytes) -> None:
    read = modelfile.read(file("Modelfile", content))
    assert modelfile.parse(read.text()).parameters == read.parameters


def template(content: bytes) -> None:
    go_template.to_jinja(content.decode("utf-8", "replace"))


def texts(content: bytes) -> None:
    for name in ollama_texts.FILENAMES.values():
        ollama_texts.translated({name: content})


def reference(content: bytes) -> None:
    found = parse_reference(content.decode("utf-8", "replace"))
    again = parse_reference(str(found))
    assert (again.kind, str(again)) == (found.kind, str(found))


def data(content: bytes) -> None:
    """Rows of any kind, checked and written as they are read back."""
    found = rows.load(file("y.jsonl", content), minimum=0, broken="drop", pii="mask")
    examine(Material(rows=found.rows, held_out=found.rows[:1]), found.findings)
    rows.write_rows(FOLDER / "rows.jsonl", found.rows)
    assert [row.encode() for row in rows.read_any(FOLDER / "rows.jsonl")] == [row.encode() for row in found.rows]


class Sends:
    """An Outbound whose server sends these bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def document(self, *_: Any) -> bytes:
        return self.content


def registry(content: bytes) -> None:
    ollama.look(REGISTRY, Sends(content))  # type: ignore[arg-type]


def weights(content: bytes) -> None:
    read_safetensors(file("model.safetensors", content))


def config(content: bytes) -> None:
    begin = json.dumps({"__metadata__": {}, "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    file("folder/model.safetensors", len(begin).to_bytes(8, "little") + begin + bytes(4))
    file("folder/config.json", content)
    folders.inspect(FOLDER / "folder")


def recipe(content: bytes) -> None:
    schema.read(file("recipe.toml", content))


TARGETS: dict[str, tuple[Callable[[bytes], object], ...]] = {
    "bundle": (bundle, signature),
    "gguf": (gguf, lambda content: imatrix.read(file("x.imatrix", content))),
    "projector": (lambda content: projector.read(file("mmproj.gguf", content)),),
    "images": (images.read, lambda content: images.of_url(content.decode("utf-8", "replace"))),
    "safetensors": (weights,),
    "config": (config,),
    "sentencepiece": (lambda content: spmodel.read_model(file("tokenizer.model", content)),),
    "modelfile": (modelfiles, template, texts),
    "reference": (reference,),
    "json": (
        strict_json.parse,
        Manifest.decode,
        registry,
        lambda content: read_json(file("manifest", content), OllamaManifest),
    ),
    "recipe": (recipe,),
    "rows": (
        lambda content: rows.load(file("x.csv", content)),
        lambda content: rows.load(file("x.jsonl", content)),
        data,
    ),
}


def refused(parse: Callable[[bytes], object], content: bytes) -> None:
    try:
        parse(content)
    except FreeholdError as error:
        if "\n" in error.line():
            raise AssertionError("more than one line") from error


def main() -> None:
    """Fuzz one target: every parser of the table's row gets every input."""
    parsers = TARGETS[sys.argv.pop(1)]
    (FOLDER / "folder").mkdir()

    def one(content: bytes) -> None:
        for parse in parsers:
            refused(parse, content)

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
