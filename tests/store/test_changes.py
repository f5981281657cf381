"""What was written to a catalog is noticed; what was only read is not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold.core.digest import Digest
from freehold.store import Store
from freehold.store.changes import Changes


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def changes(store: Store) -> Iterator[Changes]:
    watch = Changes(store.catalog.path)
    yield watch
    watch.close()


def test_reading_is_no_change_and_writing_is(store: Store, changes: Changes):
    first = changes.mark()
    assert first is not None
    store.list()
    store.catalog.integrity()
    assert changes.mark() == first
    store.catalog.remember("step", b"1", [])
    second = changes.mark()
    assert second not in (None, first)
    store.add_bytes(b"x")
    assert changes.mark() not in (None, first, second)


def test_it_holds_nobody_up(store: Store, changes: Changes):
    changes.mark()
    for number in range(50):
        store.catalog.remember("step", str(number).encode(), [Digest.of_bytes(b"x")])
        assert changes.mark() is not None
    with store.catalog.writing() as connection:
        connection.exec_driver_sql("DELETE FROM steps")
        changes.mark()


def test_none_where_there_is_no_catalog(tmp_path: Path):
    watch = Changes(tmp_path / "none.sqlite")
    assert watch.mark() is None
    (tmp_path / "none.sqlite").write_bytes(b"this is no database" * 100)
    assert watch.mark() is None
    watch.close()
    watch.close()
