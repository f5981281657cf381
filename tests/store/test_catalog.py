"""The catalog by itself: what is written is read again, whoever writes beside it, and foreign errors have our words."""

import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, Busy, Damaged, DiskFull
from freehold.core.manifest import Details, Manifest, Part
from freehold.store.blobs import Stamp
from freehold.store.catalog import Catalog, roots
from freehold.store.changes import Changes
from tests.store.models import name

A, B, C = (Digest.of_bytes(letter) for letter in (b"a", b"b", b"c"))
LARGE = (1 << 63) - 1
numbers = st.integers(0, LARGE)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog.sqlite")


def manifest(licence: str = "", **details: object) -> Manifest:
    return Manifest(parts=(Part("gguf", A, 5, "m.gguf"),), licence=licence, details=Details(**details))  # type: ignore[arg-type]


def test_an_empty_catalog_knows_nothing(catalog: Catalog):
    assert (catalog.bound(), catalog.listing(), catalog.step_references()) == ([], [], [])
    assert (catalog.stamp(A), catalog.recall("k"), catalog.due(1e12)) == (None, None, None)
    assert (catalog.held(), catalog.integrity(), catalog.stamped(Stamp(0, 0, 0))) == (0, "ok", [])
    assert not catalog.unbind(name("m"))
    assert not catalog.forget("k")
    catalog.release("nobody")
    catalog.distrust(A)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.binary(max_size=2), numbers, numbers, numbers), max_size=6))
def test_stamps_are_kept_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[bytes, int, int, int]]
):
    catalog = Catalog(tmp_path_factory.mktemp("catalog") / "c.sqlite")
    latest = {Digest.of_bytes(data): Stamp(*stamp) for data, *stamp in rows}
    for data, *stamp in rows:
        catalog.record(Digest.of_bytes(data), Stamp(*stamp))
    for digest, stamp in latest.items():
        assert catalog.stamp(digest) == stamp
        assert set(catalog.stamped(stamp)) == {each for each, known in latest.items() if known == stamp}
    if sum(stamp.size for stamp in latest.values()) <= LARGE:
        assert catalog.held() == sum(stamp.size for stamp in latest.values())
    for digest in latest:
        catalog.distrust(digest)
    assert catalog.held() == 0


def test_what_was_read_the_longest_ago_is_due(catalog: Catalog):
    stamp = Stamp(1, 2, 3)
    catalog.record(A, stamp, checked=100.0)
    catalog.record(B, stamp, checked=50.0)
    catalog.record(C, stamp)
    assert catalog.due(60.0) == C, "never read"
    catalog.record(C, stamp, checked=200.0)
    assert catalog.due(60.0) == B
    assert catalog.due(50.0) is None
    catalog.record(B, stamp)
    assert catalog.due(60.0) == B, "a new stamp is no reading"
    catalog.distrust(B)
    assert catalog.due(150.0) == A


def test_names_point_to_the_last_manifest_in_order(catalog: Catalog):
    for text, digest in (("b", A), ("org/a:v1", B), ("a", C), ("b", C)):
        catalog.bind(name(text), digest, manifest())
    assert [(str(each.name), each.digest) for each in catalog.bound()] == [("a", C), ("b", C), ("org/a:v1", B)]
    assert [each.digest for each in catalog.bound(name("b"))] == [C]
    assert catalog.unbind(name("b"))
    assert not catalog.unbind(name("b"))
    assert catalog.bound(name("b")) == []


def test_a_catalog_is_where_its_path_says(tmp_path: Path):
    for path in (tmp_path / "50 % of #1?mode=memory", tmp_path / ":memory:", tmp_path / "ä&b=c"):
        Catalog(path).bind(name("a"), A, manifest("MIT"))
        assert path.is_file()
        assert Changes(path).mark() is not None


