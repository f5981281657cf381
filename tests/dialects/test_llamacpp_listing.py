"""Models as llama-server lists them: OpenAI's list and Ollama's beside it, with what the files say."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from freehold.core.manifest import Details, Manifest, Part
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.dialects.llamacpp.routes import ALONE
from freehold.serving.app import create_app
from freehold.serving.sole import Sole
from freehold.store import Store
from tests.serving.support import FakeEngine, in_loop
from tests.tiny import write_gguf


async def listed(app: Any, path: str) -> dict[str, Any]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:6464") as client:
        answer = await client.get(path)
    await app.state.desk.pool.close()
    assert answer.status_code == 200
    return answer.json()  # type: ignore[no-any-return]


SHORT = {
    "modified_at": "", "size": "", "digest": "", "type": "model", "description": "", "tags": [""], "parameters": "",
    "details": {
        "parent_model": "", "format": "gguf", "family": "", "families": [""], "parameter_size": "",
        "quantization_level": "",
    },
}  # fmt: skip


@in_loop
async def test_what_the_catalog_says(settings: Settings, store: Store):
    details = Details("llama", 1000, "Q4_K_M", 2048, 64)
    parts = (Part("gguf", store.add_bytes(b"x" * 70), 70, "m.gguf"), Part("other", store.add_bytes(b"y" * 5), 5, "o"))
    store.put(Name.parse("org/plain:v1"), Manifest(parts=parts, details=details))
    eye = Part("projector", store.add_bytes(b"z"), 1, "mmproj.gguf")
    store.put(Name.parse("seeing"), Manifest(parts=(*parts, eye), details=Details()))
    told = await listed(create_app(settings, store, engine=FakeEngine()), "/llama/v1/models")
    assert told["object"] == "list"
    plain, seeing = told["data"]
    assert plain.pop("created") > 1_600_000_000
    assert plain == {
        "id": "org/plain:v1",
        "aliases": ["org/plain:v1"],
        "tags": [],
        "object": "model",
        "owned_by": "llamacpp",
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "meta": {"n_ctx_train": 2048, "n_embd": 64, "n_params": 1000, "size": 75, "ftype": "Q4_K_M"},
    }
    assert "image" in seeing["architecture"]["input_modalities"]
    assert seeing["meta"] == {"n_ctx_train": 0, "n_embd": 0, "n_params": 0, "size": 76, "ftype": ""}
    assert told["models"] == [
        {"name": "org/plain:v1", "model": "org/plain:v1", **SHORT, "capabilities": ["completion"]},
        {"name": "seeing", "model": "seeing", **SHORT, "capabilities": ["completion", "multimodal"]},
    ]


@in_loop
async def test_nothing_there_is_an_empty_list(settings: Settings, store: Store):
    store.folder.joinpath("nothing").touch()
    told = await listed(create_app(settings, store, engine=FakeEngine()), "/llama/v1/models")
    assert [row["id"] for row in told["data"]] in ([], ["starter"]), "at most the model that ships"


def alone(settings: Settings, store: Store, path: Path, **more: Any) -> Any:
    return create_app(settings, store, engine=FakeEngine(), dialects=[ALONE], sole=Sole(path, **more))


@in_loop
async def test_what_the_file_of_the_only_model_says(settings: Settings, store: Store, tmp_path: Path):
    path = write_gguf(tmp_path / "tiny.gguf")
    told = await listed(alone(settings, store, path, aliases=("b", "a"), tags=("y", "x")), "/v1/models")
    [row] = told["data"]
    assert row["id"] == told["models"][0]["name"]
    assert (row["aliases"], row["tags"]) == (["a", "b"], ["x", "y"])
    assert row["meta"] == {
        "vocab_type": 2,
        "n_vocab": 372,
        "n_ctx_train": 1024,
        "n_embd": row["meta"]["n_embd"],
        "n_params": row["meta"]["n_params"],
        "size": path.stat().st_size,
        "ftype": "F32",
    }
    assert row["meta"]["n_params"] * 4 < row["meta"]["size"]


@pytest.mark.parametrize("content", [b"GGUF", b"", b"GGUF\x03\x00\x00\x00" + b"\xff" * 64])
@in_loop
async def test_a_file_that_cannot_be_read_says_nothing(
    settings: Settings, store: Store, tmp_path: Path, content: bytes
):
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    [row] = (await listed(alone(settings, store, path, aliases=("it",)), "/v1/models"))["data"]
    assert (row["id"], row["meta"]) == ("it", None)


@in_loop
async def test_a_file_that_is_gone_says_nothing(settings: Settings, store: Store, tmp_path: Path):
    path = write_gguf(tmp_path / "gone.gguf")
    app = alone(settings, store, path, aliases=("it",))
    path.unlink()
    assert (await listed(app, "/v1/models"))["data"][0]["meta"] is None
