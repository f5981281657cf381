"""llama-server's routes beside generation: tokens, vectors, ranks, and what it tells of itself."""

import asyncio
from typing import Any

from starlette.responses import PlainTextResponse, Response

from freehold.core.errors import BadInput, Busy, Forbidden, NotFound, Unsupported
from freehold.core.request import EmbedRequest, Request, RerankRequest
from freehold.dialects.llamacpp import answers, mapping, translate
from freehold.dialects.llamacpp import schema as wire
from freehold.dialects.llamacpp.listing import list_models
from freehold.dialects.openai import answers as openai
from freehold.serving.decoding import decoded
from freehold.serving.desk import Desk
from freehold.serving.http import json_response, while_connected
from freehold.serving.routes import Incoming, Route


async def health(incoming: Incoming, desk: Desk) -> Response:
    """GET /health: whether requests are answered; not while the one model loads."""
    if desk.sole is not None and not desk.sole.loaded:
        raise Busy("Loading model", "Try again soon")
    return json_response({"status": "ok"})


async def tokenize(incoming: Incoming, desk: Desk) -> Response:
    """POST /tokenize: the tokens of a text."""
    body = await decoded(incoming.body, wire.TokenizeRequest, nulls=False)
    model = await mapping.model_of(incoming, desk, body.model)
    return json_response({"tokens": await while_connected(incoming.gone, _tokens(desk, model, body))})


async def _tokens(desk: Desk, model: str, body: wire.TokenizeRequest) -> list[Any]:
    content = body.content
    if isinstance(content, list):
        content = [translate.text_of(item) if isinstance(item, wire.PromptObject) else item for item in content]
    elif isinstance(content, wire.PromptObject):
        content = translate.text_of(content)
    asked = {"content": content, "add_special": body.add_special, "parse_special": body.parse_special}
    told = (await desk.ask(Request(model=model), "pieces", asked))["tokens"]
    return list(told) if body.with_pieces else [each["id"] for each in told]


async def detokenize(incoming: Incoming, desk: Desk) -> Response:
    """POST /detokenize: the text of tokens."""
    body = await decoded(incoming.body, wire.DetokenizeRequest, nulls=False)
    request = Request(model=await mapping.model_of(incoming, desk, body.model))
    return json_response({"content": await while_connected(incoming.gone, desk.detokenize(request, body.tokens))})


async def apply_template(incoming: Incoming, desk: Desk) -> Response:
    """POST /apply-template: the prompt of a conversation."""
    body = await decoded(incoming.body, wire.TemplateRequest, nulls=False)
    request = translate.template_request(body, await mapping.model_of(incoming, desk, body.model))
    return json_response({"prompt": await while_connected(incoming.gone, desk.prompt(request))})


async def input_tokens(incoming: Incoming, desk: Desk) -> Response:
    """POST /chat/completions/input_tokens: how many tokens a prompt has."""
    body = await decoded(incoming.body, wire.TemplateRequest, nulls=False)
    request = translate.template_request(body, await mapping.model_of(incoming, desk, body.model))
    count = await while_connected(incoming.gone, desk.count(request))
    return json_response({"object": "response.input_tokens", "input_tokens": count})


async def embeddings(incoming: Incoming, desk: Desk) -> Response:
    """POST /v1/embeddings: a vector for each text."""
    body = await decoded(incoming.body, wire.EmbeddingRequest, nulls=False)
    request = await _embedding(incoming, desk, body.model, body.input)
    found = await while_connected(incoming.gone, desk.embed(request))
    return json_response(openai.embeddings_body(found, request.model, body.encoding_format == "base64"))


async def embedding(incoming: Incoming, desk: Desk) -> Response:
    """POST /embedding: a row for each input, or for each of its tokens."""
    body = await decoded(incoming.body, wire.NativeEmbeddingRequest, nulls=False)
    given = body.input if body.content is None else body.content
    if given is None:
        raise BadInput("there is no text", "Send content", param="content")
    request = await _embedding(incoming, desk, body.model, given, per_token=True, normalize=body.embd_normalize)
    return json_response(answers.embedding_rows(await while_connected(incoming.gone, desk.embed(request))))


