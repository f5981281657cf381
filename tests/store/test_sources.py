"""Pulling from the Hub, Ollama's registry and web addresses, from servers on loopback that speak the real protocols."""

import json
from pathlib import Path

import pytest

from freehold.core.digest import Digest
from freehold.core.errors import (
    BadInput,
    BadModelFile,
    BadName,
    Conflict,
    Forbidden,
    FreeholdError,
    NotFound,
    RateLimited,
    SourceFailed,
    Unsupported,
)
from freehold.core.parameters import Parameters
from freehold.core.reference import parse
from freehold.core.settings import Settings
from freehold.serving import ready
from freehold.store import Store, bundles, importing, pulling, splits
from freehold.store.check import prune
from freehold.store.outbound import Outbound
from freehold.store.sources import Offer, choosing
from tests.store import models
from tests.store.models import assert_whole, blob_count, bytes_of, name, split_model
from tests.store.servers import COMMIT, Repo, Site, registry, serving


def gguf(tmp_path: Path, seed: int = 0, size: int = 1 << 14) -> bytes:
    return models.gguf(tmp_path / "made.gguf", seed=seed, size=size).read_bytes()


def folder_bytes(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_one_quantisation_of_several(site: Site, store: Store, pull, tmp_path: Path):
    four, eight = gguf(tmp_path, 4), gguf(tmp_path, 8)
    site.repos["org/m-GGUF"] = Repo({"m-Q4_K_M.gguf": four, "m-Q8_0.gguf": eight, "imatrix.gguf": b"", "x.bin": b""})
    manifest = pull("org/m-GGUF")
    assert bytes_of(store, manifest) == {"m-Q4_K_M.gguf": four}
    assert manifest.lineage.source == f"hf://org/m-GGUF@{COMMIT}:Q4_K_M"
    assert manifest.licence == "apache-2.0"
    assert store.get(name("org/m-GGUF")) == manifest
    assert bytes_of(store, pull("hf.co/org/m-GGUF:q8_0")) == {"m-Q8_0.gguf": eight}
    assert store.get(name("org/m-GGUF:Q8_0")).parts[0].digest == Digest.of_bytes(eight)
    assert site.total == len(four) + len(eight)
    assert_whole(store)


def test_the_same_source_again_asks_for_the_listing_only(site: Site, store: Store, pull, tmp_path: Path):
    site.repos["org/m"] = Repo({"m-Q4_0.gguf": gguf(tmp_path)})
    first = pull("org/m")
    site.asked.clear()
    assert pull("org/m") == first
    assert [path.partition("?")[0] for _, path, _ in site.asked] == ["/api/models/org/m"]
    assert parse(first.lineage.source).revision == COMMIT


def test_a_safetensors_repository(site: Site, store: Store, pull, tmp_path: Path):
    files = folder_bytes(models.sharded(tmp_path / "m"))
    extra = {"pytorch_model.bin": b"\x80", "original/consolidated.00.safetensors": b"", "run.py": b"", "x.onnx": b""}
    site.repos["org/m"] = Repo(files | extra)
    manifest = pull("org/m", "mine")
    assert bytes_of(store, manifest) == files
    assert manifest.details.architecture == "llama"
    assert not any(word in path for _, path, _ in site.asked for word in ("bin", "original", "run.py"))
    assert not list(store.folder.glob("look-*"))


def test_an_adapter_repository(site: Site, store: Store, pull, tmp_path: Path):
    files = folder_bytes(models.adapter(tmp_path / "a"))
    site.repos["org/a"] = Repo(files)
    assert bytes_of(store, pull("org/a")) == files


def test_a_model_in_several_files(site: Site, store: Store, pull, tmp_path: Path):
    parts = split_model(tmp_path / "parts")
    site.repos["org/big"] = Repo({f"Q8_0/{part.name}": part.read_bytes() for part in parts})
    manifest = pull("org/big:q8_0")
    assert [part.role for part in manifest.parts] == ["gguf"] * 3
    assert manifest.details.parameters == 3 * 64
    assert manifest.licence == "apache-2.0"
    assert bytes_of(store, manifest) == {part.name: part.read_bytes() for part in parts}
    first = splits.side_by_side(store.folder / "split", manifest, [store.path(p.digest) for p in manifest.parts])
    assert [file.read_bytes() for file in splits.files(first)] == [part.read_bytes() for part in parts]


def test_the_hubs_content_network_gets_no_token(site: Site, store: Store, pull, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serving() as network:
        data = gguf(tmp_path)
        repo = site.repos["org/m"] = Repo({"m-Q4_0.gguf": data})
        repo.gated, repo.cdn = "hf_secret", network.url.replace("127.0.0.1", "localhost")
        network.add("/org/m/m-Q4_0.gguf", data)
        assert bytes_of(store, pull("org/m")) == {"m-Q4_0.gguf": data}
        assert network.asked
        assert not any("hf_secret" in str(headers) for _, _, headers in network.asked)


def test_the_real_client_sees_its_protocol(site: Site, tmp_path: Path):
    """So what we pull from here is what the official client would have got."""
    import huggingface_hub

    huggingface_hub.set_client_factory(huggingface_hub.utils._http.default_client_factory)
    files = folder_bytes(models.folder(tmp_path / "m")) | {"m-Q4_0.gguf": gguf(tmp_path)}
    site.repos["org/m"] = Repo(files)
    api = huggingface_hub.HfApi(endpoint=site.url, token=False)
    got = api.snapshot_download("org/m", cache_dir=tmp_path / "cache")
    assert folder_bytes(Path(got)) == files
    assert Path(got).name == COMMIT
    huggingface_hub.close_session()


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        ("org/none", NotFound, "no repository"),
        ("org/m:Q2_K", NotFound, "It has Q4_0"),
        ("org/m@v9", NotFound, "no revision"),
        ("hf://org/m//other.gguf", NotFound, "other.gguf"),
        ("hf://org/m//README.md", NotFound, "no GGUF"),
        ("org/pickled", Unsupported, "pickle"),
        ("org/data", NotFound, "GGUF or safetensors"),
        ("org/twice:Q4_0", BadInput, "Name one"),
        ("org/halved", NotFound, "lacks"),
        ("org/gated", Forbidden, "Accept its terms"),
        ("org/moved", Conflict, "neworg/m"),
    ],
)
def test_what_the_hub_does_not_give(site: Site, store: Store, pull, source: str, kind: type[FreeholdError], said: str):
    site.repos["org/m"] = Repo({"m-Q4_0.gguf": b"GGUF", "README.md": b""})
    site.repos["org/pickled"] = Repo({"config.json": b"{}", "pytorch_model.bin": b"\x80"})
    site.repos["org/data"] = Repo({"train.csv": b"a,b"})
    site.repos["org/twice"] = Repo({"a-Q4_0.gguf": b"", "b-Q4_0.gguf": b""})
    site.repos["org/halved"] = Repo({"a-Q4_0-00001-of-00002.gguf": b""})
    site.repos["org/gated"] = Repo({"a-Q4_0.gguf": b""})
    site.repos["org/gated"].gated = "token"
    site.repos["org/moved"] = Repo({"a-Q4_0.gguf": b""})
    site.repos["org/moved"].id = "neworg/m"
    with pytest.raises(kind) as caught:
        pull(source)
    assert said in caught.value.line()
    assert blob_count(store) == 0
    assert site.total == 0


