"""An answer, from the running server where there is one, otherwise from a worker of our own."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from freehold.cli._output import write
from freehold.cli._server import error_of, named, nonsense, running, unreachable
from freehold.core.errors import WorkerFailed
from freehold.core.event import Event, Failed, Finished, FinishReason, Text, Usage
from freehold.core.frames import Frames
from freehold.core.request import Constraint, Message, Request, pieces
from freehold.core.settings import Settings
from freehold.formats import images

if TYPE_CHECKING:
    import httpx

    from freehold.serving.state import ServerState
    from freehold.store import Store


class Asker(Protocol):
    """Something that answers requests; the desk is one."""

    def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """The events of a request."""
        ...


class Answer(msgspec.Struct, frozen=True):
    """A whole answer."""

    model: str
    text: str
    finish_reason: str
    usage: Usage


@asynccontextmanager
async def asker(settings: Settings, store: "Store") -> AsyncIterator[Asker]:
    """The server of this home if one runs, else a desk in this process."""
    state = running(settings)
    if state is not None:
        yield Remote(state)
        return
    from freehold.serving.desk import Desk
    from freehold.serving.engine import Lazy

    desk = Desk(settings, store, Lazy())
    try:
        yield desk
    finally:
        await desk.pool.close()


async def stream(ask: Asker, request: Request, *, show: bool) -> Answer:
    """The answer, printed while it comes if `show`. Raises what ended it early."""
    pieces: list[str] = []
    finished: Finished | None = None
    async with aclosing(ask.generate(request)) as events:
        async for event in events:
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Finished):
                finished = event
            elif isinstance(event, Text):
                pieces.append(event.text)
                if show:
                    write(event.text)
    if finished is None:
        raise WorkerFailed("the answer broke off", "Ask again")
    return Answer(request.model, "".join(pieces), finished.reason, finished.usage)


class Remote:
    """A running server, spoken to as any OpenAI client would."""

    def __init__(self, state: "ServerState") -> None:
        self._state = state

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """The events of a request."""
        import httpx

        url = f"{self._state.url}/v1/chat/completions"
        limits = httpx.Timeout(request.deadline, connect=10)
        try:
            async with httpx.AsyncClient(timeout=limits, trust_env=False) as client:
                async with client.stream("POST", url, json=_body(request)) as answer:
                    if answer.is_error:
                        await answer.aread()
                        raise error_of(answer)
                    async for event in _events(answer):
                        yield event
        except httpx.HTTPError as error:
            raise unreachable(self._state, error) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise nonsense(self._state, error) from error


def _body(request: Request) -> dict[str, Any]:
    sampling = {"temperature": request.sampling.temperature, "seed": request.sampling.seed}
    body = {
        "model": request.model,
        "messages": [{"role": message.role, "content": _content(message)} for message in request.messages],
        "max_completion_tokens": request.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        "response_format": _form(request.constraint),
        **sampling,
    }
    return {key: value for key, value in body.items() if value is not None}


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not message.images:
        return message.content
    return [
        {"type": "text", "text": piece}
        if isinstance(piece, str)
        else {"type": "image_url", "image_url": {"url": images.url_of(piece)}}
        for piece in pieces(message.content, message.images)
    ]


def _form(constraint: Constraint | None) -> dict[str, Any] | None:
    """What the answer must be; a server takes no grammar on this route."""
    if constraint is None or constraint.kind == "grammar":
        return None
    if constraint.kind == "json":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": constraint.schema, "strict": True}}


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: FinishReason | None = None


class _Counted(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int


class _Error(msgspec.Struct):
    message: str
    code: str | None = None


class _Chunk(msgspec.Struct):
    """A piece of the server's answer."""

    choices: list[_Choice] = []
    usage: _Counted | None = None
    error: _Error | None = None


async def _chunks(answer: "httpx.Response") -> AsyncIterator[_Chunk]:
    frames = Frames()
    async for piece in answer.aiter_bytes():
        for data in frames.feed(piece):
            yield msgspec.json.decode(data, type=_Chunk)


async def _events(answer: "httpx.Response") -> AsyncIterator[Event]:
    reason, usage = None, Usage()
    async for chunk in _chunks(answer):
        if chunk.error is not None:
            yield Failed(named(chunk.error.code, chunk.error.message))
            return
        if chunk.usage is not None:
            usage = Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
        for choice in chunk.choices:
            reason = choice.finish_reason or reason
            if choice.delta.content:
                yield Text(choice.delta.content)
    if reason is not None:
        yield Finished(reason, usage)
