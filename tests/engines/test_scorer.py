"""The scorer: exact against torch, honest about what it cannot do, and gone when its work is done."""

import asyncio
import functools
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from freehold.core.errors import (
    BadInput,
    BadModelFile,
    ContextOverflow,
    DiskFull,
    NotEnoughMemory,
    WorkerFailed,
)
from freehold.core.settings import Settings
from freehold.engines.base import ModelFile
from freehold.engines.llamacpp import LlamaCpp, scorer
from freehold.engines.llamacpp.scoring import log_softmax
from tests.tiny import CORPUS, tokenizer, write_gguf

VOCABULARY = tokenizer().get_vocab_size()


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test."""

    @functools.wraps(test)
    def run(*args: object, **more: object) -> None:
        asyncio.run(test(*args, **more))

    return run


def scoring(path: Path, **more: object):
    return scorer.scorer(ModelFile(path, "tiny"), threads=1, **more)


def processes() -> list[psutil.Process]:
    """The scoring processes of this one."""
    found = psutil.Process().children()
    return [child for child in found if any(word.endswith("score_worker") for word in child.cmdline())]


def windows(count: int = 2, length: int = 200) -> list[list[int]]:
    drawn = np.random.default_rng(5).integers(3, 300, (count, length))
    return [[int(token) for token in row] for row in drawn]


@in_loop
async def test_log_probabilities_equal_those_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    from freehold.convert import to_gguf
    from tests.convert.folders import write_folder

    write_folder(tmp_path / "folder")
    to_gguf(tmp_path / "folder", tmp_path / "model.gguf", dtype="f32")
    tokens = np.random.default_rng(3).integers(0, 512, 200).tolist()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "folder", dtype=torch.float32).eval()
    with torch.no_grad():
        expected = torch.log_softmax(model(torch.tensor([tokens])).logits[0].double(), -1).numpy()
    async with scoring(tmp_path / "model.gguf") as scorer_:
        found = await scorer_.score(tokens)
    reference = expected[np.arange(199), tokens[1:]]
    assert reference.std() > 0.5, "a flat distribution would prove nothing"
    assert np.abs(np.array(found) - reference).max() < 1e-3


@in_loop
async def test_a_text_is_cut_as_its_tokenizer_cuts_it(tiny_gguf: Path) -> None:
    text = CORPUS + " äöü 😀\n<|im_end|>"
    async with scoring(tiny_gguf) as one:
        assert await one.tokens(text, special=True) == tokenizer().encode(text).ids
        assert 2 not in await one.tokens(text)
        assert one.bos == ()
        assert one.vocabulary == VOCABULARY
        assert await one.tokens("") == []
        assert await one.score([5]) == []


@in_loop
async def test_tokens_are_told_with_the_likeliest_in_their_place(tiny_gguf: Path) -> None:
    text = "Where is my order? äöü 😀<|im_end|>"
    async with scoring(tiny_gguf) as one:
        tokens = await one.tokens(text, special=True)
        told = await one.tell(tokens, 3)
        alone = await one.score(tokens)
        plain = await one.tell(tokens, 0)
        everything = await one.tell(tokens[:3], 1 << 20)
        assert await one.tell(tokens[:1], 5) == (told[0],)
    assert b"".join(bytes(each.bytes) for each in told).decode() == text
    assert [each.logprob for each in told] == [0.0, *alone]
    assert [each.logprob for each in plain] == [0.0, *alone]
    assert [len(each.top) for each in told] == [0, *[3] * (len(tokens) - 1)]
    for each in told[1:]:
        likely = [other.logprob for other in each.top]
        assert likely == sorted(likely, reverse=True)
        assert each.logprob <= likely[0]
    assert np.exp([other.logprob for other in everything[1].top]).sum() == pytest.approx(1, abs=1e-3)


@in_loop
async def test_steps_do_not_show_and_one_text_does_not_see_the_last(tiny_gguf: Path) -> None:
    (long, other) = windows(2, 300)
    async with scoring(tiny_gguf) as one:
        whole = await one.score(long)
        await one.score(other)
        again = await one.score(long)
        start = await one.score(long[:100])
    assert len(whole) == 299
    assert whole == again
    np.testing.assert_allclose(start, whole[:99], atol=1e-5)


@in_loop
async def test_distributions_are_kept_and_compared(tiny_gguf: Path, tmp_path: Path) -> None:
    other = write_gguf(tmp_path / "other.gguf", seed=1)
    seen: list[tuple[int, int]] = []
    async with scoring(tiny_gguf) as one:
        said = await one.keep(windows(), tmp_path / "base", lambda done, total: seen.append((done, total)))
        singly = [value for window in windows() for value in await one.score(window)]
        itself = await one.compare(windows(), tmp_path / "base")
    async with scoring(other) as two:
        far = await two.compare(windows(), tmp_path / "base")
    assert seen == [(1, 2), (2, 2)]
    assert (tmp_path / "base").stat().st_size == 2 * 199 * VOCABULARY * 2
    np.testing.assert_allclose(said, singly, atol=1e-5)
    assert len(itself.divergence) == 2 * 199
    assert itself.divergence.max() < 1e-6
    assert itself.same_top.mean() == 1
    np.testing.assert_allclose(itself.logprobs, said, atol=1e-5)
    assert far.divergence.min() > 0
    assert 0.01 < far.divergence.mean() < 20
    assert far.same_top.mean() < 0.5


@in_loop
async def test_the_divergence_is_the_textbook_one(tiny_gguf: Path, tmp_path: Path) -> None:
    from tests.convert.libllama import Llama

    other = write_gguf(tmp_path / "other.gguf", seed=1)
    window = windows(1, 60)
    async with scoring(tiny_gguf) as one:
        await one.keep(window, tmp_path / "base")
    async with scoring(other) as two:
        found = await two.compare(window, tmp_path / "base")
    with Llama(tiny_gguf) as left, Llama(other) as right:
        base, changed = (log_softmax(model.logits(window[0])[:-1]) for model in (left, right))
    expected = (np.exp(base) * (base - changed)).sum(-1)
    np.testing.assert_allclose(found.divergence, expected, rtol=2e-3, atol=2e-5)
    np.testing.assert_array_equal(found.same_top, base.argmax(-1) == changed.argmax(-1))


@in_loop
async def test_the_worker_of_the_engine_scores(tiny_gguf: Path, settings: Settings) -> None:
    worker = await LlamaCpp().start(ModelFile(tiny_gguf, "tiny"), settings)
    try:
        first, second = await asyncio.gather(worker.score(windows()[0]), worker.score(windows()[1]))
        assert len(first) == len(second) == 200
        assert first != second
        assert first[0].logprob == 0
        assert all(each.logprob < 0 for each in first[1:])
        children = processes()
        assert len(children) == 1
    finally:
        await worker.stop()
    assert not any(child.is_running() for child in children)


@in_loop
async def test_what_cannot_be_scored_is_refused_and_does_no_harm(tiny_gguf: Path) -> None:
    async with scoring(tiny_gguf) as one:
        with pytest.raises(ContextOverflow, match="context holds 512"):
            await one.score([5] * 513)
        for wrong in ([5, VOCABULARY], [-1, 5]):
            with pytest.raises(BadInput, match="vocabulary"):
                await one.score(wrong)
        with pytest.raises(BadInput):
            await one.keep(windows(), Path("/no/such/folder/file"))
        assert len(await one.score([5, 6, 7])) == 2
    async with scoring(tiny_gguf, context_length=1 << 20) as one:
        assert one.context_length == 1024, "what it was trained with"


@in_loop
async def test_a_file_that_is_no_model_never_reaches_llama_cpp(tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(tiny_gguf.read_bytes()[:-1000])
    with pytest.raises(BadModelFile, match=r"cut\.gguf"):
        async with scoring(tmp_path / "cut.gguf"):
            pass
    assert processes() == []


@in_loop
async def test_a_model_that_llama_cpp_refuses(tiny_gguf: Path, tmp_path: Path) -> None:
    """Well-formed, but of an architecture that nobody knows."""
    data = tiny_gguf.read_bytes().replace(
        b"general.architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00llama",
        b"general.architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00ghost",
    )
    data = data.replace(b"llama.", b"ghost.")
    (tmp_path / "odd.gguf").write_bytes(data)
    with pytest.raises(BadModelFile, match=r"llama\.cpp cannot"):
        async with scoring(tmp_path / "odd.gguf"):
            pass


@in_loop
async def test_a_death_is_an_error_and_leaves_nothing(tiny_gguf: Path) -> None:
    async with scoring(tiny_gguf) as one:
        os.kill(one.pid, signal.SIGKILL)
        with pytest.raises(WorkerFailed, match="killed by signal 9"):
            await one.score([5, 6, 7])
    assert processes() == []


@in_loop
async def test_a_cancelled_task_ends_the_process(tmp_path: Path) -> None:
    slow = write_gguf(tmp_path / "slow.gguf", hidden=512, layers=4)
    async with scoring(slow) as one:
        task = asyncio.create_task(one.keep(windows(200, 500), tmp_path / "base"))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(100):
            if not one.alive:
                break
            await asyncio.sleep(0.1)
        assert not one.alive


@in_loop
async def test_too_little_memory_is_told_before(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freehold.engines.llamacpp.memory.available", lambda: 1 << 20)
    with pytest.raises(NotEnoughMemory, match="tiny needs"):
        async with scoring(tiny_gguf):
            pass


@in_loop
async def test_a_full_disk_is_said(tiny_gguf: Path, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    async with scoring(tiny_gguf) as one:
        with pytest.raises(DiskFull):
            await one.keep(windows(), Path("/dev/full"))
        assert len(await one.score([5, 6, 7])) == 2
