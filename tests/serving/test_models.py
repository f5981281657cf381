"""The catalog's models are read again when something was written, and only then."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold.core.errors import Damaged, UnknownModel
from freehold.core.name import Name
from freehold.serving.models import Models
from freehold.store import Store, neighbours
from tests.serving.support import add_model, in_loop
from tests.store import neighbour_folders as make
from tests.tiny import write_gguf


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def models(store: Store) -> Iterator[Models]:
    found = Models(store)
    yield found
    found.close()


async def names(models: Models) -> list[str]:
    return [str(entry.name) for entry in await models.all()]


@in_loop
async def test_nothing_is_read_twice(store: Store, models: Models):
    add_model(store, "a")
    first = await models.all()
    assert await models.all() is first


@in_loop
async def test_what_others_write_is_seen_at_once(store: Store, models: Models):
    assert await names(models) == []
    with Store.open(store.folder) as other:
        for count, name in enumerate("abc", 1):
            add_model(other, name)
            assert len(await names(models)) == count
        other.remove(Name.parse("b"))
    assert await names(models) == ["a", "c"]


@in_loop
async def test_a_catalog_that_is_held_for_writing_is_waited_for(store: Store, models: Models):
    add_model(store, "a")
    assert await names(models) == ["a"]
    with store.catalog.writing():
        assert await names(models) == ["a"]


@in_loop
async def test_a_catalog_that_was_put_back_is_seen(store: Store, models: Models, tmp_path: Path):
    add_model(store, "a")
    copy = shutil.copy(store.catalog.path, tmp_path / "copy.sqlite")
    add_model(store, "b")
    assert await names(models) == ["a", "b"]
    Path(copy).replace(store.catalog.path)
    assert await names(models) == ["a"]


@in_loop
async def test_an_error_is_not_kept(store: Store, models: Models):
    add_model(store, "a")
    digest = store.resolve(Name.parse("a"))
    path = store.blobs.path(digest)
    content = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(b"{")
    with pytest.raises(Damaged, match="a"):
        await models.all()
    path.write_bytes(content)
    store.catalog.distrust(digest)
    assert await names(models) == ["a"]


@in_loop
async def test_what_a_name_means_is_read_once(store: Store, models: Models):
    add_model(store, "a")
    first = await models.source("a")
    assert first.digest == store.resolve(Name.parse("a"))
    assert await models.source("a") is first
    add_model(store, "a", b"other weights")
    second = await models.source("a")
    assert second.digest == store.resolve(Name.parse("a")) != first.digest
    assert await models.source("a") is second
    with Store.open(store.folder) as other:
        other.remove(Name.parse("a"))
    for _ in range(2):
        with pytest.raises(UnknownModel):
            await models.source("a")


@in_loop
async def test_models_of_other_tools_are_looked_up_each_time(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = make.user(tmp_path, monkeypatch) / ".lmstudio"
    file = make.lmstudio(folder, write_gguf(tmp_path / "m-Q8_0.gguf"))
    (found,) = neighbours.everything()
    first = await models.source(found.label)
    assert (await models.source(found.label)).digest == first.digest
    os.utime(file, (1, 1))
    assert (await models.source(found.label)).digest != first.digest


@pytest.mark.parametrize("name", ["helpdesc", "", "../x", "a b", "x" * 300])
@in_loop
async def test_one_that_is_not_there(store: Store, models: Models, name: str):
    add_model(store, "helpdesk")
    with pytest.raises(UnknownModel):
        await models.one(name)
    assert str((await models.one("helpdesk")).name) == "helpdesk"
