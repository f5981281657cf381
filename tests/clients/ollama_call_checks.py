"""Run by the client's own interpreter: a model that thinks `hm`, says something and calls two tools."""

import sys

import checking
import ollama

BASE, MODEL = sys.argv[1], sys.argv[2]
HELLO = [{"role": "user", "content": "What is the weather?"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
client = ollama.Client(host=BASE, timeout=60)


def seen(message):
    return [(call.function.name, dict(call.function.arguments)) for call in message.tool_calls or ()]


def check_whole():
    message = client.chat(MODEL, HELLO, tools=[TOOL]).message
    assert message.content == "Let me see."
    assert getattr(message, "thinking", "hm") == "hm"
    assert seen(message) == [("weather", {"city": "Ulm"}), ("clock", {})]


def check_streamed():
    parts = list(client.chat(MODEL, HELLO, tools=[TOOL], stream=True))
    assert [pair for part in parts for pair in seen(part.message)] == [("weather", {"city": "Ulm"}), ("clock", {})]
    assert "".join(part.message.content or "" for part in parts) == "Let me see."
    assert parts[-1].done_reason == "stop"


if __name__ == "__main__":
    checking.run(globals(), (AssertionError, AttributeError, LookupError, TypeError, ollama.ResponseError))
