"""Run by the client's own interpreter: what OpenAI's package sees of a server. Prints one JSON object of outcomes.

python openai_checks.py http://127.0.0.1:PORT/v1 MODEL
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
FAILURES = (AssertionError, AttributeError, LookupError, TypeError, ValueError, openai.OpenAIError)
HELLO = [{"role": "user", "content": "Where is my order?"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["city", "n"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": SCHEMA}}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}

client = openai.OpenAI(base_url=BASE, api_key="none", max_retries=0, timeout=60, _strict_response_validation=True)


class Place(BaseModel):
    city: str = Field(max_length=8)
    n: int = Field(ge=0, le=9)


def check_models():
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).object == "model"


def check_model_with_a_slash():
    assert client.models.retrieve("org/" + MODEL).id == "org/" + MODEL


def check_delete_a_model():
    error = checking.raises(openai.NotFoundError, lambda: client.models.delete("org/nobody"))
    assert error.code == "model_not_found"


def check_chat():
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=6, logit_bias={"0": -100, "2": -100}
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage.completion_tokens == 6
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 6


def check_roles_and_parts():
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    answer = client.chat.completions.create(model=MODEL, messages=messages, max_completion_tokens=3)
    assert answer.choices[0].message.content is not None


def check_stream():
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=6, stream=True, stream_options={"include_usage": True}, temperature=0
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    whole = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=6, temperature=0)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert text, "there is text"
    assert whole.usage.completion_tokens == chunks[-1].usage.completion_tokens
    assert chunks[-1].choices == []
    assert len({c.id for c in chunks}) == 1


def check_stream_helper():
    grammar = {"grammar": 'root ::= "yes" | "no"'}
    with client.chat.completions.stream(model=MODEL, messages=HELLO, extra_body=grammar) as stream:
        assert "content.delta" in [event.type for event in stream]
        assert stream.get_final_completion().choices[0].message.content in ("yes", "no")


def check_several_choices():
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8, n=6, seed=3, temperature=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3, 4, 5]
    assert len({choice.message.content for choice in answer.choices}) > 3
    again = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8, n=6, seed=3, temperature=1)
    assert [c.message.content for c in again.choices] == [c.message.content for c in answer.choices]


def check_stop():
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, seed=1, stop=["e", "a"], max_tokens=200)
    assert not set("ea") & set(answer.choices[0].message.content)


def check_stored_completions():
    asked = {"model": MODEL, "messages": HELLO, "max_tokens": 6, "store": True}
    first = client.chat.completions.create(**asked, metadata={"for": "checks"})
    (chunk, *_) = list(client.chat.completions.create(**asked, stream=True))
    assert client.chat.completions.retrieve(first.id).choices == first.choices
    assert client.chat.completions.retrieve(chunk.id).id == chunk.id
    listed = [each.id for each in client.chat.completions.list(limit=1)]
    assert {first.id, chunk.id} <= set(listed)
    assert [each.id for each in client.chat.completions.list(metadata={"for": "checks"}, order="desc")][:1] == [
        first.id
    ]
    # The client's type of these messages knows the assistant's alone, and OpenAI answers the user's.
    with openai.OpenAI(base_url=BASE, api_key="none", max_retries=0) as lax:
        (message,) = lax.chat.completions.messages.list(first.id)
    assert (message.id, message.content) == (f"{first.id}-0", HELLO[0]["content"])
    assert client.chat.completions.update(first.id, metadata={"for": "nothing"}).metadata == {"for": "nothing"}
    for identifier in (first.id, chunk.id):
        assert client.chat.completions.delete(identifier).deleted is True
    checking.raises(openai.NotFoundError, lambda: client.chat.completions.retrieve(first.id))


def check_forced_tool():
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
        answer = client.chat.completions.create(model=MODEL, messages=HELLO, tools=[WEATHER], tool_choice=choice)
        assert answer.choices[0].finish_reason == "tool_calls"
        (call,) = answer.choices[0].message.tool_calls
        assert call.function.name == "weather"
        assert set(json.loads(call.function.arguments)) == {"city", "n"}


def check_tool_stream():
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, tools=[WEATHER, CLOCK], tool_choice="required", stream=True
    )
    names, arguments = [], ""
    for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or []:
            names += [call.function.name] if call.function.name else []
            arguments += call.function.arguments or ""
    assert names in (["weather"], ["clock"])
    json.loads(arguments)


def check_tool_round():
    first = client.chat.completions.create(model=MODEL, messages=HELLO, tools=[WEATHER], tool_choice="required")
    message = first.choices[0].message
    messages = [*HELLO, message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}]
    second = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER], max_tokens=5)
    assert second.choices[0].message.role == "assistant"


def check_schema():
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
    for seed in range(5):
        answer = client.chat.completions.create(model=MODEL, messages=HELLO, response_format=form, seed=seed)
        value = json.loads(answer.choices[0].message.content)
        assert set(value) == {"city", "n"}
        assert 0 <= value["n"] <= 9


def check_parse_with_pydantic():
    answer = client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=Place, seed=1)
    assert isinstance(answer.choices[0].message.parsed, Place)


def check_json_object():
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, response_format={"type": "json_object"}, max_tokens=20, seed=1
    )
    assert answer.choices[0].message.content.startswith("{")


def check_logprobs():
    # A model of random weights may draw its end at once, or nothing but bytes that are no text: not this one, at 0.
    asked = {"model": MODEL, "messages": HELLO, "max_tokens": 8, "logprobs": True, "temperature": 0}
    asked["logit_bias"] = {"0": -100, "2": -100}
    answer = client.chat.completions.create(**asked, top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert content
    for token in content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
    stream = client.chat.completions.create(**asked, top_logprobs=2, stream=True)
    assert [chunk for chunk in stream if chunk.choices[0].logprobs]


def check_completions():
    answer = client.completions.create(model=MODEL, prompt=["The", "A"], max_tokens=3, echo=True, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].text.startswith("The")
    # Without its end token, which a model of random weights may draw at once.
    logged = client.completions.create(
        model=MODEL, prompt="The", max_tokens=24, logprobs=2, logit_bias={"0": -100, "2": -100}
    )
    assert len(logged.choices[0].logprobs.tokens) == len(logged.choices[0].logprobs.text_offset) > 0
    ids = client.completions.create(model=MODEL, prompt=[40, 41, 42], max_tokens=2, temperature=0)
    assert ids.usage.prompt_tokens == 3
    # OpenAI's own chunks hold a null finish_reason too, and the first token of an echo no log-probability: the
    # client's strict validation knows neither.
    with openai.OpenAI(base_url=BASE, api_key="none", max_retries=0) as lax:
        chunks = list(lax.completions.create(model=MODEL, prompt="The", max_tokens=3, stream=True))
        scored = lax.completions.create(model=MODEL, prompt="The order", max_tokens=0, echo=True, logprobs=3)
    assert chunks[-1].choices[0].finish_reason in ("length", "stop")
    found = scored.choices[0].logprobs
    assert scored.choices[0].text == "".join(found.tokens) == "The order"
    assert all(value is None or value < 0 for value in found.token_logprobs)
    assert all(likely is None or len(likely) == 3 for likely in found.top_logprobs)


def check_text_before_a_suffix():
    asked = {"prompt": ["def add(a, b):", "x = "], "suffix": "return total", "max_tokens": 4, "n": 2}
    answer = client.completions.create(model="coder", **asked)
    assert len(answer.choices) == 4
    assert 0 < answer.usage.completion_tokens <= 16
    error = checking.raises(openai.BadRequestError, lambda: client.completions.create(model=MODEL, **asked))
    assert error.param == "suffix"


def check_best_of():
    asked = {"model": MODEL, "prompt": "The", "max_tokens": 6, "seed": 5, "logit_bias": {"0": -100, "2": -100}}
    every = client.completions.create(**asked, n=4, logprobs=0)
    best = client.completions.create(**asked, n=1, best_of=4)

    def likely(choice):
        return sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)

    assert best.choices[0].text == max(every.choices, key=likely).text
    assert best.choices[0].logprobs is None
    assert best.usage.completion_tokens == every.usage.completion_tokens == 24


def check_embeddings():
    found = client.embeddings.create(model=MODEL, input=["hello", "world"], encoding_format="float")
    assert [row.index for row in found.data] == [0, 1]
    assert abs(sum(x * x for x in found.data[0].embedding) - 1) < 1e-3
    # Asked for nothing, the client asks for base64, which its own strict validation does not know.
    with openai.OpenAI(base_url=BASE, api_key="none", max_retries=0) as lax:
        usual = lax.embeddings.create(model=MODEL, input="hello")
    assert len(usual.data[0].embedding) == len(found.data[0].embedding)
    assert all(abs(a - b) < 1e-3 for a, b in zip(usual.data[0].embedding, found.data[0].embedding, strict=True))


def check_unknown_model():
    error = checking.raises(
        openai.NotFoundError, lambda: client.chat.completions.create(model="nobody", messages=HELLO)
    )
    assert error.code == "model_not_found"
    assert checking.raises(openai.NotFoundError, lambda: client.models.retrieve("nobody")).code == "model_not_found"
    assert checking.raises(openai.NotFoundError, lambda: client.embeddings.create(model="nobody", input="x"))
    streamed = lambda: client.chat.completions.create(model="nobody", messages=HELLO, stream=True)  # noqa: E731
    assert checking.raises(openai.NotFoundError, streamed)


def check_bad_parameters():
    def ask(**fields):
        return lambda: client.chat.completions.create(model=MODEL, messages=HELLO, **fields)

    for fields, param in (
        ({"temperature": 5}, "temperature"),
        ({"n": 0}, "n"),
        ({"extra_body": {"nonsense": 1}}, "nonsense"),
    ):
        assert checking.raises(openai.BadRequestError, ask(**fields)).param == param
    long = [{"role": "user", "content": "order " * 3000}]
    error = checking.raises(openai.BadRequestError, lambda: client.chat.completions.create(model=MODEL, messages=long))
    assert error.code == "context_length_exceeded"
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    assert checking.raises(openai.BadRequestError, ask(response_format=form))


def _row(name, body, url="/v1/chat/completions"):
    return json.dumps({"custom_id": name, "method": "POST", "url": url, "body": body})


def _batch(rows, endpoint="/v1/chat/completions", **more):
    sent = client.files.create(file=("rows.jsonl", "\n".join(rows).encode()), purpose="batch")
    return client.batches.create(input_file_id=sent.id, endpoint=endpoint, completion_window="24h", **more)


def _ended(batch):
    end = time.monotonic() + 60
    while batch.status not in ("completed", "failed", "cancelled", "expired"):
        assert time.monotonic() < end, batch
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def check_files():
    data = b"a line\n" * 1000
    sent = client.files.create(file=("rows.txt", data), purpose="user_data")
    assert (sent.bytes, sent.filename, sent.purpose) == (len(data), "rows.txt", "user_data")
    assert client.files.retrieve(sent.id) == sent
    assert client.files.content(sent.id).read() == data
    assert client.files.wait_for_processing(sent.id).status == "processed"
    others = [client.files.create(file=b"x", purpose="vision").id for _ in range(3)]
    assert [file.id for file in client.files.list(purpose="vision", limit=2)][:3] == others[::-1]
    for identifier in (sent.id, *others):
        assert client.files.delete(identifier).deleted is True
    assert checking.raises(openai.NotFoundError, lambda: client.files.retrieve(sent.id))
    assert checking.raises(openai.NotFoundError, lambda: client.files.content(sent.id))
    assert (
        checking.raises(openai.BadRequestError, lambda: client.files.create(file=b"x", purpose="nonsense")).param
        == "purpose"
    )


def check_upload_in_parts():
    data = bytes(range(256)) * 300
    done = client.uploads.upload_file_chunked(
        file=data, filename="rows.jsonl", bytes=len(data), mime_type="text/jsonl", purpose="batch", part_size=20_000
    )
    assert (done.status, done.file.filename, done.file.bytes) == ("completed", "rows.jsonl", len(data))
    assert client.files.content(done.file.id).read() == data
    begun = client.uploads.create(bytes=5, filename="a", mime_type="text/plain", purpose="user_data")
    part = client.uploads.parts.create(begun.id, data=b"abc")
    short = lambda: client.uploads.complete(begun.id, part_ids=[part.id])  # noqa: E731
    assert checking.raises(openai.BadRequestError, short).param == "part_ids"
    assert client.uploads.cancel(begun.id).status == "cancelled"


def check_batch():
    asked = {"model": MODEL, "messages": HELLO, "max_tokens": 4}
    rows = [_row(f"r{i}", asked) for i in range(6)] + [_row("wrong", {**asked, "model": "nobody"})]
    batch = _batch(rows, metadata={"for": "checks"})
    assert batch.metadata == {"for": "checks"}
    done = _ended(batch)
    assert done.status == "completed"
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (7, 6, 1)
    told = [json.loads(line) for line in client.files.content(done.output_file_id).text.splitlines()]
    assert [line["custom_id"] for line in told] == [f"r{i}" for i in range(6)]
    assert all(line["response"]["body"]["usage"]["completion_tokens"] <= 4 for line in told)
    (error,) = map(json.loads, client.files.content(done.error_file_id).text.splitlines())
    assert error["response"]["status_code"] == 404
    assert batch.id in [each.id for each in client.batches.list(limit=1)]


def check_batch_of_other_endpoints():
    texts = {"model": MODEL, "prompt": "The", "max_tokens": 3}
    vectors = {"model": MODEL, "input": ["a", "b"]}
    for endpoint, body in (("/v1/completions", texts), ("/v1/embeddings", vectors)):
        done = _ended(_batch([_row("r", body, endpoint)], endpoint))
        assert done.request_counts.completed == 1
        assert json.loads(client.files.content(done.output_file_id).text)["response"]["status_code"] == 200


def check_batch_that_cannot_be_read():
    failed = _ended(_batch([_row("a", {}), "nonsense", _row("a", {})]))
    assert failed.status == "failed"
    assert [fault.line for fault in failed.errors.data] == [2, 3]


def check_batch_cancelled():
    asked = {"model": MODEL, "messages": HELLO, "max_tokens": 200, "logit_bias": {"0": -100, "2": -100}}
    batch = _batch([_row(str(i), asked) for i in range(50)])
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    assert _ended(batch).status == "cancelled"
    assert checking.raises(openai.BadRequestError, lambda: client.batches.cancel(batch.id))


def check_moderations():
    found = client.moderations.create(input=["Where is my order?", "I will kill you"])
    assert found.model == "freehold-rules-1"
    assert [result.flagged for result in found.results] == [False, True]
    assert found.results[1].categories.violence is True
    assert found.results[1].category_scores.violence > found.results[0].category_scores.violence
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    assert checking.raises(openai.BadRequestError, lambda: client.moderations.create(input=[image])).param == "input"


def check_what_is_not_here():
    with openai.OpenAI(base_url=BASE, api_key="none", max_retries=3) as patient:
        began = time.monotonic()
        for call in (
            lambda: patient.images.generate(prompt="a cat", model=MODEL),
            lambda: patient.audio.transcriptions.create(file=("a.wav", bytes(50_000)), model=MODEL),
            lambda: patient.audio.speech.create(input="hello", model=MODEL, voice="alloy"),
            lambda: patient.vector_stores.list(),
        ):
            error = checking.raises(openai.InternalServerError, call)
            assert (error.status_code, error.code) == (501, "not_implemented")
        assert time.monotonic() - began < 3, "none is asked again"


def check_cancel_midway():
    began = time.monotonic()
    stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, logit_bias={"0": -100, "2": -100})
    for number, _ in enumerate(stream):
        if number == 3:
            break
    stream.close()
    assert time.monotonic() - began < 5
    assert client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2)


def check_async():
    async def main():
        async with openai.AsyncOpenAI(
            base_url=BASE, api_key="none", max_retries=0, _strict_response_validation=True
        ) as other:
            answers = await asyncio.gather(
                *(other.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=4) for _ in range(6))
            )
            assert len(answers) == 6
            stream = await other.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=4, stream=True)
            assert [chunk async for chunk in stream]

    asyncio.run(main())


def check_fifty_streams_at_once():
    async def one(other):
        asked = {"model": MODEL, "messages": HELLO, "max_tokens": 6, "temperature": 0, "stream": True}
        stream = await other.chat.completions.create(**asked)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def main():
        async with openai.AsyncOpenAI(base_url=BASE, api_key="none", max_retries=0) as other:
            return await asyncio.gather(*(one(other) for _ in range(50)))

    texts = asyncio.run(main())
    assert len(texts) == 50
    assert len(set(texts)) == 1


def refused(ask, wrong):
    """Why it is."""
    try:
        ask(**wrong)
    except openai.BadRequestError as error:
        return "image" in error.message or "files of type" in error.message
    return False


def check_images():
    def asked(image, model="eye", kind="image/png", detail="auto"):
        url = image if isinstance(image, str) else f"data:{kind};base64,{base64.b64encode(image).decode()}"
        parts = [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": url, "detail": detail}},
        ]
        told = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": parts}],
            max_tokens=8,
            temperature=0,
            logit_bias={"0": -100, "2": -100},
        )
        return told.choices[0].message.content

    red, blue = png(255, 0, 0), png(0, 0, 255)
    assert asked(red) == asked(red, detail="high") != asked(blue)
    for wrong in (
        {"image": "https://example.com/a.png"},
        {"image": red[:40]},
        {"image": b"text"},
        {"image": red, "kind": "application/pdf"},
        {"image": red, "model": MODEL},
    ):
        assert refused(asked, wrong), wrong.keys()


if __name__ == "__main__":
    checking.run(globals(), FAILURES)
