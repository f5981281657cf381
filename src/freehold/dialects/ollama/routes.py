"""Ollama's routes for text and vectors, and its dialect: decode, ask the desk, format."""

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.responses import PlainTextResponse, Response

from freehold.core.errors import Busy, FreeholdError, Unsupported
from freehold.core.name import PLUS, SEPARATOR, Name
from freehold.core.request import Request
from freehold.dialects.ollama import answers, library, lines, making, moving, names, schema, translate
from freehold.formats import chat_template
from freehold.formats.go_template import insertion, is_go, to_jinja
from freehold.serving import abilities
from freehold.serving.decoding import decoded
from freehold.serving.desk import Desk
from freehold.serving.http import json_response, while_connected
from freehold.serving.routes import Dialect, Incoming, Route

VERSION = "0.24.0"
"""The version of Ollama whose API this is: clients refuse to speak to older ones."""
_RENDERING = 3.0
"""Seconds that a template in a request may take."""


def error_response(error: FreeholdError) -> Response:
    """An error in Ollama's shape."""
    headers = {"retry-after": str(error.retry_after)} if isinstance(error, Busy) else None
    return json_response(answers.error_body(error), error.status, headers)


async def chat(incoming: Incoming, desk: Desk) -> Response:
    """POST /api/chat: the next message of a conversation."""
    body = await decoded(incoming.body, schema.ChatRequest)
    model = await _found(desk, body)
    request = translate.chat_request(body, model)
    answer = answers.Answer(body.model, chat=True)
    if not body.messages:
        return await _loaded(incoming, desk, request, answer)
    return await _answered(incoming, desk, request, answer, stream=body.stream is not False)


async def generate(incoming: Incoming, desk: Desk) -> Response:
    """POST /api/generate: what follows a prompt."""
    body = await decoded(incoming.body, schema.GenerateRequest)
    model = await _found(desk, body)
    request = translate.generate_request(body, model)
    answer = answers.Answer(body.model, chat=False)
    if not body.prompt and not body.suffix:
        return await _loaded(incoming, desk, request, answer)
    if body.suffix:
        request = await asyncio.to_thread(_inserting, desk, request, body)
        return await _answered(incoming, desk, request, answer, stream=body.stream is not False)
    if body.template:
        request = await while_connected(incoming.gone, desk.rendered(_templated, request, body.template))
    if body.context:
        request = await while_connected(incoming.gone, _continued(desk, request, body.context))
    context = not body.raw and not body.images  # tokens cannot stand for images
    return await _answered(incoming, desk, request, answer, stream=body.stream is not False, context=context)


async def embed(incoming: Incoming, desk: Desk) -> Response:
    """POST /api/embed: a vector for each text."""
    body = await decoded(incoming.body, schema.EmbedRequest)
    request = translate.embed_request(body, await asyncio.to_thread(names.found, desk.store, body.model))
    told = answers.Embedded(body.model)
    if request is None:
        return json_response(told.body(None))
    found = await while_connected(incoming.gone, desk.embed(request))
    return json_response(told.body(found, body.dimensions or 0))


async def embeddings(incoming: Incoming, desk: Desk) -> Response:
    """POST /api/embeddings: one text, one vector."""
    body = await decoded(incoming.body, schema.EmbeddingsRequest)
    asked = schema.EmbedRequest(model=body.model, input=body.prompt, keep_alive=body.keep_alive)
    request = translate.embed_request(asked, await asyncio.to_thread(names.found, desk.store, body.model))
    if request is None:
        return json_response({"embedding": []})
    found = await while_connected(incoming.gone, desk.embed(request))
    return json_response({"embedding": list(found.vectors[0])})


async def version(incoming: Incoming, desk: Desk) -> Response:
    """GET /api/version: of the server."""
    return json_response({"version": VERSION})


async def root(incoming: Incoming, desk: Desk) -> Response:
    """GET /: a word by which clients see that somebody is there."""
    return PlainTextResponse("Ollama is running")


async def _found(desk: Desk, body: schema.ChatRequest | schema.GenerateRequest) -> str:
    """The model's name in the catalog. Raises UnknownModel, and Unsupported when it is to think and cannot."""
    model = await asyncio.to_thread(names.found, desk.store, body.model)
    if body.think and not await asyncio.to_thread(_thinks, desk, model):
        raise Unsupported(f"{body.model!r} does not support thinking", "Leave out think", param="think")
    return model


