"""Our events as llama-server's answers, whole or in chunks. Pure."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from freehold.core.errors import ContextOverflow, FreeholdError
from freehold.core.event import (
    Embeddings,
    Event,
    Failed,
    Finished,
    Logprobs,
    Progress,
    Ranking,
    Started,
    Text,
    TokenLogprob,
)

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "unavailable_error",  # its nearest word: llama-server refuses nobody for asking much
    501: "not_supported_error",
    503: "unavailable_error",
}


def status(error: FreeholdError) -> int:
    """llama-server says 501 to what it cannot do."""
    return 501 if error.code == "unsupported" else error.status


def error_body(error: FreeholdError) -> dict[str, Any]:
    """An error as llama-server words it."""
    code = status(error)
    kind = _TYPES.get(code, "server_error" if code >= 500 else "invalid_request_error")
    told: dict[str, Any] = {"code": code, "message": error.line(), "type": kind}
    if isinstance(error, ContextOverflow):
        told["message"] = (
            f"request ({error.tokens} tokens) exceeds the available context size ({error.context} tokens), "
            f"try increasing it. {error.remedy}"
        )
        told |= {"type": "exceed_context_size_error", "n_prompt_tokens": error.tokens, "n_ctx": error.context}
    return {"error": told}


def timings(finished: Finished) -> dict[str, Any]:
    """Times and rates of one choice. The first token comes with the prompt, so rates are over the others."""
    usage, spent = finished.usage, finished.timings
    read, made = max(0, usage.prompt_tokens - usage.cached_tokens), usage.completion_tokens
    steps = max(0, made - 1)
    return {
        "cache_n": usage.cached_tokens,
        "prompt_n": read,
        "prompt_ms": spent.prompt_ms,
        "prompt_per_token_ms": spent.prompt_ms / read if read else 0.0,
        "prompt_per_second": 1e3 * read / spent.prompt_ms if spent.prompt_ms else 0.0,
        "predicted_n": made,
        "predicted_ms": spent.generate_ms,
        "predicted_per_token_ms": spent.generate_ms / steps if steps else 0.0,
        "predicted_per_second": 1e3 * steps / spent.generate_ms if spent.generate_ms else 0.0,
    }


class _Choice:
    def __init__(self) -> None:
        self.text: list[str] = []
        self.tokens: list[int] = []
        self.probabilities: list[dict[str, Any]] = []
        self.waiting: list[dict[str, Any]] = []
        """Probabilities that go out with the next text."""
        self.told: Mapping[str, Any] = {}
        self.evaluated = 0
        self.last: dict[str, Any] = {}


class Completion:
    """The answer to /completion, chunk by chunk and in whole."""

    def __init__(
        self,
        model: str,
        *,
        after_sampling: bool = False,
        return_tokens: bool = False,
        progress: bool = False,
        fields: Sequence[str] = (),
    ) -> None:
        self._model = model
        self._after = after_sampling
        self._return_tokens = return_tokens
        self._progress = progress
        self._fields = fields
        self._choices: dict[int, _Choice] = defaultdict(_Choice)

    def feed(self, event: Event) -> Iterator[dict[str, Any]]:
        """The chunks for one event."""
        if isinstance(event, Failed):
            yield error_body(event.error)
            return
        choice = self._choices[event.index]
        match event:
            case Started():
                choice.evaluated = event.prompt_tokens
            case Logprobs():
                choice.waiting += [self._probability(token) for token in event.tokens]
            case Progress():
                if "prompt_progress" not in event.told:
                    choice.told = event.told
                elif self._progress:
                    yield self._chunk(event.index, "", (), dict(event.told))
            case Text():
                yield self._text(event, choice)
            case Finished():
                choice.last = self._final(event, choice)
                yield {"index": event.index, "content": "", "tokens": [], **choice.last}

    def whole(self, *, several: bool) -> Any:
        """The answer in one piece; a list of `several`."""
        answers = [self._whole(index, choice) for index, choice in sorted(self._choices.items())]
        return answers if several else answers[0]

    def _text(self, event: Text, choice: _Choice) -> dict[str, Any]:
        choice.text.append(event.text)
        choice.tokens += event.tokens
        more = dict(choice.told)
        choice.told = {}
        if choice.waiting:
            more["completion_probabilities"] = choice.waiting
            choice.probabilities += choice.waiting
            choice.waiting = []
        return self._chunk(event.index, event.text, event.tokens, more)

    def _chunk(self, index: int, text: str, tokens: Sequence[int], more: dict[str, Any]) -> dict[str, Any]:
        choice = self._choices[index]
        return {
            "index": index,
            "content": text,
            "tokens": list(tokens),
            "stop": False,
            "id_slot": -1,
            "tokens_predicted": len(choice.tokens),
            "tokens_evaluated": choice.evaluated,
            **more,
        }

    def _final(self, event: Finished, choice: _Choice) -> dict[str, Any]:
        ended = "limit" if event.reason == "length" else "word" if event.stop else "eos"
        return {
            "id_slot": -1,
            "stop": True,
            "model": self._model,
            "tokens_predicted": event.usage.completion_tokens,
            "tokens_evaluated": event.usage.prompt_tokens,
            "has_new_line": "\n" in "".join(choice.text),
            "truncated": False,
            "stop_type": ended,
            "stopping_word": event.stop,
            "timings": timings(event),
            **event.detail,
        }

    def _whole(self, index: int, choice: _Choice) -> dict[str, Any]:
        probabilities = choice.probabilities + choice.waiting
        tokens = choice.tokens if self._return_tokens else []
        answer = {"index": index, "content": "".join(choice.text), "tokens": tokens, **choice.last}
        if "generation_settings" in answer:
            answer["generation_settings"] = {**answer["generation_settings"], "stream": False}
        if probabilities:
            answer["completion_probabilities"] = probabilities
        return {path: _at(answer, path) for path in self._fields} if self._fields else answer

    def _probability(self, token: TokenLogprob) -> dict[str, Any]:
        value, others = ("prob", "top_probs") if self._after else ("logprob", "top_logprobs")
        top = [self._one(other, value) for other in token.top]
        return {**self._one(token, value), others: top}

    def _one(self, token: TokenLogprob, value: str) -> dict[str, Any]:
        told = token.logprob if math.isfinite(token.logprob) else None
        return {"id": token.id, "token": token.token, "bytes": list(token.bytes), value: told}


def _at(answer: Any, path: str) -> Any:
    for step in path.split("/"):
        answer = answer.get(step) if isinstance(answer, Mapping) else None
    return answer


def embedding_rows(found: Embeddings) -> list[dict[str, Any]]:
    """What /embedding answers."""
    return [{"index": index, "embedding": rows} for index, rows in enumerate(found.per_token)]


def rerank_body(model: str, found: Ranking, top: int | None) -> dict[str, Any]:
    """What /rerank answers."""
    tokens = found.usage.prompt_tokens
    return {
        "model": model,
        "object": "list",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "results": [{"index": index, "relevance_score": found.scores[index]} for index in _best(found, top)],
    }


def tei_rows(texts: Sequence[str], found: Ranking, top: int | None, *, with_text: bool) -> list[dict[str, Any]]:
    """The same as Text Embeddings Inference words it."""
    rows = ({"index": index, "score": found.scores[index]} for index in _best(found, top))
    return [{**row, "text": texts[int(row["index"])]} if with_text else row for row in rows]


def _best(found: Ranking, top: int | None) -> list[int]:
    places = sorted(range(len(found.scores)), key=lambda place: -found.scores[place])
    return places if top is None else places[:top]