@pytest.mark.parametrize(
    "evil",
    ["../m-Q4_0.gguf", "/etc/m-Q4_0.gguf", "a/../../m-Q4_0.gguf", "..\\m-Q4_0.gguf", "a//m-Q4_0.gguf", "m\n-Q4_0.gguf"],
)
def test_file_names_that_leave_the_repository_are_not_there(site: Site, store: Store, pull, evil: str):
    site.repos["org/m"] = Repo({evil: b"GGUF", "README.md": b""})
    with pytest.raises(NotFound, match="no model"):
        pull("org/m")
    assert site.total == 0


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_is_busy(site: Site, store: Store, pull, tmp_path: Path, status: int):
    site.repos["org/m"] = Repo({"m-Q4_0.gguf": gguf(tmp_path)})
    site.fault("/api/", lambda handler: handler.answer(status, Retry_After="0"), times=2)
    pull("org/m")
    site.fault("/api/", lambda handler: handler.answer(status, Retry_After="900"))
    with pytest.raises(RateLimited if status == 429 else SourceFailed, match=str(status)) as caught:
        pull("org/m")
    assert "900 s" in caught.value.remedy


def test_a_repository_that_somebody_else_made_anew(site: Site, store: Store, pull, tmp_path: Path):
    site.repos["org/m"] = Repo({"m-Q4_0.gguf": gguf(tmp_path, 1)}, oid="first")
    before = pull("org/m")
    site.repos["org/m"] = Repo({"m-Q4_0.gguf": gguf(tmp_path, 2)}, oid="second")
    with pytest.raises(Conflict, match="made anew"):
        pull("org/m")
    assert store.get(name("org/m")) == before
    after = pull("org/m", accept_new=True)
    assert after != before
    assert pull("org/m") == after


