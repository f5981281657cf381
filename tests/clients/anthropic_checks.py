"""Run by the client's own interpreter: what Anthropic's package sees of a server. Prints one JSON object of outcomes.

python anthropic_checks.py http://127.0.0.1:PORT MODEL
"""

import asyncio
import base64
import json
import sys
import time

import anthropic
import checking
from drawing import png

BASE, MODEL = sys.argv[1], sys.argv[2]
FAILURES = (AssertionError, AttributeError, LookupError, TypeError, ValueError, anthropic.AnthropicError)
HELLO = [{"role": "user", "content": "Where is my order?"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["city", "n"],
    "additionalProperties": False,
}
WEATHER = {"name": "weather", "description": "of a city", "input_schema": SCHEMA}
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
CLOCK = {"name": "clock", "input_schema": NOTHING}
OPTIONS = {"base_url": BASE, "api_key": "none", "max_retries": 0, "timeout": 60, "_strict_response_validation": True}

GREEDY = {"temperature": 0}
"""The client no longer has a parameter for it."""

client = anthropic.Anthropic(**OPTIONS)


def check_models():
    page = client.models.list()
    assert MODEL in [model.id for model in page]
    assert client.models.retrieve(MODEL).type == "model"
    assert client.models.retrieve("org/" + MODEL).id == "org/" + MODEL


def check_models_page_by_page():
    names = [model.id for model in client.models.list(limit=1)]
    assert len(names) == len(set(names))
    assert {MODEL, "org/" + MODEL} <= set(names)


def check_message():
    answer = client.messages.create(model=MODEL, messages=HELLO, max_tokens=6)
    assert answer.role == "assistant"
    assert answer.model == MODEL
    assert answer.stop_reason in ("max_tokens", "end_turn")
    assert answer.usage.output_tokens <= 6
    assert answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0) > 5


def check_the_count_is_that_of_the_answer():
    counted = client.messages.count_tokens(model=MODEL, messages=HELLO, system="Be kind.", tools=[WEATHER])
    answer = client.messages.create(model=MODEL, messages=HELLO, system="Be kind.", tools=[WEATHER], max_tokens=1)
    usage = answer.usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def check_stream():
    kinds, text = [], ""
    with client.messages.stream(model=MODEL, messages=HELLO, max_tokens=6, extra_body=GREEDY) as stream:
        for event in stream:
            kinds.append(event.type)
            text += event.delta.text if event.type == "content_block_delta" else ""
        final = stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    whole = client.messages.create(model=MODEL, messages=HELLO, max_tokens=6, extra_body=GREEDY)
    assert "".join(block.text for block in final.content) == text
    assert [block.text for block in whole.content] == [block.text for block in final.content]
    assert whole.usage.output_tokens == final.usage.output_tokens
    assert whole.stop_reason == final.stop_reason


def check_raw_stream():
    events = list(client.messages.create(model=MODEL, messages=HELLO, max_tokens=4, stream=True))
    assert events[0].message.stop_reason is None
    assert events[-2].delta.stop_reason is not None


def check_stop_sequence():
    long = client.messages.create(model=MODEL, messages=HELLO, max_tokens=24, extra_body=GREEDY)
    text = "".join(block.text for block in long.content)
    stop = text[len(text) // 2 :][:3]
    answer = client.messages.create(
        model=MODEL, messages=HELLO, max_tokens=24, stop_sequences=[stop], extra_body=GREEDY
    )
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", stop)
    assert "".join(block.text for block in answer.content) == text[: text.index(stop)]


def check_roles_blocks_and_results():
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Ulm", "n": 1}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}]},
    ]
    system = [{"type": "text", "text": "Be kind."}]
    answer = client.messages.create(model=MODEL, messages=messages, system=system, tools=[WEATHER], max_tokens=3)
    assert answer.id


def check_an_answer_that_is_begun():
    begun = [*HELLO, {"role": "assistant", "content": "My answer:"}]
    answer = client.messages.create(model=MODEL, messages=begun, max_tokens=4)
    assert not any(block.text.startswith("My answer:") for block in answer.content)


