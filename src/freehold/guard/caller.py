"""Who asks: told apart by the credential that a client presents, else by its address. Neither is kept in clear."""

import hashlib
import math
import re
import secrets
from collections.abc import Mapping
from contextvars import ContextVar
from typing import NamedTuple

_CREDENTIALS = ("authorization", "x-api-key", "api-key")
"""Headers that name a client, the first that is there: OpenAI's and most others', Anthropic's, Azure's."""
_PATIENCE = ("x-stainless-read-timeout", "x-stainless-timeout")
"""In which OpenAI's and Anthropic's clients say for how many seconds they wait for a byte."""
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_SALT = secrets.token_bytes(32)
"""Of this process: what is made of a credential cannot be found by trying likely ones, and means nothing elsewhere."""


class Caller(NamedTuple):
    """One of those who share the server."""

    who: str = ""
    """The same for all requests of one client; empty for what nobody outside asked for."""
    weight: float = 1.0
    """Its part of what there is, beside others that have theirs."""
    patience: float = math.inf
    """Seconds for which it waits for a first byte."""


_NOBODY = Caller()
asking: ContextVar[Caller] = ContextVar("asking", default=_NOBODY)
"""For whom the running task works."""


def of(headers: Mapping[str, str], address: str) -> Caller:
    """The caller of a request. Headers are looked for in lower case."""
    credential = next((f"{name} {headers[name]}" for name in _CREDENTIALS if headers.get(name)), f"address {address}")
    return Caller(_named(credential), patience=_patience(headers))


def _named(credential: str) -> str:
    return hashlib.blake2b(credential.encode("utf-8", "surrogateescape"), key=_SALT, digest_size=16).hexdigest()


def _patience(headers: Mapping[str, str]) -> float:
    found = next((headers[name] for name in _PATIENCE if name in headers), "")
    return float(found) if _SECONDS.fullmatch(found) else math.inf