@pytest.mark.parametrize("lie", ["digest", "size", "git", "commit", "listing", "id", "no model"])
def test_a_hub_that_lies(site: Site, store: Store, pull, tmp_path: Path, lie: str):
    files = folder_bytes(models.folder(tmp_path / "m"))
    repo = site.repos["org/m"] = Repo(files)
    if lie == "digest":
        repo.digests["model.safetensors"] = "0" * 64
    elif lie == "size":
        repo.sizes["model.safetensors"] = 5
    elif lie == "git":
        repo.git = lambda file: "1" * 40  # type: ignore[method-assign]
    elif lie == "commit":
        repo.commit = "../../main"
    elif lie == "listing":
        site.fault("/api/", lambda handler: handler.answer(200, b"[1, 2"))
    elif lie == "id":
        repo.digests["model.safetensors"] = "../../../etc/passwd"
    else:
        repo.files["model.safetensors"] = b"\xff" * 999
    with pytest.raises((SourceFailed, BadModelFile)) as caught:
        pull("org/m", "mine")
    assert caught.value.exit_code == 2
    assert store.list() == []
    assert blob_count(store) == 0


def test_offline_is_said_and_kept(site: Site, store: Store, pull, monkeypatch, tmp_path: Path):
    with Outbound(Settings(home=tmp_path, offline=True)) as outbound:
        for source in ("org/m", "llama3", site.url + "/x.gguf"):
            with pytest.raises(Forbidden, match="offline"):
                pulling.look(parse(source), outbound)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Forbidden, match="offline"):
        pull("org/m")
    assert site.asked == []


def ollama(site: Site, rest: str) -> str:
    return f"ollama://{site.url.removeprefix('http://')}/{rest}"


def test_a_model_of_a_registry(site: Site, store: Store, pull, tmp_path: Path):
    layers = {"model": gguf(tmp_path), "template": b"{{ .Prompt }}", "params": b'{"stop":["x"]}',
              "system": b"Be brief.", "license": b"MIT", "license#2": b"More", "future": b"unknown"}  # fmt: skip
    registry(site, "library/tiny", "1b", layers)
    manifest = pull(ollama(site, "library/tiny:1b"), "tiny:1b")
    assert bytes_of(store, manifest) == {
        "tiny.gguf": layers["model"], "ollama.template": b"{{ .Prompt }}", "ollama.params.json": b'{"stop":["x"]}',
        "ollama.system": b"Be brief.", "LICENSE": b"MIT", "LICENSE.2": b"More",
        "chat_template.jinja": bytes_of(store, manifest)["chat_template.jinja"], "system.txt": b"Be brief.",
        "parameters.json": Parameters(stop=("x",)).encode(),
    }  # fmt: skip
    body = Digest.of_bytes(site.files["/v2/library/tiny/manifests/1b"])
    assert manifest.lineage.source == ollama(site, f"library/tiny:1b@{body}")
    assert_whole(store)


def test_a_registry_without_the_model(site: Site, pull):
    with pytest.raises(NotFound, match="no model library/none:latest"):
        pull(ollama(site, "library/none"))


