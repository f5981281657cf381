"""What comes into the store, by whatever door: whole or not at all, and never more than the quota allows."""

import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, Damaged, NoRoom, NotFound
from freehold.formats.bundle.reading import Bundle
from freehold.store import Store, bundles
from freehold.store.blobs import shareable
from tests.store.models import assert_whole, blob_count, kept, leftovers, name

DATA = random.Random(1).randbytes(3000)
Door = Callable[[Store, Path, bytes], object]


def by_bundle(store: Store, file: Path, data: bytes) -> None:
    with Store.open(file.parent / "source") as source:
        source.put(name("m"), kept(source, [data]))
        bundles.export(source, bundles.pack(source, [name("m")]), file.parent / "m.fhb")
    with Bundle.open(file.parent / "m.fhb") as bundle:
        bundles.bring(store, bundle)


DOORS: dict[str, Door] = {
    "bytes": lambda store, file, data: store.add_bytes(data),
    "file": lambda store, file, data: store.add_file(file),
    "moved file": lambda store, file, data: store.add_file(file, move=True),
    "shared file": lambda store, file, data: store.add_file(file, share=True),
    "stream": lambda store, file, data: store.add_stream(iter([data]), Digest.of_bytes(data), len(data)),
    "restored": lambda store, file, data: store.restore(Digest.of_bytes(data), file),
    "bundle": by_bundle,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(DATA)
    return tmp_path / "file"


@pytest.mark.parametrize("door", ["file", "stream"])
def test_room_that_cannot_be_taken_at_once_is_not(
    tmp_path: Path, file: Path, door: str, monkeypatch: pytest.MonkeyPatch
):
    """macOS has no call for it."""
    monkeypatch.delattr(os, "posix_fallocate")
    with Store.open(tmp_path / "store") as store:
        DOORS[door](store, file, DATA)
        assert store.blobs.path(Digest.of_bytes(DATA)).read_bytes() == DATA


@pytest.mark.parametrize("door", DOORS)
def test_nothing_over_the_quota_comes_in(tmp_path: Path, file: Path, door: str):
    with Store.open(tmp_path / "small", quota=5000) as small:
        small.add_bytes(b"x" * 2500)
        with pytest.raises(
            NoRoom, match=r"holds 2\.5 kB of its quota of 5\.0 kB, and 3\.\d kB would be added"
        ) as caught:
            DOORS[door](small, file, DATA)
        assert "FREEHOLD_QUOTA" in caught.value.remedy
        assert (blob_count(small), leftovers(small), small.list()) == (1, [], [])
        assert file.read_bytes() == DATA
        assert (file.stat().st_nlink, file.stat().st_mode & 0o200) == (1, 0o200)


@pytest.mark.parametrize("door", DOORS)
def test_what_the_quota_allows_comes_in(tmp_path: Path, file: Path, door: str):
    with Store.open(tmp_path / "small", quota=5000) as small:
        DOORS[door](small, file, DATA)
        assert small.path(Digest.of_bytes(DATA)).read_bytes() == DATA
        assert leftovers(small) == []
        assert_whole(small)


def test_a_bundle_over_the_quota_is_refused_before_anything_is_copied(tmp_path: Path):
    with Store.open(tmp_path / "source") as source, Store.open(tmp_path / "small", quota=4000) as small:
        source.put(name("a"), kept(source, [b"1" * 3000, b"2" * 3000]))
        bundles.export(source, bundles.pack(source, [name("a")]), tmp_path / "a.fhb")
        with Bundle.open(tmp_path / "a.fhb") as bundle:
            assert bundles.bring(small, bundle, dry_run=True).added > 6000
            with pytest.raises(NoRoom, match=r"6\.\d kB would be added"):
                bundles.bring(small, bundle)
        assert (blob_count(small), small.list()) == (0, [])


def test_a_stream_over_the_quota_is_not_even_begun(tmp_path: Path):
    asked: list[int] = []

    def chunks() -> Iterator[bytes]:
        asked.append(1)
        yield DATA

    with Store.open(tmp_path / "small", quota=100) as small, pytest.raises(NoRoom):
        small.add_stream(chunks(), Digest.of_bytes(DATA), len(DATA))
    assert asked == []


def test_what_others_are_bringing_in_counts(tmp_path: Path):
    with Store.open(tmp_path / "small", quota=5000) as small:
        (small.blobs.incoming / "theirs.part").write_bytes(bytes(2500))
        with pytest.raises(NoRoom, match=r"holds 2\.5 kB"):
            small.add_bytes(DATA)


def test_others_that_finish_meanwhile_do_no_harm(tmp_path: Path):
    """Their unfinished files are gone between being listed and being counted."""
    with Store.open(tmp_path / "small", quota=1 << 30) as small:
        done = threading.Event()

        def bustle() -> None:
            while not done.is_set():
                for number in range(20):
                    (small.blobs.incoming / f"{number}.part").touch()
                for number in range(20):
                    (small.blobs.incoming / f"{number}.part").unlink()

        thread = threading.Thread(target=bustle)
        thread.start()
        try:
            for _ in range(300):
                small.blobs.afford(1)
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize("quota", [0, 100])
@pytest.mark.parametrize("options", [{}, {"move": True}, {"share": True}, {"share": True, "expected": True}])
def test_a_file_that_is_not_there(tmp_path: Path, options: dict[str, bool], quota: int):
    given = {**options, **({"expected": Digest.of_bytes(b"")} if "expected" in options else {})}
    with Store.open(tmp_path / "small", quota=quota) as small:
        with pytest.raises(NotFound, match="no such file"):
            small.add_file(tmp_path / "none", **given)  # type: ignore[arg-type]
        (tmp_path / "lost").symlink_to("nowhere")
        with pytest.raises(NotFound, match="no such file"):
            small.add_file(tmp_path / "lost", **given)  # type: ignore[arg-type]
        assert (blob_count(small), leftovers(small)) == (0, [])


@pytest.mark.parametrize("options", [{}, {"move": True}, {"share": True}])
def test_content_that_is_not_expected_leaves_the_file_as_it_was(store: Store, file: Path, options: dict[str, bool]):
    before = file.stat()
    with pytest.raises(Damaged, match="not what its name says"):
        store.add_file(file, expected=Digest.of_bytes(b"other"), **options)
    after = file.stat()
    assert (after.st_mode, after.st_nlink, after.st_mtime_ns) == (before.st_mode, before.st_nlink, before.st_mtime_ns)
    assert file.read_bytes() == DATA
    assert (blob_count(store), leftovers(store)) == (0, [])


@pytest.mark.parametrize(
    "change", [lambda f: f.write(b"more"), lambda f: f.truncate(100), lambda f: os.utime(f.fileno())]
)
def test_a_file_that_changes_while_it_is_copied(store: Store, file: Path, change: Callable[..., object]):
    def meddle(done: int, total: int) -> None:
        with file.open("r+b") as opened:
            opened.seek(0, os.SEEK_END)
            change(opened)

    store.blobs.on_progress = meddle
    with pytest.raises(BadInput, match="changed while it was read"):
        store.add_file(file)
    assert (blob_count(store), leftovers(store)) == (0, [])


@pytest.mark.parametrize(
    ("chunks", "size"),
    [([], 1), ([b"ab"], 3), ([b"ab", b"cd"], 3), ([b"abc", b""], 2), ([b"", b"x" * 100], 0)],
)
def test_a_stream_of_another_length(store: Store, chunks: list[bytes], size: int):
    data = b"".join(chunks)
    with pytest.raises(BadInput, match=f"{len(data)} bytes came instead of {size}"):
        store.add_stream(iter(chunks), Digest.of_bytes(data), size)
    assert (blob_count(store), leftovers(store)) == (0, [])


@settings(max_examples=15)
@given(st.lists(st.binary(max_size=50), max_size=6))
def test_a_stream_is_its_chunks_however_they_are_cut(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]):
    data = b"".join(chunks)
    with Store.open(tmp_path_factory.getbasetemp() / "streams") as store:
        store.add_stream(iter(chunks), Digest.of_bytes(data), len(data))
        assert store.path(Digest.of_bytes(data)).read_bytes() == data
        with pytest.raises(Damaged, match="came instead of"):
            store.add_stream(iter([*chunks, b"!"]), Digest.of_bytes(data), len(data) + 1)
        assert leftovers(store) == []


