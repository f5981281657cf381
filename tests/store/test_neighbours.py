"""Models in Ollama's, LM Studio's, Hugging Face's and llama.cpp's stores are found; what is wrong has its reason."""

import json
import os
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freehold.core.digest import Digest
from freehold.core.errors import FreeholdError, UnknownModel, Unsupported
from freehold.core.name import SEPARATOR, Name
from freehold.store import neighbours
from freehold.store.neighbours import everything, inspect, lookup
from freehold.store.neighbours.base import quantization_of
from tests.store import models
from tests.store import neighbour_folders as make


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make.user(tmp_path, monkeypatch)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return models.gguf(tmp_path / "tiny-Q8_0.gguf")


def labels() -> list[str]:
    return [found.label for found in everything()]


def problem(label: str) -> str:
    return next(found.problem for found in everything() if found.label == label)


def test_nothing_is_found_where_there_is_nothing(user):
    assert everything() == []
    assert [tool.name for tool in neighbours.installed()] == ["hf", "llamacpp", "lmstudio", "ollama"]


def test_ollama_with_what_it_states(user, gguf):
    root = user / ".ollama" / "models"
    beside = [make.layer(root, kind, b"{{ .Prompt }}") for kind in ("template", "draft")]
    make.ollama(root, gguf.read_bytes(), layers=beside)
    (found,) = everything()
    assert found.label == "ollama::tiny:1b"
    assert found.size == gguf.stat().st_size
    assert found.stated == Digest.of_file(gguf)
    assert found.name == Name.parse("tiny:1b")
    assert found.remark == "Ollama's own draft not used"
    assert found.texts["ollama.template"].read_bytes() == b"{{ .Prompt }}"
    assert inspect(found).architecture == "llama"


@pytest.mark.parametrize(
    ("path", "label", "name"),
    [
        ("registry.ollama.ai/library/llama3/latest", "ollama::llama3:latest", "llama3"),
        ("registry.ollama.ai/ada/llama3/8b", "ollama::ada/llama3:8b", "ada/llama3:8b"),
        ("hf.co/org/repo/Q4_K_M", "ollama::hf.co/org/repo:Q4_K_M", "org/repo:Q4_K_M"),
    ],
)
def test_ollama_names(tmp_path, monkeypatch, user, gguf, path, label, name):
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "elsewhere"))
    make.ollama(tmp_path / "elsewhere", gguf.read_bytes(), path)
    (found,) = everything()
    assert (found.label, str(found.name)) == (label, name)


def spoil(manifest: Path, **changed: object) -> None:
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **changed}))


