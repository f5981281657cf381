from collections.abc import Sequence

import pytest

from freehold.core.errors import BadInput, Unsupported
from freehold.core.request import Constraint, Insert, Message, Request, Tool
from freehold.engines.llamacpp import plan as planning
from freehold.engines.llamacpp import tools
from tests.serving.support import in_loop

F = Tool("f", "", {"type": "object", "properties": {"x": {"type": "integer"}}})
G = Tool("g", "", {})
SCHEMA = Constraint("schema", {"type": "string"})


class Server:
    """Renders a conversation plainly and remembers what it was asked."""

    mark = ""

    def __init__(self) -> None:
        self.rendered: list[tuple[str, ...]] = []
        self.checked: list[Constraint] = []

    async def render(self, request: Request) -> str:
        self.rendered.append(tuple(tool.name for tool in request.tools))
        return "".join(f"<{message.role}>{message.content}" for message in request.messages) + "<assistant>"

    async def check(self, constraint: Constraint) -> None:
        self.checked.append(constraint)

    async def inserted(self, insert: Insert, prompt: str | Sequence[int]) -> list[int]:
        return [1, len(insert.prefix), 2, len(insert.suffix), 3, len(prompt)]


async def _plan(server: Server, knows_tools: bool = True, **fields) -> planning.Plan:
    request = Request(**{"model": "m", "messages": (Message("user", "hi"),), **fields})
    return await planning.plan(request, range(1), knows_tools, server)


@in_loop
async def test_free_chat_goes_to_the_chat_route():
    server = Server()
    asked = await _plan(server)
    assert asked.route == planning.CHAT
    assert server.rendered == []


@in_loop
async def test_raw_prompts_and_constrained_chat_go_as_text():
    server = Server()
    raw = await _plan(server, messages=(), prompt="once", constraint=SCHEMA)
    assert (raw.route, raw.body["prompt"]) == (planning.COMPLETION, "once")
    chat = await _plan(server, constraint=SCHEMA)
    assert (chat.route, chat.body["prompt"]) == (planning.COMPLETION, "<user>hi<assistant>")
    assert chat.body["json_schema"].items() >= SCHEMA.schema.items()
    assert server.checked == [SCHEMA, SCHEMA], "the completion route ignores a schema that it cannot read"


@in_loop
async def test_text_before_a_suffix_goes_as_the_tokens_that_show_the_place():
    asked = {"messages": (), "prompt": "c", "insert": Insert("aa", "bbb")}
    short = await _plan(Server(), **asked, constraint=SCHEMA)
    assert (short.route, short.body["prompt"]) == (planning.COMPLETION, [1, 2, 2, 3, 3, 1])
    native = await _plan(Server(), **asked, detail=True)
    assert (native.route, native.body["input_prefix"], native.body["prompt"]) == ("/infill", "aa", "c")
    with pytest.raises(BadInput, match="token ids"):
        await _plan(Server(), **{**asked, "prompt": (1,)}, detail=True)


@in_loop
async def test_tools_that_the_template_knows_are_left_to_it():
    asked = await _plan(Server(), tools=(F, G))
    assert asked.route == planning.CHAT
    assert [tool["function"]["name"] for tool in asked.body["tools"]] == ["f", "g"]
    assert isinstance(asked.new_filter(), planning.AsIs)
    assert isinstance((await _plan(Server(), tools=(F,), parallel_tool_calls=False)).new_filter(), planning.FirstCall)


@in_loop
async def test_tools_that_the_template_does_not_know_are_told_and_detected():
    asked = await _plan(Server(), knows_tools=False, tools=(F, G))
    assert asked.route == planning.COMPLETION
    assert '"name":"f"' in asked.body["prompt"]
    assert "json_schema" not in asked.body
    assert isinstance(asked.new_filter(), tools.Detected)


@pytest.mark.parametrize("knows_tools", [True, False])
@pytest.mark.parametrize("choice", ["required", "f"])
@in_loop
async def test_one_forced_tool_is_opened_for_the_model(knows_tools: bool, choice: str):
    offered = (F,) if choice == "required" else (G, F)
    asked = await _plan(Server(), knows_tools, tools=offered, tool_choice=choice)
    assert asked.body["prompt"].endswith('<assistant>{"name": "f", "arguments": ')
    assert asked.body["json_schema"].items() >= F.parameters.items()
    assert isinstance(asked.new_filter(), tools.Forced)


@in_loop
async def test_one_of_several_forced_tools_is_chosen_by_the_model():
    asked = await _plan(Server(), tools=(F, G), tool_choice="required")
    assert len(asked.body["json_schema"]["anyOf"]) == 2
    assert isinstance(asked.new_filter(), tools.Detected)


@in_loop
async def test_a_tool_without_parameters_takes_none():
    asked = await _plan(Server(), tools=(G,), tool_choice="g")
    assert (
        asked.body["json_schema"].items() >= {"type": "object", "properties": {}, "additionalProperties": False}.items()
    )


@in_loop
async def test_tools_that_must_not_be_called_are_not_offered():
    server = Server()
    asked = await _plan(server, knows_tools=False, tools=(F,), tool_choice="none", constraint=SCHEMA)
    assert asked.route == planning.COMPLETION
    assert '"f"' not in asked.body["prompt"]
    assert "tools" not in (await _plan(server, tools=(F,), tool_choice="none")).body


@in_loop
async def test_what_cannot_be_combined_is_refused():
    with pytest.raises(Unsupported) as caught:
        await _plan(Server(), knows_tools=False, tools=(F,), constraint=SCHEMA)
    assert caught.value.param == "response_format"
    with pytest.raises(BadInput):
        await _plan(Server(), tools=(F,), tool_choice="h")


@in_loop
async def test_every_choice_has_its_own_filter():
    asked = await _plan(Server(), tools=(F,), tool_choice="f", n=2)
    assert asked.new_filter() is not asked.new_filter()