def test_a_stream_that_breaks_leaves_nothing(store: Store):
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        store.add_stream(chunks(), Digest.of_bytes(b"half"), 8)
    assert (blob_count(store), leftovers(store)) == (0, [])


@pytest.mark.parametrize(
    ("mode", "fine"),
    [(0o644, True), (0o600, True), (0o444, True), (0o664, False), (0o646, False), (0o4755, False), (0o2755, False),
     (0o1644, False)],
)  # fmt: skip
def test_a_file_is_shared_only_if_nobody_else_may_write_to_it(store: Store, file: Path, mode: int, fine: bool):
    file.chmod(mode)
    assert shareable(file.lstat()) is fine
    digest, size = store.add_file(file, share=True)
    assert size == len(DATA)
    assert (store.path(digest).stat().st_ino == file.stat().st_ino) is fine
    assert store.path(digest).stat().st_mode & 0o222 == 0
    assert file.stat().st_mode & 0o7777 == (mode & 0o444 if fine else mode), "no more is taken than the right to write"


def test_links_folders_and_files_of_two_names_are_not_shared(store: Store, file: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(file)
    os.link(file, tmp_path / "second")
    for path in (file, tmp_path / "link", tmp_path):
        assert not shareable(path.lstat())
    digest, _ = store.add_file(tmp_path / "link", share=True)
    file.write_bytes(b"rewritten")
    assert store.path(digest).read_bytes() == DATA


def odd_thing(kind: str, path: Path) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"dangling link": "nowhere", "link to a device": "/dev/full", "link to a folder": "/"}[kind])


