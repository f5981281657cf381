"""A text that does not fit a worker's context, cut off at its end."""

from freehold.engines.base import Worker


async def cut(worker: Worker, given: str | tuple[int, ...]) -> str | tuple[int, ...]:
    """As it is where it fits; else its first tokens, and the one that the model expects behind a text."""
    limit = worker.context_length
    if not isinstance(given, str):
        return given[:limit]
    tokens = await worker.tokenize(given)
    if len(tokens) <= limit:
        return given
    last = (await worker.tokenize(given, special=False))[-1:]
    ended = tokens[-1:] != last  # by a token that the model expects there
    return (*tokens[: limit - ended], *tokens[len(tokens) - ended :])