def check_a_tool_that_must_be_called():
    for choice in ({"type": "tool", "name": "weather"}, {"type": "any"}):
        answer = client.messages.create(
            model=MODEL, messages=HELLO, tools=[WEATHER, CLOCK], tool_choice=choice, max_tokens=400
        )
        call = answer.content[-1]
        assert call.type == "tool_use"
        assert answer.stop_reason == "tool_use"
        if call.name == "weather":
            assert set(call.input) == {"city", "n"}


def check_a_tool_call_streamed():
    choice = {"type": "tool", "name": "weather"}
    with client.messages.stream(
        model=MODEL, messages=HELLO, tools=[WEATHER], tool_choice=choice, max_tokens=400
    ) as stream:
        final = stream.get_final_message()
    assert set(final.content[-1].input) == {"city", "n"}


def check_a_schema():
    form = {"format": {"type": "json_schema", "schema": SCHEMA}}
    answer = client.messages.create(
        model=MODEL, messages=HELLO, max_tokens=200, output_config=form, extra_body={"temperature": 0.5}
    )
    assert set(json.loads(answer.content[0].text)) == {"city", "n"}


def raised(kind, **fields):
    try:
        client.messages.create(**{"model": MODEL, "messages": HELLO, "max_tokens": 4, **fields})
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def check_errors():
    assert raised(anthropic.NotFoundError, model="nope").body["error"]["type"] == "not_found_error"
    wrong = raised(anthropic.BadRequestError, extra_body={"temperature": 7})
    assert wrong.body["type"] == "error"
    assert "temperature" in wrong.message
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    assert "image" in raised(anthropic.BadRequestError, messages=[{"role": "user", "content": [image]}]).message
    assert "tokens" in raised(anthropic.BadRequestError, messages=[{"role": "user", "content": "word " * 5000}]).message


def check_leaving_midway_frees_the_worker():
    for _ in range(6):
        with client.messages.stream(model=MODEL, messages=HELLO, max_tokens=900, extra_body=GREEDY) as stream:
            next(iter(stream))
    begin = time.monotonic()
    client.messages.create(model=MODEL, messages=HELLO, max_tokens=2)
    assert time.monotonic() - begin < 10


def check_async_and_at_once():
    async def ask():
        async with anthropic.AsyncAnthropic(**OPTIONS) as one:
            asked = [one.messages.create(model=MODEL, messages=HELLO, max_tokens=5) for _ in range(12)]
            return await asyncio.gather(*asked)

    answers = asyncio.run(ask())
    assert len({answer.id for answer in answers}) == 12


def check_fifty_streams_at_once():
    async def one(other):
        asked = {"model": MODEL, "messages": HELLO, "max_tokens": 6, "extra_body": GREEDY}
        async with other.messages.stream(**asked) as stream:
            text = "".join([piece async for piece in stream.text_stream])
            return text, (await stream.get_final_message()).usage.output_tokens

    async def ask():
        async with anthropic.AsyncAnthropic(**OPTIONS) as other:
            return await asyncio.gather(*(one(other) for _ in range(50)))

    assert len(set(asyncio.run(ask()))) == 1


def check_beta_messages():
    answer = client.beta.messages.create(model=MODEL, messages=HELLO, max_tokens=3)
    assert answer.type == "message"


def ended(batch):
    end = time.monotonic() + 60
    while batch.processing_status != "ended":
        assert time.monotonic() < end, batch
        time.sleep(0.05)
        batch = client.messages.batches.retrieve(batch.id)
    return batch


def rows(count, **params):
    asked = {"model": MODEL, "messages": HELLO, "max_tokens": 4, **params}
    return [{"custom_id": f"r{i}", "params": asked} for i in range(count)]


