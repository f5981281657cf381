"""OpenAI's requests as ours. Pure. What cannot be done is refused by name; what changes an answer is never dropped."""

from collections.abc import Iterator, Sequence

import msgspec

from freehold.core.errors import BadInput, Unsupported
from freehold.core.request import Constraint, EmbedRequest, Image, Insert, Message, Request, Tool, ToolCall, joined
from freehold.dialects.openai import schema as wire
from freehold.dialects.openai.sampling import sampling, stops
from freehold.formats import images

MAX_CHOICES = 128
"""Choices of all prompts of one request."""


def chat_request(body: wire.ChatRequest) -> Request:
    """A chat completion. Raises BadInput and Unsupported."""
    _refuse_chat(body)
    tools = tuple(_tool(tool) for tool in body.tools or ())
    return Request(
        model=body.model,
        messages=tuple(_message(message) for message in body.messages),
        tools=tools,
        tool_choice=_tool_choice(body, tools),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        constraint=_constraint(body),
        sampling=sampling(body),
        max_tokens=body.max_completion_tokens or body.max_tokens,
        stop=stops(body.stop),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        n=body.n or 1,
        think=None if body.reasoning_effort is None else body.reasoning_effort != "none",
        effort="" if body.reasoning_effort in (None, "none") else body.reasoning_effort,
    )


def completion_requests(body: wire.CompletionRequest) -> list[Request]:
    """Plain completions, one request per prompt. Raises BadInput and Unsupported."""
    made = drawn(body)
    chosen = made > (body.n or 1)
    if made < (body.n or 1):
        raise BadInput(f"best_of is {made}", "Set it to n at least", param="best_of")
    if chosen and (body.stream or body.echo):
        raise BadInput("the best of several answers is not streamed, nor echoed", "Leave out best_of", param="best_of")
    if body.suffix and (body.echo or body.max_tokens == 0):
        raise BadInput("a suffix goes neither with echo nor with an empty answer", "Leave out suffix", param="suffix")
    prompts = _prompts(body)
    if not prompts or not (body.suffix or all(prompts)):
        raise BadInput("the prompt is empty", "Send some text", param="prompt")
    if made * len(prompts) > MAX_CHOICES:
        raise BadInput(f"{made * len(prompts)} choices are wanted", f"Ask for at most {MAX_CHOICES} at once", param="n")
    return [
        Request(
            model=body.model,
            prompt="" if body.suffix else prompt,
            insert=_insert(prompt, body.suffix) if body.suffix else None,
            constraint=Constraint("grammar", grammar=body.grammar) if body.grammar else None,
            sampling=sampling(body),
            max_tokens=body.max_tokens or 16,  # OpenAI's default for this route
            stop=stops(body.stop),
            logprobs=body.logprobs or 0 if chosen else body.logprobs,  # those that are not the best are found by them
            n=made,
        )
        for prompt in prompts
    ]


def drawn(body: wire.CompletionRequest) -> int:
    """Answers that are drawn for each prompt; the best of them, as many as `n` says, are told."""
    return body.best_of or body.n or 1


def _insert(prompt: str | tuple[int, ...], suffix: str) -> Insert:
    if not isinstance(prompt, str):
        raise BadInput("text is inserted after a text, not after token ids", "Send the prompt as text", param="prompt")
    return Insert(prompt, suffix)


def _prompts(body: wire.CompletionRequest) -> list[str | tuple[int, ...]]:
    """The prompts of a completion: a text, the ids of its tokens, or a list of either."""
    if isinstance(body.prompt, str):
        return [body.prompt]
    given = body.prompt or []
    if given and all(isinstance(item, int) for item in given):
        return [tuple(item for item in given if isinstance(item, int))]
    prompts: list[str | tuple[int, ...]] = []
    for item in given:
        if isinstance(item, int):
            raise BadInput("the prompt mixes token ids with texts", "Send texts, or token ids", param="prompt")
        prompts.append(item if isinstance(item, str) else tuple(item))
    return prompts