def test_ollama_forms_that_are_not_known_are_reported(user, gguf):
    root, data = user / ".ollama" / "models", gguf.read_bytes()
    place = "registry.ollama.ai/library/{}/1"
    spoil(make.ollama(root, data, place.format("version")), schemaVersion=3)
    spoil(make.ollama(root, data, place.format("media")), mediaType="application/x-new")
    make.ollama(root, data, place.format("text")).write_text("{")
    make.ollama(root, data, place.format("huge")).write_bytes(b" " * (5 << 20))
    spoil(make.ollama(root, data, place.format("layers")), layers=[])
    spoil(
        make.ollama(root, data, place.format("digest")),
        layers=[{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../x", "size": 1}],
    )
    make.ollama(root, data, place.format("adapter"), layers=[make.layer(root, "adapter", b"x")])
    make.ollama(root, data, place.format("cloud"), config={"remote_host": "https://ollama.com"})
    make.ollama(root, data, place.format("format"), config={"model_format": "safetensors"})
    make.ollama(root, data, place.format("good"))
    make.ollama(root, data, "registry.ollama.ai/library/deep/down/1/2")
    expected = {
        "version": "version 3",
        "media": "application/x-new",
        "text": "not in the form",
        "huge": "more than such a file can",
        "layers": "0 GGUF files",
        "digest": "no sha256 digest",
        "adapter": "adapter",
        "cloud": "ollama.com",
        "format": "'safetensors'",
    }
    for name, reason in expected.items():
        assert reason in problem(f"ollama::{name}:1")
    assert problem("ollama::good:1") == ""
    assert "not a regular file" in problem("ollama::deep:down")
    (root / "manifests" / "stray").write_text("x")
    assert "no manifest where" in problem("ollama::stray")


def test_ollama_blobs_that_are_not_there_or_not_whole(user, gguf):
    root = user / ".ollama" / "models"
    make.ollama(root, gguf.read_bytes())
    stored = root / "blobs" / f"sha256-{Digest.of_file(gguf).hex}"
    stored.write_bytes(b"short")
    assert "5 bytes where its manifest says" in problem("ollama::tiny:1b")
    stored.unlink()
    assert "missing" in problem("ollama::tiny:1b")
    os.mkfifo(stored)
    assert "no regular file" in problem("ollama::tiny:1b")
    with pytest.raises(Unsupported, match="no regular file"):
        lookup("ollama::tiny:1b")


def test_very_old_ollama_wrote_a_colon(user, gguf):
    root = user / ".ollama" / "models"
    make.ollama(root, gguf.read_bytes())
    stored = root / "blobs" / f"sha256-{Digest.of_file(gguf).hex}"
    stored.rename(stored.with_name(stored.name.replace("-", ":")))
    assert problem("ollama::tiny:1b") == ""


def test_lmstudio_in_its_default_place(user, gguf):
    make.lmstudio(user / ".lmstudio", gguf)
    (found,) = everything()
    assert found.label == "lmstudio::acme/tiny-GGUF/tiny-Q8_0.gguf"
    assert str(found.name) == "acme/tiny-GGUF:Q8_0"
    assert found.stated is None
    assert inspect(found).context_length == 128


def test_lmstudio_where_its_pointer_and_settings_say(user, gguf, tmp_path):
    (user / ".lmstudio-home-pointer").write_text(f"{tmp_path}/studio\n")
    make.lmstudio(tmp_path / "studio", gguf)
    assert len(everything()) == 1
    (tmp_path / "disk").mkdir()
    (tmp_path / "studio" / "settings.json").write_text(json.dumps({"downloadsFolder": str(tmp_path / "disk")}))
    assert everything() == []
    (tmp_path / "studio" / "settings.json").write_text("no json")
    assert len(everything()) == 1


def test_lmstudio_oddities(user, gguf, tmp_path):
    base = user / ".lmstudio"
    folder = make.lmstudio(base, gguf).parent
    (folder / "mmproj-F16.gguf").write_bytes(b"projector")
    (folder / "big-00001-of-00002.gguf").write_bytes(gguf.read_bytes())
    (base / "models" / "loose.gguf").write_bytes(b"x")
    mlx = models.folder(base / "models" / "acme" / "tiny-mlx")
    config = mlx / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "quantization": {"bits": 4}}))
    assert "big-00002-of-00002.gguf is missing" in problem("lmstudio::acme/tiny-GGUF/big-00001-of-00002.gguf")
    assert "not in a folder" in problem("lmstudio::loose.gguf")
    assert len(labels()) == 4
    with pytest.raises(Unsupported, match="MLX"):
        inspect(lookup("lmstudio::acme/tiny-mlx"))


def test_huggingface_files_and_folders(user, gguf, tmp_path):
    hub = user / ".cache" / "huggingface" / "hub"
    make.huggingface(hub, "acme/tiny-GGUF", {"tiny-Q8_0.gguf": gguf.read_bytes(), "sub/tiny-F16.gguf": b"GGUF"})
    make.huggingface(hub, "acme/tiny", make.folder_files(tmp_path))
    make.huggingface(hub, "acme/tiny", {"README.md": b"old"}, make.OLDER, ref="")
    (hub / "datasets--acme--data").mkdir()
    (hub / ".locks").mkdir()
    assert labels() == [
        "hf::acme/tiny",
        "hf::acme/tiny-GGUF/sub/tiny-F16.gguf",
        "hf::acme/tiny-GGUF/tiny-Q8_0.gguf",
        f"hf::acme/tiny@{make.OLDER[:12]}",
    ]
    found = lookup("hf::acme/tiny-GGUF/tiny-Q8_0.gguf")
    assert found.stated == Digest.of_file(gguf)
    assert str(found.name) == "acme/tiny-GGUF:Q8_0"
    assert inspect(lookup("hf::acme/tiny")).architecture == "llama"
    assert "no weights" in problem(f"hf::acme/tiny@{make.OLDER[:12]}")


