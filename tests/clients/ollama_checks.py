"""Run by the client's own interpreter: what Ollama's package sees of a server. Prints one JSON object of outcomes.

python ollama_checks.py http://127.0.0.1:PORT MODEL
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import checking
import ollama
from drawing import png

BASE, MODEL = sys.argv[1], sys.argv[2]
FAILURES = (AssertionError, AttributeError, LookupError, TypeError, ValueError, ollama.ResponseError, OSError)
HELLO = [{"role": "user", "content": "Where is my order?"}]
GREEDY = {"temperature": 0, "num_predict": 6}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["city", "n"],
    "additionalProperties": False,
}
client = ollama.Client(host=BASE, timeout=60)


def check_list():
    names = [model.model for model in client.list().models]
    assert f"{MODEL}:latest" in names
    assert f"org/{MODEL}:latest" in names
    model = next(model for model in client.list().models if model.model == f"{MODEL}:latest")
    assert model.size > 1000
    assert len(model.digest) == 64
    assert model.details.family == "llama"
    assert model.modified_at is not None


def check_show():
    shown = client.show(MODEL)
    assert shown.modelinfo["general.architecture"] == "llama"
    assert shown.modelinfo["general.parameter_count"] > 1000
    assert shown.template is not None
    assert shown.modelfile.startswith("FROM ")
    assert "completion" in (shown.capabilities or ["completion"])


def check_chat():
    answer = client.chat(MODEL, HELLO, options=GREEDY)
    assert answer.message.role == "assistant"
    assert answer.model == MODEL
    assert answer.done
    assert answer.done_reason in ("stop", "length")
    assert answer.eval_count <= 6
    assert answer.prompt_eval_count > 5
    assert answer.total_duration >= answer.eval_duration > 0


def check_chat_in_any_case_and_with_a_registry_in_front():
    for name in (MODEL.upper(), f"{MODEL}:latest", f"registry.ollama.ai/library/{MODEL}", f"ORG/{MODEL}"):
        assert client.chat(name, HELLO, options=GREEDY).model == name


def check_stream():
    parts = list(client.chat(MODEL, HELLO, options=GREEDY, stream=True))
    assert all(not part.done for part in parts[:-1])
    assert parts[-1].done
    whole = client.chat(MODEL, HELLO, options=GREEDY)
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert parts[-1].eval_count == whole.eval_count
    assert parts[-1].done_reason == whole.done_reason


def check_generate():
    answer = client.generate(MODEL, "Where is my order?", system="Be kind.", options=GREEDY)
    assert answer.done
    assert answer.context
    parts = list(client.generate(MODEL, "Where is my order?", system="Be kind.", options=GREEDY, stream=True))
    assert "".join(part.response for part in parts) == answer.response
    assert list(parts[-1].context) == list(answer.context)


def check_generate_goes_on_from_a_context():
    first = client.generate(MODEL, "Where is my order?", options=GREEDY)
    next_one = client.generate(MODEL, "And now?", context=first.context, options=GREEDY)
    assert list(next_one.context)[: len(first.context)] == list(first.context)
    alone = client.generate(MODEL, "And now?", options=GREEDY)
    assert next_one.prompt_eval_count > alone.prompt_eval_count


def check_raw_and_template():
    raw = client.generate(MODEL, "[user]x[assistant]", raw=True, options=GREEDY)
    made = client.generate(
        MODEL, "x", template="{{ if .Prompt }}[user]{{ .Prompt }}{{ end }}[assistant]{{ .Response }}", options=GREEDY
    )
    assert raw.response == made.response
    assert raw.prompt_eval_count == made.prompt_eval_count


def check_text_before_a_suffix():
    asked = {"prompt": "def add(a, b):", "suffix": "return total", "options": GREEDY}
    whole = client.generate("coder", **asked)
    assert whole.done
    assert whole.prompt_eval_count > 10
    parts = list(client.generate("coder", **asked, stream=True))
    assert "".join(part.response for part in parts) == whole.response
    assert parts[-1].eval_count == whole.eval_count
    error = raised(client.generate, MODEL, **asked)
    assert error.status_code == 400
    assert "does not support insert" in error.error


def check_schema_and_json():
    answer = client.chat(MODEL, HELLO, format=SCHEMA, options={"num_predict": 200})
    assert set(json.loads(answer.message.content)) == {"city", "n"}
    made = client.generate(MODEL, "x", format=SCHEMA, options={"num_predict": 200})
    assert set(json.loads(made.response)) == {"city", "n"}


def check_seed_and_stop():
    fixed = {"seed": 7, "num_predict": 24, "temperature": 1.0}
    one, two = (client.generate(MODEL, "a", options=fixed).response for _ in range(2))
    assert one == two
    stop = one[len(one) // 2 :][:2]
    assert stop not in client.generate(MODEL, "a", options={**fixed, "stop": [stop]}).response


def check_logprobs():
    try:
        answer = client.chat(MODEL, HELLO, options=GREEDY, logprobs=True, top_logprobs=3)
    except TypeError:
        return  # this version of the client has none
    assert 0 < len(answer.logprobs) <= answer.eval_count
    assert all(len(each.top_logprobs) == 3 and each.logprob <= 0 for each in answer.logprobs)


def check_a_tool_loop_in_words():
    messages = [
        *HELLO,
        {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Ulm"}}}]},
        {"role": "tool", "content": "sunny", "tool_name": "weather"},
    ]

    def weather(city: str) -> str:
        """Tell the weather.

        Args:
          city: where
        """
        return city

    try:
        answer = client.chat(MODEL, messages, tools=[weather], options=GREEDY)
    except TypeError:
        return
    assert answer.done


def check_embed():
    found = client.embed(MODEL, ["one", "two words"])
    assert len(found.embeddings) == 2
    assert all(abs(sum(x * x for x in vector) - 1) < 1e-3 for vector in found.embeddings)
    assert found.prompt_eval_count >= 3
    alone = client.embed(MODEL, "one").embeddings[0]
    assert all(abs(a - b) < 1e-3 for a, b in zip(alone, found.embeddings[0], strict=True))
    assert list(client.embed(MODEL, "").embeddings) == []
    assert len(client.embeddings(MODEL, "one").embedding) == len(found.embeddings[0])


def check_keep_alive():
    client.generate(MODEL, keep_alive="10m")
    client.chat(f"org/{MODEL}", HELLO, options=GREEDY, keep_alive=-1)
    loaded = client.ps().models
    assert all(model.size > 0 and len(model.digest) == 64 for model in loaded)
    assert any(model.expires_at.year > 2100 for model in loaded)
    for model in loaded:
        client.generate(model.model, keep_alive=0)
    end = time.monotonic() + 10
    while client.ps().models and time.monotonic() < end:
        time.sleep(0.05)
    assert not client.ps().models


def check_files_to_model_and_back():
    """As the command line client makes a model of a file: its blob, then create."""
    digest = made_blob()
    reports = list(client.create("made", files={"tiny.gguf": digest}, system="Be brief.", stream=True))
    assert reports[-1].status == "success"
    assert client.show("made").modelinfo["general.architecture"] == "llama"
    again = client.create("again", from_="made", parameters={"temperature": 0.5, "stop": ["END", "."]})
    assert again.status == "success"
    shown = client.show("again")
    assert "stop" in shown.parameters
    assert "0.5" in shown.parameters
    assert client.chat("again", HELLO, options=GREEDY).done
    client.copy("again", "Copy:v1")
    assert "Copy:v1" in [model.model for model in client.list().models]
    for name in ("again", "copy:V1", "made"):
        client.delete(name)
    assert {"made:latest", "again:latest", "Copy:v1"}.isdisjoint(model.model for model in client.list().models)


def made_blob():
    with TemporaryDirectory() as folder:
        path = Path(folder, "tiny.gguf")
        path.write_bytes(Path(sys.argv[3]).read_bytes())
        first = client.create_blob(path)
        assert client.create_blob(path) == first
    return first


def check_quantize():
    digest = made_blob()
    client.create("whole", files={"tiny.gguf": digest}, system="Be brief.")
    client.create("small", from_="whole", quantize="q8_0")
    small = next(model for model in client.list().models if model.model == "small:latest")
    assert small.details.quantization_level == "Q8_0"
    assert client.chat("small", HELLO, options=GREEDY).done
    names = [model.model for model in client.list().models]
    assert not [name for name in names if "unquantised" in name]
    for name in ("small", "whole"):
        client.delete(name)


def raised(call, *arguments, **named):
    try:
        found = call(*arguments, **named)
        list(found if named.get("stream") else [])
    except ollama.ResponseError as error:
        return error
    raise AssertionError("no ResponseError")


def check_errors():
    for call in (client.show, client.delete):
        error = raised(call, "nope")
        assert error.status_code == 404, error
        assert "not found" in error.error
    for stream in (False, True):
        assert raised(client.chat, "nope", HELLO, stream=stream).status_code == 404
    assert raised(client.copy, "nope", "other").status_code == 404
    assert raised(client.chat, MODEL, HELLO, options={"temperature": 9.5}).status_code == 400
    assert "tokens" in raised(client.chat, MODEL, [{"role": "user", "content": "word " * 5000}]).error
    assert raised(client.create, "bad name!", from_=MODEL).status_code == 400
    assert raised(client.create, "x", files={"../x.gguf": made_blob()}).error
    assert raised(client.pull, "./tiny.gguf").status_code == 400


def check_thinking_is_refused_where_there_is_none():
    try:
        error = raised(client.chat, MODEL, HELLO, think=True)
    except TypeError:
        return
    assert error.status_code == 400
    assert "does not support thinking" in error.error


def check_leaving_midway_frees_the_worker():
    for _ in range(6):
        stream = client.chat(MODEL, HELLO, options={**GREEDY, "num_predict": 900}, stream=True)
        next(iter(stream))
        stream.close()
    begin = time.monotonic()
    client.chat(MODEL, HELLO, options={"num_predict": 2})
    assert time.monotonic() - begin < 10


def check_async_and_at_once():
    async def ask():
        one = ollama.AsyncClient(host=BASE)

        async def streamed():
            return [part async for part in await one.chat(MODEL, HELLO, options=GREEDY, stream=True)]

        return await asyncio.gather(*(streamed() for _ in range(50)))

    answers = asyncio.run(ask())
    assert len({"".join(part.message.content for part in parts) for parts in answers}) == 1
    assert all(parts[-1].done for parts in answers)


def check_async_blob():
    async def send():
        return await ollama.AsyncClient(host=BASE).create_blob(sys.argv[3])

    assert asyncio.run(send()).startswith("sha256:")


def check_images():
    red, blue = png(255, 0, 0), png(0, 0, 255)

    def chatted(image, model="eye"):
        messages = [{"role": "user", "content": "What is this?", "images": [image]}]
        return client.chat(model, messages, options=GREEDY).message.content

    def generated(image, model="eye", **options):
        return client.generate(model, "What is this?", images=[image], options=GREEDY, **options)

    assert chatted(red) == chatted(red) != chatted(blue)
    assert generated(red).response == generated(red).response != generated(blue).response
    with TemporaryDirectory() as folder:
        path = Path(folder, "red.png")
        path.write_bytes(red)
        assert chatted(path) == chatted(str(path)) == chatted(red)
    assert "vision" in client.show("eye").capabilities
    assert "vision" not in client.show(MODEL).capabilities
    for ask in (chatted, generated):
        for wrong in ({"image": red[:40]}, {"image": b"text"}, {"image": red, "model": MODEL}):
            error = raised(ask, **wrong)
            assert error.status_code == 400
            assert "image" in error.error


def check_create_with_a_projector():
    files = {Path(path).name: client.create_blob(path) for path in sys.argv[3:5]}
    assert client.create("seeing", files=files).status == "success"
    assert "vision" in client.show("seeing").capabilities
    client.delete("seeing")


if __name__ == "__main__":
    checking.run(globals(), FAILURES)
