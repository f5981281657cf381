"""How long listing 10,000 models takes: the catalog's answer, and the whole command as JSON and as a table.

    python bench/list_models.py [COUNT]

Makes a store in a temporary folder whose models are the manifests of 10,000 names; their files are not needed to list.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from freehold.core.digest import Digest
from freehold.core.manifest import Details, Manifest, Part
from freehold.serving.starter import ensure_starter
from freehold.store import Store, tables

RUNS = 9
LIMIT = 0.3
"""Seconds that the whole command may take."""


def fill(store: Store, count: int) -> None:
    """Give the catalog `count` names with a manifest each."""
    names, known = [], []
    for number in range(count):
        part = Part("gguf", Digest.of_bytes(str(number).encode()), 4 << 30, "model-Q4_K_M.gguf")
        details = Details("llama", 7_000_000_000 + number, "Q4_K_M", 131072, 4096)
        manifest = Manifest(parts=(part,), details=details, licence="apache-2.0")
        known.append((manifest.digest, manifest))
        names.append(
            {"name": f"org{number % 100}/model-{number}:Q4_K_M", "digest": str(manifest.digest), "modified": 1.0}
        )
    store.catalog.describe(known)
    with store.catalog.writing() as connection:
        connection.execute(tables.names.insert(), names)


def main() -> int:
    """Print the figures; 1 when a command took too long."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        with Store.open(Path(folder) / "store") as store:
            fill(store, count)
            times = []
            for _ in range(RUNS):
                begin = time.perf_counter()
                assert len(store.listing()) == count
                times.append(time.perf_counter() - begin)
            ensure_starter(store)
        as_json, as_table = (median(command(folder, "list", *flags) for _ in range(RUNS)) for flags in (["--json"], []))
        bare = median(command(folder, "version") for _ in range(RUNS))
    print(f"{count} models: {median(times):.3f} s from an open store, {as_json:.3f} s for 'freehold list --json',")
    print(f"{as_table:.3f} s for 'freehold list', {bare:.3f} s for 'freehold version'; medians of {RUNS}")
    return int(max(as_json, as_table) > LIMIT)


def command(home: str, *words: str) -> float:
    """How many seconds a command takes."""
    begin = time.perf_counter()
    environment = {**os.environ, "FREEHOLD_HOME": home}
    subprocess.run([sys.executable, "-m", "freehold", *words], env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
