"""Ollama's names: in any case, the tag `latest` where none is said, a registry in front or none.

A model that came from `hf.co/org/model:tag` or `host/org/model` is `org/model` in the catalog, and found by either.
"""

from freehold.core import reference
from freehold.core.errors import BadInput, BadName, UnknownModel, Unsupported
from freehold.core.name import PLUS, SEPARATOR, Name
from freehold.core.reference import OLLAMA, Reference
from freehold.dialects.ollama import schema
from freehold.store import Store
from freehold.store.pushing.oci import Target

_HUB = ("hf.co", "huggingface.co")
_REMEDY = "A name is model, model:tag or org/model:tag"


def local(text: str) -> Name:
    """What the catalog calls it. Raises BadName."""
    host, path = _split(text)
    return Name.parse(path.removeprefix("library/") if host in ("", OLLAMA, "ollama.com") else path)


def found(store: Store, text: str) -> str:
    """The model that is there under this name in some case, as the catalog spells it; BASE+ADAPTER names two.

    Raises UnknownModel.
    """
    if SEPARATOR in text:
        return text
    if PLUS in text:
        return PLUS.join(found(store, each) for each in text.split(PLUS, 1))
    try:
        wanted = local(text)
    except BadName as error:
        raise _unknown(text, error.remedy) from error
    if any(store.catalog.bound(wanted)):
        return str(wanted)
    folded = full(wanted).casefold()
    near = next((bound.name for bound in store.catalog.bound() if full(bound.name).casefold() == folded), None)
    if near is None:
        raise _unknown(text, "Pull it first; /api/tags lists what is there")
    return str(near)


def own(store: Store, text: str) -> Name:
    """The same as one name. Raises UnknownModel for a model of another tool, and for one with an adapter, too."""
    name = found(store, text)
    if PLUS in name:
        raise _unknown(text, "Name the model or the adapter alone")
    if SEPARATOR in name:
        raise _unknown(text, "Take it in first: freehold adopt")
    return Name.parse(name)


def new(text: str) -> Name:
    """A name for a model that may not be there yet. Raises BadInput."""
    try:
        return local(text)
    except BadName as error:
        raise BadInput(f"invalid model name: {text[:120]!r}", error.remedy, param="model") from error


def asked(body: schema.Named) -> str:
    """The name in a request, in whichever field. Raises BadInput."""
    if not (body.model or body.name):
        raise BadInput("model is required", "Name a model", param="model")
    return body.model or body.name


def full(name: Name) -> str:
    """The name with its tag, which Ollama always shows."""
    return str(name) if name.tag != "latest" else f"{name}:latest"


def remote(text: str) -> Reference:
    """Where a model of this name is pulled from: a registry or the Hub, never this machine. Raises BadName."""
    host, path = _split(text)
    if host in _HUB:
        return reference.parse(f"hf://{path}")
    return reference.parse(f"ollama://{host}/{path}" if host else f"ollama://{path}")


def target(text: str) -> Target:
    """The registry that a model of this name is pushed to. Raises BadName, Unsupported."""
    host, path = _split(text)
    if host in _HUB:
        raise Unsupported(
            f"{text[:120]} is pushed with its card and proofs", "Push it: freehold push NAME hf.co/org/repo"
        )
    return Target.parse(f"oci://{host or OLLAMA}/{path.lower()}")


def _split(text: str) -> tuple[str, str]:
    """The registry, if one is named, and the rest."""
    plain = text.strip().removeprefix("https://").removeprefix("http://")
    if "://" in plain or not plain:
        raise BadName(f"invalid model name: {text[:120]!r}", _REMEDY)
    host, slash, rest = plain.partition("/")
    named = slash and ("/" in rest or host in (*_HUB, OLLAMA, "ollama.com"))
    return (host.lower(), rest) if named else ("", plain)


def _unknown(text: str, remedy: str) -> UnknownModel:
    return UnknownModel(f"model {text[:120]!r} not found", remedy, param="model")