ODD = ["folder", "pipe", "dangling link", "link to a device", "link to a folder"]


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_has_no_blobs_name(store: Store, kind: str):
    digest = store.add_bytes(DATA)
    path = store.path(digest)
    path.unlink()
    assert store.blobs.stamp(digest) is None
    odd_thing(kind, path)
    for look in (store.blobs.stamp, store.path, store.verify):
        with pytest.raises(Damaged, match="not a regular file") as caught:
            look(digest)
        assert str(path) in caught.value.remedy


def test_only_names_of_digests_in_their_own_folders_are_blobs(store: Store):
    digest = store.add_bytes(DATA)
    (store.blobs.root / "zz").mkdir()
    for odd in (digest.hex, digest.hex.upper(), digest.hex[:-1], "." + digest.hex):
        (store.blobs.root / "zz" / odd).touch()
    (store.blobs.root / digest.hex[:2] / f"{digest.hex}.bak").touch()
    found = dict(store.blobs.files())
    assert [path for path, named in found.items() if named] == [store.path(digest)]
    assert len(found) == 6


@pytest.mark.parametrize(
    ("called", "orphan"),
    [("1234567890-99-0123456789abcdef.part", True), ("1234567890-99-0123456789ABCDEF.part", False),
     ("1234567890-99-0123456789abcdef.part.bak", False), ("12345678901-9-0123456789abcdef.part", False),
     ("-1-99-0123456789abcdef.part", False), ("x", False)],
)  # fmt: skip
def test_only_our_own_unfinished_files_are_orphans(store: Store, called: str, orphan: bool):
    (store.blobs.incoming / called).touch()
    assert [path.name for path in store.blobs.orphans()] == ([called] if orphan else [])