def embed_request(body: wire.EmbeddingRequest) -> EmbedRequest:
    """Texts to embed. Raises BadInput."""
    if isinstance(body.input, str):
        inputs: tuple[str | tuple[int, ...], ...] = (body.input,)
    elif all(isinstance(item, int) for item in body.input):
        inputs = (tuple(item for item in body.input if isinstance(item, int)),)
    else:
        inputs = tuple(_embed_input(item) for item in body.input)
    if len(inputs) > 2048:
        raise BadInput(f"{len(inputs)} inputs are given", "Send at most 2048 at once", param="input")
    if "" in inputs:
        raise BadInput("an input is empty", "Send some text", param="input")
    return EmbedRequest(model=body.model, inputs=inputs)


def _embed_input(item: str | int | list[int]) -> str | tuple[int, ...]:
    if isinstance(item, int):
        raise BadInput("inputs mix token ids with texts", "Send texts, or lists of token ids", param="input")
    return item if isinstance(item, str) else tuple(item)


def _refuse_chat(body: wire.ChatRequest) -> None:
    for name in ("audio", "web_search_options", "functions", "function_call"):
        if getattr(body, name) is not None:
            raise _unsupported(name, f"{name} is not known here")
    if body.modalities not in (None, ["text"]):
        raise _unsupported("modalities", "only text is answered")
    if body.verbosity not in (None, "medium"):
        raise _unsupported("verbosity", "verbosity cannot be set")
    if body.top_logprobs is not None and not body.logprobs:
        raise BadInput("top_logprobs needs logprobs", "Set logprobs to true", param="top_logprobs")
    if body.grammar and body.response_format and body.response_format.type != "text":
        raise BadInput("grammar and response_format exclude each other", "Send one of them", param="grammar")


def _message(message: wire.Message) -> Message:
    if message.role == "tool" and not message.tool_call_id:
        raise BadInput("a tool's answer names no call", "Set tool_call_id", param="messages")
    if message.audio is not None or message.function_call is not None:
        raise _unsupported("messages", "messages with audio or function_call are not known")
    text, seen = joined(content(message.content))
    if seen and message.role not in ("user", "tool"):
        raise _unsupported("messages", f"images are not understood in a message of role {message.role}")
    return Message(
        role="system" if message.role == "developer" else message.role,
        content=text or message.refusal or "",
        images=seen,
        tool_calls=tuple(
            ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()
        ),
        tool_call_id=message.tool_call_id or "",
        name=message.name or "",
        reasoning=message.reasoning_content or "",
    )


def content(given: str | Sequence[wire.ContentPart] | None) -> Iterator[str | Image]:
    """Texts and images of a message in their order. Raises BadInput and Unsupported."""
    if isinstance(given, str):
        yield given
        return
    for part in given or ():
        text = part.text if part.type == "text" else part.refusal if part.type == "refusal" else None
        if part.type == "image_url" and part.image_url is not None:
            image = images.of_url(part.image_url.url, param="messages")
            yield msgspec.structs.replace(image, coarse=part.image_url.detail == "low")
        elif text is None:
            raise _unsupported("messages", f"content of type {part.type!r} is not understood")
        else:
            yield text


def _tool(tool: wire.Tool) -> Tool:
    return Tool(tool.function.name, tool.function.description or "", tool.function.parameters or {})


def _tool_choice(body: wire.ChatRequest, tools: tuple[Tool, ...]) -> str:
    choice = body.tool_choice
    if choice in (None, "auto", "none"):
        return "none" if choice == "none" else "auto"
    name = choice.function.name if isinstance(choice, wire.NamedTool) else None
    if not tools:
        raise BadInput("tool_choice needs tools", "Send the tools with it", param="tool_choice")
    if name is not None and name not in {tool.name for tool in tools}:
        raise BadInput(f"there is no tool {name!r} to call", "Name one of the tools given", param="tool_choice")
    return name or "required"


def _constraint(body: wire.ChatRequest) -> Constraint | None:
    wanted = body.response_format
    if body.grammar:
        return Constraint("grammar", grammar=body.grammar)
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return Constraint("json")
    if wanted.json_schema is None:
        raise BadInput("response_format has no json_schema", "Send the schema", param="response_format.json_schema")
    return Constraint("schema", wanted.json_schema.schema) if wanted.json_schema.schema else Constraint("json")


def _unsupported(param: str, message: str) -> Unsupported:
    return Unsupported(message, f"Leave out {param}", param=param)
