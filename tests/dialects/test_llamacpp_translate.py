import msgspec
import pytest

from freehold.core.errors import BadInput, ContextOverflow, FreeholdError, NotFound, Unauthorized, Unsupported
from freehold.core.event import Finished, Logprobs, Progress, Ranking, Started, Text, Timings, TokenLogprob, Usage
from freehold.core.request import Beside, Constraint, Message, Request
from freehold.dialects.llamacpp import answers, chatting, translate
from freehold.dialects.llamacpp import schema as wire
from freehold.dialects.openai import answers as openai
from tests.pictures import base64_of, picture, url_of

USER = {"role": "user", "content": "hi"}


def completion(**fields) -> Request:
    body = msgspec.convert(fields, wire.CompletionRequest)
    return translate.completion_request(body, "m", "text")


def chat(**fields) -> Request:
    return translate.chat_request(msgspec.convert({"messages": [USER], **fields}, wire.ChatRequest), "m")


def test_every_sampler_is_passed_on():
    given = {
        "temperature": 0.5, "top_k": 7, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.8, "top_n_sigma": 1.5, "min_keep": 2,
        "repeat_last_n": 32, "repeat_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": 0.3,
        "dynatemp_range": 0.4, "dynatemp_exponent": 1.2, "xtc_probability": 0.5, "xtc_threshold": 0.2,
        "dry_multiplier": 0.8, "dry_base": 1.7, "dry_allowed_length": 3, "dry_penalty_last_n": 64, "mirostat": 2,
        "mirostat_tau": 4.0, "mirostat_eta": 0.2, "adaptive_target": 0.5, "adaptive_decay": 0.9, "ignore_eos": True,
        "seed": 11,
    }  # fmt: skip
    for made in (completion(**given), chat(**given)):
        assert {name: getattr(made.sampling, name) for name in given} == given
    named = completion(samplers=["top_k", "temperature"], dry_sequence_breakers=["\n"]).sampling
    assert named.samplers == ("top_k", "temperature")
    assert named.dry_sequence_breakers == ("\n",)
    assert completion(samplers="kt").sampling.samplers == ("top_k", "temperature")
    with pytest.raises(BadInput, match="'q'"):
        completion(samplers="kq")


@pytest.mark.parametrize("seed", [-1, 0xFFFFFFFF])
def test_a_seed_that_stands_for_any(seed: int):
    assert completion(seed=seed).sampling.seed is None
    assert completion(top_k=-1).sampling.top_k == 0


def test_handling():
    made = completion(
        cache_prompt=False, id_slot=1, lora=[{"id": 0, "scale": 0.5}], n_keep=4, n_indent=2, t_max_predict_ms=50,
        post_sampling_probs=True, n_probs=3,
    )  # fmt: skip
    told = made.handling
    assert (told.cache, told.slot, told.adapters, told.keep) == (False, 1, {0: 0.5}, 4)
    assert (told.indent, told.milliseconds, told.after_sampling) == (2, 50, True)
    assert made.logprobs == 3
    assert made.detail
    assert not made.progress
    assert completion().handling.cache is True
    assert completion(timings_per_token=True).progress
    assert completion(return_progress=True).progress


@pytest.mark.parametrize(("fields", "limit"), [
    ({}, None), ({"n_predict": -1}, None), ({"n_predict": 5}, 5), ({"max_tokens": 6}, 6),
    ({"n_predict": 5, "max_tokens": 6}, 5),
])  # fmt: skip
def test_limits(fields: dict, limit: int | None):
    assert completion(**fields).max_tokens == limit


def test_no_tokens_at_all_are_refused():
    with pytest.raises(BadInput, match="no tokens"):
        completion(n_predict=0)


