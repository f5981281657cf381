"""Run by the client's own interpreter: what OpenAI's package sees of a model that thinks. Prints one JSON object.

python openai_thoughts_checks.py http://127.0.0.1:PORT/v1 MODEL
"""

import sys

import checking
import openai

BASE, MODEL = sys.argv[1], sys.argv[2]
FAILURES = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, openai.OpenAIError)
SHORT = {"model": MODEL, "input": "Where is my order?", "max_output_tokens": 6, "temperature": 0}
SHORT["extra_body"] = {"logit_bias": {"0": -100, "2": -100}}

client = openai.OpenAI(base_url=BASE, api_key="none", max_retries=0, timeout=60, _strict_response_validation=True)


def check_thoughts_are_items():
    answer = client.responses.create(**SHORT, reasoning={"effort": "high", "summary": "auto"})
    (thoughts,) = answer.output
    assert (thoughts.type, thoughts.status, thoughts.summary) == ("reasoning", "incomplete", [])
    assert thoughts.content[0].text
    assert 0 < answer.usage.output_tokens_details.reasoning_tokens <= 6
    assert (answer.output_text, answer.reasoning.effort) == ("", "high")


def check_thoughts_are_streamed():
    events = list(client.responses.create(**SHORT, stream=True))
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[2:4] == ["output_item.added", "content_part.added"]
    assert kinds[-4:] == ["reasoning_text.done", "content_part.done", "output_item.done", "incomplete"]
    text = "".join(event.delta for event in events if event.type == "response.reasoning_text.delta")
    assert text == events[-1].response.output[0].content[0].text == events[-4].text


def check_the_stream_helper():
    with client.responses.stream(**SHORT) as stream:
        last = list(stream)[-1]
    assert last.response.output[0].type == "reasoning"


def check_thoughts_are_passed_back():
    """The template says them again."""
    first = client.responses.create(**SHORT)
    said = {"type": "message", "role": "assistant", "content": "I do not know."}
    asked = {"role": "user", "content": "Why?"}
    count = client.responses.input_tokens.count
    thought = [first.output[0].to_dict(), said, asked]
    chained = count(model=MODEL, previous_response_id=first.id, input=[said, asked]).input_tokens
    whole = count(model=MODEL, input=[{"role": "user", "content": SHORT["input"]}, *thought]).input_tokens
    without = count(model=MODEL, input=[{"role": "user", "content": SHORT["input"]}, said, asked]).input_tokens
    assert chained == whole > without
    sealed = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}
    assert client.responses.create(**{**SHORT, "input": [asked, sealed, said, asked]}, store=False)


if __name__ == "__main__":
    checking.run(globals(), FAILURES)
