"""Laws of the store: whatever is done in whatever order, it is clean, and every model is whole or plainly said not to
be.
"""

import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from freehold.core.digest import Digest
from freehold.core.errors import BadModelFile, Conflict, Damaged, NoRoom
from freehold.core.manifest import Lineage, Manifest, Part
from freehold.formats.bundle.reading import Bundle
from freehold.store import Store, bundles
from freehold.store.adopting import adopt
from freehold.store.check import fsck, prune
from freehold.store.creating import copy
from freehold.store.healers import Given
from freehold.store.importing import import_gguf, materialise
from freehold.store.linking import link, unlink
from freehold.store.neighbours import everything
from freehold.store.repair import broken, repair
from freehold.store.usage import usage
from tests.store import models
from tests.store import neighbour_folders as make
from tests.store.models import assert_whole, blob_count, bytes_of, leftovers, name

NAMES = [name(text) for text in ("a", "b", "org/a", "a:v1")]
CONTENTS = [b"", b"x", b"weights" * 9, bytes(range(256)), b"y" * 5000]
names = st.sampled_from(NAMES)
contents = st.lists(st.sampled_from(CONTENTS), min_size=1, max_size=3)


def kept(store: Store, pieces: list[bytes], **more: object) -> Manifest:
    parts = tuple(Part("other", store.add_bytes(data), len(data), f"part{i}") for i, data in enumerate(pieces))
    return Manifest(parts=parts, **more)  # type: ignore[arg-type]


class Life(RuleBasedStateMachine):
    """A store and beside it what it ought to hold: a dictionary of names and contents."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store.open(self.folder / "store")
        self.held: dict[object, list[bytes]] = {}
        self.steps: dict[str, bytes] = {}

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    @rule(called=names, pieces=contents)
    def put(self, called, pieces):
        self.store.put(called, kept(self.store, pieces))
        self.held[called] = pieces

    @rule(called=names)
    def remove(self, called):
        if called in self.held:
            self.store.remove(called)
            del self.held[called]

    @rule(called=names, other=names)
    def second_name(self, called, other):
        if called in self.held:
            copy(self.store, called, other)
            self.held[other] = self.held[called]

    @rule(called=names, other=names, pieces=contents)
    def descend(self, called, other, pieces):
        """A model made from another keeps that one's manifest, not its parts."""
        if called in self.held:
            base = self.store.resolve(called)
            self.store.put(other, kept(self.store, pieces, lineage=Lineage(base=base)))
            self.held[other] = pieces

    @rule(data=st.sampled_from(CONTENTS))
    def loose(self, data):
        self.store.add_bytes(data)

    @rule(key=st.sampled_from(["k", "l"]), data=st.sampled_from(CONTENTS))
    def step(self, key, data):
        self.store.runs.remember_step(key, data, [self.store.add_bytes(data)])
        self.steps[key] = data

    @rule(key=st.sampled_from(["k", "l"]))
    def forget(self, key):
        assert self.store.runs.forget(key) == (self.steps.pop(key, None) is not None)

    @rule()
    def prune(self):
        planned = prune(self.store, dry_run=True)
        assert prune(self.store) == planned
        assert prune(self.store).blobs == ()

    @rule()
    def open_again(self):
        self.store.close()
        self.store = Store.open(self.folder / "store")

    @rule(called=names)
    def travel(self, called):
        """Out in a bundle and back in is no change."""
        if called in self.held:
            path = self.folder / "x.fhb"
            bundles.export(self.store, bundles.pack(self.store, [called]), path)
            with Bundle.open(path) as bundle:
                report = bundles.bring(self.store, bundle)
            assert (report.added, report.moved) == (0, ())
            path.unlink()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def lose_and_repair(self, data):
        """Any blob that is lost or spoiled is named by fsck, and whole again after a repair from a copy."""
        paths = [path for path, _ in self.store.blobs.files()]
        victim = data.draw(st.sampled_from(paths))
        saved = self.folder / "saved"
        shutil.copy(victim, saved)
        needed = {wanted for called in self.held for wanted in self._needs(called)}
        if data.draw(st.booleans()):
            victim.unlink()
        else:
            victim.chmod(0o600)
            victim.write_bytes(b"spoilt")
        lost = Digest(f"sha256:{victim.name}")
        assert [wanted.digest for wanted in broken(self.store)] == ([lost] if lost in needed else [])
        repair(self.store, [Given([saved])])
        assert broken(self.store) == []
        if lost not in needed:
            self.store.restore(lost, saved)
        saved.unlink()

    def _needs(self, called):
        manifest = self.store.get(called)
        return {manifest.digest, *(part.digest for part in manifest.parts)}

    @invariant()
    def every_model_is_whole_and_nothing_else_is_listed(self):
        assert fsck(self.store, deep=True) == []
        assert {entry.name for entry in self.store.list()} == set(self.held)
        for called, pieces in self.held.items():
            assert [*bytes_of(self.store, self.store.get(called)).values()] == pieces
        assert {key: self.store.runs.recall_step(key) for key in self.steps} == self.steps

    @invariant()
    def sizes_add_up(self):
        found = usage(self.store)
        owned = sum(each.own for each in found.models)
        assert found.total == sum(path.stat().st_size for path, _ in self.store.blobs.files())
        assert self.store.catalog.held() == found.total
        assert owned + found.steps + found.unused <= found.total
        assert [(row.name, row.size) for row in self.store.listing()] == [
            (str(entry.name), entry.manifest.size) for entry in self.store.list()
        ]
        assert leftovers(self.store) == []


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=8, stateful_step_count=12)