def check_batch():
    wrong = {"custom_id": "wrong", "params": {**rows(1)[0]["params"], "model": "nope"}}
    made = client.messages.batches.create(requests=[*rows(5), wrong])
    assert made.request_counts.processing == 6
    done = ended(made)
    assert (done.request_counts.succeeded, done.request_counts.errored) == (5, 1)
    found = {each.custom_id: each.result for each in client.messages.batches.results(made.id)}
    assert list(found) == ["r0", "r1", "r2", "r3", "r4", "wrong"]
    assert found["r0"].message.usage.output_tokens <= 4
    assert found["wrong"].error.error.type == "not_found_error"
    assert made.id in [each.id for each in client.messages.batches.list(limit=1)]
    assert client.messages.batches.delete(made.id).type == "message_batch_deleted"
    try:
        client.messages.batches.retrieve(made.id)
    except anthropic.NotFoundError:
        return
    raise AssertionError("it is still there")


def check_batch_cancelled():
    made = client.messages.batches.create(requests=rows(50, max_tokens=200))
    assert client.messages.batches.cancel(made.id).processing_status in ("canceling", "ended")
    done = ended(made)
    kinds = [each.result.type for each in client.messages.batches.results(made.id)]
    assert len(kinds) == 50
    assert kinds.count("canceled") == done.request_counts.canceled > 0


def check_batch_through_beta():
    made = client.beta.messages.batches.create(requests=rows(1))
    ended(made)
    assert [each.result.type for each in client.beta.messages.batches.results(made.id)] == ["succeeded"]


def check_files():
    files = client.files if hasattr(client, "files") else client.beta.files
    data = b"No dogs are allowed. " * 3
    made = [files.upload(file=(f"{name}.txt", data, "text/plain")) for name in "abc"]
    assert (made[0].type, made[0].filename, made[0].mime_type, made[0].size_bytes) == (
        "file",
        "a.txt",
        "text/plain",
        63,
    )
    assert files.retrieve_metadata(made[0].id) == made[0]
    assert files.download(made[0].id).read() == data
    ids = [file.id for file in made]
    assert [file.id for file in files.list(limit=1)][:3] == ids[::-1]
    assert [file.id for file in files.list(ids=[ids[1]])] == [ids[1]]
    source = {"type": "file", "file_id": ids[0]}
    asked = [{"role": "user", "content": [{"type": "document", "source": source}, {"type": "text", "text": "May I?"}]}]
    plain = [{"role": "user", "content": data.decode() + "\nMay I?"}]
    count = client.messages.count_tokens
    assert count(model=MODEL, messages=asked).input_tokens == count(model=MODEL, messages=plain).input_tokens
    assert client.messages.create(model=MODEL, messages=asked, max_tokens=3).content is not None
    assert client.beta.files.upload(file=("d.txt", data)).type == "file"
    for identifier in ids:
        assert files.delete(identifier).type == "file_deleted"
    try:
        files.retrieve_metadata(ids[0])
    except anthropic.NotFoundError:
        return
    raise AssertionError("it is still there")


def refused(ask, wrong):
    """Why it is."""
    try:
        ask(**wrong)
    except anthropic.BadRequestError as error:
        return "image" in error.message or "files of type" in error.message
    return False


def check_images():
    def asked(source, model="eye"):
        content = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
        answer = client.messages.create(
            model=model, messages=[{"role": "user", "content": content}], max_tokens=8, extra_body=GREEDY
        )
        return "".join(block.text for block in answer.content), answer.usage

    def source(image, kind="image/png"):
        return {"type": "base64", "media_type": kind, "data": base64.b64encode(image).decode()}

    red, blue = source(png(255, 0, 0)), source(png(0, 0, 255))
    assert asked(red)[0] == asked(red)[0] != asked(blue)[0]
    content = [{"type": "image", "source": red}, {"type": "text", "text": "What is this?"}]
    counted = client.messages.count_tokens(model="eye", messages=[{"role": "user", "content": content}])
    usage = asked(red)[1]
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)
    for wrong in (
        {"source": {"type": "url", "url": "https://example.com/a.png"}},
        {"source": source(png(255, 0, 0)[:40])},
        {"source": source(png(255, 0, 0), "image/jpeg")},
        {"source": red, "model": MODEL},
    ):
        assert refused(asked, wrong), wrong.keys()


if __name__ == "__main__":
    with client:
        checking.run(globals(), FAILURES)
