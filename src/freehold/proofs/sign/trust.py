"""Trust: which public keys may sign models of which namespace.

`FREEHOLD_HOME/trust/<namespace>/<first digits of its hint>.pub`. A namespace is the `org` of `org/model`; `_` is for
names without one, `_all` for every name.
"""

import re
from pathlib import Path
from typing import NamedTuple

from freehold.core.errors import BadInput, BadName, NotFound
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.formats.atomic import disk_errors, replacing
from freehold.formats.reading import shown
from freehold.proofs.sign import keys
from freehold.proofs.sign.keys import PublicKey

PLAIN, ALL = "_", "_all"
_FILE = re.compile(r"[0-9a-f]{16}\.pub")


class Trusted(NamedTuple):
    """A key, and the namespace that it may sign."""

    namespace: str
    key: PublicKey


def folder(settings: Settings) -> Path:
    """Where the trusted keys are."""
    return settings.home / "trust"


def namespace(text: str) -> str:
    """The namespace that `text` spells: an org, `_` or `_all`. Raises BadName."""
    if text in (PLAIN, ALL):
        return text
    try:
        return Name(text, "model").org or PLAIN
    except BadName as error:
        remedy = f"Give the org of 'org/model', {PLAIN} for names without one, or {ALL}"
        raise BadName(f"not a namespace: {shown(text)!r}", remedy) from error


def add(settings: Settings, key: PublicKey, space: str) -> Path:
    """Trust `key` for a namespace. Raises BadName and DiskFull."""
    place = folder(settings) / namespace(space)
    with disk_errors(place):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = place / f"{key.hint[:16]}.pub"
    with replacing(path) as temporary:
        temporary.write_bytes(key.pem)
    return path


def remove(settings: Settings, hint: str, space: str = "") -> list[Trusted]:
    """Trust a key no more; `hint` is its beginning, of 8 digits or more. Raises BadInput and NotFound."""
    if not re.fullmatch(r"[0-9a-f]{8,64}", hint):
        raise BadInput(f"not the beginning of a key's digits: {shown(hint)!r}", "See 'freehold trust list'")
    wanted = namespace(space) if space else ""
    found = [one for one in trusted(settings) if one.key.hint.startswith(hint) and wanted in ("", one.namespace)]
    if not found:
        raise NotFound(f"no trusted key begins with {hint}", "See 'freehold trust list'")
    for one in found:
        # Not the name that `add` would choose: whoever copied the key here may have chosen another.
        Path(one.key.label).unlink(missing_ok=True)
    return found


def trusted(settings: Settings) -> list[Trusted]:
    """All trusted keys. Raises BadInput naming a file that holds none."""
    root = folder(settings)
    spaces = sorted(root.iterdir()) if root.is_dir() else []
    return [Trusted(space.name, key) for space in spaces if space.is_dir() for key in _keys(space)]


def for_name(settings: Settings, name: Name) -> list[PublicKey]:
    """The keys that may sign a model of this name. Raises BadInput naming a file that holds none."""
    root = folder(settings)
    return [key for space in (name.org or PLAIN, ALL) for key in _keys(root / space)]


def _keys(place: Path) -> list[PublicKey]:
    files = sorted(place.iterdir()) if place.is_dir() else []
    return [keys.public(file) for file in files if _FILE.fullmatch(file.name)]
