"""Run by the client's own interpreter: a model that thinks `hm`, says something and calls two tools."""

import json
import sys
import traceback

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


def main():
    outcomes = {}
    for check in (check_whole, check_streamed):
        try:
            check()
            outcomes[check.__name__] = ""
        except (AssertionError, AttributeError, LookupError, TypeError, ollama.ResponseError):
            outcomes[check.__name__] = traceback.format_exc()
    print(json.dumps(outcomes))


main()
