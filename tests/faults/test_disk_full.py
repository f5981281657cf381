"""A full disk is said in words, leaves nothing behind, and the store works again without a restart."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold.core.errors import DiskFull
from freehold.core.manifest import Manifest, Part
from freehold.formats.bundle.reading import Bundle
from freehold.store import Store, bundles
from freehold.store.check import prune
from freehold.store.importing import import_folder, import_gguf, materialise
from tests.store import models
from tests.store.models import assert_whole, blob_count, leftovers, name

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small file system here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Use up the disk but for `leave` bytes."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while True:
            free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - leave
            if free <= 0:
                return ballast
            file.write(bytes(min(free, MIB)))


def test_a_model_larger_than_the_disk(small_disk, tmp_path):
    large, little = models.gguf(tmp_path / "large.gguf", size=20 * MIB), models.gguf(tmp_path / "little.gguf")
    with Store.open(small_disk / "store") as store:
        with pytest.raises(DiskFull, match=r"21\.0 MB needed, .* MB free") as caught:
            import_gguf(store, large, name("large"))
        assert caught.value.exit_code == 2
        assert leftovers(store) == []
        assert blob_count(store) == 0
        import_gguf(store, little, name("little"))
        assert_whole(store)


def test_a_bundle_larger_than_the_disk(small_disk, tmp_path):
    with Store.open(tmp_path / "store") as store:
        for size, called in ((20 * MIB, "large"), (MIB, "little")):
            import_gguf(store, models.gguf(tmp_path / f"{called}.gguf", size=size), name(called))
        packing = bundles.pack(store, [name("large")])
        with pytest.raises(DiskFull, match=r"21\.0 MB needed, .* MB free"):
            bundles.export(store, packing, small_disk / "x.fhb")
        assert list(small_disk.iterdir()) == []
        bundles.export(store, packing, tmp_path / "large.fhb")
        bundles.export(store, bundles.pack(store, [name("little")]), tmp_path / "little.fhb", split=MIB)
    with Store.open(small_disk / "store") as store:
        with pytest.raises(DiskFull), Bundle.open(tmp_path / "large.fhb") as bundle:
            bundles.bring(store, bundle)
        assert blob_count(store) == 0
        with Bundle.open(tmp_path / "little.fhb") as bundle:
            bundles.bring(store, bundle)
        assert_whole(store)


def test_the_part_that_does_not_fit_takes_the_others_with_it(small_disk, tmp_path):
    source = models.folder(tmp_path / "model", weights=2 * MIB)
    with Store.open(small_disk / "store") as store:
        with pytest.raises(DiskFull):
            import_folder(store, source, name("x"))
        assert leftovers(store) == []
        assert blob_count(store) == 0
        assert store.list() == []
        assert_whole(store)


def test_a_disk_that_fills_up_meanwhile(small_disk, tmp_path, monkeypatch):
    """The reservation fails although there seemed to be room."""
    path = models.gguf(tmp_path / "x.gguf", size=3 * MIB)
    with Store.open(small_disk / "store") as store:
        ballast = fill(small_disk, leave=2 * MIB)
        usage = type("Usage", (), {"free": 1 << 40})
        monkeypatch.setattr("freehold.store.blobs.shutil.disk_usage", lambda folder: usage)
        with pytest.raises(DiskFull):
            import_gguf(store, path, name("x"))
        assert leftovers(store) == []
        ballast.unlink()
        import_gguf(store, path, name("x"))
        assert_whole(store)


def test_not_a_byte_left(small_disk):
    """Even the catalog cannot be written; what was there stays, prune makes room, and all works again."""
    with Store.open(small_disk / "store") as store:
        kept = Manifest(parts=(Part("other", store.add_bytes(b"kept"), 4, "kept"),))
        store.put(name("kept"), kept)
        with store.lease():
            garbage = store.add_bytes(b"garbage" * 100_000)
        ballast = fill(small_disk)
        for attempt in (lambda: store.add_bytes(b"more" * 5000), lambda: store.put(name("other"), kept)):
            with pytest.raises(DiskFull) as caught:
                attempt()
            assert "prune" in caught.value.remedy
        assert store.get(name("kept")) == kept
        assert [str(entry.name) for entry in store.list()] == ["kept"]
        assert leftovers(store) == []
        assert_whole(store)
        assert prune(store).blobs == (garbage,)
        store.put(name("other"), kept)
        ballast.unlink()
        store.add_bytes(b"more" * 5000)
        assert_whole(store)


def test_no_room_to_materialise(small_disk, tmp_path):
    with Store.open(tmp_path / "store") as store:
        manifest = import_folder(store, models.folder(tmp_path / "model", weights=5 * MIB), name("x"))
        with pytest.raises(DiskFull):
            materialise(store, manifest, small_disk / "out")
        assert not (small_disk / "out" / "model.safetensors").exists()
        assert [p for p in (small_disk / "out").iterdir() if p.name.endswith(".tmp")] == []


def test_a_limit_on_the_size_of_files(tmp_path):
    """What a quota or `ulimit -f` does, without a mount: in a child, since the limit cannot be taken back."""
    models.gguf(tmp_path / "x.gguf", size=2 * MIB)
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.test_disk_full", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "refused\n"
    with Store.open(tmp_path / "store") as store:
        assert leftovers(store) == []
        assert_whole(store)
        import_gguf(store, tmp_path / "x.gguf", name("x"))


def import_within_limit(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, resource.RLIM_INFINITY))
    with Store.open(folder / "store") as store:
        try:
            import_gguf(store, folder / "x.gguf", name("x"))
        except DiskFull:
            print("refused")


if __name__ == "__main__":
    import_within_limit(Path(sys.argv[1]))