def test_huggingface_shares_blobs_between_repositories(user, gguf):
    """Its newer versions call the shared file by another hash, which is not taken for the digest."""
    hub = user / ".cache" / "huggingface" / "hub"
    snapshot = make.huggingface(hub, "acme/tiny-GGUF", {"tiny.gguf": gguf.read_bytes()})
    own = (snapshot / "tiny.gguf").resolve()
    shared = hub / "blobs" / "cc" / ("c" * 64)
    shared.parent.mkdir(parents=True)
    own.rename(shared)
    own.symlink_to(shared)
    found = lookup("hf::acme/tiny-GGUF")
    assert found.stated == Digest.of_file(gguf)
    assert inspect(found).architecture == "llama"


def test_huggingface_spoiled(user, gguf, tmp_path):
    hub = user / ".cache" / "huggingface" / "hub"
    good = make.huggingface(hub, "acme/links", {"a.gguf": gguf.read_bytes()})
    (good / "gone.gguf").symlink_to("../../blobs/none")
    (good / "out.gguf").symlink_to(gguf)
    (good / "loop.gguf").symlink_to("loop.gguf")
    make.huggingface(hub, "acme/pickled", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    make.huggingface(hub, "acme/branch", {"a.gguf": gguf.read_bytes()}, commit="main")
    (hub / "models--acme--empty").mkdir()
    assert "missing" in problem("hf::acme/links/gone.gguf")
    assert "leaves the cache" in problem("hf::acme/links/out.gguf")
    assert "missing" in problem("hf::acme/links/loop.gguf")
    assert "pickle" in problem("hf::acme/pickled")
    assert "not called as a commit" in problem("hf::acme/branch@main")
    assert "no snapshot" in problem("hf::acme/empty")
    assert problem("hf::acme/links/a.gguf") == ""


def test_huggingface_by_its_variables(user, gguf, tmp_path, monkeypatch):
    make.huggingface(tmp_path / "base" / "hub", "acme/one", {"a.gguf": gguf.read_bytes()})
    make.huggingface(tmp_path / "cache", "acme/two", {"a.gguf": gguf.read_bytes()})
    monkeypatch.setenv("HF_HOME", str(tmp_path / "base"))
    assert labels() == ["hf::acme/one/a.gguf"]
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    assert labels() == ["hf::acme/two/a.gguf"]


def test_llamacpp_flat_and_new(user, gguf, tmp_path, monkeypatch):
    cache = user / ".cache" / "llama.cpp"
    cache.mkdir(parents=True)
    (cache / "acme_tiny-GGUF_tiny-Q8_0.gguf").write_bytes(gguf.read_bytes())
    (cache / "acme_tiny-GGUF_tiny-Q8_0.gguf.etag").write_text('"x"')
    (cache / "half.gguf.downloadInProgress").write_bytes(b"GGUF")
    (cache / "other-Q4_K_M.gguf").write_bytes(gguf.read_bytes())
    digest = sha256(gguf.read_bytes()).hexdigest()
    manifest = {"ggufFile": {"rfilename": "tiny-Q8_0.gguf", "lfs": {"sha256": digest, "size": 1}}}
    (cache / "manifest=acme=tiny-GGUF=latest.json").write_text(json.dumps(manifest))
    (cache / "manifest=acme=odd=latest.json").write_text("[]")
    make.huggingface(cache, "acme/new", {"new-F16.gguf": gguf.read_bytes()})
    new, first, other = everything()
    assert (first.label, first.stated) == ("llamacpp::acme_tiny-GGUF_tiny-Q8_0.gguf", Digest.of_file(gguf))
    assert str(first.name) == "acme/tiny-GGUF"
    assert (other.label, str(other.name), other.stated) == ("llamacpp::other-Q4_K_M.gguf", "other:Q4_K_M", None)
    assert new.label == "llamacpp::acme/new/new-F16.gguf"
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path / "none"))
    assert everything() == []


