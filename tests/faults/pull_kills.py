"""A pull to be killed: `python -m tests.faults.pull_kills STORE URL SIZE DIGEST`."""

import sys
from pathlib import Path

from freehold.core.digest import Digest
from freehold.core.settings import Settings
from freehold.store import Store
from freehold.store.fetching import Remote, fetch
from freehold.store.outbound import Outbound

PIECE = 1 << 20


def pull(folder: Path, url: str, size: int, digest: str) -> None:
    with Store.open(folder) as store, Outbound(Settings(home=folder)) as outbound, store.lease():
        fetch(store, outbound, [Remote(filename="x", url=url, size=size, digest=Digest(digest))], piece=PIECE)


if __name__ == "__main__":
    pull(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
