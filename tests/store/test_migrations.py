"""Catalogs of earlier versions open, with all that they hold; a kill on the way is in tests/faults."""

import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection

from freehold.core.errors import Unsupported
from freehold.store import Store, migrations, tables
from freehold.store.catalog import Catalog
from freehold.store.check import prune
from freehold.store.importing import import_gguf
from tests.faults.store_kills import old_store
from tests.store import models
from tests.store.models import assert_whole, name


def version(store: Store) -> int:
    with store.catalog.reading() as connection:
        return migrations.version(connection)


def test_a_new_catalog_is_of_this_version(store: Store):
    assert version(store) == migrations.SCHEMA == len(migrations.STEPS)


def test_an_earlier_catalog_keeps_what_it_holds(tmp_path: Path):
    old_store(tmp_path / "old")
    with Store.open(tmp_path / "old") as store:
        assert version(store) == migrations.SCHEMA
        (kept,) = store.listing()
        assert (kept.name, kept.details.context_length, kept.licence) == ("kept", 128, "apache-2.0")
        assert kept.size == store.get(name("kept")).size
        assert_whole(store)


def test_many_open_an_earlier_catalog_at_once(tmp_path: Path):
    old_store(tmp_path / "old")
    listed: list[str] = []

    def work() -> None:
        with Store.open(tmp_path / "old") as store:
            listed.extend(each.name for each in store.listing())

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert listed == ["kept"] * 6


def test_a_step_that_fails_leaves_the_earlier_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old_store(tmp_path / "old")

    steps = migrations.STEPS

    def half(connection: Connection) -> None:
        steps[1](connection)
        raise KeyboardInterrupt

    monkeypatch.setattr(migrations, "STEPS", (steps[0], half))
    with pytest.raises(KeyboardInterrupt):
        Catalog(tmp_path / "old" / "catalog.sqlite")
    monkeypatch.setattr(migrations, "STEPS", steps)
    with Store.open(tmp_path / "old") as store:
        assert version(store) == migrations.SCHEMA
        assert [each.name for each in store.listing()] == ["kept"]


def test_a_later_catalog_is_refused(store: Store):
    with store.catalog.writing() as connection:
        connection.exec_driver_sql(f"PRAGMA user_version = {migrations.SCHEMA + 1}")
    with pytest.raises(Unsupported, match="newer"):
        Store.open(store.folder)


def test_listing_opens_no_file(store: Store, tmp_path: Path):
    import_gguf(store, models.gguf(tmp_path / "x.gguf"), name("one"))
    for path, _ in list(store.blobs.files()):
        path.unlink()
    assert [(each.name, each.details.quantization) for each in store.listing()] == [("one", "Q8_0")]
    assert str(store.resolve(name("one"))) == store.listing()[0].digest


def test_what_nothing_names_is_not_kept_in_the_listing(store: Store, tmp_path: Path):
    import_gguf(store, models.gguf(tmp_path / "x.gguf"), name("one"))
    store.remove(name("one"))
    prune(store)
    with store.catalog.reading() as connection:
        assert connection.execute(tables.models.select()).all() == []
        assert connection.execute(tables.scrubs.select()).all() == []
