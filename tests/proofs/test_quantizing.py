"""Making and picking candidates, and the way from the store to the workbench and back."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from freehold.convert import quantize
from freehold.core.digest import Digest
from freehold.core.errors import BadInput, BadModelFile, DiskFull, GateFailed, NotFound, UnknownModel, Unsupported
from freehold.core.manifest import Lineage, Manifest, Part
from freehold.core.name import Name
from freehold.core.request import Message
from freehold.data import Row, write_rows
from freehold.proofs import quantized, quantizing
from freehold.proofs.quantizing import Bench, Wish
from freehold.proofs.texts import Texts
from freehold.store import Store
from freehold.store.importing import import_folder, import_gguf
from tests.convert.folders import write_folder
from tests.tiny import CORPUS, write_gguf

TEXT = Texts((" ".join(np.random.default_rng(1).permutation((CORPUS.split() * 30)[:800])),))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose rows every type can hold."""
    return write_gguf(tmp_path_factory.mktemp("wide") / "wide.gguf", hidden=256, layers=1)


@pytest.fixture
def bench(wide: Path, tmp_path: Path) -> Bench:
    folder = tmp_path / "work"
    folder.mkdir()
    return Bench(wide, "wide", folder, 1, lambda stage: lambda done, total: None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def test_a_wish_names_types_as_llama_cpp_spells_them() -> None:
    assert Wish(types=("q4_k_m", " Q8_0", "Q4_K_M")).names() == ["Q4_K_M", "Q8_0"]
    every = Wish(target=1).names()
    assert {"Q2_K", "Q4_0", "Q8_0"} <= set(every)
    assert "F16" not in every
    assert "Q2_K_S" not in every
    assert "Q2_K_S" in Wish(target=1).names(weighted=True)
    with pytest.raises(BadInput, match="no type"):
        Wish().names()
    with pytest.raises(Unsupported, match="Q7_7"):
        Wish(types=("Q7_7",)).names()


def test_candidates_come_smallest_first_within_the_size(bench: Bench) -> None:
    found = quantizing.candidates(bench, Wish(types=("Q8_0", "Q2_K", "Q4_0")))
    assert [each.type for each in found] == ["Q2_K", "Q4_0", "Q8_0"]
    within = quantizing.candidates(bench, Wish(types=("Q8_0", "Q2_K", "Q4_0"), target=found[1].size))
    assert [each.type for each in within] == ["Q2_K", "Q4_0"]
    with pytest.raises(GateFailed, match="Q2_K comes nearest") as caught:
        quantizing.candidates(bench, Wish(types=("Q8_0", "Q2_K"), target=1000))
    assert "--target" in caught.value.remedy


def test_every_candidate_is_made_when_none_is_to_be_picked(bench: Bench) -> None:
    kept, made = quantizing.make(bench, Wish(types=("Q8_0", "Q4_0")))
    assert kept == made
    assert [each.measured.type for each in made] == ["Q4_0", "Q8_0"]
    for each in made:
        assert each.path.stat().st_size == each.measured.size
        assert each.measured.subject == Digest.of_file(each.path)
        assert each.measured.loss is None
    assert bench.report(Digest.of_bytes(b""), made) is None


def test_a_size_without_text_takes_the_most_bits_that_fit(bench: Bench) -> None:
    kept, made = quantizing.make(bench, Wish(types=("Q8_0", "Q4_0", "Q6_K"), target=bench.size("Q6_K")))
    assert [each.measured.type for each in made] == ["Q6_K"]
    assert kept == made


def test_a_size_with_text_takes_what_loses_least_and_drops_the_rest(bench: Bench) -> None:
    bench.read(TEXT, measured=400, calibrated=0)
    kept, made = quantizing.make(bench, Wish(types=("Q2_K", "Q8_0", "Q4_0"), target=1 << 40, measure=True))
    assert [each.measured.type for each in kept] == ["Q8_0"]
    assert len(made) == 3
    assert [each.path.exists() for each in made] == [False, False, True]
    report = bench.report(Digest.of_bytes(b"base"), made)
    assert report is not None
    assert [each.type for each in report.candidates] == ["Q2_K", "Q4_0", "Q8_0"]
    divergences = [each.loss.kl_mean for each in report.candidates if each.loss]
    assert divergences == sorted(divergences, reverse=True)
    assert report.predictions > 200
    assert report.imatrix is False
    assert report.base_perplexity > 1


def test_the_report_is_the_same_again(bench: Bench) -> None:
    bench.read(TEXT, measured=200, calibrated=400)
    reports = []
    for _ in range(2):
        _, made = quantizing.make(bench, Wish(types=("Q4_0",)))
        report = bench.report(Digest.of_bytes(b"base"), made)
        assert report is not None
        reports.append(report.encode())
    assert reports[0] == reports[1]
    assert bench.importance is not None
    assert bench.windows is not None
    held_out, calibration = ({tuple(window) for window in side} for side in bench.windows)
    assert held_out
    assert calibration
    assert not held_out & calibration


def test_nothing_near_enough_names_the_nearest_and_leaves_no_file(bench: Bench) -> None:
    bench.read(TEXT, measured=200, calibrated=0)
    with pytest.raises(GateFailed, match="Q4_0 comes nearest with"):
        quantizing.make(bench, Wish(types=("Q2_K", "Q4_0"), max_kl=1e-9, measure=True))
    assert [path.name for path in bench.folder.iterdir()] == ["distributions"]


def test_too_little_disk_is_told_before_the_first_window(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = type("usage", (), {"free": 1000})()
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(DiskFull, match="needed"):
        bench.read(TEXT, measured=400, calibrated=0)
    assert list(bench.folder.iterdir()) == []


def test_a_source_that_is_a_file(store: Store, wide: Path, tmp_path: Path) -> None:
    found = quantized.source(store, str(wide), tmp_path)
    assert found.digest == Digest.of_file(wide)
    assert found.lineage == Lineage(source="wide.gguf")
    assert quantized.held_out(store, found) is None
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    for text, error in (("./no.gguf", NotFound), (str(tmp_path / "bad.gguf"), BadModelFile), ("nobody", UnknownModel)):
        with pytest.raises(error):
            quantized.source(store, text, tmp_path)


@pytest.mark.parametrize(("text", "file"), [("./a", True), ("/a/b", True), ("~/x", True), ("m.gguf", True)])
def test_what_looks_like_a_file(text: str, file: bool) -> None:
    assert quantized.is_file(text) is file
    assert not quantized.is_file("org/model:tag")


def test_an_already_quantised_model_names_what_it_was_made_from(store: Store, wide: Path, tmp_path: Path) -> None:
    quantize(wide, tmp_path / "small.gguf", "Q8_0")
    import_gguf(store, tmp_path / "small.gguf", Name.parse("desk"))
    with pytest.raises(Unsupported, match="already quantised") as plain:
        quantized.source(store, "desk", tmp_path)
    assert "F32, F16 or BF16" in plain.value.remedy
    write_folder(tmp_path / "folder")
    import_folder(store, tmp_path / "folder", Name.parse("desk:weights"))
    with pytest.raises(Unsupported) as caught:
        quantized.source(store, "desk", tmp_path)
    assert "desk:weights" in caught.value.remedy
    (tmp_path / "work").mkdir()
    found = quantized.source(store, "desk:weights", tmp_path / "work")
    assert found.path.name == "source.gguf"
    assert found.lineage.base == store.resolve(Name.parse("desk:weights"))


def test_an_adapter_is_no_model(store: Store, tmp_path: Path) -> None:
    part = Part("adapter", store.add_bytes(b"x"), 1, "adapter_model.safetensors")
    store.put(Name.parse("lora"), Manifest(parts=(part,)))
    with pytest.raises(Unsupported, match="whole model"):
        quantized.source(store, "lora", tmp_path)


def test_held_out_rows_that_are_gone_count_as_none(store: Store, wide: Path, tmp_path: Path) -> None:
    row = Row((Message("user", "Hello"), Message("assistant", "Hi")))
    write_rows(tmp_path / "rows.jsonl", [row])
    rows, _ = store.add_file(tmp_path / "rows.jsonl")
    train, recipe, junk = (store.add_bytes(data) for data in (b"t", b"r", b"not rows\n"))
    gone = Digest.of_bytes(b"gone")
    for data, known in (((train, rows), True), ((train, gone), False), ((train, junk), False), ((train,), False)):
        manifest = import_gguf(store, wide, Name.parse("made"), lineage=Lineage(recipe=recipe, data=data))
        found = quantized.held_out(store, quantized.Source(wide, "made", manifest))
        assert (found is not None) == known


def test_names_of_one_and_of_several() -> None:
    name = Name.parse("org/small")
    assert quantized.names(name, ["Q8_0"], picked=False) == {"Q8_0": name}
    assert quantized.names(name, ["Q8_0", "Q4_0"], picked=True) == {"Q8_0": name, "Q4_0": name}
    several = quantized.names(name, ["Q8_0", "Q4_K_M"], picked=False)
    assert [str(each) for each in several.values()] == ["org/small:q8_0", "org/small:q4_k_m"]


def test_what_is_kept_is_in_the_store_with_its_report(store: Store, bench: Bench, wide: Path) -> None:
    bench.read(TEXT, measured=200, calibrated=0)
    found = quantized.Source(wide, "wide.gguf")
    kept, made = quantizing.make(bench, Wish(types=("Q8_0", "Q4_0")))
    called = quantized.names(Name.parse("small"), ["Q8_0", "Q4_0"], picked=False)
    done = quantized.keep(store, found, kept, called, bench.report(found.digest, made))
    assert sorted(str(name) for name in done) == ["small:q4_0", "small:q8_0"]
    manifests = [store.get(name) for name in done]
    assert manifests[0].evidence == manifests[1].evidence != ()
    assert {manifest.parts[0].digest for manifest in manifests} == {each.measured.subject for each in made}
    assert store.path(manifests[0].evidence[0]).read_bytes().startswith(b"{")
    assert not any(each.path.exists() for each in made)
