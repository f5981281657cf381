"""What Ollama's registry keeps beside a model, in Freehold's terms: template, system message, parameters, messages."""

from collections.abc import Callable, Iterator, Mapping

import msgspec

from freehold.core.errors import FreeholdError
from freehold.core.manifest import Role
from freehold.core.request import Message
from freehold.formats import modelfile
from freehold.formats.go_template import is_go, to_jinja

FILENAMES = {
    "template": "ollama.template",
    "system": "ollama.system",
    "params": "ollama.params.json",
    "messages": "ollama.messages.json",
}
"""What the texts are called beside a model, by their kind in Ollama's media types."""
_MAX_PARAMETERS = 256


def translated(texts: Mapping[str, bytes]) -> dict[Role, bytes]:
    """Parts of a model for texts by their names in FILENAMES.

    What has no counterpart here (a template of an unknown shape, a parameter of Ollama's own) is left out: the texts
    themselves stay beside the model.
    """
    made = {role: make(texts[FILENAMES[kind]]) for kind, (role, make) in _KINDS.items() if FILENAMES[kind] in texts}
    return {role: data for role, data in made.items() if data is not None}


def _template(data: bytes) -> bytes | None:
    try:
        text = data.decode("utf-8")
        return to_jinja(text).encode() if is_go(text) else None
    except (UnicodeDecodeError, FreeholdError):
        return None


def _system(data: bytes) -> bytes | None:
    return data if data.strip() else None


def _parameters(data: bytes) -> bytes | None:
    try:
        given = msgspec.json.decode(data, type=dict[str, list[str] | str | float | int | bool | None])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    found, _ = modelfile.parameters(list(_pairs(given))[:_MAX_PARAMETERS])
    return None if found == type(found)() else found.encode()


def _pairs(given: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in given.items():
        for each in value if isinstance(value, list) else [value]:
            whole = isinstance(each, float) and each.is_integer()
            yield name, str(int(each) if whole and isinstance(each, float) else each)


def _messages(data: bytes) -> bytes | None:
    try:
        turns = msgspec.json.decode(data, type=list[Message])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    plain = all(turn.role in ("system", "user", "assistant") and isinstance(turn.content, str) for turn in turns)
    return msgspec.json.encode(turns) if turns and plain else None


_KINDS: dict[str, tuple[Role, Callable[[bytes], bytes | None]]] = {
    "template": ("chat_template", _template),
    "system": ("system", _system),
    "params": ("parameters", _parameters),
    "messages": ("messages", _messages),
}