@pytest.mark.parametrize(
    ("layers", "wrong"),
    [
        ({"model": b"x"}, {"digest": "sha256:../../../../etc/passwd"}),
        ({"model": b"x"}, {"digest": "sha256:" + "0" * 63}),
        ({"model": b"x"}, {"digest": "md5:" + "0" * 32}),
        ({"model": b"x"}, {"size": -1}),
        ({"model": b"x"}, {"size": 1 << 60}),
        ({"model": b"x"}, {"size": 5}),
        ({"model": b"x"}, {"digest": "sha256:" + "0" * 64}),
        ({"system": b"x" * 9, "model": b"y"}, {"size": 1 << 30}),
        ({f"license#{n}": bytes([n]) for n in range(99)}, {}),
        ({"template": b"no model"}, {}),
        ({"adapter": b"x", "model": b"y"}, {}),
        ({"model": b"not a GGUF file"}, {}),
    ],
)
def test_a_registry_that_lies(site: Site, store: Store, pull, layers: dict[str, bytes], wrong: dict[str, object]):
    registry(site, "library/x", "latest", layers, **wrong)
    with pytest.raises(FreeholdError) as caught:
        pull(ollama(site, "library/x"))
    assert caught.value.exit_code == 2
    assert blob_count(store) == 0
    assert store.list() == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"layers": 3}', b"\xff\xfe", b"[" * 5000, b'{"layers":[{}]}'])
def test_a_manifest_that_is_none(site: Site, pull, body: bytes):
    site.add("/v2/library/x/manifests/latest", body)
    with pytest.raises(FreeholdError) as caught:
        pull(ollama(site, "library/x"))
    assert caught.value.exit_code == 2


def test_a_web_address(site: Site, store: Store, pull, tmp_path: Path):
    data = gguf(tmp_path)
    url = site.add("/models/m-Q8_0.gguf", data, ETag='"1"')
    manifest = pull(f"{url}?key=secret#sha256={Digest.of_bytes(data).hex}")
    assert bytes_of(store, manifest) == {"m-Q8_0.gguf": data}
    assert manifest.lineage.source == url
    assert [str(entry.name) for entry in store.list()] == ["m-Q8_0"]
    site.ranges = False
    assert pull(url, "again").parts == manifest.parts


def test_a_web_address_of_one_part_means_all(site: Site, store: Store, pull, tmp_path: Path):
    parts = split_model(tmp_path / "parts")
    urls = [site.add(f"/{part.name}", part.read_bytes()) for part in parts]
    assert len(pull(urls[1]).parts) == 3
    site.files.pop(f"/{parts[2].name}")
    with pytest.raises(NotFound, match="00003-of-00003"):
        pull(urls[0])


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/x.bin", Unsupported), ("/x.gguf#md5=1", BadName), ("/x.gguf#sha256=1", BadName), ("/none.gguf", NotFound),
     ("/x.gguf#sha256=" + "0" * 64, SourceFailed), ("/page.gguf", BadModelFile), ("/..%2fx.gguf", Unsupported)],
)  # fmt: skip
def test_a_web_address_that_is_no_model(site: Site, store: Store, pull, path: str, kind: type[FreeholdError]):
    site.add("/x.gguf", b"GGUF")
    site.add("/page.gguf", b"<html>log in</html>")
    with pytest.raises(kind):
        pull(site.url + path)
    assert blob_count(store) == 0


