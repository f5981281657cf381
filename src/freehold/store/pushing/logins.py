"""What `docker login` keeps for a registry: a password or a token, in its file or with a helper program.

The file: https://docs.docker.com/reference/cli/docker/login/. A helper is the program `docker-credential-NAME` that the
user's own configuration names; it is asked for one registry, on its standard input, and tells nobody else.
"""

import base64
import binascii
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from freehold.core.errors import Forbidden
from freehold.formats.reading import shown

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PATIENCE = 30.0
"""Seconds: a helper may ask the user to unlock something."""
_TOKEN_USER = "<token>"  # noqa: S105  what helpers answer in place of a user's name
_DOCKER_HUB = {"registry-1.docker.io", "docker.io", "index.docker.io"}


class Login(NamedTuple):
    """A password as Basic authentication sends it, in base 64, or a token to be refreshed; both empty for nobody."""

    basic: str = ""
    refresh: str = ""


class _Entry(msgspec.Struct):
    auth: str = ""
    identitytoken: str = ""


class _Config(msgspec.Struct):
    auths: dict[str, _Entry] = {}
    creds_store: str = msgspec.field(default="", name="credsStore")
    cred_helpers: dict[str, str] = msgspec.field(default_factory=dict, name="credHelpers")


class _Answer(msgspec.Struct):
    username: str = msgspec.field(default="", name="Username")
    secret: str = msgspec.field(default="", name="Secret")


def login(host: str) -> Login:
    """How the user is known to a registry. Raises Forbidden when it cannot be found out."""
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        config = msgspec.json.decode(path.read_bytes(), type=_Config)
    except FileNotFoundError:
        return Login()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(path, error) from error
    for name in _names(host):
        helper = config.cred_helpers.get(name) or config.creds_store
        found = _asked(helper, name) if helper else _kept(config.auths.get(name, _Entry()), path)
        if found != Login():
            return found
    return Login()


def _names(host: str) -> tuple[str, ...]:
    """What the registry is called there."""
    older = ("https://index.docker.io/v1/",) if host in _DOCKER_HUB else ()
    return (host, f"https://{host}", *older)


def _kept(entry: _Entry, path: Path) -> Login:
    try:
        base64.b64decode(entry.auth, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _unreadable(path, error) from error
    return Login(refresh=entry.identitytoken) if entry.identitytoken else Login(basic=entry.auth)


def _asked(helper: str, name: str) -> Login:
    """What a helper answers; nothing when it knows nobody."""
    program = shutil.which(f"docker-credential-{helper}") if _HELPER.fullmatch(helper) else None
    if program is None:
        raise Forbidden(f"no program docker-credential-{shown(helper, 80)}, which holds your logins", "Install it")
    try:
        done = subprocess.run(
            [program, "get"], input=name.encode(), capture_output=True, timeout=_PATIENCE, check=False
        )
        answer: Any = msgspec.json.decode(done.stdout, type=_Answer) if done.returncode == 0 else _Answer()
    except (
        *(OSError, subprocess.TimeoutExpired, msgspec.MsgspecError),
        *(UnicodeDecodeError, RecursionError),
    ) as error:
        raise Forbidden(f"{program} gives no login: {shown(error)}", "Log in again with 'docker login'") from error
    if not answer.secret:
        return Login()
    if answer.username == _TOKEN_USER:
        return Login(refresh=answer.secret)
    return Login(basic=base64.b64encode(f"{answer.username}:{answer.secret}".encode()).decode())


def _unreadable(path: Path, error: Exception) -> Forbidden:
    return Forbidden(f"cannot read the credentials in {path}: {shown(error)}", "Correct or remove it")
