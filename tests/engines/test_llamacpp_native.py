"""llama-server's own routes: what is asked, and what its chunks say."""

import pytest

from freehold.core.errors import ContextOverflow
from freehold.core.event import Finished, Logprobs, Progress, Text
from freehold.core.request import Beside, Constraint, Handling, Insert, Request, Sampling
from freehold.engines.llamacpp import native, questions
from freehold.engines.llamacpp.stops import Stops

ONE = range(1)


def _request(**fields) -> Request:
    return Request(model="m", prompt="p", detail=True, **fields)


def test_bodies():
    request = _request(
        sampling=Sampling(temperature=0.5, typical_p=0.9, samplers=("top_k",)), stop=("x",), logprobs=0, max_tokens=4,
        handling=Handling(cache=False, slot=1, adapters={0: 0.5}, after_sampling=True, keep=2, indent=3,
                          milliseconds=9),
    )  # fmt: skip
    body = native.completion_body(request, ONE, "p", Constraint("grammar", grammar="g"))
    wanted = {
        "prompt": "p", "stop": ["x"], "temperature": 0.5, "typical_p": 0.9, "samplers": ("top_k",), "n_probs": 1,
        "post_sampling_probs": True, "cache_prompt": False, "id_slot": 1, "lora": [{"id": 0, "scale": 0.5}],
        "n_keep": 2, "n_indent": 3, "t_max_predict_ms": 9, "grammar": "g", "max_tokens": 4, "return_progress": False,
    }  # fmt: skip
    assert {name: body[name] for name in wanted} == wanted
    insert = Insert("a", "b", (Beside("f", "t"),))
    body = native.infill_body(_request(), ONE, insert, "p", None)
    assert (body["input_prefix"], body["input_suffix"]) == ("a", "b")
    assert body["input_extra"] == [{"filename": "f", "text": "t"}]


def test_chunks():
    reader = native.NativeReader(range(2), _request(logprobs=1, progress=True))
    token = {"id": 3, "token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": [{"id": 4, "token": "b",
             "bytes": [98], "logprob": -1.0}, {"id": 5, "token": "c", "bytes": [], "logprob": -2.0}]}  # fmt: skip
    start = {"index": 1, "content": "", "tokens": [0], "prompt_progress": {"total": 5}, "tokens_evaluated": 5}
    assert list(reader.feed(start)) == [Progress({"prompt_progress": {"total": 5}}, 1)]
    assert reader.prompt_tokens == 5
    chunk = {"index": 1, "content": "a", "tokens": [3], "completion_probabilities": [token]}
    _, told, text = reader.feed(chunk)
    assert isinstance(told, Logprobs)
    assert (told.tokens[0].id, told.tokens[0].logprob, told.tokens[0].bytes) == (3, -0.5, (97,))
    assert [other.id for other in told.tokens[0].top] == [4]
    assert text == Text("a", 1, (3,))
    last = {"index": 0, "content": "", "tokens": [], "stop": True, "stop_type": "word", "stopping_word": "x",
            "tokens_evaluated": 5, "tokens_predicted": 2, "timings": {"cache_n": 1, "prompt_ms": 2.0}}  # fmt: skip
    (ended,) = reader.feed(last)
    assert isinstance(ended, Finished)
    assert (ended.reason, ended.stop, ended.usage.cached_tokens, ended.timings.prompt_ms) == ("stop", "x", 1, 2.0)
    assert ended.detail["stop_type"] == "word"
    assert "content" not in ended.detail
    assert reader.open == {1}


def test_probabilities_as_such():
    reader = native.NativeReader(ONE, _request(logprobs=1))
    told, _ = reader.feed({"content": "a", "completion_probabilities": [{"token": "a", "prob": 0.5, "top_probs": []}]})
    assert isinstance(told, Logprobs)
    assert told.tokens[0].logprob == 0.5


def test_length_and_errors():
    reader = native.NativeReader(ONE, _request())
    (ended,) = reader.feed({"stop": True, "stop_type": "limit"})
    assert isinstance(ended, Finished)
    assert ended.reason == "length"
    with pytest.raises(ContextOverflow) as caught:
        list(reader.feed({"error": {"type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8}}))
    assert (caught.value.tokens, caught.value.context) == (9, 8)


def test_tokens_survive_where_no_stop_is_looked_for():
    assert list(Stops(()).feed(Text("a", tokens=(1,)))) == [Text("a", tokens=(1,))]


@pytest.mark.parametrize(("question", "body", "asked"), [
    ("properties", {}, ("GET", "/props", None)), ("slots", {}, ("GET", "/slots", None)),
    ("adapters", {}, ("GET", "/lora-adapters", None)), ("metrics", {}, ("GET", "/metrics", None)),
    ("set adapters", {"adapters": [1]}, ("POST", "/lora-adapters", [1])),
    ("pieces", {"content": "a"}, ("POST", "/tokenize", {"content": "a", "with_pieces": True})),
    ("save slot", {"slot": 1, "filename": "f"}, ("POST", "/slots/1?action=save", {"filename": "f"})),
    ("erase slot", {"slot": 0}, ("POST", "/slots/0?action=erase", {"filename": ""})),
])  # fmt: skip
def test_questions(question, body: dict, asked: tuple):
    assert tuple(questions.asked(question, body)) == asked


def test_vectors_of_each_token():
    told = [{"index": 1, "embedding": [[2.0]]}, {"index": 0, "embedding": [[0.0], [1.0]]}]
    assert questions.per_token(told) == (((0.0,), (1.0,)), ((2.0,),))