def test_listing_tells_what_manifests_say(catalog: Catalog):
    details = {"architecture": "llama", "parameters": LARGE, "quantization": "Q8_0", "context_length": 1}
    catalog.bind(name("a"), A, manifest("MIT\x1b", embedding_length=LARGE, **details))
    (row,) = catalog.listing() or []
    assert (row.name, row.digest, row.size, row.licence) == ("a", str(A), 5, "MIT\x1b")
    assert (row.details.parameters, row.details.embedding_length, row.details.architecture) == (LARGE, LARGE, "llama")
    catalog.describe([])
    catalog.describe([(A, manifest("Apache-2.0"))])
    assert [each.licence for each in catalog.listing() or []] == ["Apache-2.0"]


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.sampled_from("kl"), st.binary(max_size=5), st.lists(st.sampled_from([A, B, C]))), max_size=6)
)
def test_steps_are_what_was_remembered_last(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, bytes, list[Digest]]]
):
    catalog = Catalog(tmp_path_factory.mktemp("catalog") / "c.sqlite")
    for key, result, digests in rows:
        catalog.remember(key, result, digests)
    latest = {key: (result, set(digests)) for key, result, digests in rows}
    for key in "kl":
        found = catalog.recall(key)
        assert (found and (found[0], set(found[1]))) == latest.get(key)
    assert sorted(catalog.step_references()) == sorted((k, d) for k, (_, digests) in latest.items() for d in digests)
    assert [catalog.forget(key) for key in "kl"] == [key in latest for key in "kl"]
    assert catalog.step_references() == []


def held(catalog: Catalog) -> set[Digest]:
    with catalog.reading() as connection:
        return roots(connection)[1]


def test_leases_end_by_holder_and_by_blob(catalog: Catalog):
    catalog.lease("one", [A, B, A])
    catalog.lease("two", [B, C])
    catalog.lease("two", [B])
    catalog.lease("three", [])
    assert held(catalog) == {A, B, C}
    catalog.release("one", [A])
    assert held(catalog) == {B, C}
    catalog.release("two")
    assert held(catalog) == {B}
    catalog.release("one", [])
    assert held(catalog) == {B}
    catalog.release("one")
    assert held(catalog) == set()


def test_a_transaction_that_fails_leaves_no_trace(catalog: Catalog):
    catalog.bind(name("a"), A, manifest())

    def fail() -> None:
        with catalog.writing() as connection:
            connection.exec_driver_sql("DELETE FROM names")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [str(each.name) for each in catalog.bound()] == ["a"]


def test_many_threads_write_in_turn(catalog: Catalog):
    def write(number: int) -> None:
        for turn in range(5):
            catalog.bind(name(f"m{number}-{turn}"), A, manifest())

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(catalog.bound()) == 20
    assert catalog.integrity() == "ok"


@pytest.fixture
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    monkeypatch.setattr("freehold.store.catalog.WAIT", 0.05)
    return Catalog(tmp_path / "catalog.sqlite")


def test_a_store_that_another_process_holds(impatient: Catalog):
    other = sqlite3.connect(impatient.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for attempt in (impatient.bound, lambda: impatient.bind(name("a"), A, manifest()), lambda: impatient.forget("k")):
        with pytest.raises(Busy, match="another process holds the store") as caught:
            attempt()
        assert caught.value.retry_after == 5
    other.execute("COMMIT")
    assert impatient.bound() == []
    other.close()


def test_a_catalog_that_cannot_grow(catalog: Catalog):
    """What a full disk does: SQLite is told that its file may have no more pages."""
    with catalog.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def fill() -> None:
        with catalog.writing() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            connection.exec_driver_sql("INSERT INTO steps (key, result) VALUES ('k', zeroblob(1000000))")

    with pytest.raises(DiskFull, match="full"):
        fill()
    assert catalog.recall("k") is None


@pytest.mark.parametrize("what", ["folder", "folder is gone", "text", "half", "nothing"])
def test_catalogs_that_cannot_be_used(tmp_path: Path, what: str):
    path = tmp_path / "home" / "catalog.sqlite"
    path.parent.mkdir()
    Catalog(path).bind(name("a"), A, manifest())
    data = path.read_bytes()
    if what == "folder is gone":
        shutil.rmtree(path.parent)
    elif what == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"text": b"not a database" * 900, "half": data[: len(data) // 2], "nothing": b""}[what])
    if what == "nothing":
        assert Catalog(path).bound() == [], "an empty file is a new catalog"
        return
    with pytest.raises(BadInput if "folder" in what else Damaged, match=r"catalog\.sqlite") as caught:
        Catalog(path).bound()
    assert caught.value.remedy
    assert caught.value.message.isprintable()
