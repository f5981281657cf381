"""The real llama.cpp with a tiny projector of random weights: what it says of an image is nonsense, but of that one."""

import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from freehold.core.errors import BadInput, BadModelFile, ContextOverflow, Unsupported
from freehold.core.event import Event, Failed, Finished, Logprobs, Text, ToolCallPart
from freehold.core.request import Constraint, Image, Message, Request, Sampling, Tool, ToolCall
from freehold.core.settings import Settings
from freehold.engines.base import ModelFile
from freehold.engines.llamacpp import LlamaCpp, wire
from freehold.engines.llamacpp.client import LlamaWorker
from tests.pictures import FORMS, picture, seen
from tests.serving.support import in_loop
from tests.tiny import HERMES, write_gguf
from tests.tinyvision import TOKENS, write_projector

RED, BLUE = seen(picture("red")), seen(picture("blue"))
GREEDY = Sampling(temperature=0.0, logit_bias={0: -100, 1: -100, 2: -100})


@pytest.fixture(scope="module")
def projector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_projector(tmp_path_factory.mktemp("eye") / "mmproj.gguf")


@asynccontextmanager
async def _worker(path: Path, projector: Path, settings: Settings) -> AsyncIterator[LlamaWorker]:
    worker = await LlamaCpp().start(ModelFile(path, "tiny", projector=projector), settings)
    try:
        yield worker
    finally:
        await worker.stop()


def _asking(*images: Image, text: str = "What is this?", **fields: Any) -> Request:
    messages = (Message("user", text, images=images),)
    return Request(**{"model": "tiny", "messages": messages, "max_tokens": 8, "sampling": GREEDY, **fields})


async def _events(worker: LlamaWorker, request: Request) -> list[Event]:
    async with aclosing(worker.generate(request)) as events:
        return [event async for event in events]


async def _said(worker: LlamaWorker, request: Request) -> str:
    events = await _events(worker, request)
    assert isinstance(events[-1], Finished), events[-1]
    return "".join(event.text for event in events if isinstance(event, Text))


async def _thought(worker: LlamaWorker, request: Request) -> list[float]:
    """How likely it found what it said: differs where the words do not."""
    events = await _events(worker, msgspec.structs.replace(request, logprobs=1))
    return [token.logprob for event in events if isinstance(event, Logprobs) for token in event.tokens]


@in_loop
async def test_an_image_changes_the_answer_and_the_same_image_gives_the_same(
    tiny_gguf: Path, projector: Path, settings: Settings
):
    async with _worker(tiny_gguf, projector, settings) as worker:
        red, blue = [await _said(worker, _asking(image)) for image in (RED, BLUE)]
        assert red != blue != await _said(worker, _asking()) != red
        assert [await _said(worker, _asking(image)) for image in (RED, BLUE, RED)] == [red, blue, red]
        assert await _thought(worker, _asking(RED, BLUE)) != await _thought(worker, _asking(BLUE, RED))


@in_loop
async def test_every_form_is_seen_alike(tiny_gguf: Path, projector: Path, settings: Settings):
    async with _worker(tiny_gguf, projector, settings) as worker:
        lossless = [seen(picture("red", form, **options)) for form, options in
                    (("PNG", {}), ("GIF", {}), ("WEBP", {"lossless": True}))]  # fmt: skip
        assert len({await _said(worker, _asking(image)) for image in lossless}) == 1
        for form in FORMS:
            assert await _said(worker, _asking(seen(picture("red", form)))) != await _said(worker, _asking())


@in_loop
async def test_its_place_in_the_text_counts(tiny_gguf: Path, projector: Path, settings: Settings):
    async with _worker(tiny_gguf, projector, settings) as worker:
        amid = msgspec.structs.replace(RED, place=5)
        prompt = await worker.prompt(_asking(amid))
        assert f"What {worker.mark}is this?" in prompt
        assert await _thought(worker, _asking(amid)) != await _thought(worker, _asking(RED))