def test_a_folder_that_may_not_be_read_does_not_hide_the_rest(user, gguf, monkeypatch):
    make.lmstudio(user / ".lmstudio", gguf)
    root = user / ".ollama" / "models" / "manifests"
    root.parent.mkdir(parents=True)
    root.mkdir()
    scandir = os.scandir

    def refused(path: Path) -> object:  # root, who runs these tests, may read everything
        if path == root:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    whole, broken = everything()
    assert (whole.tool, whole.problem) == ("lmstudio", "")
    assert (broken.tool, "Permission denied" in broken.problem) == ("ollama", True)


def test_the_beginning_of_a_name_will_do(user, gguf):
    root = user / ".ollama" / "models"
    for tag in ("1b", "latest"):
        make.ollama(root, gguf.read_bytes(), f"registry.ollama.ai/library/tiny/{tag}")
    make.lmstudio(user / ".lmstudio", gguf)
    assert lookup("lmstudio::acme/tiny-GGUF").id == "acme/tiny-GGUF/tiny-Q8_0.gguf"
    assert lookup("ollama::tiny").id == "tiny:latest"
    (root / "manifests/registry.ollama.ai/library/tiny/latest").rename(
        root / "manifests/registry.ollama.ai/library/tiny/2b"
    )
    with pytest.raises(UnknownModel, match="2 models begin with"):
        lookup("ollama::tiny")
    with pytest.raises(UnknownModel) as caught:
        lookup("ollama::tine:1b")
    assert "ollama::tiny:1b" in caught.value.remedy
    with pytest.raises(Unsupported, match="no tool called 'nobody'"):
        lookup("nobody::x")


@given(tool=st.sampled_from(["ollama", "hf", "lmstudio"]), name=st.text(max_size=40))
def test_no_catalog_name_looks_like_one_of_a_tool(tool: str, name: str):
    with pytest.raises(FreeholdError):
        Name.parse(f"{tool}{SEPARATOR}{name}")


def test_hostile_names_of_files_cannot_drive_a_terminal(user, gguf):
    folder = user / ".lmstudio" / "models" / "a\x1b[31m" / "b\nc"
    folder.mkdir(parents=True)
    (folder / "\x07.gguf").write_bytes(gguf.read_bytes())
    (found,) = everything()
    assert found.label.isprintable()
    assert found.name is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("schemaVersion", "mediaType", "config", "layers")


