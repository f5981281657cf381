"""Settings: flags over `FREEHOLD_*` variables over the config file over defaults."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from freehold.core.errors import BadInput
from freehold.core.paths import expanded

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"", "0", "false", "no", "off"}


FIXED = frozenset({"home", "host", "port", "also"})
"""Settings that a server takes when it starts and not again; all others take effect while it runs."""
PORT = 6464
"""Where the server listens unless somebody says otherwise."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How this installation behaves. A field `x_y` is `FREEHOLD_X_Y` in the environment and `x_y` in config.toml."""

    home: Path
    """Where everything is kept."""
    host: Annotated[str, Meta(min_length=1, max_length=253)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = PORT
    also: tuple[str, ...] = ()
    """Tools on whose usual ports the server listens too: ollama, lmstudio, llamacpp."""
    offline: bool = False
    """No packet leaves the machine."""
    allowed_hosts: tuple[str, ...] = ()
    """Names, beside loopback ones, that a Host header may carry."""
    context_length: Annotated[int, Meta(ge=16, le=1 << 24)] = 4096
    """Tokens of context per slot, cut to what the model was trained with."""
    parallel: Annotated[int, Meta(ge=1, le=64)] = 4
    """Requests that one worker generates at the same time."""
    queue: Annotated[int, Meta(ge=1, le=100_000)] = 64
    """Requests that may wait."""
    queue_tokens: Annotated[int, Meta(ge=1, le=1 << 40)] = 1_000_000
    """Tokens, prompt and answer, that may wait."""
    queue_share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """Part of the queue that one client may take while others ask too."""
    queue_seconds: Annotated[float, Meta(gt=0, le=86400)] = 120.0
    """Seconds for which a request may wait for its turn."""
    keep_alive: Annotated[float, Meta(ge=0, le=1e10)] = 300.0
    """Seconds for which an idle worker is kept; 1e10 keeps it for good."""
    memory: Annotated[int, Meta(ge=0, le=1 << 60)] = 0
    """Bytes that loaded models may take together; 0 for all that is free."""
    pinned: tuple[str, ...] = ()
    """Models that are loaded at the start and stay."""
    stall_seconds: Annotated[float, Meta(gt=0, le=3600)] = 20.0
    """Seconds without any progress after which a worker on which somebody waits counts as stuck, and is ended."""
    grammar_seconds: Annotated[float, Meta(gt=0, le=60)] = 0.25
    """Seconds of computing that a grammar, a JSON schema or tools may take to be compiled and tried beforehand."""
    drain_seconds: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    """Seconds for which running answers may go on after the server was told to stop."""
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    """CPU threads per worker; 0 takes the number of usable cores."""
    require_signature: bool = False
    """Models run and are released only when a key trusted for their name signed them."""
    signing_key: str = ""
    """File of the private key that signs what recipes release."""
    max_body: Annotated[int, Meta(ge=1024, le=1 << 32)] = 32 << 20
    """Bytes of a request body."""
    quota: Annotated[int, Meta(ge=0, le=1 << 60)] = 0
    """Bytes that the store may hold; 0 sets no limit."""
    files_quota: Annotated[int, Meta(ge=0, le=1 << 60)] = 16 << 30
    """Bytes that uploaded files, batches and tuning jobs may take; 0 sets no limit."""
    kept_answers: Annotated[int, Meta(ge=0, le=1 << 40)] = 256 << 20
    """Bytes of conversations that a server keeps for requests that go on from them; the oldest go first."""
    scrub_rate: Annotated[int, Meta(ge=0, le=1 << 40)] = 16 << 20
    """Bytes per second at which a server reads its models again to find damage; 0 turns that off."""

    @property
    def store(self) -> Path:
        """The folder of the store."""
        return self.home / "store"

    @property
    def runs(self) -> Path:
        """The folder in which recipes work."""
        return self.home / "runs"

    @property
    def resumable(self) -> Path:
        """Of these, the folder of steps that can be gone on with."""
        return self.runs / "resumable"

    @property
    def files(self) -> Path:
        """The folder of files that clients sent, and of what batches answered."""
        return self.home / "files"

    @property
    def batches(self) -> Path:
        """The folder in which batches are worked on."""
        return self.home / "batches"

    @property
    def tunings(self) -> Path:
        """The folder of the tuning jobs that clients asked for."""
        return self.home / "tunings"

    @property
    def answers(self) -> Path:
        """The folder of the conversations that a server keeps, open to its owner alone."""
        return self.home / "answers"

    @property
    def sockets(self) -> Path:
        """The folder of the workers' sockets, open to its owner alone."""
        return self.home / "run"


def load(flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings in force. Flags that are None count as not given. Raises BadInput naming a wrong value."""
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    home = expanded(given.get("home") or environ.get("FREEHOLD_HOME") or Path("~/.freehold")).absolute()
    merged: dict[str, Any] = {**_from_file(home / "config.toml"), **_from_environment(environ), **given, "home": home}
    try:
        return msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise BadInput(
            f"wrong setting: {error}", f"Check flags, FREEHOLD_* variables and {home / 'config.toml'}"
        ) from error


def _from_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}", "Correct or remove the file") from error
    unknown = sorted(set(values) - set(Settings.__struct_fields__))
    if unknown:
        raise BadInput(f"unknown setting {unknown[0]!r} in {path}", f"Known: {', '.join(Settings.__struct_fields__)}")
    return values


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        text = environ.get(f"FREEHOLD_{field.name.upper()}")
        if text is None or field.name == "home":
            continue
        found[field.name] = _parse(field.name, field.type, text)
    return found


def _parse(name: str, kind: Any, text: str) -> Any:
    if kind is bool:
        if text.lower() not in _TRUE | _FALSE:
            raise BadInput(f"FREEHOLD_{name.upper()} is {text!r}", "Set it to 1 or 0")
        return text.lower() in _TRUE
    if name in ("allowed_hosts", "also", "pinned"):
        return tuple(each.strip() for each in text.split(",") if each.strip())
    return text
