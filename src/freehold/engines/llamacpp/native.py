"""llama-server's own completion routes: bodies for /completion and /infill, their chunks as events. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from freehold.core.event import Event, Finished, FinishReason, Logprobs, Progress, Text, Timings, TokenLogprob, Usage
from freehold.core.request import Constraint, Insert, Request
from freehold.engines.llamacpp import wire

COMPLETION = "/completion"
INFILL = "/infill"


def completion_body(
    request: Request, choices: range, prompt: str | Sequence[int] | dict[str, Any], constraint: Constraint | None
) -> dict[str, Any]:
    """The body of /completion, with which the events tell all that the server knows."""
    body = wire.generation_body(request, choices) | {
        "prompt": prompt,
        "stop": list(request.stop),
        "timings_per_token": request.progress,
        "return_progress": request.progress,
        "return_tokens": True,
    }
    if request.logprobs is not None:
        body |= {"n_probs": max(1, request.logprobs), "post_sampling_probs": request.handling.after_sampling}
    return body if constraint is None else body | wire.constraint_body(constraint)


def infill_body(
    request: Request, choices: range, insert: Insert, prompt: str, constraint: Constraint | None
) -> dict[str, Any]:
    """The body of /infill."""
    return completion_body(request, choices, prompt, constraint) | {
        "input_prefix": insert.prefix,
        "input_suffix": insert.suffix,
        "input_extra": [{"filename": each.name, "text": each.text} for each in insert.files],
    }


class NativeReader:
    """Turns the chunks of these routes into events, as `wire.StreamReader` does those of OpenAI's.

    A chunk of another form than the server's raises what Python raises of it.
    """

    def __init__(self, choices: range, request: Request) -> None:
        self._choices = choices
        self._request = request
        self.open = set(choices)
        self.prompt_tokens = 0

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        """The events that one chunk holds. Raises the error that it reports."""
        if "error" in chunk:
            raise wire.error_of(chunk)
        index = self._choices[chunk.get("index", 0)]
        self.prompt_tokens = self.prompt_tokens or int(chunk.get("tokens_evaluated", 0))
        if self._request.progress and not chunk.get("stop"):
            yield Progress({key: chunk[key] for key in ("timings", "prompt_progress") if key in chunk}, index)
        if "prompt_progress" in chunk:
            return  # no token yet, though it names one
        if (probabilities := chunk.get("completion_probabilities")) and self._request.logprobs is not None:
            yield Logprobs(tuple(_token(item, self._request.logprobs) for item in probabilities), index)
        text, tokens = wire.text_in(chunk, "content"), tuple(map(int, chunk.get("tokens", ())))
        if text or tokens:
            yield Text(text, index, tokens if self._request.detail else ())
        if chunk.get("stop"):
            self.open.discard(index)
            yield self._finished(chunk, index)

    def end(self, index: int, stop: str) -> Finished:
        """Never asked for: the server finds stop sequences itself here, and says which."""
        self.open.discard(index)
        return Finished("stop", index=index, stop=stop)

    def _finished(self, chunk: Mapping[str, Any], index: int) -> Finished:
        timings = chunk.get("timings") or {}
        prompt = int(chunk.get("tokens_evaluated", 0)) if index == 0 else 0
        cached = int(timings.get("cache_n", 0)) if index == 0 else 0
        reason: FinishReason = "length" if chunk.get("stop_type") == "limit" else "stop"
        return Finished(
            reason,
            Usage(prompt, int(chunk.get("tokens_predicted", 0)), cached),
            Timings(float(timings.get("prompt_ms", 0.0)), float(timings.get("predicted_ms", 0.0))),
            index,
            wire.text_in(chunk, "stopping_word"),
            {key: value for key, value in chunk.items() if key not in ("content", "tokens", "model", "index")}
            if self._request.detail
            else {},
        )


def _token(item: Mapping[str, Any], alternatives: int) -> TokenLogprob:
    raw = bytes(item.get("bytes") or ())
    others = item.get("top_logprobs") or item.get("top_probs") or ()
    return TokenLogprob(
        token=str(item.get("token", "")),
        logprob=float(item["logprob"] if "logprob" in item else item["prob"]),
        bytes=tuple(raw),
        top=tuple(_token(other, 0) for other in others[:alternatives]),
        id=int(item.get("id", -1)),
    )