def _thinks(desk: Desk, model: str) -> bool:
    return _able(desk, model).thinking


def _able(desk: Desk, model: str) -> abilities.Abilities:
    """What a model can do, whatever adapter is applied to it."""
    if SEPARATOR in model:  # the other tool's model is not looked into: its template and the engine decide
        return abilities.Abilities(insert=True, thinking=True)
    return abilities.of(desk.store, desk.store.get(Name.parse(_base(model))))


def _base(model: str) -> str:
    return model if SEPARATOR in model else model.partition(PLUS)[0]


async def _loaded(incoming: Incoming, desk: Desk, request: Request, answer: answers.Answer) -> Response:
    """A request that asks nothing loads its model, or has it go."""
    if request.keep_alive == 0:
        await desk.unload(request.model)
        return json_response(answer.loaded("unload"))
    await while_connected(incoming.gone, desk.load(request))
    return json_response(answer.loaded("load"))


def _inserting(desk: Desk, request: Request, body: schema.GenerateRequest) -> Request:
    """The request as its template shows the model where to write, or as the engine does where no template says that.

    Raises Unsupported.
    """
    given = insertion(body.template) if body.template else None
    if body.template and given is None:
        raise Unsupported("the template has no .Suffix that is understood", "Leave it out", param="template")
    form = given or abilities.insertion(desk.store, _base(request.model))
    if form is not None:
        return msgspec.structs.replace(request, prompt=form.text(body.prompt or "", body.suffix or ""), insert=None)
    if not _able(desk, request.model).insert:
        raise Unsupported(f"{body.model!r} does not support insert", "Leave out the suffix", param="suffix")
    return request


def _templated(request: Request, template: str) -> Request:
    """The request as raw text, made by a template that came with it."""
    jinja = to_jinja(template) if is_go(template) else template
    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    prompt = chat_template.render(
        jinja, messages, add_generation_prompt=True, seconds=_RENDERING, bos_token="", eos_token=""
    )
    return msgspec.structs.replace(request, messages=(), prompt=prompt)


async def _continued(desk: Desk, request: Request, context: list[int]) -> Request:
    """The request as raw text, after what an earlier answer ended with."""
    earlier = await desk.detokenize(request, context)
    return msgspec.structs.replace(request, messages=(), prompt=earlier + await desk.prompt(request))


async def _answered(
    incoming: Incoming, desk: Desk, request: Request, answer: answers.Answer, *, stream: bool, context: bool = False
) -> Response:
    told = _lines(desk, request, answer, context=context)
    if not stream:
        return json_response(await while_connected(incoming.gone, _whole(told, answer)))
    return await lines.stream(incoming, told)


async def _whole(told: lines.Lines, answer: answers.Answer) -> dict[str, Any]:
    async with aclosing(told):
        return answer.whole([line async for line in told])


async def _lines(desk: Desk, request: Request, answer: answers.Answer, *, context: bool) -> lines.Lines:
    """The stream's lines. With `context` the last has the tokens of prompt and answer, for a request that goes on."""
    once = context and request.keep_alive == 0
    asked = msgspec.structs.replace(request, keep_alive=None) if once else request  # the model goes after the last look
    last: dict[str, Any] = {}
    async with aclosing(desk.generate(asked)) as events:
        async for event in events:
            for line in answer.feed(event):
                if line["done"]:
                    last = line
                else:
                    yield line
    if context:  # after the events are closed: a request that holds a place must not wait for another
        text = await desk.prompt(asked) + answer.text
        last["context"] = await desk.tokenize(request, text, special=False)
    yield last


DIALECT = Dialect(
    name="ollama",
    mounts=("", "/ollama"),
    routes=(
        Route("GET", "/", "public", root),
        Route("GET", "/api/version", "public", version),
        Route("POST", "/api/chat", "infer", chat, "any", schema.ChatRequest),
        Route("POST", "/api/generate", "infer", generate, "any", schema.GenerateRequest),
        Route("POST", "/api/embed", "infer", embed, "any", schema.EmbedRequest),
        Route("POST", "/api/embeddings", "infer", embeddings, "any", schema.EmbeddingsRequest),
        *library.ROUTES,
        *making.ROUTES,
        *moving.ROUTES,
    ),
    error=error_response,
)
