"""Projectors: chosen by a rule, checked, and carried with their model wherever it goes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from freehold import convert
from freehold.core.digest import Digest
from freehold.core.errors import BadInput, BadModelFile, FreeholdError, Unsupported
from freehold.core.manifest import Manifest
from freehold.core.reference import parse
from freehold.core.settings import Settings
from freehold.formats import modelfile as modelfiles
from freehold.formats.bundle.reading import Bundle
from freehold.serving import ready
from freehold.store import Store, bundles, creating, glimpse, importing, linking, neighbours, projectors, pulling
from freehold.store.adopting import adopt
from freehold.store.check import fsck, prune
from freehold.store.outbound import Outbound
from freehold.store.pushing import oci
from tests.store import models
from tests.store import neighbour_folders as make
from tests.store.models import adapter, assert_whole, blob_count, bytes_of, name
from tests.store.push_servers import RegistryPlace, RegistryState
from tests.store.push_servers import serving as taking
from tests.store.servers import Repo, Site, registry

Pull = Callable[..., Manifest]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return models.gguf(tmp_path / "m-Q4_0.gguf", size=1 << 14)


@pytest.fixture
def eye(tmp_path: Path) -> Path:
    return models.projector(tmp_path / "mmproj-F16.gguf")


def roles(manifest: Manifest) -> dict[str, str]:
    return {part.filename: part.role for part in manifest.parts}


BOTH = {"m-Q4_0.gguf": "gguf", "mmproj-F16.gguf": "projector"}


@pytest.mark.parametrize(
    ("names", "of", "expected"),
    [
        ([], "m.gguf", ""),
        (["m.gguf", "other.gguf", "mmproj.txt"], "m.gguf", ""),
        (["mmproj-F32.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf", "mmproj-Q8_0.gguf"], "m.gguf", "mmproj-F16.gguf"),
        (["mmproj-F32.gguf", "mmproj-Q8_0.gguf", "mmproj-Q4_K.gguf"], "m.gguf", "mmproj-Q8_0.gguf"),
        (["b-mmproj.gguf", "a-mmproj.gguf"], "m.gguf", "a-mmproj.gguf"),
        (["mmproj-F16.gguf", "Q4/mmproj-F32.gguf"], "Q4/m.gguf", "Q4/mmproj-F32.gguf"),
        (["mmproj-F16.gguf", "Q8/mmproj-F16.gguf"], "Q4/m.gguf", "mmproj-F16.gguf"),
        (["Q4/mmproj-F16.gguf"], "m.gguf", ""),
        (["MMPROJ-model-f16.GGUF"], "m.gguf", "MMPROJ-model-f16.GGUF"),
        (["mmproj/m.gguf"], "m.gguf", ""),
    ],
)
def test_the_rule(names: list[str], of: str, expected: str) -> None:
    assert projectors.chosen(names, of) == expected


def test_from_the_hub(site: Site, store: Store, pull: Pull, outbound: Outbound, model: Path, eye: Path) -> None:
    files = {"m-Q4_0.gguf": model.read_bytes(), "mmproj-F16.gguf": eye.read_bytes(), "mmproj-F32.gguf": b"x"}
    site.repos["org/m-GGUF"] = Repo(files)
    offer = pulling.look(parse("org/m-GGUF"), outbound)
    assert "sees images with mmproj-F16.gguf" in offer.choice
    assert offer.size == model.stat().st_size + eye.stat().st_size
    seen = glimpse.projector(offer, outbound)
    assert seen is not None
    assert (seen.kind, seen.size) == ("mlp", eye.stat().st_size)
    manifest = pull("org/m-GGUF")
    assert roles(manifest) == BOTH
    assert bytes_of(store, manifest)["mmproj-F16.gguf"] == eye.read_bytes()
    assert manifest.details.architecture == "llama"
    assert roles(pull("hf.co/org/m-GGUF/m-Q4_0.gguf", "one")) == BOTH
    assert_whole(store)


def test_another_one_or_none_instead(
    site: Site, store: Store, outbound: Outbound, model: Path, eye: Path, tmp_path: Path
) -> None:
    site.repos["org/m"] = Repo({"m-Q4_0.gguf": model.read_bytes(), "mmproj-F16.gguf": eye.read_bytes()})
    offer = pulling.look(parse("org/m"), outbound)
    other = models.projector(tmp_path / "mine.gguf", seed=1)
    for path, expected in ((None, {}), (other, {"mmproj.gguf": other.read_bytes()})):
        chosen = pulling.seeing(offer, path)
        seen = glimpse.projector(chosen, outbound)
        assert (seen is None) == (path is None)
        held = bytes_of(store, pulling.take(store, outbound, chosen, name("m")))
        assert held == {"m-Q4_0.gguf": model.read_bytes(), **expected}
    assert_whole(store)


def test_from_ollamas_registry(site: Site, store: Store, pull: Pull, model: Path, eye: Path) -> None:
    layers = {"model": model.read_bytes(), "projector": eye.read_bytes(), "license": b"MIT"}
    registry(site, "library/llava", "7b", layers)
    manifest = pull(f"ollama://{site.url.removeprefix('http://')}/library/llava:7b", "llava")
    assert roles(manifest) == {"llava.gguf": "gguf", "mmproj.gguf": "projector", "LICENSE": "licence"}
    assert ready.Own(store, name("llava")).file().projector == store.path(Digest.of_file(eye))


def test_one_that_only_hears_is_kept_and_not_used(
    site: Site, store: Store, pull: Pull, model: Path, tmp_path: Path
) -> None:
    deaf = models.projector(tmp_path / "mmproj.gguf", sees=False)
    site.repos["org/m"] = Repo({"m-Q4_0.gguf": model.read_bytes(), "mmproj-F16.gguf": deaf.read_bytes()})
    assert roles(pull("org/m")) == {"m-Q4_0.gguf": "gguf", "mmproj-F16.gguf": "other"}


def test_a_broken_one_is_refused_and_nothing_is_left(site: Site, store: Store, pull: Pull, model: Path) -> None:
    site.repos["org/m"] = Repo({"m-Q4_0.gguf": model.read_bytes(), "mmproj-F16.gguf": b"GGUFnonsense"})
    with pytest.raises(BadModelFile):
        pull("org/m")
    assert blob_count(store) == 0


def test_from_a_pair_of_files(store: Store, outbound: Outbound, model: Path, eye: Path, tmp_path: Path) -> None:
    offer = pulling.seeing(pulling.look(parse(str(model)), outbound), eye)
    assert roles(pulling.take(store, outbound, offer, name("m"))) == BOTH
    for wrong, error in ((model, "no projector"), (models.projector(tmp_path / "x.gguf", sees=False), "no images")):
        with pytest.raises(Unsupported, match=error):
            pulling.seeing(offer, wrong)
    folder = pulling.look(parse(str(models.folder(tmp_path / "folder"))), outbound)
    with pytest.raises(BadInput, match="GGUF files"):
        pulling.seeing(folder, eye)
    with pytest.raises(Unsupported, match="not a model"):
        importing.import_gguf(store, eye, name("eye"))


@pytest.mark.parametrize(
    "text",
    [
        "FROM ./m-Q4_0.gguf\nFROM ./mmproj-F16.gguf",
        "FROM ./mmproj-F16.gguf\nFROM ./m-Q4_0.gguf",
        "FROM ./m-Q4_0.gguf\nADAPTER ./mmproj-F16.gguf",
        "FROM blind\nFROM ./mmproj-F16.gguf",
    ],
)
def test_from_a_modelfile(store: Store, model: Path, eye: Path, tmp_path: Path, text: str) -> None:
    importing.import_gguf(store, model, name("blind"))
    made = creating.create(store, name("m"), modelfiles.parse(text), tmp_path, convert)
    assert roles(made) == BOTH
    again = creating.modelfile_of(store, name("m"))
    assert again.text() == "FROM ./m-Q4_0.gguf\nFROM ./mmproj-F16.gguf\n"
    importing.materialise(store, made, tmp_path / "out")
    assert roles(creating.create(store, name("n"), again, tmp_path / "out", convert)) == BOTH
    assert_whole(store)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM ./mmproj-F16.gguf", "line 1: FROM names a projector and no model"),
        ("FROM ./m-Q4_0.gguf\nFROM ./m-Q4_0.gguf", "line 2: a second FROM names another model"),
        ("FROM ./mmproj-F16.gguf\nFROM ./mmproj-F16.gguf", "line 2: FROM names a projector"),
        ("FROM ./m-Q4_0.gguf\nFROM ./mmproj-F16.gguf\nADAPTER ./mmproj-F16.gguf", "2 projectors"),
        ("FROM ./m-Q4_0.gguf\nFROM ./gone.gguf", "line 2: FROM names ./gone.gguf"),
        ("FROM ./m-Q4_0.gguf\nFROM ./broken.gguf", "broken.gguf"),
        ("FROM peft\nFROM ./mmproj-F16.gguf", "no model"),
    ],
)
def test_modelfiles_that_make_none(store: Store, model: Path, eye: Path, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "broken.gguf").write_bytes(eye.read_bytes()[:300])
    importing.import_folder(store, adapter(tmp_path / "adapter"), name("peft"))
    before = blob_count(store)
    with pytest.raises(FreeholdError, match=said):
        creating.create(store, name("m"), modelfiles.parse(text), tmp_path, convert)
    assert blob_count(store) == before


def test_a_new_one_takes_the_place_of_the_old(store: Store, model: Path, eye: Path, tmp_path: Path) -> None:
    importing.import_gguf(store, model, name("m"), projector=eye)
    other = models.projector(tmp_path / "other-mmproj.gguf", seed=5)
    made = creating.create(store, name("m"), modelfiles.parse("FROM m\nFROM ./other-mmproj.gguf"), tmp_path, convert)
    assert roles(made) == {"m-Q4_0.gguf": "gguf", "other-mmproj.gguf": "projector"}
    assert bytes_of(store, made)["other-mmproj.gguf"] == other.read_bytes()


def test_it_is_copied_bundled_checked_and_pruned(store: Store, model: Path, eye: Path, tmp_path: Path) -> None:
    importing.import_gguf(store, model, name("m"), projector=eye)
    creating.copy(store, name("m"), name("n"))
    store.remove(name("m"))
    assert prune(store).blobs == ()
    bundles.export(store, bundles.pack(store, [name("n")]), tmp_path / "x.fhb")
    with Store.open(tmp_path / "other") as other, Bundle.open(tmp_path / "x.fhb") as bundle:
        bundles.bring(other, bundle)
        assert roles(other.get(name("n"))) == BOTH
        assert_whole(other)
    blob = store.blobs.path(Digest.of_file(eye))
    blob.unlink()
    assert [(found.kind, found.subject) for found in fsck(store)] == [("missing", "n")]
    assert "mmproj-F16.gguf" in fsck(store)[0].detail
    store.remove(name("n"))
    prune(store)
    assert blob_count(store) == 0


@pytest.mark.parametrize("tool", ["ollama", "lmstudio", "hf"])
def test_other_tools_get_it_and_give_it(
    store: Store, eye: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    user = make.user(tmp_path, monkeypatch)
    model = models.gguf(tmp_path / "tiny.gguf", llama__block_count=1)
    importing.import_gguf(store, model, name("acme/tiny:Q8_0"), projector=eye)
    linking.link(store, name("acme/tiny:Q8_0"), tool)
    (found,) = neighbours.everything()
    assert found.projector is not None
    assert found.projector.resolve().read_bytes() == eye.read_bytes()
    assert found.size == model.stat().st_size + eye.stat().st_size
    assert ready.Foreign(store, found).file().projector == found.projector
    with Store.open(tmp_path / "other") as other:
        adopt(other, found, name("taken"))
        assert [part.role for part in other.get(name("taken")).parts][:2] == ["gguf", "projector"]
        assert other.path(Digest.of_file(eye)).read_bytes() == eye.read_bytes()
        assert_whole(other)
    linking.unlink(store, name("acme/tiny:Q8_0"), tool)
    assert [path for path in user.rglob("*") if not path.is_dir()] == []


def test_one_in_llamacpps_older_cache(store: Store, model: Path, eye: Path, tmp_path: Path, monkeypatch) -> None:
    cache = make.user(tmp_path, monkeypatch) / ".cache" / "llama.cpp"
    cache.mkdir(parents=True)
    (cache / "acme_m-GGUF_m-Q4_0.gguf").write_bytes(model.read_bytes())
    (cache / "acme_m-GGUF_mmproj-F16.gguf").write_bytes(eye.read_bytes())
    said = '{"ggufFile": {"rfilename": "m-Q4_0.gguf"}, "mmprojFile": {"rfilename": "mmproj-F16.gguf"}}'
    (cache / "manifest=acme=m-GGUF=latest.json").write_text(said)
    (found,) = neighbours.everything()
    assert found.projector == cache / "acme_m-GGUF_mmproj-F16.gguf"


@pytest.mark.parametrize("broken", [b"projector", b""])
def test_a_neighbours_model_is_of_use_without_it(
    store: Store, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bytes
) -> None:
    base = make.user(tmp_path, monkeypatch) / ".lmstudio"
    (make.lmstudio(base, model).parent / "mmproj-F16.gguf").write_bytes(broken)
    (found,) = neighbours.everything()
    assert ready.Foreign(store, found).eye() is None
    adopt(store, found)
    assert [part.role for part in store.list()[0].manifest.parts] == ["gguf"]


def test_pushed_as_ollama_has_it(store: Store, model: Path, eye: Path, tmp_path: Path) -> None:
    importing.import_gguf(store, model, name("m"), projector=eye)
    state = RegistryState()
    with taking(RegistryPlace, state) as host:
        oci.push(store, name("m"), oci.Target.parse(f"oci://{host}/org/m:v1"), Settings(home=tmp_path))
    (_, document) = state.manifests["v1"]
    assert b'"application/vnd.ollama.image.projector","digest":"%s"' % str(Digest.of_file(eye)).encode() in document
    assert state.blobs[str(Digest.of_file(eye))] == eye.read_bytes()
