"""Name: what a person types for a model."""

import re
from typing import Self

import msgspec

from freehold.core.errors import BadName

_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REMEDY = "A name is letters, digits, '.', '_' and '-', as in 'helpdesk', 'org/model' or 'model:tag'"

SEPARATOR = "::"
"""Between a tool and its own name of a model, as in `ollama::llama3:8b`. No name of the catalog holds it."""
PLUS = "+"
"""Between a model and an adapter for it, as in `llama3:8b+support`. No name of the catalog holds it."""


class Name(msgspec.Struct, frozen=True, order=True):
    """`model`, `org/model`, either with `:tag`. Case is kept and compared as typed; the tag defaults to `latest`.

    Names are catalog keys, never paths.
    """

    org: str
    model: str
    tag: str = "latest"

    def __post_init__(self) -> None:
        for part in (self.model, self.tag, *([self.org] if self.org else [])):
            if not _PART.fullmatch(part) or ".." in part:
                raise BadName(f"not a model name: {str(self)[:120]!r}", _REMEDY)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The name that `text` spells. Raises BadName."""
        body, _, tag = text.partition(":")
        org, slash, model = body.rpartition("/")
        if (slash and not org) or text.endswith(":"):
            raise BadName(f"not a model name: {text[:120]!r}", _REMEDY)
        return cls(org, model, tag or "latest")

    def __str__(self) -> str:
        org = f"{self.org}/" if self.org else ""
        tag = "" if self.tag == "latest" else f":{self.tag}"
        return f"{org}{self.model}{tag}"
