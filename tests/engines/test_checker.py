"""What constrains an answer is compiled where it does no harm: bombs are refused, what is good passes."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from freehold.core.errors import BadInput, BadModelFile, Busy
from freehold.core.event import Failed, Finished
from freehold.core.request import Constraint, Message, Request, Tool
from freehold.core.settings import Settings
from freehold.engines.base import ModelFile
from freehold.engines.llamacpp import LlamaCpp, probing
from freehold.engines.llamacpp.checker import Checker, Verdict, texts
from tests.engines.grammars import CHEAP, ENDLESS, GOOD, SCHEMAS, WRONG, WRONG_SCHEMAS
from tests.serving.support import in_loop, soon
from tests.tiny import CHATML, HERMES, THINKING, write_gguf

SECONDS = 0.25
PLENTY = 60.0
LOOPING = "{% for i in range(1000000000) %}{{ i }}{% endfor %}"


def checked(test: Callable[[Checker], Awaitable[None]]) -> Callable[[], None]:
    """Run an async test with a checker that is ended afterwards."""

    @in_loop
    async def run() -> None:
        checker = Checker()
        try:
            await test(checker)
        finally:
            await checker.close()

    run.__name__ = test.__name__
    return run


def _request(**fields) -> Request:
    return Request(**{"model": "m", "messages": (Message("user", "?"),), **fields})


def _grammar(text: str) -> Request:
    return _request(constraint=Constraint("grammar", grammar=text))


@pytest.fixture(scope="module")
def runner():
    """One loop and one checker for all grammars: each must leave it as it was."""
    with asyncio.Runner() as loop:
        checker = Checker()
        try:
            yield loop.run, checker
        finally:
            loop.run(checker.close())


@pytest.mark.parametrize("name", ENDLESS)
def test_a_grammar_that_takes_for_ever_is_refused_and_the_next_is_checked(runner, name: str):
    run, checker = runner
    with pytest.raises(BadInput, match=r"the grammar takes more than 0\.25 s of computing") as caught:
        run(checker.request(_grammar(ENDLESS[name]), SECONDS))
    assert "FREEHOLD_GRAMMAR_SECONDS" in caught.value.remedy
    assert caught.value.param == "grammar"
    assert run(checker.verdict("grammar", f'root ::= "{name}"', PLENTY)) == Verdict()


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_grammar_is_said(runner, name: str):
    run, checker = runner
    text, said = WRONG[name]
    with pytest.raises(BadInput, match=said):
        run(checker.request(_grammar(text), PLENTY))


@pytest.mark.parametrize("name", [*GOOD, *CHEAP])
def test_a_grammar_that_costs_little_passes(runner, name: str):
    run, checker = runner
    run(checker.request(_grammar((GOOD | CHEAP)[name]), PLENTY))
    assert run(checker.verdict("grammar", (GOOD | CHEAP)[name], PLENTY)) == Verdict()


@pytest.mark.parametrize("name", WRONG_SCHEMAS)
def test_a_schema_that_llama_cpp_would_ignore_is_refused(runner, name: str):
    run, checker = runner
    schema, said = WRONG_SCHEMAS[name]
    with pytest.raises(BadInput, match=said) as caught:
        run(checker.request(_request(constraint=Constraint("schema", schema)), PLENTY))
    assert caught.value.param == "response_format"


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_good_schema_passes_in_an_answer_and_in_a_tool(runner, name: str):
    run, checker = runner
    tool = Tool("f", "", SCHEMAS[name])
    run(checker.request(_request(constraint=Constraint("schema", SCHEMAS[name])), PLENTY))
    run(checker.request(_request(tools=(tool, Tool("g"))), PLENTY))
    run(checker.request(_request(tools=(tool,), tool_choice="f"), PLENTY))
    assert run(checker.verdict("schema", "{}", PLENTY)) == Verdict()


def test_a_schema_can_be_harmless_in_an_answer_and_a_bomb_in_a_tool(runner):
    """llguidance, which holds answers, is lazy about a pattern; the grammars in GBNF of tools are not."""
    run, checker = runner
    schema = {"type": "string", "pattern": "^((a?){50}){50}$"}
    run(checker.request(_request(constraint=Constraint("schema", schema)), PLENTY))
    with pytest.raises(BadInput, match="tools takes more than") as caught:
        run(checker.request(_request(tools=(Tool("f", "", schema),)), SECONDS))
    assert caught.value.param == "tools"


def test_a_tool_that_may_be_called_is_not_refused_for_what_its_template_may_never_compile(runner):
    run, checker = runner
    tool = Tool("f", "", {"type": "nonsense"})
    run(checker.request(_request(tools=(tool,)), PLENTY))
    with pytest.raises(BadInput, match="nonsense"):
        run(checker.request(_request(tools=(tool,), tool_choice="required"), PLENTY))


def test_memory_is_limited(runner):
    run, checker = runner
    found = run(checker.verdict("grammar", f'root ::= "{"x" * 60_000}"{{2000}}', PLENTY))
    assert found == Verdict(ended="memory")


def test_the_seconds_are_those_of_the_caller(runner):
    run, checker = runner
    many = "root ::= " + " | ".join(f'"choice {i}"' for i in range(300))
    assert run(checker.verdict("grammar", many, 0.01)).ended == "seconds"
    assert run(checker.verdict("grammar", many, PLENTY)) == Verdict()


@checked
async def test_a_good_schema_is_answered_while_bombs_are_sent(checker: Checker):
    bombs = [
        asyncio.create_task(checker.request(_grammar(f"{ENDLESS['a chain of stars']}\nx ::= {i}"[:-1] + '"x"'), 0.1))
        for i in range(4)
    ]
    await asyncio.sleep(0)
    await checker.request(_request(constraint=Constraint("schema", SCHEMAS["an object"])), PLENTY)
    assert all(isinstance(each, BadInput) for each in await asyncio.gather(*bombs, return_exceptions=True))


@checked
async def test_the_process_is_started_again_when_somebody_ended_it(checker: Checker):
    await checker.verdict("grammar", 'root ::= "a"', PLENTY)
    first = checker.pid
    os.kill(first, signal.SIGKILL)
    assert await checker.verdict("grammar", 'root ::= "b"', PLENTY) == Verdict()
    assert checker.pid not in (0, first)
    await soon(lambda: not psutil.pid_exists(first))


def _fork(pid: int) -> psutil.Process | None:
    return next(iter(psutil.Process(pid).children()), None)


@checked
async def test_a_check_that_somebody_ends_is_done_again_once(checker: Checker):
    await checker.verdict("grammar", 'root ::= "a"', PLENTY)
    asked = asyncio.create_task(checker.request(_grammar(ENDLESS["a chain of stars"]), 30.0))
    killed = set()
    while not asked.done():
        fork = _fork(checker.pid)
        if fork is not None and fork.pid not in killed:
            killed.add(fork.pid)
            fork.kill()
        await asyncio.sleep(0.01)
    with pytest.raises(Busy, match="could not be checked"):
        await asked
    assert len(killed) == 2
    with pytest.raises(BadInput):  # it was not remembered
        await checker.request(_grammar(ENDLESS["a chain of stars"]), SECONDS)


@pytest.mark.slow
@checked
async def test_a_process_that_hangs_is_replaced(checker: Checker):
    await checker.verdict("grammar", 'root ::= "a"', PLENTY)
    first = checker.pid
    os.kill(first, signal.SIGSTOP)
    assert await checker.verdict("grammar", 'root ::= "b"', SECONDS) == Verdict()
    assert checker.pid != first
    assert not psutil.pid_exists(first)


@in_loop
async def test_verdicts_are_remembered_and_bounded():
    checker = Checker(cached=3)
    try:
        for i in range(5):
            await checker.verdict("grammar", f'root ::= "{i}"', PLENTY)
        assert checker.known == 3
        dead = checker.pid
        os.kill(dead, signal.SIGKILL)
        await checker.verdict("grammar", 'root ::= "4"', PLENTY)
        assert checker.pid == dead, "nobody had to be asked"
        await checker.verdict("grammar", 'root ::= "0"', PLENTY)
        assert checker.pid != dead, "the oldest was forgotten, so it was asked again"
        assert checker.known == 3
    finally:
        await checker.close()


@checked
async def test_who_asks_for_the_same_waits_for_the_same_answer(checker: Checker):
    asked = [asyncio.create_task(checker.verdict("grammar", 'root ::= "a"', PLENTY)) for _ in range(5)]
    await asyncio.sleep(0)
    asked[0].cancel()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [Verdict()] * 4
    assert checker.known == 1


@checked
async def test_nothing_is_started_for_a_request_with_nothing_to_compile(checker: Checker):
    await checker.request(_request(), SECONDS)
    await checker.request(_request(tools=(Tool("f"),), tool_choice="none"), SECONDS)
    assert checker.pid == 0


@in_loop
async def test_closing_ends_the_process_and_a_check_that_runs():
    checker = Checker()
    await checker.verdict("grammar", 'root ::= "a"', PLENTY)
    pid = checker.pid
    asked = asyncio.create_task(checker.verdict("grammar", ENDLESS["a chain of stars"], PLENTY))
    await soon(lambda: _fork(pid))
    fork = _fork(pid)
    await checker.close()
    assert isinstance((await asyncio.gather(asked, return_exceptions=True))[0], asyncio.CancelledError)
    assert not psutil.pid_exists(pid)
    await soon(lambda: fork is None or not fork.is_running() or fork.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("template", [CHATML, HERMES, THINKING])
def test_chat_templates_that_end_pass(runner, template: str):
    run, checker = runner
    assert run(checker.verdict("template", template, PLENTY)) == Verdict()


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (LOOPING, "takes more than"),
        ("{% for i in range(50000) %}{% for j in range(50000) %}{% endfor %}{% endfor %}", "takes more than"),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "makes llama.cpp fail"),
    ],
)
@in_loop
async def test_a_chat_template_that_does_not_end_is_named(template: str, said: str):
    checker = Checker()
    with pytest.raises(BadModelFile, match=f"the chat template of looper {said}"):
        await checker.template(template, "looper", SECONDS)
    assert checker.pid == 0, "nobody else needs the process"


@in_loop
async def test_a_model_whose_template_loops_is_refused_before_a_worker_reads_it(tmp_path: Path, settings: Settings):
    path = write_gguf(tmp_path / "loop.gguf", template=LOOPING)
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    engine = LlamaCpp()
    for model in (ModelFile(path, "looper"), ModelFile(path, "looper", chat_template=LOOPING)):
        with pytest.raises(BadModelFile, match="the chat template of looper takes more than 2 s"):
            await engine.start(model, settings)
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


LOOPS_WHEN_ASKED = (
    "{% for message in messages %}{{ message.content }}{% if 'loop' in message.content %}"
    "{% for i in range(50000) %}{% for j in range(50000) %}{% endfor %}{% endfor %}{% endif %}{% endfor %}"
)
"""Nothing shows it beforehand."""


@pytest.mark.parametrize("fields", [{}, {"constraint": Constraint("grammar", grammar='root ::= "a"')}])
@in_loop
async def test_a_template_that_loops_over_some_messages_ends_its_worker(tmp_path: Path, settings: Settings, fields):
    path = write_gguf(tmp_path / "loop.gguf", template=LOOPS_WHEN_ASKED)
    impatient = msgspec.structs.replace(settings, stall_seconds=2.0)
    worker = await LlamaCpp().start(ModelFile(path, "looper"), impatient)
    try:
        good = [event async for event in worker.generate(_request(max_tokens=3, **fields))]
        assert isinstance(good[-1], Finished)
        asked = _request(messages=(Message("user", "loop"),), **fields)
        (failed,) = [event async for event in worker.generate(asked)]
        assert isinstance(failed, Failed)
        assert isinstance(failed.error, BadModelFile)
        assert "the chat template of looper does not end" in failed.error.message
        await soon(lambda: not worker.alive)
    finally:
        await worker.stop()


def test_what_is_compiled_for_a_request():
    schema = SCHEMAS["an object"]
    tool = Tool("f", "", schema)
    kinds = {
        (): _request(),
        ("grammar",): _grammar('root ::= "a"'),
        ("schema",): _request(constraint=Constraint("json")),
        ("tools",): _request(tools=(tool,)),
        ("schema", "tools", "tools"): _request(tools=(tool,), constraint=Constraint("schema", schema)),
    }
    for kind, request in kinds.items():
        assert tuple(each.kind for each in texts(request)) == kind
    must = list(texts(_request(tools=(tool,), tool_choice="required", constraint=Constraint("schema", schema))))
    assert [(each.kind, each.param) for each in must] == [("schema", "tools")]
    with pytest.raises(BadInput, match="there is no tool 'g'"):
        list(texts(_request(tools=(tool,), tool_choice="g")))


def test_the_vocabulary_holds_every_byte_once():
    pieces = probing.pieces()
    assert len(pieces) == len(set(pieces))
    assert {bytes([byte]) for byte in range(256)} <= set(pieces)
    assert pieces[probing.END] == b""
    assert probing.set_bits(bytes([0b101, 0b10])) == [0, 2, 9]
    assert probing.kept(bytearray(probing.candidates(4))) == [0, 1, 2, 3]