def test_constraints():
    schema = {"type": "object"}
    assert completion(grammar='root ::= "a"').constraint == Constraint("grammar", grammar='root ::= "a"')
    assert completion(json_schema=schema).constraint == Constraint("schema", schema)
    assert completion(json_schema={}).constraint == Constraint("schema", {})
    for fields in (
        {"response_format": {"type": "json_object", "schema": schema}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}},
        {"json_schema": schema},
    ):
        assert chat(**fields).constraint == Constraint("schema", schema)
    assert chat(response_format={"type": "json_object"}).constraint == Constraint("json")
    assert chat(response_format={"type": "text"}).constraint is None
    with pytest.raises(BadInput):
        chat(response_format={"type": "json_schema"})
    with pytest.raises(BadInput):
        chat(json_schema=schema, grammar='root ::= "a"')
    with pytest.raises(BadInput):
        completion(json_schema=schema, grammar='root ::= "a"')


def test_infill():
    given = {"input_prefix": "a", "input_suffix": "b", "input_extra": [{"filename": "f", "text": "t"}, {"text": "u"}]}
    made = translate.completion_request(msgspec.convert(given, wire.InfillRequest), "m", "p")
    assert made.insert is not None
    assert (made.prompt, made.insert.prefix, made.insert.suffix) == ("p", "a", "b")
    assert made.insert.files == (Beside("f", "t"), Beside("tmp", "u"))


@pytest.mark.parametrize("given", ["a", [1, 2], [1, "a"], {"prompt_string": "a"}])
def test_one_prompt(given: object):
    kind = wire.CompletionRequest
    assert len(translate.prompts(msgspec.convert({"prompt": given}, kind).prompt)) == 1


@pytest.mark.parametrize("given", [["a", "b"], [[1], "b"], [{"prompt_string": "a"}, [1, "b"]]])
def test_several_prompts(given: list):
    assert len(translate.prompts(msgspec.convert({"prompt": given}, wire.CompletionRequest).prompt)) == 2


@pytest.mark.parametrize("given", [[], [1, [2]], ["a"] * (translate.MAX_PROMPTS + 1)])
def test_prompts_that_are_none(given: list):
    with pytest.raises(BadInput):
        translate.prompts(given)


def test_texts_of_objects():
    part = wire.ContentPart
    assert translate.text_of(wire.PromptObject("a")) == "a"
    assert translate.text_of(wire.InputObject(content=[part("text", "a "), part("text", "b")])) == "a b"
    assert translate.text_of(wire.InputObject(prompt_string="c")) == "c"
    with pytest.raises(Unsupported):
        translate.text_of(wire.PromptObject("a", "media"))
    for wrong in (wire.InputObject(), wire.InputObject(content=[part("image_url")])):
        with pytest.raises(BadInput):
            translate.text_of(wrong)


