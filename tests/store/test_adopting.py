"""Adopting: a hard link where that is safe, a copy where not, digests checked, names never taken over."""

import os
from pathlib import Path

import pytest

from freehold.core.errors import BadName, Conflict, Damaged, Unsupported
from freehold.core.name import Name
from freehold.core.parameters import Defaults, Parameters
from freehold.serving import defaults
from freehold.store import Store
from freehold.store.adopting import adopt
from freehold.store.check import fsck, prune
from freehold.store.neighbours import everything, lookup
from tests.store import models
from tests.store import neighbour_folders as make
from tests.store.models import assert_whole, blob_count, name


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make.user(tmp_path, monkeypatch)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return models.gguf(tmp_path / "tiny-Q8_0.gguf")


@pytest.fixture
def studio(user: Path, gguf: Path) -> Path:
    return make.lmstudio(user / ".lmstudio", gguf)


def test_a_file_becomes_a_hard_link_that_nobody_writes_to(store: Store, studio: Path):
    studio.chmod(0o640)
    done = adopt(store, lookup("lmstudio::acme"))
    assert (str(done.name), done.how) == ("acme/tiny-GGUF:Q8_0", "link")
    part = store.get(done.name).parts[0]
    assert store.path(part.digest).samefile(studio)
    assert part.filename == "tiny-Q8_0.gguf"
    assert studio.stat().st_mode & 0o777 == 0o440, "no more may be read than before, and nothing written"
    assert store.get(done.name).lineage.source == "lmstudio::acme/tiny-GGUF/tiny-Q8_0.gguf"
    assert_whole(store)


def test_what_the_other_tool_deletes_stays(store: Store, studio: Path):
    done = adopt(store, lookup("lmstudio::acme"))
    studio.unlink()
    assert_whole(store)
    assert everything() == []
    assert done.digest == store.resolve(done.name)


def test_what_the_other_tool_rewrites_is_noticed(store: Store, studio: Path):
    done = adopt(store, lookup("lmstudio::acme"))
    studio.chmod(0o600)
    with studio.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    part = store.get(done.name).parts[0]
    with pytest.raises(Damaged, match="has changed"):
        store.path(part.digest)
    assert [finding.kind for finding in fsck(store)] == ["damaged", "damaged"]


def test_what_is_replaced_by_a_new_download_leaves_ours(store: Store, studio: Path, tmp_path: Path):
    adopt(store, lookup("lmstudio::acme"))
    models.gguf(tmp_path / "new.gguf", seed=9).replace(studio)
    assert_whole(store)


@pytest.mark.parametrize("why", ["mode", "names", "owner"])
def test_a_file_that_others_may_write_to_is_copied(store: Store, studio: Path, tmp_path: Path, why: str):
    if why == "mode":
        studio.chmod(0o664)
    elif why == "names":
        os.link(studio, tmp_path / "second")
    elif os.geteuid() == 0:
        os.chown(studio, 12345, 12345)
    else:
        pytest.skip("only root can give files away")
    before = studio.stat()
    done = adopt(store, lookup("lmstudio::acme"))
    assert done.how == "copy"
    assert not store.path(store.get(done.name).parts[0].digest).samefile(studio)
    assert studio.stat().st_mode == before.st_mode
    assert_whole(store)


def test_twice_is_once(store: Store, studio: Path):
    adopt(store, lookup("lmstudio::acme"))
    again = adopt(store, lookup("lmstudio::acme"))
    assert again.how == "present"
    other = adopt(store, lookup("lmstudio::acme"), name("other"))
    assert other.how == "present"
    prune(store)
    assert blob_count(store) == 2, "one file, and one manifest that both names point to"