async def _embedding(incoming: Incoming, desk: Desk, named: str, given: Any, **more: Any) -> EmbedRequest:
    model = await mapping.model_of(incoming, desk, named)
    inputs = [await mapping.resolved(desk, model, each) for each in translate.prompts(given)]
    return EmbedRequest(model=model, inputs=tuple(inputs), **more)


async def rerank(incoming: Incoming, desk: Desk) -> Response:
    """POST /rerank: how well documents answer a query."""
    body = await decoded(incoming.body, wire.RerankRequest, nulls=False)
    texts = body.documents or body.texts
    if texts is None:
        raise BadInput("there is nothing to rank", "Send documents", param="documents")
    model = await mapping.model_of(incoming, desk, body.model)
    request = RerankRequest(model=model, query=body.query, documents=tuple(texts))
    found = await while_connected(incoming.gone, desk.rerank(request))
    if body.documents is None:
        return json_response(answers.tei_rows(texts, found, body.top_n, with_text=body.return_text))
    return json_response(answers.rerank_body(model, found, body.top_n))


async def properties(incoming: Incoming, desk: Desk) -> Response:
    """GET /props: what the one model said at its start: whoever looks whether it sleeps must not keep it awake."""
    model = await mapping.model_of(incoming, desk)
    sole = desk.sole
    told = sole.properties if sole is not None else None
    if told is None:
        told = await desk.ask(Request(model=model), "properties")
    own = {"model_alias": model, "ui": False, "webui": False, "is_sleeping": False, "endpoint_props": False}
    # Of what its projector may do, images alone are taken here.
    seeing = bool(told.get("modalities", {}).get("vision"))
    own["modalities"] = {"vision": seeing, "video": False, "audio": False}
    if sole is not None:
        sole.properties = told
        own["is_sleeping"] = not desk.pool.workers
        own |= {"model_path": str(sole.path), "endpoint_slots": sole.slots, "endpoint_metrics": sole.metrics}
    return json_response({**told, **own})


async def set_properties(incoming: Incoming, desk: Desk) -> Response:
    """POST /props: refused, which llama-server allows with --props alone."""
    raise Unsupported("properties are not changed while the server runs", "Start it with other arguments")


async def slots(incoming: Incoming, desk: Desk) -> Response:
    """GET /slots: what each is doing."""
    if desk.sole is not None and not desk.sole.slots:
        raise Unsupported("this server does not tell of its slots", "Start it with --slots")
    told = await desk.ask(Request(model=await mapping.model_of(incoming, desk)), "slots")
    if incoming.query.get("fail_on_no_slot") and all(slot.get("is_processing") for slot in told):
        raise Busy("no slot available", "Try again later")
    return json_response(told)


async def act_on_slot(incoming: Incoming, desk: Desk) -> Response:
    """POST /slots/{id}?action=save: keep, restore or erase what a slot has read."""
    number, action = incoming.path["slot"], incoming.query.get("action", "")
    if action not in ("save", "restore", "erase"):
        raise BadInput(f"no action is called {action[:40]!r}", "Known: save, restore, erase", param="action")
    if not (number.isascii() and number.isdecimal() and len(number) <= 4):
        raise BadInput(f"{number[:40]!r} is no slot", "Name it by its number", param="id_slot")
    if desk.sole is None or not desk.sole.slot_folder:
        raise Unsupported("this server does not keep slots", "Start it with --slot-save-path")
    name = "" if action == "erase" else (await decoded(incoming.body, wire.SlotFile, nulls=False)).filename
    if action == "restore" and not await asyncio.to_thread(desk.sole.has_slot, name):
        raise BadInput(f"there is no {name}", "Save a slot under this name first", param="filename")
    request = Request(model=desk.sole.label)
    slots = len(await desk.ask(request, "slots"))
    if int(number) >= slots:  # llama.cpp counts on from the first: it would act on somebody else's
        raise BadInput(f"Invalid slot ID: there is no slot {number}", f"Name one of 0 to {slots - 1}", param="id_slot")
    told = await desk.ask(request, f"{action} slot", {"slot": int(number), "filename": name})  # type: ignore[arg-type]
    return json_response({**told, "filename": name} if name else told)


