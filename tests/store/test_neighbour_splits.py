"""Models of several files in other tools' stores: found as one, adopted whole, and given to tools that take them."""

from pathlib import Path

import pytest

from freehold.core.digest import Digest
from freehold.core.errors import Damaged, Unsupported
from freehold.store import Store
from freehold.store.adopting import adopt
from freehold.store.importing import import_gguf
from freehold.store.linking import link
from freehold.store.neighbours import inspect, lookup
from tests.store import neighbour_folders as make
from tests.store.models import assert_whole, name, split_model


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make.user(tmp_path, monkeypatch)


@pytest.mark.parametrize("tool", ["lmstudio", "hf"])
def test_a_model_in_several_files(store: Store, user: Path, tmp_path: Path, tool: str):
    parts = split_model(tmp_path / "parts")
    if tool == "hf":
        hub = user / ".cache" / "huggingface" / "hub"
        make.huggingface(hub, "acme/big-GGUF", {part.name: part.read_bytes() for part in parts})
    else:
        for part in parts:
            make.lmstudio(user / ".lmstudio", part, "acme/big-GGUF")
    found = lookup(f"{tool}::acme/big-GGUF")
    assert (found.size, str(found.name)) == (sum(part.stat().st_size for part in parts), "acme/big-GGUF:Q8_0")
    assert inspect(found).parameters == 3 * 64
    done = adopt(store, found)
    manifest = store.get(done.name)
    assert done.how == "link"
    assert [part.filename for part in manifest.parts] == [part.name for part in parts]
    assert [part.digest for part in manifest.parts] == [Digest.of_file(part) for part in parts]
    assert_whole(store)


def test_a_part_that_is_not_what_its_name_says_is_not_taken(store: Store, user: Path, tmp_path: Path):
    parts = split_model(tmp_path / "parts")
    hub = user / ".cache" / "huggingface" / "hub"
    snapshot = make.huggingface(hub, "acme/big-GGUF", {part.name: part.read_bytes() for part in parts})
    blob = (snapshot / parts[2].name).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    with pytest.raises(Damaged, match="not what its name says"):
        adopt(store, lookup("hf::acme/big-GGUF"))
    assert store.list() == []
    assert_whole(store)


def test_linking_a_model_in_several_files(store: Store, user: Path, tmp_path: Path):
    parts = split_model(tmp_path / "parts")
    import_gguf(store, parts[0], name("acme/big"))
    link(store, name("acme/big"), "lmstudio")
    assert [path.name for path in sorted((user / ".lmstudio" / "models" / "acme" / "big").iterdir())] == [
        part.name for part in parts
    ]
    assert inspect(lookup("lmstudio::acme/big")).parameters == 3 * 64
    with pytest.raises(Unsupported, match="in 3 files"):
        link(store, name("acme/big"), "ollama")