def test_ollama_is_checked_against_its_digest(store: Store, user: Path, gguf: Path):
    root = user / ".ollama" / "models"
    make.ollama(root, gguf.read_bytes())
    found = lookup("ollama::tiny")
    assert adopt(store, found, dry_run=True).how == "link"
    assert store.list() == []
    assert adopt(store, found).how == "link"
    assert store.get(name("tiny:1b")).parts[0].filename == "tiny-Q8_0.gguf"
    assert_whole(store)


def test_what_ollama_has_beside_a_model_comes_along(store: Store, user: Path, gguf: Path):
    root = user / ".ollama" / "models"
    layers = [make.layer(root, "system", b"Be brief."), make.layer(root, "params", b'{"stop": ["x"], "num_gpu": 1}')]
    make.ollama(root, gguf.read_bytes(), layers=layers)
    done = adopt(store, lookup("ollama::tiny"))
    assert done.how == "link"
    assert defaults.read(store, store.get(done.name)) == Defaults(
        system="Be brief.", parameters=Parameters(stop=("x",))
    )
    assert done.digest == store.get(done.name).digest
    assert_whole(store)


def test_content_that_is_not_what_the_layout_says_is_refused(store: Store, user: Path, gguf: Path):
    root = user / ".ollama" / "models"
    make.ollama(root, gguf.read_bytes())
    found = lookup("ollama::tiny")
    assert found.path is not None
    data = bytearray(found.path.read_bytes())
    data[-1] ^= 1
    found.path.write_bytes(data)
    mode = found.path.stat().st_mode
    with pytest.raises(Damaged, match="is not what its name says"):
        adopt(store, found)
    assert found.path.stat().st_mode == mode, "nothing was done to it"
    assert (store.list(), blob_count(store)) == ([], 0)


def test_huggingface_files_and_folders(store: Store, user: Path, gguf: Path, tmp_path: Path):
    hub = user / ".cache" / "huggingface" / "hub"
    make.huggingface(hub, "acme/tiny-GGUF", {"tiny-Q8_0.gguf": gguf.read_bytes()})
    large = models.folder(tmp_path / "large", weights=1 << 19)
    make.huggingface(hub, "acme/tiny", {path.name: path.read_bytes() for path in large.iterdir()})
    done = [adopt(store, found) for found in everything()]
    assert [(str(each.name), each.how) for each in done] == [("acme/tiny", "link"), ("acme/tiny-GGUF:Q8_0", "link")]
    assert_whole(store)
    kept = {part.filename for part in store.get(name("acme/tiny")).parts}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= kept


def test_a_folder_with_a_wrong_file_leaves_nothing(store: Store, user: Path, tmp_path: Path):
    hub = user / ".cache" / "huggingface" / "hub"
    snapshot = make.huggingface(hub, "acme/tiny", make.folder_files(tmp_path))
    (snapshot / "config.json").resolve().write_text((snapshot / "config.json").read_text() + " ")
    with pytest.raises(Damaged, match="is not what its name says"):
        adopt(store, lookup("hf::acme/tiny"))
    assert (store.list(), blob_count(store)) == ([], 0)


def test_a_name_that_is_taken_is_not_taken_over(store: Store, studio: Path, tmp_path: Path):
    from freehold.store.importing import import_gguf

    import_gguf(store, models.gguf(tmp_path / "mine.gguf", seed=5), name("acme/tiny-GGUF:Q8_0"))
    with pytest.raises(Conflict, match="already names another model"):
        adopt(store, lookup("lmstudio::acme"))
    assert adopt(store, lookup("lmstudio::acme"), Name.parse("theirs")).how == "link"


def test_what_cannot_be_named_or_used_is_refused(store: Store, user: Path, gguf: Path):
    make.lmstudio(user / ".lmstudio", gguf, "_odd/model")
    make.ollama(user / ".ollama" / "models", gguf.read_bytes()).write_text("{")
    odd, broken = everything()
    with pytest.raises(BadName, match="gives no name"):
        adopt(store, odd)
    with pytest.raises(Unsupported, match="not in the form"):
        adopt(store, broken)