async def adapters(incoming: Incoming, desk: Desk) -> Response:
    """GET /lora-adapters: the adapters and their scales."""
    request = Request(model=await mapping.model_of(incoming, desk))
    return json_response(await desk.ask(request, "adapters"))


async def set_adapters(incoming: Incoming, desk: Desk) -> Response:
    """POST /lora-adapters: their scales, for requests that say none."""
    scales = await decoded(incoming.body, wire.AdapterScales, nulls=False)
    request = Request(model=await mapping.model_of(incoming, desk))
    given = [{"id": each.id, "scale": each.scale} for each in scales]
    return json_response(await desk.ask(request, "set adapters", {"adapters": given}))


async def metrics(incoming: Incoming, desk: Desk) -> Response:
    """GET /metrics: numbers for Prometheus."""
    if desk.sole is not None and not desk.sole.metrics:
        raise Unsupported("this server tells no metrics", "Start it with --metrics")
    if desk.sole is None and not desk.pool.workers:
        raise NotFound("no model is loaded, so there is nothing to count", "Ask again when one works")
    asleep = desk.sole.numbers if desk.sole is not None and not desk.pool.workers else None
    told = asleep or await desk.ask(Request(model=await mapping.model_of(incoming, desk)), "metrics")
    response = PlainTextResponse(told["text"], media_type="text/plain; version=0.0.4")
    if told.get("started"):  # in these letters, for which llama-server's users look
        response.raw_headers.append((b"Process-Start-Time-Unix", str(told["started"]).encode("latin-1", "replace")))
    return response


async def never(incoming: Incoming, desk: Desk) -> Response:
    """What llama-server does for pages and agents when it is told to: fetch for them, and run tools."""
    raise Forbidden("this server fetches nothing for pages and runs no tools", "Do that beside it")


REFUSED = tuple(
    Route(method, path, "infer", never, "none") for path in ("/cors-proxy", "/tools") for method in ("GET", "POST")
)
ROUTES = (
    Route("GET", "/health", "public", health),
    Route("GET", "/v1/health", "public", health),
    Route("GET", "/models", "read", list_models),
    Route("GET", "/v1/models", "read", list_models),
    Route("POST", "/tokenize", "infer", tokenize, "any", wire.TokenizeRequest),
    Route("POST", "/detokenize", "infer", detokenize, "any", wire.DetokenizeRequest),
    Route("POST", "/apply-template", "infer", apply_template, "any", wire.TemplateRequest),
    Route("POST", "/chat/completions/input_tokens", "infer", input_tokens, "any", wire.ChatRequest),
    Route("POST", "/v1/chat/completions/input_tokens", "infer", input_tokens, "any", wire.ChatRequest),
    Route("POST", "/embedding", "infer", embedding, "any", wire.NativeEmbeddingRequest),
    Route("POST", "/embeddings", "infer", embedding, "any", wire.NativeEmbeddingRequest),
    Route("POST", "/v1/embeddings", "infer", embeddings, body=wire.EmbeddingRequest),
    *(
        Route("POST", f"{prefix}/{path}", "infer", rerank, "any", wire.RerankRequest)
        for prefix in ("", "/v1")
        for path in ("rerank", "reranking")
    ),
    Route("GET", "/props", "read", properties),
    Route("POST", "/props", "manage", set_properties, "any"),
    Route("GET", "/slots", "read", slots),
    Route("POST", "/slots/{slot}", "manage", act_on_slot, "any", wire.SlotFile),
    Route("GET", "/lora-adapters", "read", adapters),
    Route("POST", "/lora-adapters", "manage", set_adapters, "any", wire.AdapterScales),
    Route("GET", "/metrics", "read", metrics),
)
