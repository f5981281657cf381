"""Completions that begin with their prompt: what evaluation tools ask for to learn how likely a given text is."""

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec

from freehold.core.event import Event, Finished, Logprobs, Started, Text, TokenLogprob, Usage
from freehold.core.request import Request
from freehold.serving.desk import Desk


async def completed(desk: Desk, request: Request, *, echo: bool, silent: bool) -> AsyncGenerator[Event, None]:
    """The request's events; with `echo` its prompt goes before each answer, and with `silent` nothing comes after it.

    Where log-probabilities are wanted, the prompt's tokens have theirs too; that of the very first is NaN.
    """
    head, count = await _prompt(desk, request, echo=echo) if echo or silent else ([], 0)
    if not silent:
        async with aclosing(desk.generate(request)) as events:
            async for event in events:
                yield event
                if isinstance(event, Started):
                    for each in head:
                        yield _numbered(each, event.index)
        return
    for index in range(request.n):
        yield Started(index, count)
        for each in head:
            yield _numbered(each, index)
        yield Finished("length", Usage(0 if index else count), index=index)


def _numbered(event: Text | Logprobs, index: int) -> Event:
    return msgspec.structs.replace(event, index=index)


async def _prompt(desk: Desk, request: Request, *, echo: bool) -> tuple[list[Text | Logprobs], int]:
    """The prompt as events, and how many tokens it has."""
    prompt = request.prompt or ""
    tokens, added = await _tokens(desk, request, prompt)
    if not echo:
        return [], len(tokens)
    if request.logprobs is None:
        text = prompt if isinstance(prompt, str) else await desk.detokenize(request, prompt)
        return [Text(text)], len(tokens)
    told = await desk.score(request, tokens, request.logprobs)
    first = msgspec.structs.replace(told[0], logprob=math.nan)  # nothing stands before it
    shown: Sequence[TokenLogprob] = told[1:] if added else (first, *told[1:])
    text = prompt if isinstance(prompt, str) else "".join(each.token for each in shown)
    return [Logprobs(tuple(shown)), Text(text)], len(tokens)


async def _tokens(desk: Desk, request: Request, prompt: str | Sequence[int]) -> tuple[list[int], bool]:
    """The prompt's tokens, and whether the first is one that the model wants before any text."""
    if not isinstance(prompt, str):
        return list(prompt), False
    tokens = await desk.tokenize(request, prompt)
    return tokens, len(tokens) > len(await desk.tokenize(request, prompt, special=False))