def test_a_web_server_that_does_not_say_how_long(site: Site, pull):
    def answer(handler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()

    site.fault("x.gguf", answer)
    with pytest.raises(SourceFailed, match="how long"):
        pull(site.url + "/x.gguf")


def test_the_links_to_parts_go_with_their_model(store: Store, pull, tmp_path: Path):
    manifest = pull(str(split_model(tmp_path / "parts")[0]))
    home, blobs = store.folder / "split", [store.path(part.digest) for part in manifest.parts]
    first = splits.side_by_side(home, manifest, blobs)
    assert splits.side_by_side(home, manifest, blobs) == first
    assert ready.gguf_for(store, manifest).path == first
    prune(store)
    assert len(list(first.parent.iterdir())) == 3
    store.remove(name("big-Q8_0"))
    assert len(prune(store).blobs) == 4
    assert list(home.iterdir()) == []
    assert_whole(store)


def test_local_parts(store: Store, pull, tmp_path: Path):
    parts = split_model(tmp_path / "parts")
    manifest = pull(str(parts[1]))
    assert [part.filename for part in manifest.parts] == [part.name for part in parts]
    assert store.get(name("big-Q8_0")) == manifest
    assert manifest.licence == "mit"
    parts[2].unlink()
    with pytest.raises(NotFound, match="00003-of-00003"):
        pull(str(parts[0]))


@pytest.mark.parametrize("wrong", [{"no": 0}, {"tensors": 9}])
def test_local_parts_that_do_not_fit_together(store: Store, pull, tmp_path: Path, wrong: dict[str, int]):
    parts = split_model(tmp_path / "parts", **wrong)
    with pytest.raises(BadModelFile):
        pull(str(parts[0]))
    assert blob_count(store) == 0


@pytest.mark.parametrize(
    ("filename", "quant"),
    [("m-Q4_K_M.gguf", "Q4_K_M"), ("m.q8_0.gguf", "Q8_0"),
     ("UD-Q2_K_XL/m-UD-Q2_K_XL-00001-of-00002.gguf", "UD-Q2_K_XL"),
     ("BF16/m-00001-of-00002.gguf", "BF16"), ("m.gguf", ""), ("q4_0.gguf", "Q4_0"), ("m-iq3_xxs.gguf", "IQ3_XXS"),
     ("m-F16.gguf", "F16"), ("Q4_K_M/m.gguf", "Q4_K_M")],
)  # fmt: skip
def test_the_type_that_a_name_spells(filename: str, quant: str):
    assert choosing.quant_of(filename) == quant


@pytest.mark.parametrize(
    ("quants", "chosen"),
    [(["Q8_0", "Q4_K_M", "F16"], "Q4_K_M"), (["F16", "Q8_0"], "Q8_0"), (["Q2_K", "BF16"], "BF16"), (["Q2_K"], "Q2_K"),
     (["UD-Q4_K_M", "Q4_K_M"], "Q4_K_M"), (["UD-Q4_K_M", "Q5_K_M"], "UD-Q4_K_M")],
)  # fmt: skip
def test_the_type_for_who_names_none(quants: list[str], chosen: str):
    found = choosing.models(f"m-{quant}.gguf" for quant in quants)
    assert choosing.choose(found, "", "org/m")[0].quant == chosen


def test_an_offer_knows_its_size(site: Site, outbound: Outbound, tmp_path: Path):
    registry(site, "library/x", "latest", {"model": b"x" * 10, "system": b"y" * 5})
    offer = pulling.look(parse(ollama(site, "library/x")), outbound)
    assert isinstance(offer, Offer)
    assert offer.size == 15
    assert json.dumps([file.filename for file in offer.files]) == '["x.gguf", "ollama.system"]'


def test_layers_of_a_registry_have_names_of_their_own(site: Site, store: Store, pull, tmp_path: Path):
    """Whatever comes twice is numbered: two files of one name would make a model that nobody can write out again."""
    layers = {"model": gguf(tmp_path), **{f"{kind}#{n}": b"%s %d" % (kind.encode(), n) for n in (1, 2, 3)
              for kind in ("license", "system", "projector", "messages")}}  # fmt: skip
    layers["projector#1"] = models.projector(tmp_path / "mmproj").read_bytes()
    registry(site, "library/tiny", "1b", layers)
    manifest = pull(ollama(site, "library/tiny:1b"), "tiny")
    names = [part.filename for part in manifest.parts]
    assert len(set(names)) == len(names)
    assert {"LICENSE", "LICENSE.2", "LICENSE.3", "ollama.system.2", "mmproj.gguf.3"} <= set(names)
    importing.materialise(store, manifest, tmp_path / "out")
    assert (tmp_path / "out" / "LICENSE.2").read_bytes() == b"license 2"


@pytest.mark.parametrize("model", ["ollama.system", "license", "mmproj"])
def test_a_model_called_as_a_text_is(site: Site, store: Store, pull, tmp_path: Path, model: str):
    eye = models.projector(tmp_path / "mmproj").read_bytes()
    registry(site, f"library/{model}", "1b", {"model": gguf(tmp_path), "license": b"MIT", "projector": eye})
    names = [part.filename for part in pull(ollama(site, f"library/{model}:1b"), "m").parts]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "body", [b'{"layers":' + b"[" * 100_000, b'{"x":' + b"[" * 100_000, b'{"layers":[{"x":' * 9000]
)
def test_a_registry_whose_brackets_do_not_end(site: Site, store: Store, pull, body: bytes):
    site.add("/v2/library/x/manifests/latest", body)
    with pytest.raises(SourceFailed, match="no manifest of a model"):
        pull(ollama(site, "library/x"))
    assert blob_count(store) == 0


