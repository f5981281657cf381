"""The header of a model that is not here yet is the one that it has when it is, and costs little to look at."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import freehold.assets
from freehold.convert.folder import prepare
from freehold.convert.outlook import of_folder
from freehold.core.errors import BadModelFile
from freehold.core.reference import parse
from freehold.core.settings import Settings
from freehold.formats.gguf import GgufHeader, read_header
from freehold.formats.safetensors import read_header as read_safetensors
from freehold.store import glimpse, pulling, splits
from freehold.store.outbound import Outbound
from tests.store import models
from tests.store.models import split_model
from tests.store.servers import Repo, Site, registry, serving

STARTER = Path(freehold.assets.__file__).with_name("starter")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with serving() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def outbound(tmp_path: Path) -> Iterator[Outbound]:
    with Outbound(Settings(home=tmp_path), stall=5.0, patience=0.01) as client:
        yield client


def seen(source: str, outbound: Outbound) -> GgufHeader | None:
    return glimpse.header(pulling.look(parse(source, lambda path: Path(path).exists()), outbound), outbound)


def assert_same(header: GgufHeader | None, expected: GgufHeader) -> None:
    assert header is not None
    assert (header.metadata, header.tensors) == (expected.metadata, expected.tensors)
    assert header.file_size == expected.file_size


@pytest.mark.parametrize("vocabulary", [0, 700_000])
def test_only_as_much_is_fetched_as_the_header_takes(site: Site, outbound: Outbound, tmp_path: Path, vocabulary: int):
    path = models.gguf(tmp_path / "m-Q8_0.gguf", size=4 << 20, words="w" * vocabulary)
    site.repos["org/m"] = Repo({path.name: path.read_bytes()})
    assert_same(seen("org/m", outbound), read_header(path))
    assert site.total <= (1 << 18) + 4 * min(vocabulary, 1 << 18)


def test_from_a_registry_and_from_a_server_without_ranges(site: Site, outbound: Outbound, tmp_path: Path):
    path = models.gguf(tmp_path / "m.gguf", size=1 << 20)
    registry(site, "library/m", "latest", {"model": path.read_bytes(), "system": b"Be brief."})
    place = site.url.removeprefix("http://")
    assert_same(seen(f"ollama://{place}/library/m", outbound), read_header(path))
    url = site.add("/m.gguf", path.read_bytes(), **{"Accept-Ranges": "none"})
    assert_same(seen(url, outbound), read_header(path))


def test_the_parts_of_a_split_model_count_together(site: Site, outbound: Outbound, tmp_path: Path):
    parts = split_model(tmp_path / "parts")
    site.repos["org/big"] = Repo({part.name: part.read_bytes() for part in parts})
    assert_same(seen("org/big", outbound), splits.header(parts, parts))
    assert_same(seen(str(parts[0]), outbound), splits.header(parts, parts))


def test_what_is_no_gguf_file_has_none(site: Site, outbound: Outbound, tmp_path: Path):
    folder = models.folder(tmp_path / "m")
    site.repos["org/m"] = Repo({file.name: file.read_bytes() for file in folder.iterdir()})
    assert seen("org/m", outbound) is None
    assert seen(str(folder), outbound) is None


@pytest.mark.parametrize("data", [b"", b"GGUF", b"<html>", bytes(1 << 20)])
def test_a_file_that_is_none_is_named(site: Site, outbound: Outbound, data: bytes):
    site.repos["org/m"] = Repo({"m-Q8_0.gguf": data})
    with pytest.raises(BadModelFile, match=r"m-Q8_0\.gguf"):
        seen("org/m", outbound)


def test_safetensors_that_are_elsewhere_look_as_they_do_here(site: Site, outbound: Outbound, tmp_path: Path):
    files = {file.name: file.read_bytes() for file in STARTER.iterdir()}
    site.repos["org/m"] = Repo(files)
    offer = pulling.look(parse("org/m", lambda _: False), outbound)
    with glimpse.folder(offer, outbound) as folder:
        assert folder is not None
        assert prepare(folder).header == prepare(STARTER).header
        assert of_folder(folder, Settings(home=tmp_path)) is not None
        assert (folder / "model.safetensors").stat().st_size == len(files["model.safetensors"])
    assert not folder.exists()
    small = sum(len(data) for name, data in files.items() if not name.endswith(".safetensors"))
    assert site.total <= small + (1 << 18)


def test_a_long_header_of_safetensors_is_read_to_its_end(site: Site, outbound: Outbound, tmp_path: Path):
    note = f'{{"__metadata__":{{"note":"{"n" * 700_000}"}},"x":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}}}'
    weights = len(note).to_bytes(8, "little") + note.encode() + b"\1\2\3\4"
    site.repos["org/m"] = Repo({"config.json": b"{}", "model.safetensors": weights})
    with glimpse.folder(pulling.look(parse("org/m", lambda _: False), outbound), outbound) as folder:
        assert folder is not None
        assert read_safetensors(folder / "model.safetensors").tensors["x"].shape == (4,)


@pytest.mark.parametrize("data", [b"", bytes(64), b"<html>" * 9, (1 << 60).to_bytes(8, "little") + b"{}"])
def test_weights_that_are_none_are_named(site: Site, outbound: Outbound, tmp_path: Path, data: bytes):
    files = {file.name: file.read_bytes() for file in STARTER.iterdir()}
    site.repos["org/m"] = Repo(files | {"model.safetensors": data})
    offer = pulling.look(parse("org/m", lambda _: False), outbound)
    with glimpse.folder(offer, outbound) as folder:
        assert folder is not None
        with pytest.raises(BadModelFile, match=r"model\.safetensors"):
            of_folder(folder, Settings(home=tmp_path))


def test_other_models_have_no_folder(site: Site, outbound: Outbound, tmp_path: Path):
    path = models.gguf(tmp_path / "m-Q8_0.gguf", size=1 << 12)
    site.repos["org/m"] = Repo({path.name: path.read_bytes()})
    with glimpse.folder(pulling.look(parse("org/m", lambda _: False), outbound), outbound) as folder:
        assert folder is None
