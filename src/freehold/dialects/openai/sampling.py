"""What OpenAI's requests say of how answers are drawn, as ours. Pure."""

from typing import Any

from freehold.core.request import Sampling
from freehold.dialects.openai import schema
from freehold.dialects.openai.responses import schema as responses


def sampling(body: schema.ChatRequest | schema.CompletionRequest | responses.ResponseRequest) -> Sampling:
    """How tokens are drawn."""
    return Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repeat_penalty=body.repeat_penalty,
        seed=body.seed,
        logit_bias={int(token): bias for token, bias in (body.logit_bias or {}).items()},
    )


def stops(stop: Any) -> tuple[str, ...]:
    """The texts that end an answer, of one or a list of them."""
    if not stop:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)