class Neighbourhood(RuleBasedStateMachine):
    """A store beside other tools: models adopted from them, linked to them and unlinked in any order."""

    tools = st.sampled_from(["ollama", "lmstudio", "hf"])

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.environ = {"HOME": str(self.folder / "user")}
        (self.folder / "user").mkdir()
        self.store = Store.open(self.folder / "store")
        self.file = models.gguf(self.folder / "tiny-Q8_0.gguf", size=2000)
        self.content = self.file.read_bytes()
        self.theirs: set[Path] = set()
        self.named: set[object] = set()
        self.linked: dict[tuple[object, str], list[Path]] = {}

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.store.close()
            shutil.rmtree(self.folder)

    @rule(called=names)
    def take_in(self, called):
        import_gguf(self.store, self.file, called)
        self.named.add(called)

    @rule()
    def they_download(self):
        path = make.lmstudio(self.folder / "user" / ".lmstudio", self.file, "theirs/tiny-GGUF")
        self.theirs.add(path)

    @rule(called=names)
    def adopt_theirs(self, called):
        found = [each for each in everything(self.environ, "lmstudio") if "theirs/" in each.id]
        if found:
            adopt(self.store, found[0], called)
            self.named.add(called)

    @rule(called=names, tool=tools)
    def link_ours(self, called, tool):
        if called in self.named:
            try:
                done = link(self.store, called, tool, environ=self.environ)
            except Conflict:  # a different manifest has the name there already
                return
            self.linked.setdefault((called, tool), []).extend(change.path for change in done)

    @rule(called=names, tool=tools)
    def unlink_ours(self, called, tool):
        if called in self.named:
            unlink(self.store, called, tool, environ=self.environ)
            assert unlink(self.store, called, tool, environ=self.environ) == []

    @rule(called=names)
    def remove_and_prune(self, called):
        if called in self.named:
            self.store.remove(called)
            self.named.discard(called)
            prune(self.store)

    @invariant()
    def nothing_is_lost_on_either_side(self):
        if not hasattr(self, "folder"):
            return
        assert_whole(self.store)
        assert {entry.name for entry in self.store.list()} == self.named
        for path in self.theirs:
            assert path.read_bytes() == self.content
        for found in everything(self.environ):
            assert found.problem == "", found.label


TestNeighbourhood = Neighbourhood.TestCase
TestNeighbourhood.settings = settings(max_examples=8, stateful_step_count=10)