@in_loop
async def test_tokens_of_images_are_counted(tiny_gguf: Path, projector: Path, settings: Settings):
    async with _worker(tiny_gguf, projector, settings) as worker:
        without, one, two = [await worker.count(_asking(*images)) for images in ((), (RED,), (RED, BLUE))]
        assert (one, two) == (without + TOKENS, without + 2 * TOKENS)
        finished = (await _events(worker, _asking(RED)))[-1]
        assert isinstance(finished, Finished)
        assert finished.usage.prompt_tokens == one
        begun = await worker.count(_asking(RED, prefill="It is the quick"))
        assert begun == one + len(await worker.tokenize("It is the quick", special=False))


@in_loop
async def test_raw_text_constraints_prefills_and_calls_see_it_too(tiny_gguf: Path, projector: Path, settings: Settings):
    async with _worker(tiny_gguf, projector, settings) as worker:
        words = Constraint("schema", {"type": "object", "properties": {"a": {"type": "string", "maxLength": 12}},
                                      "required": ["a"], "additionalProperties": False})  # fmt: skip
        tool = Tool("look", "", words.schema)
        for fields in (
            {"constraint": words, "max_tokens": 64},
            {"prefill": "It is"},
            {"tools": (tool,), "tool_choice": "look", "max_tokens": 64},
            {"tools": (tool,)},
            {"stop": ("zzz",)},
        ):
            told = [await _events(worker, _asking(image, **fields)) for image in (RED, BLUE)]
            assert all(isinstance(events[-1], Finished) for events in told), told
            assert all("media" not in "".join(_pieces(events)) for events in told)
            thought = [await _thought(worker, _asking(image, **fields)) for image in (RED, BLUE)]
            assert thought[0] != thought[1], fields


def _pieces(events: list[Event]) -> list[str]:
    return [event.text if isinstance(event, Text) else event.arguments for event in events
            if isinstance(event, Text | ToolCallPart)]  # fmt: skip


@in_loop
async def test_images_stand_in_raw_prompts(tiny_gguf: Path, projector: Path, settings: Settings):
    async with _worker(tiny_gguf, projector, settings) as worker:
        raw = {"messages": (), "prompt": "The quick"}
        for detail in (False, True):
            red, blue, none = [
                await _said(worker, _asking(**raw, images=images, detail=detail)) for images in ((RED,), (BLUE,), ())
            ]
            assert red != blue != none != red
        assert await _said(worker, _asking(messages=(), prompt=(10, 11, 12), detail=False))


@in_loop
async def test_a_tools_answer_may_be_an_image(tiny_gguf: Path, projector: Path, tmp_path: Path, settings: Settings):
    for model in (tiny_gguf, write_gguf(tmp_path / "tools.gguf", template=HERMES)):
        async with _worker(model, projector, settings) as worker:
            thought = []
            for image in (RED, BLUE):
                turns = (
                    Message("user", "Look"),
                    Message("assistant", "", tool_calls=(ToolCall("c", "look", "{}"),)),
                    Message("tool", "Here:", tool_call_id="c", images=(image,)),
                )
                thought.append(await _thought(worker, _asking(messages=turns)))
            assert thought[0] != thought[1]


@in_loop
async def test_what_does_not_fit_the_context_is_said(tiny_gguf: Path, projector: Path, settings: Settings):
    settings = msgspec.structs.replace(settings, context_length=256)
    async with _worker(tiny_gguf, projector, settings) as worker:
        events = await _events(worker, _asking(*[RED] * 64))
        assert isinstance(events[-1], Failed)
        error = events[-1].error
        assert isinstance(error, ContextOverflow)
        assert error.tokens > 256 == error.context
        assert await _said(worker, _asking(RED))


