"""Ollama's requests as ours, and what is refused."""

from contextlib import suppress
from typing import Any

import msgspec
import pytest

from freehold.core.errors import BadInput, BadName, UnknownModel, Unsupported
from freehold.core.name import Name
from freehold.core.request import FOREVER, Constraint, Insert, Message, Sampling, ToolCall
from freehold.dialects.ollama import names, translate
from freehold.dialects.ollama import schema as wire
from freehold.store import Store
from tests.pictures import base64_of, picture, url_of
from tests.serving.support import add_model

HI = [{"role": "user", "content": "hi"}]


def chat(**fields: Any) -> Any:
    body = msgspec.convert({"model": "m", "messages": HI, **fields}, wire.ChatRequest)
    return translate.chat_request(body, "m")


def generate(**fields: Any) -> Any:
    return translate.generate_request(msgspec.convert({"model": "m", **fields}, wire.GenerateRequest), "m")


def test_a_plain_chat():
    request = chat()
    assert request.messages == (Message("user", "hi"),)
    assert (request.sampling, request.max_tokens, request.stop, request.think) == (Sampling(), None, (), None)
    assert (request.keep_alive, request.context_length, request.truncate) == (None, None, False)


def test_options_as_ollama_means_them():
    options = {
        "temperature": 0.5, "top_k": -1, "top_p": 0.9, "seed": -1, "num_predict": -2, "num_ctx": 8192, "stop": "END",
        "num_gpu": 99, "mirostat": 1, "unheard_of": True,
    }  # fmt: skip
    request = chat(options=options)
    assert request.sampling == Sampling(temperature=0.5, top_k=0, top_p=0.9)
    assert (request.max_tokens, request.context_length, request.stop) == (None, 8192, ("END",))
    more = chat(options={"seed": 7, "num_predict": 12, "stop": ["a", "", "b"]})
    assert (more.sampling.seed, more.max_tokens, more.stop) == (7, 12, ("a", "b"))


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(None, None), (0, 0), ("0", 0), (300, 300), ("300", 300), ("5m", 300), ("1h30m", 5400), ("1.5s", 1.5),
     ("500ms", 0.5), (-1, FOREVER), ("-1", FOREVER), ("-1s", FOREVER), ("+5s", 5)],
)  # fmt: skip
def test_durations(given: Any, seconds: Any):
    assert translate.seconds(given) == seconds


@pytest.mark.parametrize("given", ["", "x", "5", "5 minutes", "m5", "1h 30m", "5mm", "--5", "\u0665s"])
def test_what_is_no_duration(given: str):
    if given == "5":
        assert translate.seconds(given) == 5
        return
    with pytest.raises(BadInput, match="invalid duration"):
        translate.seconds(given)


@pytest.mark.parametrize(
    ("think", "expected"),
    [(None, (None, "")), (False, (False, "")), (True, (True, "")), ("low", (True, "low")), ("max", (True, "high"))],
)
def test_thinking(think: Any, expected: tuple[Any, str]):
    request = chat(think=think)
    assert (request.think, request.effort) == expected


def test_forms():
    assert chat().constraint is None
    assert chat(format="").constraint is None
    assert chat(format="json").constraint == Constraint("json")
    assert chat(format={"type": "object"}).constraint == Constraint("schema", {"type": "object"})


def test_tools_and_their_answers_are_bound_by_name_and_order():
    weather = {"function": {"name": "weather", "arguments": {"city": "Ulm"}}}
    clock = {"function": {"name": "clock", "arguments": {}}}
    messages = [
        *HI,
        {"role": "assistant", "tool_calls": [weather, clock, {"id": "mine", **weather}]},
        {"role": "tool", "tool_name": "clock", "content": "noon"},
        {"role": "tool", "content": "sunny"},
        {"role": "tool", "tool_call_id": "mine", "content": "rain"},
        {"role": "tool", "content": "unasked"},
    ]
    request = chat(messages=messages, tools=[{"type": "function", "function": {"name": "weather"}}])
    assert request.tools[0].name == "weather"
    turns = request.messages
    assert turns[1].tool_calls[0] == ToolCall("call_0", "weather", '{"city":"Ulm"}')
    assert [(turn.tool_call_id, turn.name) for turn in turns[2:]] == [
        ("call_1", "clock"),
        ("call_0", "weather"),
        ("mine", "weather"),
        ("", ""),
    ]


def test_generate_as_a_chat_of_one_turn_or_raw():
    assert generate(prompt="p", system="s").messages == (Message("system", "s"), Message("user", "p"))
    raw = generate(prompt="p", raw=True)
    assert (raw.prompt, raw.messages) == ("p", ())
    for field in ({"system": "s"}, {"template": "t"}, {"context": [1]}):
        with pytest.raises(BadInput, match="raw mode"):
            generate(prompt="p", raw=True, **field)


def test_text_before_a_suffix():
    made = generate(prompt="p", suffix="s", format="json")
    assert (made.prompt, made.insert, made.messages) == ("", Insert("p", "s"), ())
    assert made.constraint == Constraint("json")
    assert generate(suffix="s").insert == Insert("", "s")
    for field in ({"system": "s"}, {"raw": True}, {"context": [1]}, {"think": True}):
        with pytest.raises(BadInput, match=f"{next(iter(field))} does not go with a suffix"):
            generate(prompt="p", suffix="s", **field)


