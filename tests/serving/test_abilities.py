"""What a model is said to be able to do."""

from pathlib import Path

import msgspec
import pytest

from freehold.core.manifest import Part
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.serving import abilities
from freehold.store import Store
from freehold.store.importing import import_folder, import_gguf
from tests.serving.support import add_gguf
from tests.store import neighbour_folders as make
from tests.store.models import folder, gguf, projector
from tests.tiny import CHATML, write_gguf


def of(store: Store, path: Path) -> abilities.Abilities:
    add_gguf(store, "m", path)
    return abilities.of(store, store.get(Name.parse("m")))


def test_a_model_that_chats(store: Store, tmp_path: Path):
    assert of(store, write_gguf(tmp_path / "a.gguf")) == abilities.Abilities(tools=True)


def test_a_model_that_thinks(store: Store, tmp_path: Path):
    thinking = CHATML + "{% if enable_thinking %}<think>{% endif %}"
    assert of(store, write_gguf(tmp_path / "a.gguf", template=thinking)).thinking


def test_a_model_without_a_template_only_completes(store: Store, tmp_path: Path):
    assert of(store, write_gguf(tmp_path / "a.gguf", template="")) == abilities.Abilities()


def test_what_the_header_says(store: Store, tmp_path: Path):
    marks = {f"tokenizer.ggml.fim_{mark}_token_id": number for number, mark in enumerate(("pre", "suf", "mid"))}
    assert of(store, gguf(tmp_path / "a.gguf", **marks)).insert
    assert of(store, gguf(tmp_path / "b.gguf", **{"llama.pooling_type": 1})).embedding


def test_a_folder_that_is_not_converted_yet(settings: Settings, store: Store, tmp_path: Path):
    import_folder(store, folder(tmp_path / "model"), Name.parse("m"))
    assert not abilities.of(store, store.get(Name.parse("m"))).thinking


def test_a_template_of_ollamas_that_has_a_place_to_write_at(store: Store, tmp_path: Path):
    add_gguf(store, "m", write_gguf(tmp_path / "a.gguf"))
    manifest = store.get(Name.parse("m"))
    text = b"<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>"
    part = Part("other", store.add_bytes(text), len(text), "ollama.template")
    store.put(Name.parse("code"), msgspec.structs.replace(manifest, parts=(*manifest.parts, part)))
    assert abilities.of(store, store.get(Name.parse("code"))).insert
    found = abilities.insertion(store, "code")
    assert found is not None
    assert found.text("a", "b") == "<PRE>a<SUF>b<MID>"
    assert abilities.insertion(store, "m") is None


def test_a_template_beside_a_model_that_ollama_keeps(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = make.user(tmp_path, monkeypatch) / ".ollama" / "models"
    layers = [make.layer(root, "template", b"{{ .Prompt }}<S>{{ .Suffix }}")]
    make.ollama(root, write_gguf(tmp_path / "a.gguf").read_bytes(), layers=layers)
    found = abilities.insertion(store, "ollama::tiny")
    assert found is not None
    assert found.text("a", "b") == "a<S>b"


def test_a_model_that_sees(store: Store, tmp_path: Path):
    import_gguf(store, write_gguf(tmp_path / "a.gguf"), Name.parse("m"), projector=projector(tmp_path / "mmproj.gguf"))
    assert abilities.of(store, store.get(Name.parse("m"))).vision
