"""Run by the client's own interpreter: what OpenAI's package sees of the Responses API. Prints one object of outcomes.

python openai_responses_checks.py http://127.0.0.1:PORT/v1 MODEL
"""

import asyncio
import base64
import json
import sys
import time

import checking
import openai
from drawing import png
from pydantic import BaseModel, Field

BASE, MODEL = sys.argv[1], sys.argv[2]
FAILURES = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, openai.OpenAIError)
HELLO = "Where is my order?"
SHORT = {"model": MODEL, "input": HELLO, "max_output_tokens": 6, "temperature": 0}
SHORT["extra_body"] = {"logit_bias": {"0": -100, "2": -100}}  # a model of random weights may draw its end token at once
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["city", "n"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "name": "weather", "description": "of a city", "parameters": SCHEMA, "strict": True}
CLOCK = {"type": "function", "name": "clock", "parameters": {"type": "object", "properties": {}}, "strict": False}

client = openai.OpenAI(base_url=BASE, api_key="none", max_retries=0, timeout=60, _strict_response_validation=True)


class Place(BaseModel):
    city: str = Field(max_length=8)
    n: int = Field(ge=0, le=9)


def check_create():
    answer = client.responses.create(**SHORT, instructions="Be kind.", metadata={"k": "v"}, user="u")
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.output_text
    assert answer.usage.output_tokens == 6
    assert answer.usage.total_tokens == answer.usage.input_tokens + 6
    assert (answer.instructions, answer.metadata, answer.user) == ("Be kind.", {"k": "v"}, "u")
    assert client.responses.create(**SHORT, store=False).output_text == client.responses.create(**SHORT).output_text


def check_roles_and_parts():
    answer = client.responses.create(
        model=MODEL,
        max_output_tokens=3,
        input=[
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
        ],
    )
    assert answer.output[0].type == "message"


def check_stream():
    events = list(client.responses.create(**SHORT, stream=True))
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", "incomplete"]
    assert set(kinds[4:-4]) == {"output_text.delta"}
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text == client.responses.create(**SHORT).output_text
    assert client.responses.retrieve(events[-1].response.id) == events[-1].response


def check_stream_helper():
    form = {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}
    with client.responses.stream(model=MODEL, input=HELLO, text={"format": form}, temperature=0) as stream:
        deltas = [event for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert deltas[-1].snapshot == final.output_text
    assert set(json.loads(final.output_text)) == {"city", "n"}


def check_stream_helper_parses():
    with client.responses.stream(model=MODEL, input=HELLO, text_format=Place, temperature=0) as stream:
        final = stream.until_done().get_final_response()
    assert isinstance(final.output_parsed, Place)


def check_parse():
    answer = client.responses.parse(model=MODEL, input=HELLO, text_format=Place, temperature=0)
    assert isinstance(answer.output_parsed, Place)


def check_parse_tool_arguments():
    tool = openai.pydantic_function_tool(Place)
    given = {"type": "function", "name": "Place", "strict": True, "parameters": tool["function"]["parameters"]}
    answer = client.responses.parse(model=MODEL, input=HELLO, tools=[given], tool_choice="required", temperature=0)
    assert set(answer.output[-1].parsed_arguments) == {"city", "n"}


def check_json_object():
    answer = client.responses.create(
        model=MODEL, input=HELLO, max_output_tokens=20, text={"format": {"type": "json_object"}}, extra_body={"seed": 1}
    )
    assert answer.output_text.startswith("{")


def check_forced_tools():
    for choice in (
        "required",
        {"type": "function", "name": "weather"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]},
    ):
        tools = [WEATHER] if choice == "required" else [CLOCK, WEATHER]
        answer = client.responses.create(model=MODEL, input=HELLO, tools=tools, tool_choice=choice, temperature=0)
        (call,) = answer.output
        assert (call.type, call.name, call.status) == ("function_call", "weather", "completed")
        assert set(json.loads(call.arguments)) == {"city", "n"}


def check_tools_round_trip():
    first = client.responses.create(model=MODEL, input=HELLO, tools=[WEATHER], tool_choice="required", temperature=0)
    output = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "sunny"}
    more = {"model": MODEL, "max_output_tokens": 5, "temperature": 0}
    second = client.responses.create(**more, input=[output], previous_response_id=first.id)
    assert second.output[0].type == "message"
    own = [{"role": "user", "content": HELLO}, *first.output, output]
    third = client.responses.create(**more, input=own, store=False)
    assert second.output_text == third.output_text
    assert second.usage.input_tokens == third.usage.input_tokens


