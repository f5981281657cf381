"""The parent's side of a worker: HTTP over its Unix socket, its answers as events."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import httpx
import msgspec

from freehold.core.errors import FreeholdError, Unsupported, WorkerFailed
from freehold.core.event import Embeddings, Event, Failed, Started, TokenLogprob, Usage
from freehold.core.request import Constraint, EmbedRequest, Request
from freehold.engines.base import ModelFile
from freehold.engines.llamacpp import scorer, wire
from freehold.engines.llamacpp.plan import plan, prompt_of
from freehold.engines.llamacpp.stops import Stops
from freehold.engines.supervisor import Child, Socket, watchdog


class LlamaWorker:
    """One llama.cpp process holding one model; an engines.base.Worker.

    `generate` yields per choice Started, its parts, Finished; a Failed ends the stream for all choices. The prompt's
    tokens are counted in choice 0 alone, so that the sum over choices is what the request took.
    """

    def __init__(self, child: Child, socket: Socket, slots: int, model: ModelFile, threads: int = 0) -> None:
        self.pid = child.pid
        self.context_length = 0
        self.label = child.label
        self._child = child
        self._socket = socket
        self._slots = slots
        self._embedding = model.embedding
        self._model = model
        self._threads = threads
        self._scorer: scorer.Scorer | None = None
        self._scoring = asyncio.Lock()
        self._knows_tools = False
        # The server closes a kept connection after a few seconds or a hundred requests, sometimes just as the next
        # request is on its way.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(socket.path), limits=limits),
            base_url="http://worker",
            timeout=httpx.Timeout(None, connect=5.0),
            trust_env=False,
        )

    async def connect(self) -> None:
        """Ask for health and properties. Raises WorkerFailed when it is not ready."""
        await self._json("GET", "/health")
        properties = await self._json("GET", "/props")
        self.context_length = int(properties["default_generation_settings"]["n_ctx"])
        self._knows_tools = bool(properties.get("chat_template_caps", {}).get("supports_tools"))

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
        answer = await self._json("POST", "/v1/embeddings", {"input": request.inputs, "encoding_format": "float"})
        rows = sorted(answer["data"], key=lambda row: row["index"])
        return Embeddings(
            tuple(tuple(row["embedding"]) for row in rows), Usage(prompt_tokens=answer["usage"]["prompt_tokens"])
        )

    async def prompt(self, request: Request) -> str:
        """The text that the model would read."""
        if isinstance(request.prompt, tuple):
            return await self.detokenize(request.prompt)
        return await prompt_of(request, self._knows_tools, self)

    async def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """The tokens of a text, with those that the model wants at its begin and end if `special`."""
        body = {"content": text, "add_special": special, "parse_special": True}
        tokens: list[int] = (await self._json("POST", "/tokenize", body))["tokens"]
        return tokens

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones as they are written."""
        return str((await self._json("POST", "/detokenize", {"tokens": list(tokens)}))["content"])

    async def score(self, tokens: Sequence[int], top: int = 0) -> tuple[TokenLogprob, ...]:
        """Each token with its natural-log probability given those before it, 0 for the first, and the `top` likeliest.

        llama-server tells none for a prompt: a process of its own computes them, and stays until the worker stops. It
        maps the same file, so the weights are not in memory twice.
        """
        if self._embedding:
            raise Unsupported("this worker makes embeddings only", "Start one for generation")
        async with self._scoring:
            if self._scorer is None:
                self._scorer = await scorer.start(
                    self._model, context_length=self.context_length, threads=self._threads
                )
        return await self._scorer.tell(tokens, top)

    async def stop(self) -> None:
        """End the process. Returns when it is gone."""
        await self._http.aclose()
        if self._scorer is not None:
            await self._scorer.stop()
        await self._child.stop()
        self._socket.remove()

    async def _choices(self, request: Request, choices: range) -> AsyncGenerator[Event, None]:
        asked = await plan(request, choices, self._knows_tools, self)
        filters = {index: asked.new_filter() for index in choices}
        stops = {index: Stops(request.stop if wire.stops_here(request) else ()) for index in choices}
        reader = wire.StreamReader(choices, request.logprobs)
        async with aclosing(self._chunks(asked.route, asked.body)) as chunks:
            started = False
            async for chunk in chunks:
                events = list(reader.feed(chunk))
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

    async def render(self, request: Request) -> str:
        """The prompt that the model's template makes of a request's messages and tools."""
        return str((await self._json("POST", "/apply-template", wire.conversation_body(request)))["prompt"])

    async def check(self, constraint: Constraint) -> None:
        """Have the constraint compiled. Raises BadInput. The completion route would ignore a schema it cannot read."""
        probe = [{"role": "user", "content": "?"}]
        await self._json("POST", "/apply-template", {"messages": probe, **wire.constraint_body(constraint)})

    async def _chunks(self, route: str, body: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any], None]:
        try:
            async with watchdog(self._child) as watch:
                watch.waiting = True
                async with self._http.stream("POST", route, content=msgspec.json.encode(body)) as response:
                    if response.status_code != httpx.codes.OK:
                        raise wire.error_of(self._decoded(await response.aread()))
                    async for line in response.aiter_lines():
                        data = line.partition(": ")[2] if line.startswith(("data: ", "error: ")) else ""
                        if data and data != "[DONE]":
                            watch.waiting = False
                            yield self._decoded(data.encode())
                            watch.waiting = True
        except httpx.TransportError as error:
            raise await self._failed() from error

    async def _json(self, method: str, route: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            async with watchdog(self._child) as watch:
                watch.waiting = True
                content = None if body is None else msgspec.json.encode(body)
                response = await self._http.request(method, route, content=content)
        except httpx.TransportError as error:
            raise await self._failed() from error
        answer = self._decoded(response.content)
        if response.status_code != httpx.codes.OK:
            raise wire.error_of(answer)
        return answer

    def _decoded(self, data: bytes) -> dict[str, Any]:
        try:
            return msgspec.json.decode(data, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise WorkerFailed(f"the worker of {self.label} answered nonsense: {error}", "Try again") from error

    async def _failed(self) -> WorkerFailed:
        return WorkerFailed(
            f"the worker of {self.label} {await self._child.ending()}", "Try again: a new worker starts"
        )
