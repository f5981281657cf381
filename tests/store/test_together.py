"""Several processes and threads at one store."""

import subprocess
import sys
import threading
from pathlib import Path

from freehold.core.digest import Digest
from freehold.store import Store
from freehold.store.check import prune
from freehold.store.importing import import_gguf
from tests.store import models
from tests.store.models import assert_whole, blob_count, leftovers, name

ROOT = Path(__file__).parents[2]


def start(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "error", "-m", "tests.store.test_together", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(*children: "subprocess.Popen[str]") -> None:
    for child in children:
        output, _ = child.communicate(timeout=100)
        assert child.returncode == 0, output


def import_and_remove(folder: Path, who: str, times: int) -> None:
    """Import the same content as everybody else, look at it, remove it."""
    with Store.open(folder / "store") as store:
        for _ in range(times):
            manifest = import_gguf(store, folder / "x.gguf", name(who))
            assert store.path(manifest.parts[0].digest).read_bytes() == (folder / "x.gguf").read_bytes()
            assert store.get(name(who)) == manifest
            store.remove(name(who))
        import_gguf(store, folder / "x.gguf", name(who))


def prune_all_the_time(folder: Path, times: int) -> None:
    with Store.open(folder / "store") as store:
        for _ in range(times):
            prune(store)
            store.list()


def test_imports_removals_and_prunes_at_once(tmp_path):
    models.gguf(tmp_path / "x.gguf")
    finished(
        start("import", tmp_path, "one", 25),
        start("import", tmp_path, "two", 25),
        start("prune", tmp_path, 60),
    )
    with Store.open(tmp_path / "store") as store:
        assert [str(entry.name) for entry in store.list()] == ["one", "two"]
        assert_whole(store)
        prune(store)
        assert blob_count(store) == 2
        assert leftovers(store) == []


def test_many_processes_make_one_store(tmp_path):
    models.gguf(tmp_path / "x.gguf")
    finished(*(start("import", tmp_path, f"model{number}", 0) for number in range(4)))
    with Store.open(tmp_path / "store") as store:
        assert len(store.list()) == 4
        assert_whole(store)


def test_threads_share_a_store(store):
    failures = []

    def work(number: int) -> None:
        try:
            for turn in range(8):
                with store.lease():
                    data = f"{number}-{turn}".encode()
                    digest = store.add_bytes(data)
                    assert store.path(digest).read_bytes() == data
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert blob_count(store) == 32
    assert len(prune(store).blobs) == 32


def test_an_import_waits_for_a_prune_and_is_not_robbed(store, tmp_path):
    """Content that prune is about to remove is added at that moment: prune decides first, the import writes it anew."""
    with store.lease():
        digest = store.add_bytes(b"wanted again")
    inside, go_on = threading.Event(), threading.Event()
    orphans = store.blobs.orphans

    def paused() -> list[Path]:
        inside.set()
        assert go_on.wait(30)
        return orphans()

    store.blobs.orphans = paused
    pruning = threading.Thread(target=prune, args=(store,))
    pruning.start()
    assert inside.wait(30)
    with Store.open(store.folder) as other:
        adding = threading.Thread(target=other.add_bytes, args=(b"wanted again",))
        adding.start()
        adding.join(0.3)
        assert adding.is_alive(), "it waits for its turn"
        go_on.set()
        for thread in (pruning, adding):
            thread.join(30)
        assert other.path(digest).read_bytes() == b"wanted again"
        assert digest == Digest.of_bytes(b"wanted again")


if __name__ == "__main__":
    kind, where, *rest = sys.argv[1:]
    if kind == "import":
        import_and_remove(Path(where), rest[0], int(rest[1]))
    else:
        prune_all_the_time(Path(where), int(rest[0]))