@in_loop
async def test_a_broken_image_costs_its_request_alone(tiny_gguf: Path, projector: Path, settings: Settings):
    whole = picture("red", size=(300, 200))
    async with _worker(tiny_gguf, projector, settings) as worker:
        for data in (whole[: len(whole) // 2], whole[:60] + bytes(200) + whole[260:]):
            events = await _events(worker, _asking(seen(data)))
            assert isinstance(events[-1], Failed)
            assert type(events[-1].error) is BadInput
            assert "cannot be read" in events[-1].error.message
        assert worker.alive
        assert await _said(worker, _asking(RED))


@in_loop
async def test_what_would_be_handed_to_ffmpeg_is_not(
    tiny_gguf: Path, projector: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """llama.cpp runs ffprobe from the PATH for what it cannot decode: a file that got to it must not do that."""
    trap, sprung = tmp_path / "bin", tmp_path / "sprung"
    trap.mkdir()
    for name in ("ffprobe", "ffmpeg"):
        (trap / name).write_text(f"#!/bin/sh\ntouch {sprung}\n")
        (trap / name).chmod(0o755)
    monkeypatch.setattr("freehold.engines.supervisor._PASSED_ON", ("PATH",))
    monkeypatch.setenv("PATH", f"{trap}:/usr/bin:/bin")
    assert shutil.which("ffprobe") == str(trap / "ffprobe")
    async with _worker(tiny_gguf, projector, settings) as worker:
        for data in (picture("red", "WEBP"), picture("red")[:60]):
            body = wire.conversation_body(_asking(seen(data)))
            with pytest.raises(BadInput, match="Failed to load image"):
                await worker._answer("POST", "/v1/chat/completions", body)
        assert await _said(worker, _asking(RED))
    assert not sprung.exists()


@in_loop
async def test_a_template_that_drops_the_image_is_said(tmp_path: Path, projector: Path, settings: Settings):
    deaf = write_gguf(tmp_path / "deaf.gguf", template="{{ messages[0].role }}: ")
    async with _worker(deaf, projector, settings) as worker:
        events = await _events(worker, _asking(RED))
        assert isinstance(events[-1], Failed)
        assert isinstance(events[-1].error, BadInput)
        assert "template" in events[-1].error.message


@in_loop
async def test_memory_is_estimated_with_the_projector(tiny_gguf: Path, projector: Path, settings: Settings):
    engine = LlamaCpp()
    blind = engine.fits(ModelFile(tiny_gguf, "tiny"), settings)
    fit = engine.fits(ModelFile(tiny_gguf, "tiny", projector=projector), settings)
    assert fit.weights == blind.weights + projector.stat().st_size
    assert fit.scratch > blind.scratch
    async with _worker(tiny_gguf, projector, settings) as worker:
        large = seen(picture("red", size=(3000, 2700)))
        for _ in range(2):
            await _said(worker, _asking(large))
        assert worker.memory < fit.needed


@in_loop
async def test_a_projector_of_another_model_is_refused(tiny_gguf: Path, tmp_path: Path, settings: Settings):
    other = write_projector(tmp_path / "mmproj.gguf", hidden=128)
    strange = write_projector(tmp_path / "strange.gguf", kind="a_kind_of_tomorrow")
    for eye in (other, strange):
        with pytest.raises(BadModelFile, match="cannot load tiny") as caught:
            await LlamaCpp().start(ModelFile(tiny_gguf, "tiny", projector=eye), settings)
        assert "--mmproj none" in caught.value.remedy
    with pytest.raises(Unsupported, match="no projector"):
        await LlamaCpp().start(ModelFile(tiny_gguf, "tiny", projector=tiny_gguf), settings)


@in_loop
async def test_tokens_that_attend_to_one_another_are_read_in_one_batch(
    tiny_gguf: Path, tmp_path: Path, settings: Settings
):
    from freehold.engines.llamacpp.engine import _Shape

    for kind, expected in (("gemma4v", 1152), ("mlp", 512)):
        eye = write_projector(tmp_path / f"{kind}.gguf", kind=kind)
        assert _Shape.of(ModelFile(tiny_gguf, "tiny", projector=eye), settings).ubatch == expected
        assert _Shape.of(ModelFile(tiny_gguf, "tiny", True, projector=eye), settings).ubatch == 1024
