"""OpenAI's answers as llama-server words them: with timings, and without fields that say nothing. Pure."""

from collections.abc import Iterator
from typing import Any

from freehold.core.event import Event, Finished, Progress
from freehold.dialects.llamacpp import answers
from freehold.dialects.openai import answers as openai

FINGERPRINT = f"b-{openai.FINGERPRINT}"
"""Clients look for llama.cpp's build number, which begins with b."""


class _Timed:
    """Keeps the timings of the choice that finished last."""

    def __init__(self) -> None:
        self.timings: dict[str, Any] = {}

    def see(self, event: Event) -> None:
        if isinstance(event, Finished):
            self.timings = answers.timings(event)


class Whole:
    """An answer in one piece: one of OpenAI's, worded anew."""

    def __init__(self, inner: openai.Whole, verbose: dict[str, Any] | None = None) -> None:
        self._inner = inner
        self._timed = _Timed()
        self._verbose = {} if verbose is None else {"__verbose": verbose}

    def feed(self, event: Event) -> None:
        """Take one event. Raises the error of a Failed."""
        self._timed.see(event)
        if not isinstance(event, Progress):
            self._inner.feed(event)

    def body(self) -> dict[str, Any]:
        """The answer."""
        told = self._inner.body()
        choices = [_choice(choice) for choice in told["choices"]]
        fresh = {"choices": choices, "system_fingerprint": FINGERPRINT, "timings": self._timed.timings}
        return {**told, **fresh, **self._verbose}


class Stream:
    """The same in chunks."""

    def __init__(self, inner: openai.Stream, *, include_usage: bool) -> None:
        self._inner = inner
        self._include_usage = include_usage
        self._timed = _Timed()
        self._head = {**inner.head, "system_fingerprint": FINGERPRINT}

    def feed(self, event: Event) -> Iterator[dict[str, Any]]:
        """The chunks for one event."""
        self._timed.see(event)
        if isinstance(event, Progress):
            yield {**self._head, "choices": [], **event.told}
            return
        for chunk in self._inner.feed(event):
            if "choices" not in chunk:
                yield chunk
                continue
            told = {**chunk, "system_fingerprint": FINGERPRINT, "choices": [_choice(each) for each in chunk["choices"]]}
            told.pop("usage", None)
            if isinstance(event, Finished) and not self._include_usage:
                told["timings"] = self._timed.timings
            yield told

    def last(self) -> Iterator[dict[str, Any]]:
        """The chunk after all choices."""
        for chunk in self._inner.last():
            yield {**chunk, "system_fingerprint": FINGERPRINT, "timings": self._timed.timings}


def _choice(choice: dict[str, Any]) -> dict[str, Any]:
    told = {key: value for key, value in choice.items() if key != "logprobs" or value is not None}
    if "message" in told:
        told["message"] = {key: value for key, value in told["message"].items() if key != "refusal"}
    delta = told.get("delta")
    if delta is not None and "role" in delta:
        told["delta"] = {"role": delta["role"], "content": None}
    return told
