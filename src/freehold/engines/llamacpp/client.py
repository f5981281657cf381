"""The parent's side of a worker: HTTP over its Unix socket, its answers as events."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from freehold.core.errors import BadModelFile, FreeholdError, Unsupported, WorkerFailed
from freehold.core.event import Embeddings, Event, Failed, Ranking, Started, TokenLogprob, Usage
from freehold.core.frames import Frames
from freehold.core.request import Constraint, EmbedRequest, Insert, Request, RerankRequest
from freehold.engines.base import ModelFile, Question
from freehold.engines.channel import Broken, Channel, Reply
from freehold.engines.llamacpp import native, questions, scorer, wire
from freehold.engines.llamacpp.checker import TEMPLATE_REMEDY
from freehold.engines.llamacpp.looking import Looking
from freehold.engines.llamacpp.plan import CHAT, known, plan, prompt_of
from freehold.engines.llamacpp.stops import Stops
from freehold.engines.supervisor import STALL, Child, Socket, watchdog
from freehold.formats import gguf, infill
from freehold.formats.infill import Marks

T = TypeVar("T")
_RENDERED = "/apply-template"
_COUNTED = "/v1/chat/completions/input_tokens"


class _Generation(msgspec.Struct):
    n_ctx: int


class _Modalities(msgspec.Struct):
    vision: bool = False


class _Properties(msgspec.Struct):
    default_generation_settings: _Generation
    chat_template_caps: dict[str, Any] = {}
    modalities: _Modalities = msgspec.field(default_factory=_Modalities)
    media_marker: str = ""


class _Row(msgspec.Struct):
    index: int
    embedding: tuple[float, ...]


class _Counted(msgspec.Struct):
    prompt_tokens: int


class _Rows(msgspec.Struct):
    data: list[_Row]
    usage: _Counted


class _Rank(msgspec.Struct):
    index: int
    relevance_score: float


class _Ranks(msgspec.Struct):
    results: list[_Rank]
    usage: _Counted


class _Tokens(msgspec.Struct):
    tokens: list[int]


class _Content(msgspec.Struct):
    content: str


class _Prompt(msgspec.Struct):
    prompt: str


class _Input(msgspec.Struct):
    input_tokens: int


class LlamaWorker:
    """One llama.cpp process holding one model; an engines.base.Worker.

    `generate` yields per choice Started, its parts, Finished; a Failed ends the stream for all choices. The prompt's
    tokens are counted in choice 0 alone, so that the sum over choices is what the request took.
    """

    def __init__(
        self, child: Child, socket: Socket, slots: int, model: ModelFile, threads: int = 0, stall: float = STALL
    ) -> None:
        self.pid = child.pid
        self.context_length = 0
        self.label = child.label
        self._child = child
        self._socket = socket
        self._slots = slots
        self._embedding = model.embedding
        self._model = model
        self._threads = threads
        self._stall = stall
        self._scorers: dict[str, scorer.Scorer] = {}
        """By the adapter that is applied."""
        self._scoring = asyncio.Lock()
        self._knows_tools = False
        self.mark = ""
        """What stands in a prompt for an image; empty where the model sees none."""
        self._looking = Looking()
        self._endless = False
        """Whether its chat template was seen not to end."""
        self._channel = Channel(socket.path)

    async def connect(self) -> None:
        """Ask for health and properties. Raises WorkerFailed when it is not ready."""
        await self._json("GET", "/health", dict[str, Any])
        properties = await self._json("GET", "/props", _Properties)
        self.context_length = properties.default_generation_settings.n_ctx
        self._knows_tools = bool(properties.chat_template_caps.get("supports_tools"))
        self.mark = properties.media_marker if properties.modalities.vision else ""

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child.alive

    @property
    def memory(self) -> int:
        """Resident bytes of the process."""
        return self._child.memory()

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """Events of all choices. Closing the iterator closes the connection, on which the server stops computing."""
        try:
            if self._embedding:
                raise Unsupported("this worker makes embeddings only", "Start one for generation")
            request = await self._looking.at(request)
            for start in range(0, request.n, self._slots):
                choices = range(start, min(request.n, start + self._slots))
                async with aclosing(self._choices(request, choices)) as events:
                    async for event in events:
                        yield event
        except FreeholdError as error:
            yield Failed(error)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One L2-normalised vector per input."""
        if not self._embedding:
            raise Unsupported("this worker generates text only", "Start one for embeddings")
        if request.per_token:
            wanted = {} if request.normalize is None else {"embd_normalize": request.normalize}
            told = await self._json("POST", "/embedding", list[dict[str, Any]], {"input": request.inputs, **wanted})
            return Embeddings((), Usage(), questions.per_token(told))
        body = {"input": request.inputs, "encoding_format": "float"}
        answer = await self._json("POST", "/v1/embeddings", _Rows, body)
        rows = sorted(answer.data, key=lambda row: row.index)
        if [row.index for row in rows] != list(range(len(request.inputs))):
            raise self._nonsense(f"{len(rows)} vectors for {len(request.inputs)} inputs")
        return Embeddings(tuple(row.embedding for row in rows), Usage(answer.usage.prompt_tokens))

    async def rerank(self, request: RerankRequest) -> Ranking:
        """A score for each document."""
        if not self._model.ranking:
            raise Unsupported("this worker ranks nothing", "Start one for ranking")
        told = await self._json("POST", "/rerank", _Ranks, {"query": request.query, "documents": request.documents})
        rows = sorted(told.results, key=lambda row: row.index)
        if [row.index for row in rows] != list(range(len(request.documents))):
            raise self._nonsense(f"{len(rows)} scores for {len(request.documents)} documents")
        return Ranking(tuple(row.relevance_score for row in rows), Usage(told.usage.prompt_tokens))

    async def ask(self, question: Question, body: Mapping[str, Any]) -> Any:
        """What the server tells of itself: see `questions`."""
        asked = questions.asked(question, body)
        answer = await self._answer(asked.method, asked.route, asked.body)
        if question == "metrics":
            text = answer.content.decode("utf-8", "replace")
            return {"text": text, "started": answer.headers.get("process-start-time-unix", "")}
        return self._decoded(answer.content, object)

    async def prompt(self, request: Request) -> str:
        """The text that the model would read."""
        if isinstance(request.prompt, tuple):
            return await self.detokenize(request.prompt)
        return await prompt_of(request, self._knows_tools, self)

    async def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """The tokens of a text, with those that the model wants at its begin and end if `special`."""
        body = {"content": text, "add_special": special, "parse_special": True}
        return (await self._json("POST", "/tokenize", _Tokens, body)).tokens

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones as they are written."""
        return (await self._json("POST", "/detokenize", _Content, {"tokens": list(tokens)})).content

    async def count(self, request: Request) -> int:
        """The tokens of the request's prompt, those of its images among them."""
        if request.prompt is not None or not request.seen:
            return len(await self.tokenize(await self.prompt(request)))
        asked = wire.conversation_body(await self._looking.at(known(request, self._knows_tools)))
        told = await self._json("POST", _COUNTED, _Input, asked)
        begun = await self.tokenize(request.prefill, special=False) if request.prefill else []
        return told.input_tokens + len(begun)

    async def score(self, tokens: Sequence[int], top: int = 0, *, adapter: str = "") -> tuple[TokenLogprob, ...]:
        """Each token with its natural-log probability given those before it, 0 for the first, and the `top` likeliest.

        llama-server tells none for a prompt: a process of its own computes them, and stays until the worker stops. It
        maps the same file, so the weights are not in memory twice.
        """
        if self._embedding:
            raise Unsupported("this worker makes embeddings only", "Start one for generation")
        async with self._scoring:
            if adapter not in self._scorers:
                chosen = (self._model.choices[adapter],) if adapter else ()
                model = msgspec.structs.replace(self._model, adapters=(*self._model.adapters, *chosen))
                self._scorers[adapter] = await scorer.start(
                    model, context_length=self.context_length, threads=self._threads
                )
        return await self._scorers[adapter].tell(tokens, top)

    async def stop(self) -> None:
        """End the process. Returns when it is gone."""
        for each in self._scorers.values():
            await each.stop()
        await self._child.stop()
        self._socket.remove()

    async def _choices(self, request: Request, choices: range) -> AsyncGenerator[Event, None]:
        asked = await plan(request, choices, self._knows_tools, self)
        filters = {index: asked.new_filter() for index in choices}
        natively = asked.route in (native.COMPLETION, native.INFILL)
        looked_for = request.stop if wire.stops_here(request) and not natively else ()
        stops = {index: Stops(looked_for) for index in choices}
        reader: wire.StreamReader | native.NativeReader = (
            native.NativeReader(choices, request)
            if natively
            else wire.StreamReader(choices, request.logprobs, progress=request.progress)
        )
        body = asked.body | self._adapted(request.adapter)
        async with self._suspecting(asked.route, request) as begun, aclosing(self._chunks(asked.route, body)) as chunks:
            started = False
            async for chunk in chunks:
                begun.set()
                events = self._read(reader, chunk)
                if not started:
                    started = True
                    for index in choices:
                        yield Started(index, reader.prompt_tokens)
                for event in events:
                    stop = stops[event.index]
                    if stop.found:
                        continue
                    for final in filters[event.index].feed(event):
                        for kept in stop.feed(final):
                            yield kept
                    if stop.found:
                        yield reader.end(event.index, stop.found)
                if all(stop.found for stop in stops.values()):
                    return  # closing the connection ends the computing
        if reader.open:
            raise WorkerFailed(f"the worker of {self.label} ended its answer early", "Try again")

    @asynccontextmanager
    async def _suspecting(self, route: str, request: Request) -> AsyncIterator[asyncio.Event]:
        """While inside, and until the event is set, suspect the chat template where the server itself renders it."""
        begun = asyncio.Event()
        task = asyncio.create_task(self._suspect(request, begun)) if route == CHAT else None
        try:
            yield begun
        finally:
            if task is not None:
                task.cancel()

    async def _suspect(self, request: Request, begun: asyncio.Event) -> None:
        """Where nothing comes, have the conversation rendered and nothing else: what hangs then is the template."""
        try:
            async with asyncio.timeout(self._stall):
                await begun.wait()
        except TimeoutError:
            with suppress(FreeholdError):
                await self.render(known(request, self._knows_tools))

    def _adapted(self, adapter: str) -> dict[str, Any]:
        """The field that says which adapters are applied, numbered as the worker was told of them."""
        if not self._model.choices:
            return {}
        scales = [1.0] * len(self._model.adapters) + [float(name == adapter) for name in self._model.choices]
        return {"lora": [{"id": number, "scale": scale} for number, scale in enumerate(scales)]}

    async def render(self, request: Request) -> str:
        """The prompt that the model's template makes of a request's messages and tools."""
        body = wire.conversation_body(wire.outlined(request))
        return (await self._json("POST", _RENDERED, _Prompt, body)).prompt

    async def check(self, constraint: Constraint) -> None:
        """Have the constraint compiled. Raises BadInput. The completion route would ignore a schema it cannot read."""
        probe = [{"role": "user", "content": "?"}]
        body = {"messages": probe, **wire.constraint_body(constraint)}
        await self._json("POST", _RENDERED, _Prompt, body)

    async def inserted(self, insert: Insert, prompt: str | Sequence[int]) -> list[int]:
        """The tokens that show the model the place where text is to be written. Raises Unsupported."""
        marks = await asyncio.to_thread(self._marks)
        if marks is None:
            raise Unsupported(
                f"{self.label} cannot insert text before a suffix: it has no tokens that mark the place",
                "Leave out the suffix, or take a model of code",
                param="suffix",
            )
        begin = await self.tokenize("", special=True)
        before, after = await self._plain(insert.prefix), await self._plain(insert.suffix)
        written = await self._plain(prompt) if isinstance(prompt, str) else prompt
        return [*begin[:1], marks.prefix, *before, marks.suffix, *after, marks.middle, *written]

    def _marks(self) -> Marks | None:
        return infill.marks(gguf.read_header(self._model.path).metadata)

    async def _plain(self, text: str) -> list[int]:
        """The tokens of a text in which nothing is special."""
        body = {"content": text, "add_special": False, "parse_special": False}
        return (await self._json("POST", "/tokenize", _Tokens, body)).tokens if text else []

    async def _chunks(self, route: str, body: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any], None]:
        try:
            async with watchdog(self._child, self._stall) as watch:
                watch.waiting = True
                async with self._channel.open("POST", route, msgspec.json.encode(body)) as answer:
                    if answer.status != HTTPStatus.OK:
                        raise wire.error_of(self._decoded(await answer.content(), dict[str, Any]))
                    frames = Frames()
                    async for piece in answer.pieces():
                        for data in frames.feed(piece):
                            watch.waiting = False
                            yield self._decoded(data, dict[str, Any])
                            watch.waiting = True
        except Broken as error:
            raise await self._failed() from error

    async def _json(self, method: str, route: str, kind: type[T], body: Mapping[str, Any] | None = None) -> T:
        return self._decoded((await self._answer(method, route, body)).content, kind)

    async def _answer(self, method: str, route: str, body: Mapping[str, Any] | None = None) -> Reply:
        """An answer that is none of an error. A template that loops is busy for ever: its worker is ended."""
        limit = self._stall if route in (_RENDERED, _COUNTED) else None
        try:
            async with asyncio.timeout(limit), watchdog(self._child, self._stall) as watch:
                watch.waiting = True
                reply = await self._channel.ask(method, route, b"" if body is None else msgspec.json.encode(body))
        except Broken as error:
            raise await self._failed() from error
        except TimeoutError:
            self._endless = True
            self._child.kill()
            raise await self._failed() from None
        if reply.status != HTTPStatus.OK:
            raise wire.error_of(self._decoded(reply.content, dict[str, Any]))
        return reply

    def _decoded(self, data: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._nonsense(str(error)) from error

    def _read(self, reader: wire.StreamReader | native.NativeReader, chunk: Mapping[str, Any]) -> list[Event]:
        try:
            return list(reader.feed(chunk))
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise self._nonsense(f"{type(error).__name__}: {error}") from error

    def _nonsense(self, what: str) -> WorkerFailed:
        return WorkerFailed(f"the worker of {self.label} answered nonsense: {what[:200]}", "Try again")

    async def _failed(self) -> FreeholdError:
        if self._endless:
            return BadModelFile(
                f"the chat template of {self.label} does not end: its worker was ended", TEMPLATE_REMEDY
            )
        return WorkerFailed(
            f"the worker of {self.label} {await self._child.ending()}", "Try again: a new worker starts"
        )
