"""What importing costs, against `sha256sum` and a copy of the same file, and what adopting by hard link costs.

    python bench/import_models.py [MEGABYTES] [FOLDER]

Each in a process of its own, whose peak memory is read too. Ends with 1 when an import takes more than 1.3 times both
programs together, a link writes the bytes again, or either takes more than 100 MB of memory.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from gguf import GGUFWriter

from freehold.core.digest import Digest

FACTOR, MEMORY = 1.3, 100_000_000
ROUNDS = 3
IMPORT = """
import sys
from pathlib import Path
from freehold.core.name import Name
from freehold.store import Store
from freehold.store.importing import import_gguf
with Store.open(Path(sys.argv[2])) as store:
    import_gguf(store, Path(sys.argv[1]), Name.parse("bench"), share=sys.argv[3] == "link")
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) * 1024)
"""


def model(path: Path, megabytes: int) -> None:
    """A GGUF file of that size."""
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_tensor_info("token_embd.weight", (megabytes, 1 << 18), np.dtype(np.float32), megabytes << 20)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("ab") as file:
        file.write(bytes(-file.tell() % 32))
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))


def timed(command: list[str]) -> tuple[float, str]:
    """Seconds and output."""
    begin = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - begin, done.stdout


def peers(source: Path, target: Path) -> float:
    """Seconds for sha256sum and a copy that is on the disk."""
    hashing, _ = timed(["sha256sum", str(source)])
    copying, _ = timed(["sh", "-c", 'cp "$1" "$2" && sync "$2"', "sh", str(source), str(target)])
    target.unlink()
    return hashing + copying


def ours(source: Path, store: Path, kind: str) -> tuple[float, int]:
    """Seconds and peak memory in bytes."""
    seconds, output = timed([sys.executable, "-c", IMPORT, str(source), str(store), kind])
    return seconds, int(output)


def blob_shares(source: Path, store: Path) -> bool:
    """Whether the blob is the source itself."""
    digest = Digest.of_file(source)
    return (store / "blobs" / "sha256" / digest.hex[:2] / digest.hex).samefile(source)


def main() -> int:
    """Print the best of some rounds, taken in turns."""
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 2048
    folder = sys.argv[2] if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        base = Path(temporary)
        model(base / "source.gguf", megabytes)
        both, copies, links, memory, shared = [], [], [], 0, True
        for _ in range(ROUNDS):
            both.append(peers(base / "source.gguf", base / "copy"))
            for kind, times in (("copy", copies), ("link", links)):
                seconds, peak = ours(base / "source.gguf", base / "store", kind)
                times.append(seconds)
                memory = max(memory, peak)
                shared &= kind == "copy" or blob_shares(base / "source.gguf", base / "store")
                shutil.rmtree(base / "store")
    print(f"{megabytes} MB: sha256sum and copy {min(both):.2f} s, import {min(copies):.2f} s ", end="")
    print(f"({min(copies) / min(both):.2f} times), by link {min(links):.2f} s, peak memory {memory / 1e6:.0f} MB")
    return int(min(copies) > FACTOR * min(both) or memory > MEMORY or not shared)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(main())
