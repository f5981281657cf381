"""Other tools see our models: by their own libraries where there is one, else by reading back what was written."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from freehold.core.digest import Digest
from freehold.core.errors import Conflict, Unsupported
from freehold.core.name import Name
from freehold.store import Store
from freehold.store.adopting import adopt
from freehold.store.importing import import_folder, import_gguf
from freehold.store.linking import link, unlink
from freehold.store.neighbours import everything, inspect, lookup
from tests.store import models
from tests.store import neighbour_folders as make
from tests.store.models import assert_whole, name


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make.user(tmp_path, monkeypatch)


@pytest.fixture
def model(store: Store, tmp_path: Path) -> Name:
    keys = {"tokenizer__chat_template": "<|im_start|>{{ x }}<|im_end|>", "llama__block_count": 1}
    import_gguf(store, models.gguf(tmp_path / "tiny.gguf", **keys), name("acme/tiny:Q8_0"))
    return name("acme/tiny:Q8_0")


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.parametrize("tool", ["ollama", "lmstudio", "hf"])
def test_what_is_linked_is_found_shared_and_removed(store: Store, user: Path, model: Name, tool: str):
    planned = link(store, model, tool, dry_run=True)
    assert files(user) == []
    done = link(store, model, tool)
    assert [change.path for change in done] == [change.path for change in planned]
    assert not any(change.copied for change in done)
    (found,) = everything()
    assert inspect(found).architecture == "llama"
    assert found.path is not None
    assert found.path.resolve().samefile(store.path(store.get(model).parts[0].digest))
    assert link(store, model, tool) == [], "twice is once"
    assert len(unlink(store, model, tool, dry_run=True)) == len(done)
    assert len(unlink(store, model, tool)) == len(done)
    assert files(user) == []
    assert unlink(store, model, tool) == []
    assert_whole(store)


def test_hugging_faces_own_library_finds_it(store: Store, user: Path, tmp_path: Path):
    hub = user / ".cache" / "huggingface" / "hub"
    import_folder(store, models.folder(tmp_path / "folder", weights=1 << 12), name("acme/tiny"))
    link(store, name("acme/tiny"), "hf")
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        found = huggingface_hub.try_to_load_from_cache("acme/tiny", file, cache_dir=hub)
        assert isinstance(found, str)
        assert Path(found).read_bytes() == (tmp_path / "folder" / file).read_bytes()
    report = huggingface_hub.scan_cache_dir(hub)
    assert not report.warnings
    (repository,) = report.repos
    assert (repository.repo_id, repository.repo_type) == ("acme/tiny", "model")
    (revision,) = repository.revisions
    assert revision.refs == {"main"}
    assert revision.commit_hash == store.resolve(name("acme/tiny")).hex[:40]
    path = huggingface_hub.snapshot_download("acme/tiny", cache_dir=hub, local_files_only=True)
    assert Path(path) == revision.snapshot_path


def test_tags_are_branches(store: Store, user: Path, model: Name):
    hub = user / ".cache" / "huggingface" / "hub"
    link(store, model, "hf")
    assert huggingface_hub.try_to_load_from_cache("acme/tiny", "tiny.gguf", cache_dir=hub) is None
    found = huggingface_hub.try_to_load_from_cache("acme/tiny", "tiny.gguf", cache_dir=hub, revision="Q8_0")
    assert isinstance(found, str)


def test_ollama_gets_template_parameters_and_config(store: Store, user: Path, model: Name):
    link(store, model, "ollama")
    root = user / ".ollama" / "models"
    manifest = json.loads((root / "manifests/registry.ollama.ai/acme/tiny/Q8_0").read_text())
    layers = {layer["mediaType"].rpartition(".")[2]: layer for layer in manifest["layers"]}
    assert list(layers) == ["model", "template", "params", "license"]
    for each in (manifest["config"], *manifest["layers"]):
        stored = root / "blobs" / each["digest"].replace(":", "-")
        assert (stored.stat().st_size, str(Digest.of_file(stored))) == (each["size"], each["digest"])
    config = json.loads((root / "blobs" / manifest["config"]["digest"].replace(":", "-")).read_text())
    assert (config["model_format"], config["model_family"], config["file_type"]) == ("gguf", "llama", "Q8_0")
    stop = json.loads((root / "blobs" / layers["params"]["digest"].replace(":", "-")).read_text())
    assert "<|im_end|>" in stop["stop"]


def test_blobs_that_another_model_of_the_tool_uses_stay(store: Store, user: Path, model: Name, tmp_path: Path):
    """What was adopted from a tool is linked to it under a second name; removing that leaves the first one whole."""
    root = user / ".ollama" / "models"
    make.ollama(root, (tmp_path / "tiny.gguf").read_bytes())
    link(store, model, "ollama")
    unlink(store, model, "ollama")
    (found,) = everything()
    assert (found.label, found.problem) == ("ollama::tiny:1b", "")
    assert inspect(lookup("ollama::tiny:1b")).quantization


def test_what_is_there_is_not_overwritten(store: Store, user: Path, model: Name):
    target = user / ".lmstudio" / "models" / "acme" / "tiny-Q8_0" / "tiny.gguf"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"theirs")
    with pytest.raises(Conflict, match="something else already"):
        link(store, model, "lmstudio")
    assert unlink(store, model, "lmstudio") == []
    assert target.read_bytes() == b"theirs"


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the store's."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is only one file system")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def test_another_disk_needs_a_copy(
    store: Store, user: Path, model: Name, other_disk: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OLLAMA_MODELS", str(other_disk))
    with pytest.raises(Unsupported, match="cannot be a link") as caught:
        link(store, model, "ollama")
    assert "--copy" in caught.value.remedy
    assert files(other_disk) == [], "nothing is left of the attempt"
    assert [change.copied for change in link(store, model, "ollama", copy=True)].count(True) == 1
    assert everything()[0].problem == ""
    assert unlink(store, model, "ollama")
    assert files(other_disk) == []


def test_a_model_on_another_disk_is_copied(store: Store, user: Path, tmp_path: Path, other_disk: Path):
    make.lmstudio(user / ".lmstudio", models.gguf(tmp_path / "tiny.gguf"))
    (user / ".lmstudio" / "models").rename(user / "unused")
    make.lmstudio(other_disk, tmp_path / "tiny.gguf")
    (user / ".lmstudio" / "models").symlink_to(other_disk / "models")
    found = lookup("lmstudio::acme")
    assert adopt(store, found, dry_run=True).how == "copy"
    assert adopt(store, found).how == "copy"
    assert_whole(store)


def test_what_a_tool_cannot_take_is_said(store: Store, user: Path, tmp_path: Path, model: Name):
    import_folder(store, models.folder(tmp_path / "folder"), name("weights"))
    import_gguf(store, tmp_path / "tiny.gguf", name("a.b/tiny"))
    for wanted, tool, reason in [
        ("weights", "ollama", "no GGUF file"),
        ("weights", "lmstudio", "no GGUF file"),
        ("a.b/tiny", "ollama", "no name for Ollama"),
        ("weights", "llamacpp", "no store of its own"),
        ("weights", "nobody", "no tool called"),
    ]:
        with pytest.raises(Unsupported, match=reason):
            link(store, name(wanted), tool)
    assert files(user) == []