def test_an_answer_that_has_begun():
    begun = [USER, {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    made = chat(messages=begun)
    assert (made.messages, made.prefill) == ((Message("user", "hi"),), "a\n\nb")
    assert chat(messages=begun, continue_final_message=True, add_generation_prompt=False).prefill == "a\n\nb"
    whole = chat(messages=begun, add_generation_prompt=True)
    assert (len(whole.messages), whole.prefill, whole.open_turn) == (2, "", True)
    assert chat(messages=begun, continue_final_message=False).prefill == ""
    assert not chat(add_generation_prompt=False).open_turn
    with pytest.raises(BadInput):
        chat(messages=begun, continue_final_message=True, add_generation_prompt=True)
    with pytest.raises(BadInput, match="two turns"):
        chat(messages=[*begun, begun[1]])


def test_templates_are_told_more():
    made = chat(chat_template_kwargs={"enable_thinking": False, "style": "plain"})
    assert (made.think, made.template) == (False, {"style": "plain"})
    assert chat(reasoning_effort="none").think is False
    assert (chat(reasoning_effort="high").think, chat(reasoning_effort="high").effort) == (True, "high")
    assert chat().think is None


def test_tools():
    tool = {"type": "function", "function": {"name": "t", "parameters": {"type": "object"}}}
    assert chat(tools=[tool], tool_choice="required").tool_choice == "required"
    assert chat(tools=[tool], tool_choice={"type": "function", "function": {"name": "t"}}).tool_choice == "t"
    assert chat(tools=[tool]).tool_choice == "auto"
    assert chat(tools=[tool], tool_choice="none").tool_choice == "none"
    with pytest.raises(BadInput):
        chat(tool_choice="required")


@pytest.mark.parametrize("message", [{"role": "user"}, {"role": "system"}])
def test_messages_without_content(message: dict):
    with pytest.raises(BadInput):
        chat(messages=[message])


def test_an_image_without_content_is_refused():
    with pytest.raises(Unsupported):
        chat(messages=[{"role": "user", "content": [{"type": "image_url"}]}])


def test_biases_of_chat():
    assert chat(logit_bias={"5": -3, "6": False}).sampling.logit_bias == {5: -3.0, 6: -100.0}
    with pytest.raises(BadInput):
        chat(logit_bias={"word": 1})


@pytest.mark.parametrize(("error", "code", "kind"), [
    (BadInput("x"), 400, "invalid_request_error"), (Unauthorized("x"), 401, "authentication_error"),
    (NotFound("x"), 404, "not_found_error"), (Unsupported("x"), 501, "not_supported_error"),
    (FreeholdError("x"), 500, "server_error"),
])  # fmt: skip
def test_errors(error: FreeholdError, code: int, kind: str):
    assert answers.error_body(error) == {"error": {"code": code, "message": "x", "type": kind}}
    assert answers.status(error) == code


def test_a_prompt_that_is_too_long_is_counted():
    told = answers.error_body(ContextOverflow("x", tokens=300, context=256))["error"]
    assert (told["type"], told["n_prompt_tokens"], told["n_ctx"]) == ("exceed_context_size_error", 300, 256)
    assert "exceeds the available context size" in told["message"]


def _events() -> list:
    token = TokenLogprob("a", -0.5, (97,), (TokenLogprob("b", -1.0, (98,), id=4),), id=3)
    return [
        Started(0, 5),
        Progress({"prompt_progress": {"total": 5}, "timings": {"prompt_n": 0}}),
        Progress({"timings": {"predicted_n": 1}}),
        Logprobs((token,)),
        Text("a", tokens=(3,)),
        Text("", tokens=(9,)),
        Finished("length", Usage(5, 2, 1), Timings(10.0, 20.0), detail={"truncated": True, "id_slot": 1}),
    ]


def test_chunks():
    answer = answers.Completion("m", progress=True)
    chunks = [chunk for event in _events() for chunk in answer.feed(event)]
    assert [chunk["stop"] for chunk in chunks] == [False, False, False, True]
    assert chunks[0]["prompt_progress"] == {"total": 5}
    assert (chunks[1]["content"], chunks[1]["tokens"], chunks[1]["timings"]) == ("a", [3], {"predicted_n": 1})
    told = chunks[1]["completion_probabilities"][0]
    assert (told["id"], told["token"], told["bytes"], told["logprob"]) == (3, "a", [97], -0.5)
    assert told["top_logprobs"] == [{"id": 4, "token": "b", "bytes": [98], "logprob": -1.0}]
    assert "completion_probabilities" not in chunks[2]
    last = chunks[3]
    assert (last["stop_type"], last["truncated"], last["id_slot"], last["tokens_evaluated"]) == ("limit", True, 1, 5)
    assert last["timings"] == {
        "cache_n": 1, "prompt_n": 4, "prompt_ms": 10.0, "prompt_per_token_ms": 2.5, "prompt_per_second": 400.0,
        "predicted_n": 2, "predicted_ms": 20.0, "predicted_per_token_ms": 20.0, "predicted_per_second": 50.0,
    }  # fmt: skip


def test_whole_answers():
    def whole(**options) -> dict:
        answer = answers.Completion("m", **options)
        for event in _events():
            list(answer.feed(event))
        return answer.whole(several=False)

    assert whole()["tokens"] == []
    assert whole(return_tokens=True)["tokens"] == [3, 9]
    assert whole(after_sampling=True)["completion_probabilities"][0]["prob"] == -0.5
    assert whole(fields=["content", "timings/predicted_n", "no/such"]) == {
        "content": "a", "timings/predicted_n": 2, "no/such": None,
    }  # fmt: skip
    assert [each["index"] for each in answers_of_two()] == [0, 1]


def answers_of_two() -> list:
    answer = answers.Completion("m")
    for index in (1, 0):
        for event in (Started(index), Text("x", index), Finished("stop", index=index, stop="!" * index)):
            list(answer.feed(event))
    several: list = answer.whole(several=True)
    assert [each["stop_type"] for each in several] == ["eos", "word"]
    return several


def test_rates_without_steps():
    told = answers.timings(Finished("stop", Usage(3, 1), Timings(0.0, 0.0)))
    assert told["predicted_per_second"] == told["predicted_per_token_ms"] == told["prompt_per_second"] == 0.0


def test_ranks():
    found = Ranking((0.1, 0.9, 0.5), Usage(12))
    body = answers.rerank_body("m", found, 2)
    assert [row["index"] for row in body["results"]] == [1, 2]
    assert body["usage"]["total_tokens"] == 12
    assert answers.tei_rows("abc", found, None, with_text=True)[0] == {"index": 1, "score": 0.9, "text": "b"}
    assert "text" not in answers.tei_rows("abc", found, 1, with_text=False)[0]


def test_chat_streams_as_llama_server_words_them():
    stream = chatting.Stream(openai.ChatStream("m", include_usage=False), include_usage=False)
    chunks = [chunk for event in _events() for chunk in stream.feed(event)]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert chunks[1]["prompt_progress"] == {"total": 5}
    assert chunks[1]["id"] == chunks[0]["id"]
    assert all(chunk["system_fingerprint"].startswith("b") for chunk in chunks)
    assert chunks[-1]["timings"]["predicted_n"] == 2
    assert list(stream.last()) == []


def test_chat_answers_as_llama_server_words_them():
    whole = chatting.Whole(openai.ChatWhole("m"), {"prompt": "p"})
    for event in _events():
        whole.feed(event)
    body = whole.body()
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "a"}
    assert body["timings"]["prompt_n"] == 4
    assert body["__verbose"] == {"prompt": "p"}


def test_images_of_a_chat():
    part = {"type": "image_url", "image_url": {"url": url_of(picture())}}
    texts = [{"type": "text", "text": text} for text in ("a", "b")]
    (found,) = chat(messages=[{"role": "user", "content": [*texts, part, texts[0]]}]).messages
    assert (found.content, found.images[0].place) == ("a\n\nba", 4)


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("<__media__>x", 1, ("x", [0])),
        ("a<__media__>b<own>", 2, ("ab", [1, 2])),
        ("<own><own>", 2, ("", [0, 0])),
        ("<__media__>", 0, ("<__media__>", [])),
    ],
)
def test_marks_in_a_prompt(text: str, count: int, expected: tuple[str, list[int]]):
    given = wire.PromptObject(text, [base64_of(picture())] * count)
    found, images = translate.illustrated(given, ["<own>", "<__media__>"])
    assert (found, [image.place for image in images]) == expected


@pytest.mark.parametrize(("text", "count"), [("x", 1), ("<own>", 2), ("<own><own>", 1)])
def test_marks_that_do_not_fit_the_images(text: str, count: int):
    with pytest.raises(BadInput, match="marks for") as caught:
        translate.illustrated(wire.PromptObject(text, [base64_of(picture())] * count), ["<own>"])
    assert "<own>" in caught.value.remedy