@given(
    changed=st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON)),
    cut=st.none() | st.integers(0, 400),
    name=st.sampled_from(["manifest", "config", "settings", "flat"]),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_small_file_holds_is_a_model_or_a_problem(tmp_path_factory, changed, cut, name):
    """No content of the files that describe models ends the listing or makes a path outside the store."""
    root = tmp_path_factory.mktemp("user")
    manifest = make.ollama(root / ".ollama" / "models", b"GGUF")
    data = json.dumps({**json.loads(manifest.read_text()), **changed}).encode()[:cut]
    places = {
        "manifest": manifest,
        "config": next(p for p in (root / ".ollama/models/blobs").iterdir() if p.stat().st_size > 10),
        "settings": root / ".lmstudio" / "settings.json",
        "flat": root / ".cache" / "llama.cpp" / "manifest=a=b=c.json",
    }
    places[name].parent.mkdir(parents=True, exist_ok=True)
    places[name].write_bytes(data)
    for found in everything({"HOME": str(root)}):
        assert found.problem or (found.path is not None and found.path.is_relative_to(root))


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"])
@pytest.mark.parametrize("folder", ["~nobody-has-this-name/x", "none", "file", "nul\0", "loop"])
def test_variables_that_name_no_folder(user, gguf, tmp_path, monkeypatch, variable, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    make.lmstudio(user / ".lmstudio", gguf)
    found = everything({"HOME": str(user), variable: folder})
    assert [each.tool for each in found if not each.problem] == ["lmstudio"]


def test_a_users_folder_is_meant_by_a_tilde(user, gguf):
    make.huggingface(user / "elsewhere" / "hub", "acme/one", {"a.gguf": gguf.read_bytes()})
    for environ in ({"HF_HOME": "~/elsewhere"}, {"HF_HUB_CACHE": "~/elsewhere/hub"}):
        assert [each.label for each in everything({"HOME": str(user), **environ})] == ["hf::acme/one/a.gguf"]


@pytest.mark.parametrize(
    ("variable", "tool"), [("OLLAMA_MODELS", "ollama"), ("LLAMA_CACHE", "llamacpp"), ("HF_HUB_CACHE", "hf")]
)
def test_a_folder_that_cannot_be_looked_into_is_a_problem(user, gguf, variable, tool):
    make.lmstudio(user / ".lmstudio", gguf)
    found = {each.tool: each for each in everything({"HOME": str(user), variable: "/" + "a" * 300})}
    assert found.keys() == {"lmstudio", tool}
    assert "File name too long" in found[tool].problem
    with pytest.raises(Unsupported):
        inspect(found[tool])


@pytest.mark.parametrize("name", ["manifest", "config", "settings", "flat", "ref"])
@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"x":' * 50_000, b"\xff\xfe", b"", b"\0" * 100, b'"\\ud800"'])
def test_small_files_of_no_sense_end_nothing(tmp_path, gguf, name, content):
    manifest = make.ollama(tmp_path / ".ollama" / "models", gguf.read_bytes())
    config = json.loads(manifest.read_text())["config"]["digest"].replace(":", "-")
    hub = tmp_path / ".cache" / "huggingface" / "hub"
    snapshot = make.huggingface(hub, "acme/one", {"a.gguf": gguf.read_bytes()})
    places = {
        "manifest": manifest,
        "config": tmp_path / ".ollama/models/blobs" / config,
        "settings": tmp_path / ".lmstudio" / "settings.json",
        "flat": tmp_path / ".cache" / "llama.cpp" / "manifest=a=b=c.json",
        "ref": snapshot.parent.parent / "refs" / "main",
    }
    places[name].parent.mkdir(parents=True, exist_ok=True)
    places[name].write_bytes(content)
    found = {each.tool: each for each in everything({"HOME": str(tmp_path)})}
    assert found.keys() == {"ollama", "hf"}
    assert bool(found["ollama"].problem) == (name in ("manifest", "config"))
    assert found["ollama"].problem.isprintable()
    assert found["hf"].problem == ""


@pytest.mark.parametrize("size", [4 << 20, (4 << 20) + 1])
def test_a_manifest_is_read_up_to_a_size(user, gguf, size):
    manifest = make.ollama(user / ".ollama" / "models", gguf.read_bytes())
    manifest.write_bytes(manifest.read_bytes().ljust(size))
    assert ("more than such a file can" in problem("ollama::tiny:1b")) == (size > 4 << 20)


@pytest.mark.parametrize(
    ("stem", "quant"),
    [("m-Q4_K_M", "Q4_K_M"), ("m.q8_0", "Q8_0"), ("m_UD-IQ2_XXS", "UD-IQ2_XXS"), ("m-bf16", "BF16"),
     ("m-TQ1_0", "TQ1_0"),
     ("m-MXFP4_MOE", "MXFP4_MOE"), ("Q4_0", ""), ("m-Q4_0-x", ""), ("m-7B", ""), ("", "")],
)  # fmt: skip
def test_the_type_that_a_file_name_ends_in(stem, quant):
    assert quantization_of(stem) == quant


def test_links_in_a_cache_that_go_round_in_circles(user, gguf):
    hub = user / ".cache" / "huggingface" / "hub"
    snapshot = make.huggingface(hub, "acme/one", {"a.gguf": gguf.read_bytes()})
    (snapshot / "again").symlink_to(".")
    (snapshot / "loop.gguf").symlink_to("loop.gguf")
    (snapshot / "pipe.gguf").symlink_to("../../pipe")
    os.mkfifo(snapshot.parent.parent / "pipe")
    found = {each.id: each.problem for each in everything()}
    assert found.pop("acme/one/a.gguf") == ""
    assert "no regular file" in found.pop("acme/one/pipe.gguf")
    assert "missing" in found.pop("acme/one/loop.gguf")
    assert all(label.startswith("acme/one/again/") for label in found)
    assert max(label.count("again") for label in found) == 3, "folders are looked into to a depth"
