"""Kills operations of the store with SIGKILL, each at every call that touches the disk, and looks at what is left.

Run as `python -m tests.faults.store_kills OPERATION FOLDER FIRST STEP`; forks, so that nothing is imported twice.
Ends with an error when a store is not whole afterwards; otherwise prints how many times it killed.
"""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from freehold.core.manifest import Manifest, Part
from freehold.store import Store, tables
from freehold.store.check import prune
from freehold.store.importing import import_folder, import_gguf, materialise
from tests.store import models
from tests.store.models import assert_whole, bytes_of, leftovers, name

# What changes the disk, or makes SQLite do so.
CALLS = {
    "open", "write", "fsync", "fchmod", "ftruncate", "posix_fallocate", "rename", "replace", "unlink", "link", "mkdir",
    "execute", "executemany", "commit", "rollback", "close", "connect",
}  # fmt: skip


class Scene:
    """A folder with a store of two models (`old` and `doomed`, with a part in common), garbage, and files to import."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gguf, self.model = folder / "new.gguf", folder / "model"
        self.home = folder / "store"

    def build(self) -> None:
        models.gguf(self.gguf, seed=1)
        models.folder(self.model, seed=2)
        with Store.open(self.home) as store:
            with store.lease():
                shared = Part("other", store.add_bytes(b"shared"), 6, "shared")
                for each in ("old", "doomed"):
                    own = Part("other", store.add_bytes(each.encode()), len(each), "own")
                    store.put(name(each), Manifest(parts=(own, shared)))
                store.add_bytes(b"garbage")
            (store.blobs.incoming / "1234567890-99-0123456789abcdef.part").write_bytes(b"half")

    def store(self) -> Store:
        return Store.open(self.home)


def remember(scene: Scene) -> None:
    with scene.store() as store:
        digest = store.add_bytes(b"step output")
        store.runs.remember_step("key", b"result", [digest])


def moved(scene: Scene) -> None:
    with scene.store() as store:
        if scene.gguf.exists():
            import_gguf(store, scene.gguf, name("new"), move=True)


def removed(scene: Scene) -> None:
    with scene.store() as store:
        if any(str(entry.name) == "doomed" for entry in store.list()):
            store.remove(name("doomed"))
        prune(store)


def old_store(folder: Path) -> None:
    """A store whose catalog is of the first version, with one model."""
    with Store.open(folder) as store:
        models.gguf(folder / "x.gguf", seed=3)
        import_gguf(store, folder / "x.gguf", name("kept"))
        for table in (tables.models, tables.scrubs):
            with store.catalog.writing() as connection:
                table.drop(connection)
        with store.catalog.writing() as connection:
            connection.exec_driver_sql("PRAGMA user_version = 1")


def upgraded(scene: Scene) -> None:
    """Open the store of an earlier version; it must list what it held."""
    with Store.open(scene.folder / "earlier") as store:
        (kept,) = store.listing()
        if (kept.name, kept.details.architecture) != ("kept", "llama"):
            raise SystemExit(f"the upgrade lost what it held: {kept}")


OPERATIONS: dict[str, Callable[[Scene], Any]] = {
    "gguf": lambda scene: import_gguf(scene.store(), scene.gguf, name("new")),
    "replace": lambda scene: import_gguf(scene.store(), scene.gguf, name("old")),
    "folder": lambda scene: import_folder(scene.store(), scene.model, name("new")),
    "move": moved,
    "remove": removed,
    "prune": lambda scene: prune(scene.store()),
    "remember": remember,
    "create": lambda scene: Store.open(scene.folder / "fresh").add_bytes(b"first"),
    "upgrade": upgraded,
    "materialise": lambda scene: materialise(scene.store(), scene.store().get(name("old")), scene.folder / "out"),
}


class Killer:
    """Ends this process at the `number`-th call that touches the disk: odd numbers before it, even ones after it."""

    def __init__(self, number: int) -> None:
        self.number, self.seen = number, 0

    def __call__(self, frame: Any, event: str, called: Any) -> None:
        if event not in ("c_call", "c_return") or called.__name__ not in CALLS:
            return
        self.seen += 1
        if self.seen == self.number:
            os.kill(os.getpid(), signal.SIGKILL)


def killed(operation: Callable[[Scene], Any], scene: Scene, number: int) -> bool:
    """Run the operation in a child that dies at its `number`-th call; False when it came to its end first."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            sys.setprofile(Killer(number))
            operation(scene)
            code = 0
        finally:
            sys.setprofile(None)
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, -signal.SIGKILL):
        raise SystemExit(f"call {number}: the operation failed")
    return code != 0


def check(scene: Scene, operation: Callable[[Scene], Any]) -> None:
    """After the kill: clean, whole, and the operation can be done again and leaves no trace of the failed one."""
    with scene.store() as store:
        assert_whole(store)
        before = {str(entry.name) for entry in store.list()}
        if not {"old"} <= before <= {"old", "doomed", "new"}:
            raise SystemExit(f"models are lost or invented: {before}")
        if (store.catalog.recall("key") is not None) and store.runs.recall_step("key") != b"result":
            raise SystemExit("a step is remembered without its output")
    operation(scene)
    with scene.store() as store:
        assert_whole(store)
        prune(store)
        assert_whole(store)
        if leftovers(store):
            raise SystemExit(f"prune left {leftovers(store)}")
        for entry in store.list():
            bytes_of(store, entry.manifest)


def sweep(operation: str, folder: Path, first: int, step: int) -> int:
    """Kill at call `first`, `first + step`, ... to the end; how many times."""
    template = Scene(folder / "template")
    template.folder.mkdir(parents=True)
    template.build()
    if operation == "upgrade":
        old_store(template.folder / "earlier")
    number, kills = first, 0
    while True:
        scene = Scene(folder / str(number))
        shutil.copytree(template.folder, scene.folder, copy_function=shutil.copy2)
        hit = killed(OPERATIONS[operation], scene, number)
        check(scene, OPERATIONS[operation])
        shutil.rmtree(scene.folder)
        if not hit:
            return kills
        kills, number = kills + 1, number + step


def churn(scene: Scene, seed: int) -> None:
    """Import, replace, remove and prune for ever, in an order of its own."""
    draw = random.Random(seed)
    mine = f"mine{seed % 2}"
    with scene.store() as store:
        while True:
            choice = draw.choice(["gguf", "folder", "remove", "prune"])
            if choice == "gguf":
                import_gguf(store, scene.gguf, name(mine))
            elif choice == "folder":
                import_folder(store, scene.model, name(mine))
            elif choice == "prune":
                prune(store)
            elif any(str(bound.name) == mine for bound in store.catalog.bound()):
                store.remove(name(mine))


def storm(folder: Path, rounds: int, step: int) -> int:
    """Two processes at work on one store, killed after a random time, again and again."""
    scene = Scene(folder / "storm")
    scene.folder.mkdir(parents=True)
    scene.build()
    draw = random.Random(7)
    for number in range(rounds):
        children = []
        for worker in range(2):
            child = os.fork()
            if child == 0:
                try:
                    churn(scene, number * 2 + worker)
                finally:
                    os._exit(3)
            children.append(child)
        time.sleep(draw.uniform(0.02, 0.3) * step)
        for child in children:
            os.kill(child, signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        if codes != [-signal.SIGKILL] * 2:
            raise SystemExit(f"round {number}: an operation failed")
        with scene.store() as store:
            assert_whole(store)
    return rounds * 2


if __name__ == "__main__":
    chosen, where, first, step = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    print(storm(where, first, step) if chosen == "storm" else sweep(chosen, where, first, step))
