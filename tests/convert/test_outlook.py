"""Will it fit: figures of known models, and sizes against the files that quantising really writes."""

from pathlib import Path

import msgspec
import pytest

from freehold.convert import quantize, to_gguf
from freehold.convert.outlook import OFFERED, Candidate, Outlook, of_folder, outlook, quantised_sizes
from freehold.core.settings import Settings
from freehold.engines.base import Fit
from freehold.formats import gguf
from freehold.formats.gguf import GgufHeader
from tests.convert.folders import change_json
from tests.convert.test_mixture import header

SETTINGS = Settings(home=Path("/nowhere"), parallel=1)


def llama7b(context: int = 4096) -> GgufHeader:
    made = header()
    numbers = {"embedding_length": 4096, "feed_forward_length": 11008, "context_length": context}
    metadata = {**made.metadata, **{f"llama.{key}": value for key, value in numbers.items()}}
    return msgspec.structs.replace(made, metadata=metadata, file_size=sum(t.size for t in made.tensors))


def test_contexts_up_to_the_longest():
    assert [fit.context_length for fit in outlook(llama7b(131072), SETTINGS).fits] == [4096, 32768, 131072]
    assert [fit.context_length for fit in outlook(llama7b(8192), SETTINGS).fits] == [4096, 8192]
    assert [fit.context_length for fit in outlook(llama7b(1024), SETTINGS).fits] == [1024]
    assert [fit.context_length for fit in outlook(llama7b(0), SETTINGS).fits] == [4096, 32768]


def test_the_cache_of_a_known_model():
    first, second, _ = outlook(llama7b(131072), SETTINGS).fits
    assert first.cache == 2 << 30, "Llama 7B takes 2 GiB for 4096 tokens in f16"
    assert second.cache == 16 << 30
    four = outlook(llama7b(131072), msgspec.structs.replace(SETTINGS, parallel=4))
    assert four.fits[0].cache == 8 << 30
    assert four.slots == 4


def test_smaller_ones_are_smaller_and_in_order():
    found = outlook(llama7b(), SETTINGS)
    sizes = [candidate.size for candidate in found.smaller]
    assert sizes == sorted(sizes, reverse=True)
    assert [candidate.quantization for candidate in found.smaller] == list(OFFERED[1:])
    assert all(candidate.size < found.size for candidate in found.smaller)


def seen(free: int) -> Outlook:
    """A model of 100 bytes, with quantisations of 50 and 20, where `free` bytes are free."""
    fits = {size: Fit(size, 5, 5, free, 4096) for size in (100, 50, 20)}
    return Outlook(100, 1, (fits[100],), (Candidate("Q8_0", 50, fits[50]), Candidate("Q4_K_M", 20, fits[20])))


@pytest.mark.parametrize(("free", "advice"), [(110, None), (109, "Q8_0"), (60, "Q8_0"), (59, "Q4_K_M"), (29, None)])
def test_the_best_that_fits_is_advised(free: int, advice: str | None):
    best = seen(free).advice
    assert (best.quantization if best else None) == advice
    assert seen(free).ok == (free >= 110)


@pytest.mark.parametrize("type_name", ["Q8_0", "Q4_K_M", "Q2_K"])
def test_sizes_are_those_of_real_files(wide_f32: Path, tmp_path: Path, type_name: str):
    expected = {kind.name: size for kind, size in quantised_sizes(gguf.read_header(wide_f32))}
    quantize(wide_f32, tmp_path / "out.gguf", type_name, threads=1)
    assert abs((tmp_path / "out.gguf").stat().st_size - expected[type_name]) < 300


def test_a_quantised_file_says_the_same_as_its_source(wide_f32: Path, tmp_path: Path):
    quantize(wide_f32, tmp_path / "q8.gguf", "Q8_0", threads=1)
    source, small = (dict(quantised_sizes(gguf.read_header(path))) for path in (wide_f32, tmp_path / "q8.gguf"))
    differences = [abs(source[kind] - small[kind]) for kind in source if kind.name not in ("F16",)]
    assert max(differences) < 300


def test_the_beginning_of_a_file_is_enough(wide_f32: Path, tmp_path: Path):
    whole = gguf.read_header(wide_f32)
    part = tmp_path / "part"
    part.write_bytes(wide_f32.read_bytes()[: whole.data_offset])
    beginning = gguf.read_header(part, whole=whole.file_size)
    assert outlook(beginning, SETTINGS).size == whole.file_size
    assert beginning.tensors == whole.tensors


def test_a_folder_is_judged_by_what_it_converts_to(model: Path, tmp_path: Path):
    seen = of_folder(model, SETTINGS)
    to_gguf(model, tmp_path / "out.gguf")
    assert seen is not None
    expected = outlook(gguf.read_header(tmp_path / "out.gguf"), SETTINGS)
    assert seen.size == expected.size
    assert [(each.quantization, each.size) for each in seen.smaller] == [
        (each.quantization, each.size) for each in expected.smaller
    ]
    assert [fit.cache for fit in seen.fits] == [fit.cache for fit in expected.fits]
    change_json(model / "config.json", architectures=["NobodysForCausalLM"])
    assert of_folder(model, SETTINGS) is None
