"""The running server, as other verbs reach it."""

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from freehold.core import errors
from freehold.core.errors import FreeholdError, WorkerFailed
from freehold.core.settings import Settings

if TYPE_CHECKING:
    import httpx

    from freehold.serving.state import ServerState

T = TypeVar("T")


def running(settings: Settings) -> "ServerState | None":
    """The server of this home, if one runs."""
    from freehold.serving.state import running

    return running(settings)


def call(state: "ServerState", method: str, path: str, kind: type[T], body: Any = None) -> T:
    """The server's answer. Raises the error it answers with, and WorkerFailed when it answers nonsense or nothing."""
    import httpx

    try:
        answer = httpx.request(method, state.url + path, json=body, timeout=30, trust_env=False)
    except httpx.HTTPError as error:
        raise unreachable(state, error) from error
    if answer.is_error:
        raise error_of(answer)
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise nonsense(state, error) from error


def unreachable(state: "ServerState", error: Exception) -> FreeholdError:
    """The error for a server that does not answer."""
    return WorkerFailed(
        f"the server at {state.url} does not answer ({type(error).__name__})", "Stop it and start again"
    )


def nonsense(state: "ServerState", error: Exception) -> FreeholdError:
    """The error for a server that answers something else than what was asked."""
    return WorkerFailed(
        f"the server at {state.url} answers nonsense ({type(error).__name__})", "Stop it and start again"
    )


def error_of(answer: "httpx.Response") -> FreeholdError:
    """The error in our own words that an answer with an error status carries."""
    try:
        described = answer.json()["error"]
        return named(described.get("code"), str(described["message"]), str(described.get("remedy", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return WorkerFailed(f"the server answered {answer.status_code}", "See its log")


def named(code: object, message: str, remedy: str = "") -> FreeholdError:
    """The error with this code."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FreeholdError)]
    kind = next((kind for kind in kinds if kind.code == code), FreeholdError)
    return kind(message.rstrip(". "), remedy)
