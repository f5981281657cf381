"""Plain web addresses of GGUF files. `#sha256=<64 digits>` behind one says what the content must be."""

import re
from urllib.parse import unquote, urldefrag, urlsplit, urlunsplit

from freehold.core.digest import Digest
from freehold.core.errors import BadName, SourceFailed, Unsupported
from freehold.core.manifest import Role
from freehold.core.reference import Reference
from freehold.formats.reading import shown
from freehold.store import splits
from freehold.store.fetching import Remote
from freehold.store.folders import plain_name
from freehold.store.outbound import Outbound, host
from freehold.store.sources.offer import Offer

_GGUF: tuple[Role, ...] = ("gguf",)


def look(reference: Reference, outbound: Outbound) -> Offer:
    """The file at the address, and the other parts when its name says that it is one of several."""
    address, fragment = urldefrag(reference.place)
    wanted = _wanted(fragment)
    filename = unquote(urlsplit(address).path.rpartition("/")[2])
    if not filename.lower().endswith(".gguf") or not plain_name(filename):
        raise Unsupported(
            f"{shown(filename)!r} at {host(address)} is no GGUF file by its name", "Give a .gguf file's address"
        )
    names = splits.siblings(filename)
    if len(names) > 1 and wanted:
        raise BadName(f"{filename} is one of {len(names)} parts", "Leave #sha256= out")
    files = tuple(_file(_beside(address, name), name, wanted, outbound) for name in names)
    return Offer(
        source=_without_query(address),
        title=splits.base(filename),
        files=files,
        roles=_GGUF * len(files),
        choice="the file" if len(files) == 1 else f"all {len(files)} parts of the model",
    )


def _wanted(fragment: str) -> Digest | None:
    kind, _, digits = fragment.partition("=")
    if not fragment:
        return None
    if kind != "sha256":
        raise BadName(f"not a digest behind #: {shown(fragment, 80)!r}", "Write #sha256= and 64 digits")
    return Digest.parse(f"sha256:{digits}")


def _beside(address: str, name: str) -> str:
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=f"{parts.path.rpartition('/')[0]}/{name}"))


def _without_query(address: str) -> str:
    """The address as it is kept: a query often holds a key."""
    return urlunsplit(urlsplit(address)._replace(query=""))


def _file(address: str, name: str, wanted: Digest | None, outbound: Outbound) -> Remote:
    return outbound.patiently(lambda: _asked(address, name, wanted, outbound))


def _asked(address: str, name: str, wanted: Digest | None, outbound: Outbound) -> Remote:
    """Length and version, from an answer of one byte: some servers refuse HEAD."""
    with outbound.open(address, {"Range": "bytes=0-0"}) as response:
        ranged = response.status_code == 206
        text = response.headers.get("content-range", "").rpartition("/")[2] if ranged else ""
        length = text or response.headers.get("content-length", "")
        etag = response.headers.get("etag", "")
    if not re.fullmatch(r"[0-9]{1,16}", length) or int(length) >= 1 << 50:
        raise SourceFailed(f"{host(address)} does not say how long {name} is", "Fetch it in another way")
    strong = "" if etag.startswith("W/") else etag
    return Remote(filename=name, url=address, size=int(length), digest=wanted, etag=strong, whole=not ranged)
