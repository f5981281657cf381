"""Parameters: what a model brings along for requests that leave it open."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from freehold.core.errors import Damaged
from freehold.core.request import Message, Request, Sampling

Stop = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=1024)], ...], Meta(max_length=16)]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Defaults of a model. Each is used only where a request does not say."""

    sampling: Sampling = Sampling()
    stop: Stop = ()
    max_tokens: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None
    context_length: Annotated[int, Meta(ge=16, le=1 << 24)] | None = None
    """Tokens of context per slot."""

    def encode(self) -> bytes:
        """Canonical bytes: of what is said, and nothing else."""
        said = msgspec.to_builtins(self, str_keys=True)
        said["sampling"] = {name: value for name, value in said.get("sampling", {}).items() if value not in (None, {})}
        return msgspec.json.encode({name: value for name, value in said.items() if value}, order="sorted")

    def over(self, base: "Parameters") -> "Parameters":
        """These, and what they leave open from `base`."""
        return Parameters(
            sampling=_filled(self.sampling, base.sampling),
            stop=self.stop or base.stop,
            max_tokens=self.max_tokens or base.max_tokens,
            context_length=self.context_length or base.context_length,
        )


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """All that a model adds to a request: parameters, a system message, and turns that come before the user's."""

    parameters: Parameters = Parameters()
    system: str = ""
    messages: tuple[Message, ...] = ()

    def applied(self, request: Request) -> Request:
        """The request with the gaps filled. A raw prompt gets parameters only: it is the whole text already."""
        return msgspec.structs.replace(
            request,
            sampling=_filled(request.sampling, self.parameters.sampling),
            stop=request.stop or self.parameters.stop,
            max_tokens=request.max_tokens or self.parameters.max_tokens,
            messages=request.messages if request.prompt is not None else self._opened(request.messages),
        )

    def _opened(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        own = bool(messages) and messages[0].role == "system"
        system = messages[:1] if own else ((Message("system", self.system),) if self.system else ())
        return (*system, *self.messages, *messages[own:])


def _filled(given: Sampling, base: Sampling) -> Sampling:
    missing = {
        field: getattr(base, field) for field in Sampling.__struct_fields__ if getattr(given, field) in (None, {})
    }
    return msgspec.structs.replace(given, **missing)


def decode_parameters(data: bytes) -> Parameters:
    """The parameters that a manifest's part holds. Raises Damaged."""
    parameters: Parameters = _decoded(data, Parameters, "parameters")
    return parameters


def decode_messages(data: bytes) -> tuple[Message, ...]:
    """The turns that a manifest's part holds. Raises Damaged."""
    messages: tuple[Message, ...] = _decoded(data, tuple[Message, ...], "messages")
    if any(message.images for message in messages):  # only those of requests are checked
        raise Damaged("a model's messages hold images", "Create or import the model again")
    return messages


def _decoded(data: bytes, kind: Any, what: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Damaged(f"a model's {what} cannot be read: {error}", "Create or import the model again") from error