def embed(**fields: Any) -> Any:
    return translate.embed_request(msgspec.convert({"model": "m", **fields}, wire.EmbedRequest), "m")


def test_texts_to_embed():
    assert embed(input="a").inputs == ("a",)
    assert embed(input=["a", "b"], truncate=True).truncate
    assert embed(input="") is None
    assert embed(input=[]) is None
    assert embed() is None
    with pytest.raises(BadInput, match="empty"):
        embed(input=["a", ""])


@pytest.mark.parametrize(
    ("text", "name"),
    [("llama3", "llama3"), ("llama3:latest", "llama3"), ("org/m:1b", "org/m:1b"), ("library/m", "m"),
     ("registry.ollama.ai/library/m:1b", "m:1b"), ("ollama.com/org/m", "org/m"),
     ("hf.co/org/repo:Q4_K_M", "org/repo:Q4_K_M"),
     ("localhost:5000/org/m", "org/m"), ("https://huggingface.co/org/repo", "org/repo")],
)  # fmt: skip
def test_names_with_and_without_a_registry(text: str, name: str):
    assert names.local(text) == Name.parse(name)


@pytest.mark.parametrize("text", ["", "a b", "../x", "a/b/c/d", "file:///etc/passwd", "x\0", "./m"])
def test_what_is_no_name(text: str):
    with pytest.raises(BadName):
        names.local(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [("m", "ollama://registry.ollama.ai/library/m:latest"), ("org/m:1b", "ollama://registry.ollama.ai/org/m:1b"),
     ("localhost:5000/org/m", "ollama://localhost:5000/org/m:latest"), ("hf.co/org/repo:Q4_K_M", "hf://org/repo:Q4_K_M")],
)  # fmt: skip
def test_where_models_are_pulled_from(text: str, place: str):
    assert str(names.remote(text)) == place


@pytest.mark.parametrize(
    "text", ["./m.gguf", "/etc/passwd", "file:///etc/passwd", "~/m.gguf", "https://host/m.gguf", "x.gguf"]
)
def test_nothing_is_pulled_from_this_machine_or_any_address(text: str):
    with suppress(BadName, Unsupported):
        assert names.remote(text).kind == "ollama"


def test_pushing_to_the_hub_is_another_command():
    with pytest.raises(Unsupported, match="card and proofs"):
        names.target("hf.co/org/repo")
    assert names.target("localhost:5000/Org/m:1b").repo == "org/m"


def test_models_are_found_in_any_case(store: Store):
    for name in ("Helpdesk", "org/Model:V1"):
        add_model(store, name)
    assert names.found(store, "helpdesk:LATEST") == "Helpdesk"
    assert names.found(store, "ORG/model:v1") == "org/Model:V1"
    assert names.found(store, "ollama::llama3:8b") == "ollama::llama3:8b"
    assert names.found(store, "HELPDESK+org/MODEL:v1") == "Helpdesk+org/Model:V1"
    with pytest.raises(UnknownModel):
        names.own(store, "helpdesk+org/model:v1")
    for missing in ("nope", "a b", "org/model"):
        with pytest.raises(UnknownModel, match="not found"):
            names.found(store, missing)
    with pytest.raises(UnknownModel):
        names.own(store, "ollama::llama3:8b")


def test_images_stand_before_the_text():
    red = base64_of(picture("red"))
    (found,) = chat(messages=[{"role": "user", "content": "What?", "images": [red, red]}]).messages
    assert [image.place for image in found.images] == [0, 0]
    first, second = generate(prompt="What?", system="Be kind.", images=[red]).messages
    assert (first.images, second.content, len(second.images)) == ((), "What?", 1)
    (tool,) = chat(messages=[{"role": "tool", "content": "Here", "images": [red]}]).messages
    assert tool.images[0].place == 0


@pytest.mark.parametrize(
    ("prompt", "text", "places"),
    [
        ("What?", "What?", [0, 0]),
        ("See [img-1] and [img-0]!", "See  and !", [4, 9]),
        ("See [img-0]", "See ", [0, 4]),
        ("[img-0][img-0]", "[img-0]", [0, 0]),
        ("[img-7] [img-] [img-99999]", "[img-7] [img-] [img-99999]", [0, 0]),
    ],
)
def test_a_raw_prompt_says_where_they_stand(prompt: str, text: str, places: list[int]):
    images = [base64_of(picture(color)) for color in ("red", "blue")]
    found = generate(prompt=prompt, raw=True, images=images)
    assert found.prompt == text
    assert [image.place for image in found.images] == places
    if "[img-1]" in prompt:
        assert found.images[0].data == picture("blue")


@pytest.mark.parametrize("fields", [{"template": "{{ .Prompt }}"}, {"context": [1, 2]}])
def test_what_images_do_not_go_with(fields: dict):
    with pytest.raises(Unsupported, match=next(iter(fields))):
        generate(prompt="What?", images=[base64_of(picture())], **fields)


@pytest.mark.parametrize("image", ["", "aGk=", "***", url_of(picture())])
def test_images_that_are_none(image: str):
    for ask in (lambda: generate(prompt="p", images=[image]), lambda: chat(messages=[{**HI[0], "images": [image]}])):
        with pytest.raises(BadInput):
            ask()
