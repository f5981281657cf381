"""An image in every dialect, to a real model that sees: another image is another answer, and a broken one costs nobody
anything but its sender.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
from starlette.applications import Starlette

from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.serving.app import create_app
from freehold.store import Store, importing
from tests.pictures import base64_of, huge_png, picture, url_of
from tests.serving.support import in_loop
from tests.tiny import write_gguf
from tests.tinyvision import TOKENS, write_projector

RED, BLUE = picture("red"), picture("blue")
QUESTION = "What is this?"
Body = dict[str, Any]


class Way(NamedTuple):
    """How a dialect asks about images, given each as its base64 and what it is called."""

    path: str
    body: Callable[[list[tuple[str, str]]], Body]
    text: Callable[[Body], str]
    message: Callable[[Body], str]
    """Of an error."""
    takes_urls: bool = False


def urls(given: list[tuple[str, str]]) -> list[str]:
    return [data if kind == "url" else f"data:{kind};base64,{data}" for data, kind in given]


def chat(given: list[tuple[str, str]]) -> Body:
    images = [{"type": "image_url", "image_url": {"url": url, "detail": "high"}} for url in urls(given)]
    content = [*images, {"type": "text", "text": QUESTION}]
    return {"model": "eye", "messages": [{"role": "user", "content": content}], "max_tokens": 8, "temperature": 0}


def responses(given: list[tuple[str, str]]) -> Body:
    images = [{"type": "input_image", "image_url": url} for url in urls(given)]
    content = [*images, {"type": "input_text", "text": QUESTION}]
    return {"model": "eye", "input": [{"role": "user", "content": content}], "max_output_tokens": 8, "temperature": 0}


def anthropic(given: list[tuple[str, str]]) -> Body:
    images = [
        {"type": "image", "source": {"type": "url", "url": data}}
        if kind == "url"
        else {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
        for data, kind in given
    ]
    content = [*images, {"type": "text", "text": QUESTION}]
    return {"model": "eye", "messages": [{"role": "user", "content": content}], "max_tokens": 8, "temperature": 0}


def ollama(given: list[tuple[str, str]]) -> Body:
    message = {"role": "user", "content": QUESTION, "images": [data for data, _ in given]}
    options = {"temperature": 0, "num_predict": 8}
    return {"model": "eye", "messages": [message], "options": options, "stream": False}


def generate(given: list[tuple[str, str]]) -> Body:
    options = {"temperature": 0, "num_predict": 8}
    images = [data for data, _ in given]
    return {"model": "eye", "prompt": QUESTION, "images": images, "options": options, "stream": False}


def raw(given: list[tuple[str, str]]) -> Body:
    return {**generate(given), "raw": True, "prompt": "See [img-0]: it is"}


def completion(given: list[tuple[str, str]]) -> Body:
    prompt = {"prompt_string": f"{'<__media__>' * len(given)} It is", "multimodal_data": [data for data, _ in given]}
    return {"model": "eye", "prompt": prompt, "n_predict": 8, "temperature": 0}


WAYS = {
    "openai": Way("/v1/chat/completions", chat, lambda told: told["choices"][0]["message"]["content"],
                  lambda told: told["error"]["message"], True),
    "responses": Way("/v1/responses", responses, lambda told: told["output"][-1]["content"][0]["text"],
                     lambda told: told["error"]["message"], True),
    "anthropic": Way("/anthropic/v1/messages", anthropic, lambda told: told["content"][0]["text"],
                     lambda told: told["error"]["message"], True),
    "ollama chat": Way("/api/chat", ollama, lambda told: told["message"]["content"], lambda told: told["error"]),
    "ollama generate": Way("/api/generate", generate, lambda told: told["response"], lambda told: told["error"]),
    "ollama raw": Way("/api/generate", raw, lambda told: told["response"], lambda told: told["error"]),
    "llamacpp chat": Way("/llama/v1/chat/completions", chat, lambda told: told["choices"][0]["message"]["content"],
                         lambda told: told["error"]["message"], True),
    "llamacpp": Way("/llama/completion", completion, lambda told: told["content"],
                    lambda told: told["error"]["message"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("eye")
    return write_gguf(folder / "tiny.gguf"), write_projector(folder / "mmproj.gguf")


@pytest.fixture
def store(settings: Settings, files: tuple[Path, Path]) -> Iterator[Store]:
    with Store.open(settings.store) as opened:
        importing.import_gguf(opened, files[0], Name.parse("eye"), projector=files[1])
        importing.import_gguf(opened, files[0], Name.parse("blind"))
        yield opened


@pytest.fixture
def app(settings: Settings, store: Store) -> Starlette:
    return create_app(msgspec.structs.replace(settings, threads=1, parallel=1), store)


@asynccontextmanager
async def _client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    try:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=60
        ) as client:
            yield client
    finally:
        await app.state.desk.close()


async def _ask(client: httpx.AsyncClient, way: Way, *given: tuple[str, str], **fields: Any) -> httpx.Response:
    headers = {"anthropic-version": "2023-06-01"} if "anthropic" in way.path else {}
    return await client.post(way.path, json={**way.body(list(given)), **fields}, headers=headers)


def _png(data: bytes) -> tuple[str, str]:
    return base64_of(data), "image/png"


@in_loop
async def test_every_dialect_shows_images_and_no_broken_one_does_harm(app: Starlette):
    broken = {
        "half": _png(picture("red", size=(200, 200))[:300]),
        "header": _png(RED[:20]),
        "text": _png(b"hello"),
        "not base64": ("***", "image/png"),
        "empty": ("", "image/png"),
        "bomb": _png(huge_png(30_000, 30_000)),
    }
    async with _client(app) as client:
        for name, way in WAYS.items():
            said = []
            for data in (RED, BLUE, RED):
                answer = await _ask(client, way, _png(data))
                assert answer.status_code == 200, (name, answer.text)
                said.append(way.text(answer.json()))
            assert said[0] == said[2], name
            assert said[0] != said[1], name
            for what, given in broken.items():
                answer = await _ask(client, way, given)
                assert 400 <= answer.status_code < 500, (name, what, answer.text)
                assert "image" in way.message(answer.json()), (name, what)
            if way.takes_urls:
                for url in ("http://127.0.0.1:1/x.png", "https://example.com/x.png"):
                    answer = await _ask(client, way, (url, "url"))
                    assert answer.status_code == 400, (name, answer.text)
                    assert "not fetched" in way.message(answer.json())
                answer = await _ask(client, way, (base64_of(RED), "text/plain"))
                assert answer.status_code == 400, (name, answer.text)
        (held,) = app.state.desk.pool.workers
        assert held.worker.alive
        assert held.served >= 3 * len(WAYS), "one worker answered them all"


@in_loop
async def test_a_model_without_vision_says_so_in_every_dialect(app: Starlette):
    async with _client(app) as client:
        for name, way in WAYS.items():
            answer = await _ask(client, way, _png(RED), model="blind")
            expected = 501 if name.startswith("llamacpp") else 400  # as llama-server says of what it cannot do
            assert answer.status_code == expected, (name, answer.text)
            assert "blind does not see images" in way.message(answer.json()), name
            assert (await _ask(client, way, model="blind")).status_code == 200 or name == "ollama raw"


@in_loop
async def test_what_a_model_takes_is_told(app: Starlette):
    async with _client(app) as client:
        for name, sees in (("eye", True), ("blind", False)):
            shown = (await client.post("/api/show", json={"model": name})).json()
            assert ("vision" in shown["capabilities"]) == sees
            assert shown.get("projector_info", {}).get("clip.projector_type", "") == ("mlp" if sees else "")
            modalities = ["text", "image"] if sees else ["text"]
            model = (await client.get(f"/v1/models/{name}")).json()
            assert model["architecture"]["input_modalities"] == modalities
            listed = (await client.get("/llama/v1/models")).json()
            row = next(each for each in listed["data"] if each["id"] == name)
            assert row["architecture"]["input_modalities"] == modalities
            short = next(each for each in listed["models"] if each["name"] == name)
            assert ("multimodal" in short["capabilities"]) == sees
            props = (await client.get("/llama/props", params={"model": name})).json()
            assert props["modalities"] == {"vision": sees, "video": False, "audio": False}


@in_loop
async def test_tokens_are_counted_with_their_images(app: Starlette):
    async with _client(app) as client:
        for path, body, field in (
            ("/anthropic/v1/messages/count_tokens", anthropic, "input_tokens"),
            ("/v1/responses/input_tokens", responses, "input_tokens"),
            ("/llama/v1/chat/completions/input_tokens", chat, "input_tokens"),
        ):
            counts = []
            for given in ([], [_png(RED)], [_png(RED), _png(BLUE)]):
                asked = {key: value for key, value in body(given).items() if key in ("model", "messages", "input")}
                answer = await client.post(path, json=asked, headers={"anthropic-version": "2023-06-01"})
                assert answer.status_code == 200, answer.text
                counts.append(answer.json()[field])
            assert counts[1:] == [counts[0] + TOKENS, counts[0] + 2 * TOKENS]


@in_loop
async def test_the_worker_is_asked_for_its_own_mark(app: Starlette):
    async with _client(app) as client:
        mark = (await client.get("/llama/props", params={"model": "eye"})).json()["media_marker"]
        way = WAYS["llamacpp"]
        same = [
            way.text((await client.post(way.path, json=completion([_png(RED)]))).json()),
            way.text(
                (
                    await client.post(
                        way.path,
                        json={
                            **completion([]),
                            "prompt": {"prompt_string": f"{mark} It is", "multimodal_data": [base64_of(RED)]},
                        },
                    )
                ).json()
            ),
        ]
        assert same[0] == same[1]
        for text in ("none", "<__media__> <__media__>"):
            prompt = {"prompt_string": text, "multimodal_data": [base64_of(RED)]}
            answer = await client.post(way.path, json={**completion([]), "prompt": prompt})
            assert answer.status_code == 400
            assert "marks for 1 images" in way.message(answer.json())


@in_loop
async def test_a_conversation_goes_on_about_its_image(app: Starlette):
    async with _client(app) as client:
        first = (await client.post("/v1/responses", json=responses([_png(RED)]))).json()
        kept = (await client.get(f"/v1/responses/{first['id']}/input_items")).json()["data"]
        assert kept[0]["content"][0] == {"type": "input_image", "image_url": url_of(RED), "detail": "auto"}
        more = {"model": "eye", "input": "And now?", "previous_response_id": first["id"], "max_output_tokens": 4}
        answer = await client.post("/v1/responses", json=more)
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["input_tokens"] > first["usage"]["input_tokens"]


@in_loop
async def test_too_many_are_refused(app: Starlette):
    async with _client(app) as client:
        for name, way in WAYS.items():
            answer = await _ask(client, way, *[_png(RED)] * 65)
            assert 400 <= answer.status_code < 500, (name, answer.text)
        large = picture("red", size=(5000, 5000))
        answer = await _ask(client, WAYS["openai"], *[_png(large)] * 7)
        assert answer.status_code == 413
        assert "million pixels together" in WAYS["openai"].message(answer.json())


@in_loop
async def test_what_does_not_fit_the_context_is_the_dialects_own_error(settings: Settings, store: Store):
    app = create_app(msgspec.structs.replace(settings, threads=1, parallel=1, context_length=256), store)
    async with _client(app) as client:
        answer = await _ask(client, WAYS["openai"], *[_png(RED)] * 64)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
        answer = await _ask(client, WAYS["anthropic"], *[_png(RED)] * 64)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        shortened = ollama([_png(RED)])
        turns = [
            {"role": "user", "content": "x " * 60, "images": [base64_of(BLUE)]},
            {"role": "assistant", "content": "y"},
        ]
        shortened |= {"messages": [*turns * 4, *shortened["messages"]], "truncate": True}
        answer = await client.post("/api/chat", json=shortened)
        assert answer.status_code == 200, answer.text
        assert answer.json()["prompt_eval_count"] < 256
