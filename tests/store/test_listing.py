"""The listing out of the catalog's file alone, beside the one of the open store."""

import sqlite3
from pathlib import Path

from freehold.core.manifest import Manifest
from freehold.store import Store, migrations
from freehold.store.listing import CATALOG, SCHEMA, glance
from tests.faults.store_kills import old_store
from tests.store.models import name


def filled(folder: Path) -> Store:
    store = Store.open(folder)
    for each in ("b", "a", "org/c:Q8_0"):
        store.put(name(each), Manifest(parts=(), licence=each))
    return store


def test_a_glance_tells_what_the_open_store_does(tmp_path: Path):
    with filled(tmp_path / "a store #1?") as store:
        found = glance(store.folder)
        assert found == store.listing()
        assert found is not None
        assert [each.name for each in found] == ["a", "b", "org/c:Q8_0"]
        store.remove(name("b"))
        assert glance(store.folder) == store.listing()


def test_a_glance_is_for_catalogs_of_this_version(tmp_path: Path):
    assert SCHEMA == migrations.SCHEMA
    old_store(tmp_path / "old")
    assert glance(tmp_path / "old") is None
    with Store.open(tmp_path / "old") as store:
        assert glance(tmp_path / "old") is None  # its manifest was not described yet
        assert store.listing() == glance(tmp_path / "old")
        with sqlite3.connect(tmp_path / "old" / CATALOG) as connection:
            connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
        assert glance(tmp_path / "old") is None


def test_a_glance_leaves_to_the_store_what_is_wrong_with_a_catalog(tmp_path: Path):
    assert glance(tmp_path) is None
    assert not (tmp_path / CATALOG).exists()
    (tmp_path / CATALOG).write_text("x" * 999)
    assert glance(tmp_path) is None
    (tmp_path / CATALOG).unlink()
    (tmp_path / CATALOG).mkdir()
    assert glance(tmp_path) is None