def check_tool_stream():
    asked = {"model": MODEL, "input": HELLO, "tools": [WEATHER], "tool_choice": "required", "temperature": 0}
    with client.responses.stream(**asked) as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[2] == "response.output_item.added"
    assert kinds[-3:] == [
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    deltas = [event for event in events if event.type == "response.function_call_arguments.delta"]
    assert deltas[-1].snapshot == final.output[0].arguments
    json.loads(final.output[0].arguments)


def check_functions_of_a_namespace():
    space = {"type": "namespace", "name": "desk", "description": "the desk", "tools": [WEATHER]}
    answer = client.responses.create(model=MODEL, input=HELLO, tools=[space], tool_choice="required", temperature=0)
    assert (answer.output[0].namespace, answer.output[0].name) == ("desk", "weather")
    output = {"type": "function_call_output", "call_id": answer.output[0].call_id, "output": "sunny"}
    assert client.responses.create(**{**SHORT, "input": [output]}, previous_response_id=answer.id, tools=[space])


def check_logprobs():
    asked = {**SHORT, "include": ["message.output_text.logprobs"], "top_logprobs": 3}
    logprobs = client.responses.create(**asked).output[0].content[0].logprobs
    assert 0 < len(logprobs) <= 6  # tokens that are parts of one character may come as one
    for token in logprobs:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
    events = client.responses.create(**asked, stream=True)
    told = [each for event in events if event.type == "response.output_text.delta" for each in event.logprobs]
    assert [each.token for each in told] == [each.token for each in logprobs]


def check_conversation():
    first = client.responses.create(**SHORT)
    second = client.responses.create(**{**SHORT, "input": "And now?"}, previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens
    listed = client.responses.input_items.list(second.id, order="asc")
    assert [item.role for item in listed] == ["user", "assistant", "user"]
    assert listed.data[1].content[0].text == first.output_text
    counted = client.responses.input_tokens.count(model=MODEL, input="And now?", previous_response_id=first.id)
    assert counted.input_tokens == second.usage.input_tokens


def check_background():
    made = client.responses.create(**SHORT, background=True)
    assert (made.status, made.background) == ("queued", True)
    end = time.monotonic() + 60
    while made.status in ("queued", "in_progress"):
        assert time.monotonic() < end
        time.sleep(0.05)
        made = client.responses.retrieve(made.id)
    assert (made.status, made.usage.output_tokens) == ("incomplete", 6)
    assert client.responses.cancel(made.id).status == "incomplete"
    events = list(client.responses.create(**SHORT, background=True, stream=True))
    assert [event.type for event in events[:3]] == [f"response.{kind}" for kind in ("created", "queued", "in_progress")]
    again = list(client.responses.retrieve(events[0].response.id, stream=True, starting_after=2))
    assert [event.sequence_number for event in again] == [event.sequence_number for event in events[3:]]
    long = client.responses.create(**{**SHORT, "max_output_tokens": 900}, background=True)
    assert client.responses.cancel(long.id).status == "cancelled"


def check_conversations():
    made = client.conversations.create(items=[{"role": "developer", "content": "Be kind."}], metadata={"k": "v"})
    assert client.conversations.retrieve(made.id).metadata == {"k": "v"}
    for _ in range(2):
        assert client.responses.create(**SHORT, conversation=made.id).conversation.id == made.id
    items = list(client.conversations.items.list(made.id, order="asc", limit=2))
    assert [item.role for item in items] == ["developer", "user", "assistant", "user", "assistant"]
    assert client.conversations.items.retrieve(items[1].id, conversation_id=made.id).content[0].text == HELLO
    assert client.conversations.items.delete(items[1].id, conversation_id=made.id).id == made.id
    added = client.conversations.items.create(made.id, items=[{"role": "user", "content": "And now?"}])
    assert added.data[0].content[0].text == "And now?"
    assert client.conversations.update(made.id, metadata={"k": "w"}).metadata == {"k": "w"}
    assert client.conversations.delete(made.id).deleted is True
    assert checking.raises(openai.NotFoundError, lambda: client.conversations.retrieve(made.id))
    assert checking.raises(openai.NotFoundError, lambda: client.responses.create(**SHORT, conversation=made.id))


def check_compaction():
    first = client.responses.create(**SHORT)
    # The client's type of an item has no place for a user's message, which OpenAI answers here.
    with openai.OpenAI(base_url=BASE, api_key="none", max_retries=0, timeout=60) as lax:
        short = lax.responses.compact(model=MODEL, previous_response_id=first.id)
    assert (short.object, [item.type for item in short.output]) == ("response.compaction", ["message", "compaction"])
    assert short.usage.total_tokens == short.usage.input_tokens + short.usage.output_tokens > 20
    more = [item.to_dict(warnings=False) for item in short.output] + [{"role": "user", "content": "And now?"}]
    assert client.responses.create(**{**SHORT, "input": more}).output_text
    foreign = [{"type": "compaction", "encrypted_content": "gAAAAA"}]
    assert (
        checking.raises(openai.BadRequestError, lambda: client.responses.create(**{**SHORT, "input": foreign})).param
        == "input"
    )


def check_items_come_in_pages():
    answer = client.responses.create(**{**SHORT, "input": [{"role": "user", "content": str(n)} for n in range(7)]})
    paged = client.responses.input_items.list(answer.id, limit=3)
    assert len(paged.data) == 3
    assert [item.content[0].text for item in paged] == ["6", "5", "4", "3", "2", "1", "0"]


def check_items_can_be_referred_to():
    first = client.responses.create(**SHORT)
    references = [{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "And now?"}]
    assert client.responses.create(**{**SHORT, "input": references})
    unknown = [{"type": "item_reference", "id": "msg_1"}]
    assert checking.raises(openai.NotFoundError, lambda: client.responses.create(**{**SHORT, "input": unknown}))


def check_retrieve_and_delete():
    answer = client.responses.create(**SHORT)
    assert client.responses.retrieve(answer.id) == answer
    assert "synchronous" in checking.raises(openai.BadRequestError, lambda: client.responses.cancel(answer.id)).message
    client.responses.delete(answer.id)
    for ask in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        assert answer.id in checking.raises(openai.NotFoundError, lambda ask=ask: ask(answer.id)).message
    unkept = client.responses.create(**SHORT, store=False)
    assert checking.raises(openai.NotFoundError, lambda: client.responses.retrieve(unkept.id))


def check_truncation():
    long = [{"role": "user", "content": "order " * 300} for _ in range(12)]
    asked = {**SHORT, "input": long}
    error = checking.raises(openai.BadRequestError, lambda: client.responses.create(**asked))
    assert (error.code, error.param) == ("context_length_exceeded", "input")
    assert client.responses.create(**asked, truncation="auto").truncation == "auto"


def check_errors():
    def ask(**fields):
        return lambda: client.responses.create(**{**SHORT, **fields})

    for stream in (False, True):
        assert checking.raises(openai.NotFoundError, ask(model="nobody", stream=stream)).code == "model_not_found"
    error = checking.raises(openai.BadRequestError, ask(previous_response_id="resp_1"))
    assert (error.code, error.param) == ("previous_response_not_found", "previous_response_id")
    for fields, param in (
        ({"temperature": 5}, "temperature"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}, "tools"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/"}]}]}, "input"),
        ({"extra_body": {"nonsense": 1}}, "nonsense"),
    ):
        assert checking.raises(openai.BadRequestError, ask(**fields)).param == param
    form = {"type": "json_schema", "name": "x", "schema": {"type": "nonsense"}}
    assert checking.raises(openai.BadRequestError, ask(text={"format": form}))


def check_leaving_midway():
    stream = client.responses.create(**{**SHORT, "max_output_tokens": 900}, stream=True)
    for number, _ in enumerate(stream):
        if number == 8:
            break
    stream.close()
    assert client.responses.create(**SHORT)


def check_async():
    async def main():
        async with openai.AsyncOpenAI(
            base_url=BASE, api_key="none", max_retries=0, _strict_response_validation=True
        ) as other:
            answers = await asyncio.gather(*(other.responses.create(**SHORT) for _ in range(6)))
            assert len({answer.output_text for answer in answers}) == 1
            assert len({answer.id for answer in answers}) == 6
            stream = await other.responses.create(**SHORT, stream=True)
            assert [event async for event in stream][-1].response.output_text == answers[0].output_text
            async with other.responses.stream(model=MODEL, input=HELLO, text_format=Place, temperature=0) as helped:
                assert isinstance((await helped.get_final_response()).output_parsed, Place)
            listed = [item async for item in other.responses.input_items.list(answers[0].id)]
            assert listed[0].content[0].text == HELLO

    asyncio.run(main())


def refused(ask, wrong):
    """Why it is."""
    try:
        ask(**wrong)
    except openai.BadRequestError as error:
        return "image" in error.message or "files of type" in error.message
    return False


def check_images():
    def asked(image, model="eye"):
        url = image if isinstance(image, str) else f"data:image/png;base64,{base64.b64encode(image).decode()}"
        parts = [
            {"type": "input_text", "text": "What is this?"},
            {"type": "input_image", "image_url": url, "detail": "auto"},
        ]
        return client.responses.create(**{**SHORT, "model": model, "input": [{"role": "user", "content": parts}]})

    red, blue = png(255, 0, 0), png(0, 0, 255)
    first = asked(red)
    assert first.output_text == asked(red).output_text != asked(blue).output_text
    kept = client.responses.input_items.list(first.id).data
    assert kept[0].content[1].type == "input_image"
    more = client.responses.create(**{**SHORT, "model": "eye"}, previous_response_id=first.id)
    assert more.usage.input_tokens > first.usage.input_tokens
    for wrong in ({"image": "https://example.com/a.png"}, {"image": red[:40]}, {"image": red, "model": MODEL}):
        assert refused(asked, wrong), wrong.keys()


if __name__ == "__main__":
    checking.run(globals(), FAILURES)
