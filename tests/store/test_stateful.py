"""Laws of the store: whatever is done in whatever order, it is clean, and every model is whole or plainly said not to
be.
"""

import shutil
import tempfile
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from freehold.core.digest import Digest
from freehold.core.errors import Conflict
from freehold.core.manifest import Lineage
from freehold.formats.bundle.reading import Bundle
from freehold.store import Store, bundles
from freehold.store.adopting import adopt
from freehold.store.check import fsck, prune
from freehold.store.creating import copy
from freehold.store.healers import Given
from freehold.store.importing import import_gguf
from freehold.store.linking import link, unlink
from freehold.store.neighbours import everything
from freehold.store.repair import broken, repair
from freehold.store.usage import usage
from tests.store import models
from tests.store import neighbour_folders as make
from tests.store.models import assert_whole, bytes_of, kept, leftovers, name

NAMES = [name(text) for text in ("a", "b", "org/a", "a:v1")]
CONTENTS = [b"", b"x", b"weights" * 9, bytes(range(256)), b"y" * 5000]
names = st.sampled_from(NAMES)
FEW = settings(max_examples=5, stateful_step_count=8, deadline=None, phases=[Phase.generate])
"""Without shrinking: what fails is short enough to be read, and a failure must not take minutes."""
contents = st.lists(st.sampled_from(CONTENTS), min_size=1, max_size=3)


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
        saved = self.folder / f"saved-{victim.name}"  # nobody knows the size of a manifest: its name must tell
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
TestLife.settings = FEW


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
            try:
                adopt(self.store, found[0], called)
            except Conflict:  # the name means another model already
                assert called in self.named
                return
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
TestNeighbourhood.settings = FEW
