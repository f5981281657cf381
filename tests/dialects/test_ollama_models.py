"""Models in Ollama's words: whole bodies, as its documentation shows them, and the laws of what they say."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.digest import Digest
from freehold.core.event import Embeddings, Usage
from freehold.core.manifest import Details
from freehold.core.name import Name
from freehold.core.parameters import Parameters
from freehold.core.request import Message, Sampling
from freehold.dialects.ollama import models, names
from freehold.dialects.ollama.answers import Embedded, shortened
from freehold.formats import gguf
from freehold.formats.modelfile import Modelfile
from freehold.store import Listed, Store
from tests.serving.support import add_model
from tests.tiny import write_gguf

DIGEST = Digest.of_bytes(b"model")
DETAILS = Details("llama", 8_030_261_248, "Q4_K_M", 131072, 4096)
TOLD = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "8.0B",
    "quantization_level": "Q4_K_M",
}


def test_a_row_of_tags():
    row = models.tagged(Listed("helpdesk", DIGEST.text, 4_661_224_676, DETAILS, "MIT", 1700000000.5))
    assert row == {
        "name": "helpdesk:latest",
        "model": "helpdesk:latest",
        "modified_at": "2023-11-14T22:13:20.500000Z",
        "size": 4_661_224_676,
        "digest": DIGEST.hex,
        "details": TOLD,
    }


def test_a_row_of_ps():
    before = datetime.now(UTC)
    row = models.running("org/a:v1", DIGEST, 5_137_025_024, DETAILS, context=4096, seconds=300.0)
    left = datetime.fromisoformat(row.pop("expires_at")) - before
    assert 300 <= left.total_seconds() < 360
    assert row == {
        "name": "org/a:v1",
        "model": "org/a:v1",
        "size": 5_137_025_024,
        "digest": DIGEST.hex,
        "details": TOLD,
        "size_vram": 0,
        "context_length": 4096,
    }


@pytest.mark.parametrize("seconds", [float("inf"), 1e10, 1e300])
def test_for_good_is_a_time_that_parses(seconds: float):
    row = models.running("a", DIGEST, 1, DETAILS, context=1, seconds=seconds)
    assert 90 < datetime.fromisoformat(row["expires_at"]).year - datetime.now(UTC).year < 110


def test_one_that_should_be_gone_has_no_time_left():
    before = datetime.now(UTC)
    row = models.running("a", DIGEST, 1, DETAILS, context=1, seconds=-5.0)
    assert datetime.fromisoformat(row["expires_at"]) >= before


def test_of_a_model_that_says_nothing():
    assert models.details_body(Details()) == {
        **TOLD, "family": "", "families": [], "parameter_size": "0.00K", "quantization_level": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (8_030_261_248, "8.0B"), (70_553_706_560, "70.6B"), (1_000_000_000, "1.0B"), (134_515_008, "134.52M"),
        (1_000_000, "1.00M"), (260_096, "260.10K"), (1000, "1.00K"), (999, "1.00K"),
    ],
)  # fmt: skip
def test_how_large_a_model_is(count: int, said: str):
    assert models.parameter_size(count) == said


@given(st.integers(1000, 10**13))
def test_a_size_is_near_what_was_counted(count: int):
    said = models.parameter_size(count)
    told = float(said[:-1]) * {"K": 1e3, "M": 1e6, "B": 1e9}[said[-1]]
    assert abs(told - count) <= 0.06 * count


@given(st.integers(0, 4_000_000_000), st.sampled_from([0.0, 0.25, 0.5]))
def test_times_can_be_read_back(seconds: int, part: float):
    said = models.when(seconds + part)
    assert said.endswith("Z")
    assert datetime.fromisoformat(said).timestamp() == seconds + part


MADE = Modelfile(
    base="llama3",
    template="{{ messages }}",
    parameters=Parameters(sampling=Sampling(temperature=0.5), stop=("<|end|>", "\nUser:"), context_length=4096),
    licences=("MIT", "Apache-2.0"),
    system="Be kind.",
    messages=(Message("user", "Hi"), Message("assistant", "Hello")),
)


def test_what_a_model_is():
    info = {"general.architecture": "llama"}
    body = models.shown(MADE, "FROM llama3\n", DETAILS, info, {}, modified=0, able=["completion", "tools"])
    assert body == {
        "modelfile": "FROM llama3\n",
        "parameters": body["parameters"],
        "template": "{{ messages }}",
        "details": TOLD,
        "model_info": info,
        "capabilities": ["completion", "tools"],
        "modified_at": "1970-01-01T00:00:00Z",
        "license": "MIT\n\nApache-2.0",
        "system": "Be kind.",
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
    }
    lines = body["parameters"].splitlines()
    assert {tuple(line.split(maxsplit=1)) for line in lines} == {
        ("temperature", "0.5"), ("stop", '"<|end|>"'), ("stop", r'"\nUser:"'), ("num_ctx", "4096"),
    }  # fmt: skip
    assert {len(line) - len(line[30:].lstrip()) for line in lines} == {31}, "values stand below each other"


def test_what_is_not_said_is_left_out_but_for_what_clients_need():
    body = models.shown(Modelfile(base="a"), "FROM a\n", Details(), {}, {}, modified=0, able=[])
    assert set(body) == {
        "modelfile", "parameters", "template", "details", "model_info", "capabilities", "modified_at",
    }  # fmt: skip
    assert (body["parameters"], body["template"]) == ("", "")
    seeing = models.shown(Modelfile(base="a"), "", Details(), {}, {"clip.x": 1}, modified=0, able=["vision"])
    assert seeing["projector_info"] == {"clip.x": 1}


def test_the_metadata_of_a_file(tmp_path: Path):
    header = gguf.read_header(write_gguf(tmp_path / "a.gguf"))
    short = models.info_of(header, verbose=False)
    long = models.info_of(header, verbose=True)
    assert list(short) == list(long)
    assert short["general.architecture"] == "llama"
    assert short["general.parameter_count"] == header.parameters > 0
    assert short["llama.context_length"] == 1024
    lists = [key for key, value in long.items() if isinstance(value, list)]
    assert "tokenizer.ggml.tokens" in lists
    assert all(short[key] is None for key in lists)
    assert {key: value for key, value in short.items() if key not in lists} == {
        key: value for key, value in long.items() if key not in lists
    }
    assert "tokenizer.chat_template" not in long, "it is told as the template"


def test_the_metadata_of_a_model_without_a_file():
    assert models.info_of_details(DETAILS) == {
        "general.architecture": "llama",
        "llama.context_length": 131072,
        "llama.embedding_length": 4096,
        "general.parameter_count": 8_030_261_248,
    }
    assert models.info_of_details(Details()) == {"general.architecture": "unknown", "general.parameter_count": 0}


def test_vectors():
    body = Embedded("tiny").body(Embeddings(((3.0, 4.0), (0.0, 1.0)), Usage(prompt_tokens=7)))
    assert body.pop("total_duration") >= 0
    assert body == {
        "model": "tiny", "embeddings": [[3.0, 4.0], [0.0, 1.0]], "load_duration": 0, "prompt_eval_count": 7,
    }  # fmt: skip
    assert Embedded("tiny").body(None)["embeddings"] == []


@given(st.lists(st.floats(-100, 100, allow_subnormal=False), min_size=1, max_size=12).map(tuple), st.integers(0, 20))
def test_a_shorter_vector_points_where_the_longer_one_does(vector: tuple[float, ...], dimensions: int):
    found = shortened(vector, dimensions)
    if not 0 < dimensions < len(vector):
        assert found == list(vector)
        return
    assert len(found) == dimensions
    length = sum(value**2 for value in vector[:dimensions]) ** 0.5
    assert [value * length if length else value for value in found] == pytest.approx(list(vector[:dimensions]))
    if length > 1e-6:
        assert sum(value**2 for value in found) == pytest.approx(1.0)


PART = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,6}[A-Za-z0-9_])?", fullmatch=True).filter(lambda s: ".." not in s)
HOSTS = st.sampled_from(["", "registry.ollama.ai/", "https://ollama.com/", "hf.co/", "Example.org:5000/"])


@given(HOSTS, PART, PART, PART)
def test_a_name_is_the_same_wherever_it_was_pulled_from(host: str, org: str, model: str, tag: str):
    assert names.local(f"{host}{org}/{model}:{tag}") == Name(org if org != "library" else "", model, tag)


@given(PART, st.sampled_from(["", "registry.ollama.ai/", "ollama.com/"]))
def test_the_librarys_models_have_no_owner(model: str, host: str):
    assert names.local(f"{host}library/{model}") == names.local(model) == Name("", model)


@given(PART, PART, PART)
def test_the_full_name_of_a_model_means_that_model(org: str, model: str, tag: str):
    name = Name(org, model, tag)
    assert names.full(name).rpartition(":")[2] == tag
    assert Name.parse(names.full(name)) == name


@given(PART)
def test_models_are_pulled_from_the_registry_that_is_named(model: str):
    assert str(names.remote(model)) == f"ollama://registry.ollama.ai/library/{model.lower()}:latest"
    assert str(names.remote(f"hf.co/org/{model}")) == f"hf://org/{model}"
    assert names.remote(f"localhost:5000/org/{model}:x").place == "localhost:5000"


def test_two_models_are_found_by_one_name(store: Store):
    for name in ("Base", "org/Mild:v2"):
        add_model(store, name)
    assert names.found(store, "base+ORG/mild:V2") == "Base+org/Mild:v2"
    assert names.found(store, "ollama::whatever:x") == "ollama::whatever:x"
