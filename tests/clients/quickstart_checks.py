"""Run by an interpreter that has the frameworks: each is set up by the line that `freehold connect` shows, and asked.

python quickstart_checks.py http://127.0.0.1:PORT MODEL LINES.json

Where pieces are counted, the answer is greedy: a model of random weights may by chance end at once, or begin with bytes
that make no character before its last token.
"""

import json
import sys
from pathlib import Path

import checking

LINES = {each["name"]: each["text"] for each in json.loads(Path(sys.argv[3]).read_text())["clients"]}
HELLO = [{"role": "user", "content": "Where is my order?"}]


def made(name, **known):
    scope = dict(known)
    exec(LINES[name], scope)
    return scope


def check_langchain_openai():
    model = made("langchain")["model"].bind(max_tokens=8)
    answer = model.invoke("Where is my order?")
    assert answer.usage_metadata["output_tokens"] <= 8
    pieces = list(model.bind(temperature=0).stream("Where is my order?"))
    assert len(pieces) > 2
    two = model.batch(["a", "b"])
    assert len(two) == 2


def check_langchain_openai_structured():
    from pydantic import BaseModel, Field

    class Place(BaseModel):
        city: str = Field(max_length=8)

    model = made("langchain")["model"]
    found = model.with_structured_output(Place, method="json_schema").invoke("Where?", max_tokens=100)
    assert isinstance(found, Place)


def check_langchain_openai_tools():
    from typing import Annotated

    from langchain_core.tools import tool
    from pydantic import Field

    # A model of random weights would not end a longer text by itself.
    @tool
    def weather(city: Annotated[str, Field(max_length=8)]) -> str:
        """The weather of a city."""
        return city

    model = made("langchain")["model"].bind_tools([weather], tool_choice="weather")
    (call,) = model.invoke("Where?", max_tokens=200).tool_calls
    assert call["name"] == "weather"
    assert isinstance(call["args"]["city"], str)


async def check_langchain_openai_async():
    model = made("langchain")["model"].bind(max_tokens=8)
    assert (await model.ainvoke("a")).usage_metadata["total_tokens"] > 8
    assert [piece async for piece in model.astream("a")]


def check_langchain_openai_embeddings():
    from langchain_openai import OpenAIEmbeddings

    # Its way to cut long texts takes OpenAI's tokenizer, which it would have to fetch.
    there = {"model": sys.argv[2], "base_url": f"{sys.argv[1]}/v1", "api_key": "none"}
    vectors = OpenAIEmbeddings(**there, check_embedding_ctx_length=False).embed_documents(["a", "b"])
    assert [len(vector) for vector in vectors] == [len(vectors[0])] * 2


async def check_langchain_ollama_async():
    model = made("langchain-ollama")["model"]
    model.num_predict = 8
    assert (await model.ainvoke("a")).usage_metadata["output_tokens"] <= 8
    assert [piece async for piece in model.astream("a")]


def check_langchain_ollama():
    model = made("langchain-ollama")["model"]
    model.num_predict, model.temperature = 8, 0
    answer = model.invoke("Where is my order?")
    assert answer.response_metadata["done"]
    assert answer.usage_metadata["output_tokens"] <= 8
    assert len(list(model.stream("Where is my order?"))) > 2


def check_langchain_embeddings():
    from langchain_ollama import OllamaEmbeddings

    vectors = OllamaEmbeddings(model=sys.argv[2], base_url=sys.argv[1]).embed_documents(["a", "b"])
    assert len(vectors) == 2


def check_llamaindex_openai_like():
    from llama_index.core.llms import ChatMessage

    model = made("llamaindex")["model"]
    model.max_tokens, model.temperature = 8, 0
    assert model.chat([ChatMessage(role="user", content="Where?")]).message.role.value == "assistant"
    assert len(list(model.stream_chat([ChatMessage(role="user", content="Where?")]))) > 2


async def check_llamaindex_openai_like_async():
    model = made("llamaindex")["model"]
    model.max_tokens = 8
    assert (await model.acomplete("Where?")).raw
    assert [piece async for piece in await model.astream_complete("Where?")]


def check_llamaindex_ollama():
    model = made("llamaindex-ollama")["model"]
    model.additional_kwargs = {"num_predict": 8}
    assert model.complete("Where?").raw
    assert list(model.stream_complete("Where?"))


def check_litellm():
    import litellm

    litellm.telemetry = False
    answer = made("litellm", messages=HELLO)["answer"]
    assert answer.choices[0].finish_reason in ("stop", "length")
    there = {"api_base": sys.argv[1], "messages": HELLO, "max_tokens": 8, "temperature": 0}
    told = litellm.completion(model=f"ollama_chat/{sys.argv[2]}", **there)
    assert told.usage.completion_tokens <= 8
    pieces = list(litellm.completion(model=f"anthropic/{sys.argv[2]}", api_key="none", stream=True, **there))
    assert len(pieces) > 2


async def check_litellm_async():
    import litellm

    litellm.telemetry = False
    there = {"model": f"openai/{sys.argv[2]}", "api_base": f"{sys.argv[1]}/v1", "api_key": "none", "max_tokens": 8}
    told = await litellm.acompletion(messages=HELLO, **there)
    assert told.usage.completion_tokens <= 8
    stream = await litellm.acompletion(messages=HELLO, stream=True, **there)
    assert [piece async for piece in stream]
    vectors = await litellm.aembedding(model=there["model"], input=["a"], api_base=there["api_base"], api_key="none")
    assert len(vectors.data) == 1


if __name__ == "__main__":
    checking.run(globals(), Exception)  # whatever a framework raises is an outcome
