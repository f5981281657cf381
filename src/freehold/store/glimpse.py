"""What a model that is not here yet says of itself, from the first bytes of its files: enough to tell what it takes."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from freehold.core.errors import BadModelFile
from freehold.formats import projector as projectors
from freehold.formats import safetensors
from freehold.formats.gguf import GgufHeader, read_header
from freehold.formats.projector import Projector
from freehold.store import splits
from freehold.store.fetching import Remote
from freehold.store.outbound import Outbound
from freehold.store.sources import Offer

_FIRST = 1 << 18
"""Bytes asked for at first; a vocabulary of 150,000 words takes 5 MB, and a later part of a split model hardly any."""
_MOST = 64 << 20
_WEIGHTS = ".safetensors"


def header(offer: Offer, outbound: Outbound) -> GgufHeader | None:
    """The header of what would be pulled, its files together; None for what is no GGUF file.

    Raises BadModelFile and Unsupported as a pull would, and what Outbound raises.
    """
    if offer.local is not None:
        path = offer.local.path
        return None if path.is_dir() or offer.local.bundle else splits.header(splits.files(path), splits.files(path))
    wanted = [file for file, role in zip(offer.files, offer.roles, strict=False) if role == "gguf"]
    if not wanted:
        return None
    with tempfile.TemporaryDirectory(prefix="freehold-") as folder:
        begun = [_gguf(file, outbound, Path(folder, f"{number}.gguf")) for number, file in enumerate(wanted)]
        sizes = [file.size for file in wanted]
        return splits.header(begun, [Path(file.filename) for file in wanted], sizes)


def projector(offer: Offer, outbound: Outbound) -> Projector | None:
    """What the header of the projector says that would come with the model; None without one. Raises as `header`."""
    if offer.projector is not None:
        return projectors.read(offer.projector)
    wanted = next((file for file, role in zip(offer.files, offer.roles, strict=False) if role == "projector"), None)
    if wanted is None:
        return None
    with tempfile.TemporaryDirectory(prefix="freehold-") as folder:
        begun = _gguf(wanted, outbound, Path(folder, "mmproj.gguf"))
        return projectors.read(begun, label=Path(wanted.filename), whole=wanted.size)


@contextmanager
def folder(offer: Offer, outbound: Outbound) -> Iterator[Path | None]:
    """A folder of safetensors as a pull would leave it, but for the weights: behind their headers are holes.

    None for what is no such folder. Raises BadModelFile as a pull would, and what Outbound raises.
    """
    if offer.roles or not any(file.filename.endswith(_WEIGHTS) for file in offer.files):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="freehold-") as room:
        for file in offer.files:
            path = Path(room, file.filename)
            path.parent.mkdir(parents=True, exist_ok=True)
            if file.filename.endswith(_WEIGHTS):
                _safetensors(file, outbound, path)
            else:
                path.write_bytes(outbound.patiently(partial(_first, file, outbound, _MOST)))
        yield Path(room)


def _gguf(file: Remote, outbound: Outbound, path: Path) -> Path:
    return _begin(file, outbound, path, partial(read_header, whole=file.size))


def _safetensors(file: Remote, outbound: Outbound, path: Path) -> Path:
    def read(path: Path) -> None:
        os.truncate(path, file.size)
        safetensors.read_header(path)

    return _begin(file, outbound, path, read)


def _begin(file: Remote, outbound: Outbound, path: Path, read: Callable[[Path], object]) -> Path:
    """As much of a file as its header takes, at `path`. `read` raises BadModelFile when there is more to it."""
    count = _FIRST
    while True:
        path.write_bytes(outbound.patiently(partial(_first, file, outbound, count)))
        try:
            read(path)
        except BadModelFile:
            if count >= min(file.size, _MOST):
                return path  # whoever reads it next says what is wrong, in words of where it came from
            count *= 4
        else:
            return path


def _first(file: Remote, outbound: Outbound, count: int) -> bytes:
    ranged = {} if file.whole else {"Range": f"bytes=0-{min(count, file.size) - 1}"}
    got = bytearray()
    with outbound.open(file.url, {**file.headers, **ranged}) as response:
        for chunk in response.iter_raw():
            got += chunk
            if len(got) >= count:
                break
    return bytes(got[:count])
