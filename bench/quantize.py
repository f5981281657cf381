"""Our quantiser beside llama-quantize: speed in one run, taken in turns; bytes; error of each type.

    python -m bench.quantize --binary BUILD/bin/llama-quantize [--model F16.gguf] [--types Q4_0,Q4_K_M] [--rounds 3]

llama-quantize comes out of llama.cpp's sources, which the source archive of llama-cpp-python carries:

    pip download --no-deps --no-binary :all: llama-cpp-python && tar xzf llama_cpp_python-*.tar.gz
    cmake -S llama_cpp_python-*/vendor/llama.cpp -B BUILD -DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF
    cmake --build BUILD --target llama-quantize -j

Both run as processes of their own with the same number of threads, so that a start of Python counts against us.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gguf
import numpy as np
from tests.tiny import write_gguf

from freehold.convert.types import TYPES
from freehold.formats.gguf import GgufHeader, TensorInfo, read_header

DEFAULT = "Q8_0,Q4_0,Q4_1,Q5_0,Q5_1,Q2_K,Q3_K_M,Q4_K_M,Q5_K_M,Q6_K"
OURS = (
    "import sys; from pathlib import Path; from freehold.convert import quantize, imatrix as m\n"
    "source, out, kind, threads, matrix = sys.argv[1:]\n"
    "quantize(Path(source), Path(out), kind, threads=int(threads), importance=m.read(Path(matrix)) if matrix else None)"
)


def run(command: list[str]) -> float:
    """Seconds that a command takes."""
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr[-500:]}")
    return time.perf_counter() - begin


def data(header: GgufHeader, tensor: TensorInfo) -> np.ndarray:
    """A tensor's bytes, a row of blocks each."""
    start = header.data_offset + tensor.offset
    raw = np.memmap(header.path, np.uint8, "r", start, tensor.size)
    return raw.reshape(tensor.elements // tensor.shape[0], -1)


def values(header: GgufHeader, tensor: TensorInfo) -> np.ndarray:
    """A tensor's values in F32."""
    return gguf.quants.dequantize(data(header, tensor), gguf.GGMLQuantizationType[tensor.type])


def compare(source: Path, ours: Path, theirs: Path) -> dict[str, object]:
    """How many tensors are the same bytes, and the relative error over all quantised weights of each file."""
    headers = [read_header(path) for path in (source, ours, theirs)]
    tensors = [{tensor.name: tensor for tensor in header.tensors} for header in headers]
    if tensors[1].keys() != tensors[2].keys():
        raise SystemExit("the files hold different tensors")
    types = sum(tensors[1][name].type == tensors[2][name].type for name in tensors[1])
    same = sum(
        np.array_equal(data(headers[1], tensors[1][name]), data(headers[2], tensors[2][name])) for name in tensors[1]
    )
    squares, whole = [0.0, 0.0], 0.0
    for name, tensor in tensors[0].items():
        exact = values(headers[0], tensor).astype(np.float64)
        whole += float(np.square(exact).sum())
        for i in (1, 2):
            squares[i - 1] += float(np.square(values(headers[i], tensors[i][name]) - exact).sum())
    return {
        "tensors": len(tensors[1]),
        "same_type": types,
        "same_bytes": same,
        "same_file": ours.read_bytes() == theirs.read_bytes(),
        "error": (squares[0] / whole) ** 0.5,
        "error_theirs": (squares[1] / whole) ** 0.5,
    }


def bench(args: argparse.Namespace, source: Path, kind: str, folder: Path) -> dict[str, object]:
    """One type: `rounds` times both, in turns, then the files side by side."""
    ours, theirs = folder / "ours.gguf", folder / "theirs.gguf"
    mine = [sys.executable, "-c", OURS, str(source), str(ours), kind, str(args.threads), args.imatrix]
    matrix = ["--imatrix", args.imatrix] if args.imatrix else []
    other = [args.binary, *matrix, str(source), str(theirs), kind, str(args.threads)]
    seconds: list[tuple[float, float]] = []
    for i in range(args.rounds):
        first, second = (mine, other) if i % 2 == 0 else (other, mine)
        one, two = run(first), run(second)
        seconds.append((one, two) if i % 2 == 0 else (two, one))
    return {
        "type": kind,
        "seconds": statistics.median(pair[0] for pair in seconds),
        "seconds_theirs": statistics.median(pair[1] for pair in seconds),
        "speed_ratio": statistics.median(pair[1] / pair[0] for pair in seconds),
        **compare(source, ours, theirs),
    }


def main() -> None:
    """Print a line for each type, or JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--binary", required=True, help="llama-quantize")
    parser.add_argument("--model", type=Path, help="an unquantised GGUF file; else one of random weights is made")
    parser.add_argument("--imatrix", default="", help="an importance matrix of it, for both")
    parser.add_argument("--types", default=DEFAULT)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        source = args.model or write_gguf(folder / "model.gguf", hidden=1024, layers=12)
        found = []
        for kind in args.types.split(","):
            found.append(bench(args, source, TYPES[kind].name, folder))
            if not args.json:
                show(found[-1])
    if args.json:
        print(json.dumps(found, indent=2))


def show(row: dict[str, object]) -> None:
    """One type as a line of text."""
    same = "same file" if row["same_file"] else f"{row['same_bytes']} of {row['tensors']} tensors the same"
    speed = (
        f"{row['seconds']:6.2f} s, theirs {row['seconds_theirs']:6.2f} s: {row['speed_ratio']:.2f} times their speed"
    )
    print(
        f"{row['type']:8} {speed}; error {row['error']:.5f}, theirs {row['error_theirs']:.5f}; {same}",
        flush=True,
    )


if __name__ == "__main__":
    main()
