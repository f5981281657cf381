from pathlib import Path

import pytest

from freehold import convert
from freehold.core.errors import Unsupported
from freehold.core.event import Finished
from freehold.core.manifest import Manifest, Part
from freehold.core.name import Name
from freehold.core.request import Message, Request
from freehold.core.settings import Settings
from freehold.engines.llamacpp import LlamaCpp
from freehold.formats import gguf
from freehold.serving import ready, starter
from freehold.serving.desk import Desk
from freehold.store import Store, importing
from freehold.store.check import fsck, prune
from tests.convert.folders import write_folder
from tests.serving.support import add_model, in_loop


@pytest.fixture
def folder_model(store: Store, tmp_path: Path) -> Manifest:
    """A model that was imported as safetensors."""
    write_folder(tmp_path / "model")
    return importing.import_folder(store, tmp_path / "model", Name.parse("folder"))


def test_a_gguf_part_is_used_in_place(store: Store):
    manifest = add_model(store, "helpdesk", b"bytes")
    file = ready.gguf_for(store, manifest, label="helpdesk")
    assert file.path.read_bytes() == b"bytes"
    assert (file.label, file.embedding) == ("helpdesk", False)
    assert ready.gguf_for(store, manifest).label == manifest.digest.short


def test_safetensors_are_converted_once_and_remembered(store: Store, folder_model: Manifest, monkeypatch):
    file = ready.gguf_for(store, folder_model)
    assert gguf.read_header(file.path).architecture == "llama"

    def again(*arguments: object, **named: object) -> None:
        raise AssertionError("converted twice")

    monkeypatch.setattr(convert, "to_gguf", again)
    assert ready.gguf_for(store, folder_model).path == file.path
    prune(store)
    assert file.path.exists(), "what is remembered is kept"
    assert not list(store.folder.glob("convert-*"))
    assert fsck(store) == []


def test_a_failed_conversion_leaves_nothing(store: Store, folder_model: Manifest, monkeypatch):
    def fail(*arguments: object, **named: object) -> None:
        raise Unsupported("an unknown family")

    monkeypatch.setattr(convert, "to_gguf", fail)
    with pytest.raises(Unsupported):
        ready.gguf_for(store, folder_model)
    assert not list(store.folder.glob("convert-*"))
    monkeypatch.undo()
    assert ready.gguf_for(store, folder_model).path.exists()


def test_an_adapter_alone_cannot_be_run(store: Store):
    digest = store.add_bytes(b"adapter")
    manifest = Manifest(parts=(Part("adapter", digest, 7, "adapter_model.safetensors"),))
    with pytest.raises(Unsupported, match="run alone"):
        ready.gguf_for(store, manifest)


@in_loop
async def test_an_imported_folder_answers(store: Store, settings: Settings, folder_model: Manifest):
    desk = Desk(settings, store, LlamaCpp())
    request = Request(model="folder", messages=(Message("user", "hi"),), max_tokens=3)
    events = [event async for event in desk.generate(request)]
    await desk.pool.close()
    assert isinstance(events[-1], Finished)


def test_the_starter_is_imported_if_it_ships_and_lacks(store: Store, tmp_path: Path, monkeypatch):
    assets = tmp_path / "assets"
    monkeypatch.setattr(starter.resources, "files", lambda package: assets)
    assets.mkdir()
    starter.ensure_starter(store)
    assert store.list() == []
    write_folder(assets / "starter")
    starter.ensure_starter(store)
    (entry,) = store.list()
    assert str(entry.name) == "starter"
    add_model(store, "starter", b"somebody's own")
    starter.ensure_starter(store)
    (entry,) = store.list()
    assert entry.manifest.part("gguf") is not None, "a name that is taken is left alone"
