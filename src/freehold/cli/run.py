"""Ask a model once, or chat with it."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli._answer import Answer, asker, stream
from freehold.cli._options import Home, Json, Model, Quiet, finite, full_name, opened
from freehold.cli._output import emit, line, note
from freehold.cli._stdin import piped
from freehold.core.errors import BadInput
from freehold.core.request import Image, Message, Request, Sampling

if TYPE_CHECKING:
    from freehold.core.settings import Settings
    from freehold.store import Store


def command(
    name: Model,
    prompt: Annotated[
        str | None, typer.Argument(metavar="[PROMPT]", help="What to ask; text from a pipe is added.")
    ] = None,
    system: Annotated[str, typer.Option(help="Instructions that come before the conversation.")] = "",
    image: Annotated[
        list[Path] | None, typer.Option("--image", metavar="FILE", help="An image to look at; may be repeated.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, max=1 << 20, help="Longest answer, in tokens.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, callback=finite, help="0 takes the likeliest token each time.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=-(1 << 63), max=(1 << 63) - 1, help="Repeats an answer.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Ask a model once, or chat with it. Without PROMPT and in a terminal it is a chat; /help says what it knows."""
    template = Request(
        model=full_name(name),
        max_tokens=max_tokens,
        sampling=Sampling(temperature=temperature, seed=seed),
    )
    question = _question(prompt)
    for text in (question or "", system):
        text.encode()  # says now what is no text, and not when the model is loaded
    seen = _images(image or [])
    if seen and question is None:
        raise BadInput("there is no question about the image", 'Ask one: freehold run NAME "PROMPT" --image FILE')
    from freehold.serving.ready import source

    with opened(home) as (settings, store):
        source(store, name)
        if question is None:
            from freehold.cli._chat import chat

            chat(settings, store, template, system)
            return
        answer = _ask(settings, store, _with(template, system, question, seen), show=not json)
    _finish(answer, json=json, quiet=quiet)


def _question(prompt: str | None) -> str | None:
    """The prompt and what comes from a pipe; None in a terminal without either."""
    given = piped()
    if prompt is None and given is None and sys.stdin is not None and sys.stdin.isatty():
        return None
    question = "\n\n".join(text for text in (prompt, given) if text and text.strip())
    if not question:
        raise BadInput("there is no prompt", 'Give one: freehold run NAME "PROMPT"')
    return question


def _images(paths: Sequence[Path]) -> tuple[Image, ...]:
    """The images in these files. Raises NotFound and BadInput naming the file."""
    from freehold.formats.images import of_file

    return tuple(of_file(path) for path in paths)


def _with(template: Request, system: str, question: str, seen: tuple[Image, ...]) -> Request:
    """The images stand before the question, as most vision models were trained."""
    import msgspec

    first = (Message("system", system),) if system else ()
    return msgspec.structs.replace(template, messages=(*first, Message("user", question, images=seen)))


def _ask(settings: "Settings", store: "Store", request: Request, *, show: bool) -> Answer:
    async def once() -> Answer:
        async with asker(settings, store) as ask:
            return await stream(ask, request, show=show)

    return asyncio.run(once())


def _finish(answer: Answer, *, json: bool, quiet: bool) -> None:
    if json:
        emit(answer)
    elif not answer.text.endswith("\n"):
        line()
    note("(cut: the answer reached its longest length)", quiet=quiet or answer.finish_reason != "length")
