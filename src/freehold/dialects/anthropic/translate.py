"""Anthropic's requests as ours. Pure. What cannot be done is refused by name; nothing that matters is dropped."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from freehold.core.errors import BadInput, Unsupported
from freehold.core.request import Constraint, Image, Message, Request, Sampling, Tool, ToolCall, joined, moved
from freehold.dialects.anthropic import schema as wire
from freehold.formats import images
from freehold.serving.decoding import converted

_VENDORS_OWN = ("mcp_servers", "context_management", "container")
_SILENT = ("thinking", "redacted_thinking")
"""Blocks that tell what a model thought earlier; whether it reads that again is up to its template."""


def messages_request(body: wire.MessagesRequest) -> Request:
    """A message to be answered. Raises BadInput and Unsupported."""
    prompt = prompt_request(body)
    return msgspec.structs.replace(
        prompt,
        sampling=Sampling(temperature=body.temperature, top_p=body.top_p, top_k=body.top_k),
        max_tokens=body.max_tokens,
        stop=tuple(body.stop_sequences or ()),
    )


def prompt_request(body: wire.Prompt) -> Request:
    """What the model reads. Raises BadInput and Unsupported."""
    for name in _VENDORS_OWN:
        if getattr(body, name) is not None:
            raise Unsupported(f"{name} is not known here", f"Leave out {name}", param=name)
    tools = tuple(_tool(tool) for tool in body.tools or ())
    turns = [turn for message in body.messages for turn in _turns(message)]
    prefill = ""
    if turns and turns[-1].role == "assistant" and not turns[-1].tool_calls:
        prefill = turns.pop().content
        if prefill != prefill.rstrip():
            raise BadInput("the last message ends with white space", "Trim it: the answer goes on from there")
    if not turns:
        raise BadInput("messages hold nothing to answer", "Send a message of the user", param="messages")
    choice = body.tool_choice
    return Request(
        model=body.model,
        messages=(*_system(body.system), *turns),
        prefill=prefill,
        tools=tools,
        tool_choice=_tool_choice(choice, tools),
        parallel_tool_calls=not (choice and choice.disable_parallel_tool_use),
        constraint=_constraint(body),
        think=None if body.thinking is None else body.thinking.type != "disabled",
        effort=(body.output_config.effort if body.output_config else None) or "",
    )


def _system(system: wire.Content | None) -> Iterator[Message]:
    text = system if isinstance(system, str) else "\n\n".join(_texts(system or (), "system"))
    if text:
        yield Message("system", text)


def _turns(message: wire.Message) -> Iterator[Message]:
    """One message as turns: results of tools are turns of their own, before what the user says to them."""
    if isinstance(message.content, str):
        yield Message(message.role, message.content)
        return
    results = [block for block in message.content if block.type == "tool_result"]
    calls = [block for block in message.content if block.type == "tool_use"]
    rest = [block for block in message.content if block.type not in ("tool_result", "tool_use", *_SILENT)]
    if (results and message.role != "user") or (calls and message.role != "assistant"):
        raise BadInput(f"a {message.role} message cannot hold such blocks", "Check the roles", param="messages")
    for result in results:
        if not result.tool_use_id:
            raise BadInput("a tool_result names no call", "Set tool_use_id", param="messages")
        content = [result.content] if isinstance(result.content, str) else _content(result.content or (), "results")
        said, seen = joined(content, "\n")
        before = "Error: " if result.is_error else ""
        yield Message("tool", before + said, tool_call_id=result.tool_use_id, images=moved(seen, len(before)))
    text, seen = joined(_content(rest, "messages"), "\n")
    if seen and message.role != "user":
        raise BadInput(f"a {message.role} message cannot hold images", "Check the roles", param="messages")
    if text or seen or calls or not results:
        thought = "\n".join(block.thinking or "" for block in message.content if block.type == "thinking")
        called = tuple(_call(call) for call in calls)
        yield Message(message.role, text, tool_calls=called, reasoning=thought, images=seen)


def _content(blocks: Sequence[wire.Block], param: str) -> Iterator[str | Image]:
    """Texts and images in their order."""
    for block in blocks:
        if block.type == "image":
            yield _image(block, param)
        else:
            yield from _texts([block], param)


def _image(block: wire.Block, param: str) -> Image:
    source = block.source or {}
    kind, data, stated = source.get("type"), source.get("data"), source.get("media_type")
    if kind != "base64":
        raise BadInput(
            f"images are not fetched, and the source of one is of type {str(kind)[:40]!r}",
            "Send the image itself: base64, media_type and data",
            param=param,
        )
    if not isinstance(data, str) or not isinstance(stated, str):
        raise BadInput("an image has no data or no media_type in its source", "Set both", param=param)
    return images.of_base64(data, stated, param=param)


def _texts(blocks: Sequence[wire.Block], param: str) -> Iterator[str]:
    for block in blocks:
        if block.type == "text" and block.text is not None:
            yield block.text
        elif block.type == "document" and (block.source or {}).get("type") in ("text", "content"):
            yield "\n".join(text for text in (block.title, block.context, _data(block)) if text)
        else:
            raise Unsupported(f"content of type {block.type!r} is not understood", "Send text", param=param)


def _data(block: wire.Block) -> str:
    source = block.source or {}
    if source.get("type") == "content":
        given = source.get("content")
        return given if isinstance(given, str) else "\n".join(_texts(converted(given, list[wire.Block]), "messages"))
    data = source.get("data")
    if not isinstance(data, str):
        raise BadInput("a document has no text in its source", "Set source.data", param="messages")
    return data


def _call(block: wire.Block) -> ToolCall:
    if not block.id or not block.name:
        raise BadInput("a tool_use has no id or no name", "Send it as it was answered", param="messages")
    return ToolCall(block.id, block.name, msgspec.json.encode(block.input or {}).decode())


def _tool(tool: wire.Tool) -> Tool:
    if tool.type not in (None, "custom"):
        raise Unsupported(
            f"the tool {tool.type!r} runs on the vendor's servers", "Send tools of your own", param="tools"
        )
    return Tool(tool.name, tool.description or "", tool.input_schema or {})


def _tool_choice(choice: wire.ToolChoice | None, tools: Sequence[Tool]) -> str:
    kind = choice.type if choice else "auto"
    if kind in ("auto", "none"):
        return kind
    if not tools:
        raise BadInput("tool_choice needs tools", "Send the tools with it", param="tool_choice")
    if kind == "any":
        return "required"
    name = (choice.name if choice else None) or ""
    if name not in {tool.name for tool in tools}:
        raise BadInput(f"there is no tool {name!r} to call", "Name one of the tools given", param="tool_choice")
    return name


def _constraint(body: wire.Prompt) -> Constraint | None:
    wanted: Any = (body.output_config.format if body.output_config else None) or body.output_format
    return Constraint("schema", wanted.schema) if wanted is not None else None