def test_a_registry_that_sends_another_manifest_than_the_one_pinned(site: Site, pull, tmp_path: Path):
    registry(site, "library/x", "1b", {"model": gguf(tmp_path)})
    pinned = "sha256:" + "1" * 64
    site.add(f"/v2/library/x/manifests/{pinned}", site.files["/v2/library/x/manifests/1b"])
    with pytest.raises(SourceFailed, match="another manifest"):
        pull(ollama(site, f"library/x:1b@{pinned}"))


def test_a_model_of_which_a_part_is_missing_does_not_hide_the_others(site: Site, store: Store, pull, tmp_path: Path):
    parts = split_model(tmp_path / "parts")
    files = {part.name: part.read_bytes() for part in parts[:2]}
    site.repos["org/m"] = Repo({**files, "m-Q4_0.gguf": gguf(tmp_path)})
    assert [part.filename for part in pull("org/m").parts] == ["m-Q4_0.gguf"]
    for source in ("org/m:Q8_0", f"hf://org/m//{parts[0].name}"):
        with pytest.raises(NotFound, match="lacks big-Q8_0-00003-of-00003"):
            pull(source)


@pytest.mark.parametrize(
    "length", ["²", "-1", "*", "1e3", " 5x", "9" * 5000, "1125899906842624", "0x10", ""], ids=lambda text: text[:20]
)
def test_a_web_server_that_says_a_length_that_is_none(site: Site, store: Store, pull, length: str):
    def answer(handler) -> None:
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 0-0/{length}")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"1\r\nx\r\n0\r\n\r\n")

    site.fault(r"x\.gguf", answer)
    with pytest.raises(SourceFailed, match="does not say how long"):
        pull(site.url + "/x.gguf")
    assert blob_count(store) == 0


def test_parts_in_capitals_are_fetched_as_they_are_called(site: Site, store: Store, pull, tmp_path: Path):
    parts = [part.rename(part.with_suffix(".GGUF")) for part in split_model(tmp_path / "parts")]
    for part in parts:
        site.add(f"/{part.name}", part.read_bytes())
    for source in (f"{site.url}/{parts[1].name}", str(parts[2])):
        assert [part.filename for part in pull(source, "m").parts] == [part.name for part in parts]
    site.repos["org/big"] = Repo({part.name: part.read_bytes() for part in parts})
    assert len(pull("org/big:Q8_0").parts) == 3
    assert_whole(store)


@pytest.mark.parametrize("path", ["./" + "a" * 300, "./file/m.gguf", "./none", "./loop", "/" + "a/" * 1000])
def test_paths_where_nothing_can_be(store: Store, pull, tmp_path: Path, monkeypatch, path: str):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(NotFound, match="no file or folder"):
        pull(path)


def test_a_bundle_is_pulled_by_any_of_its_names(store: Store, pull, tmp_path: Path):
    with Store.open(tmp_path / "other") as other:
        other.put(name("org/m:v1"), models.kept(other, [bytes(3 << 20)]))
        other.put(name("b"), models.kept(other, [b"b"]))
        bundles.export(other, bundles.pack(other, [name("org/m:v1")]), tmp_path / "x.fhb", split=1 << 20)
        bundles.export(other, bundles.pack(other, [name("b"), name("org/m:v1")]), tmp_path / "two.fhb")
        wanted = other.get(name("org/m:v1"))
    for path in ("x.fhb", "x.fhb.001", "x.fhb.003"):
        assert pull(str(tmp_path / path)) == wanted
    assert pull(str(tmp_path / "x.fhb"), "mine") == wanted
    assert [str(entry.name) for entry in store.list()] == ["mine", "org/m:v1"]
    with pytest.raises(BadInput, match="holds 2 models") as caught:
        pull(str(tmp_path / "two.fhb"))
    assert "freehold bundle import" in caught.value.remedy
    with pytest.raises(NotFound, match="no such file"):
        pull(str(tmp_path / "none.fhb"))


def test_a_source_without_a_usable_name_asks_for_one(site: Site, store: Store, pull, tmp_path: Path):
    path = models.gguf(tmp_path / "-.gguf")
    with pytest.raises(BadName, match="gives no name") as caught:
        pull(str(path))
    assert "--as NAME" in caught.value.remedy
    assert pull(str(path), "mine").parts