def test_a_quota_holds_whatever_comes_in_by_whatever_door(tmp_path: Path):
    """By bytes, files, streams, bundles and moves, the blobs never take more than they may."""
    source, made = Store.open(tmp_path / "source"), []
    for number in range(6):
        data = random.Random(number).randbytes(3000)
        source.put(name(f"m{number}"), kept(source, [data]))
        path = tmp_path / f"{number}.fhb"
        bundles.export(source, bundles.pack(source, [name(f"m{number}")]), path)
        made.append((data, path))
    refused = 0
    with Store.open(tmp_path / "small", quota=8000) as small:
        for number, (data, path) in enumerate(made):
            (tmp_path / "file").write_bytes(data)
            try:
                if number % 3 == 0:
                    with Bundle.open(path) as bundle:
                        bundles.bring(small, bundle)
                elif number % 3 == 1:
                    small.add_file(tmp_path / "file", move=number % 2 == 0)
                else:
                    small.add_stream(iter([data]), Digest.of_bytes(data), len(data))
            except NoRoom as error:
                refused += 1
                assert "quota" in error.message
                assert "FREEHOLD_QUOTA" in error.remedy
            assert small.catalog.held() <= 8000
            assert_whole(small)
        assert refused >= 3
        assert leftovers(small) == []


def test_a_bundle_over_the_quota_is_refused_before_anything_is_copied(tmp_path: Path):
    with Store.open(tmp_path / "source") as source, Store.open(tmp_path / "small", quota=4000) as small:
        source.put(name("a"), kept(source, [b"1" * 3000, b"2" * 3000]))
        bundles.export(source, bundles.pack(source, [name("a")]), tmp_path / "a.fhb")
        with Bundle.open(tmp_path / "a.fhb") as bundle:
            assert bundles.bring(small, bundle, dry_run=True).added > 6000
            with pytest.raises(NoRoom, match=r"6\.\d kB would be added"):
                bundles.bring(small, bundle)
        assert (blob_count(small), small.list()) == (0, [])


def test_a_materialised_model_is_the_model(store: Store, tmp_path: Path):
    """Out of the store and onto the disk is the same bytes, twice into the same folder too."""
    manifest = kept(store, [b"one", b"2" * (1 << 20)])
    for _ in range(2):
        materialise(store, manifest, tmp_path / "out")
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == bytes_of(store, manifest)
    (tmp_path / "out" / "part0").write_bytes(b"edited")
    materialise(store, manifest, tmp_path / "out")
    assert (tmp_path / "out" / "part0").read_bytes() == b"one"
    assert store.path(manifest.parts[0].digest).read_bytes() == b"one"


@pytest.mark.parametrize("spoil", [b'{"parts":[],"licence":"\xff"}', b'{"parts":[],"x":' + b"[" * 100_000, b"", b"[]"])
def test_a_manifest_of_any_bytes_is_damaged_and_nothing_worse(store: Store, spoil: bytes):
    with pytest.raises(Damaged, match="unreadable manifest") as caught:
        store.manifest(store.add_bytes(spoil))
    assert "\n" not in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("spoil", [b'{"parts":[],"licence":"\xff"}', b'{"parts":[],"x":' + b"[" * 100_000])
def test_a_bundle_with_such_a_manifest_is_refused(store: Store, tmp_path: Path, spoil: bytes):
    from freehold.formats.bundle.index import Model, blob_item
    from freehold.formats.bundle.index import make as index_of
    from freehold.formats.bundle.writing import write

    digest = Digest.of_bytes(spoil)
    index = index_of([Model("a", digest.text)], [blob_item(digest, len(spoil))])
    write(index, lambda item: iter((spoil,)), tmp_path / "bad.fhb")
    with Bundle.open(tmp_path / "bad.fhb") as bundle, pytest.raises(BadModelFile, match=r"bad\.fhb: a: unreadable"):
        bundles.bring(store, bundle)
    assert blob_count(store) == 0
    assert os.listdir(store.blobs.incoming) == []
