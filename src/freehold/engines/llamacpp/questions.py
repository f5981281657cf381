"""What a worker's server is asked about itself, and how: llama-server's routes beside the work. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from freehold.engines.base import Question


class Asked(NamedTuple):
    """One call of the server."""

    method: str
    route: str
    body: Mapping[str, Any] | None = None


def asked(question: Question, body: Mapping[str, Any]) -> Asked:
    """The call for a question. Questions about one slot name it in `slot`."""
    match question:
        case "properties":
            return Asked("GET", "/props")
        case "slots":
            return Asked("GET", "/slots")
        case "adapters":
            return Asked("GET", "/lora-adapters")
        case "metrics":
            return Asked("GET", "/metrics")
        case "set adapters":
            return Asked("POST", "/lora-adapters", body["adapters"])
        case "pieces":
            return Asked("POST", "/tokenize", {**body, "with_pieces": True})
    action = question.partition(" ")[0]
    return Asked("POST", f"/slots/{int(body['slot'])}?action={action}", {"filename": body.get("filename", "")})


def per_token(told: Any) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """The vectors of each input, of what /embedding says."""
    rows = sorted(told, key=lambda row: row["index"])
    return tuple(tuple(tuple(vector) for vector in row["embedding"]) for row in rows)
