"""Tuning beside TRL and PEFT, and beside Unsloth, in their best settings: same rows, order, adapter and learning rates.

    python -m bench.tune PEER_PYTHON [--shape smol] [--checkpointing] [--pairs 5] [--steps 6] [--batch 4] [--json]
    python -m bench.tune PEER_PYTHON --shape billion --method qlora --gguf Q4_K_M --dtype auto --checkpointing
    python -m bench.tune PEER_PYTHON --device cuda --shape eight [--method lora,qlora] [--peers trl,unsloth]

PEER_PYTHON is the interpreter of an environment with torch, trl and peft; for Unsloth with unsloth, and for qlora with
bitsandbytes. All train in turns, on ids and labels that are prepared once; the figures are medians of the ratios of the
turns. Memory is the private memory (what no file backs) of the whole command at its peak, on a GPU what torch reserved
of the GPU's. Speed is tokens a second, without padding, of the training loop; on a GPU without its first two steps, by
the time at which the end of each step is told, and of the second half of the steps besides: what is compiled for rows
of new lengths is compiled before. Ends with 1 when a limit below is missed, when the losses differ by more
than LOSS, or when a peer does not run; what it said last is on stderr then. A GGUF file rounds its base elsewhere than
NF4 does: losses beside it are told and not held to LOSS. What is limited there is all memory of our own, the file's
pages and libraries included.

    python -m bench.tune --context TOKENS [--shape smol] [--layers N]

What our trainer holds for one step on one row of so many tokens, with checkpointing. Half an hour of two cores for
32768 tokens and the shape of 135M; each layer holds and takes the same, so a few stand for all.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from bench.tuning_base import SHAPES, write_base, write_rows
from bench.watching import Ended, Watched, watched

LIMITS = {False: 2.5, True: 2.0}
"""Times TRL's tokens a second, without and with checkpointing, on processors."""
MEMORY = 0.5
"""Share of TRL's private memory, on processors."""
GGUF = 2500.0
"""MB of our own resident memory, in its place on a GGUF file."""
GPU = 1.0, 1.0
"""Times the tokens a second of any peer, and share of its memory, on GPUs."""
LOSS = {"cpu": 1e-2, "cuda": 5e-2}
"""GPUs add bfloat16 numbers in more orders."""
PEERS = {"trl": "TRL + PEFT", "unsloth": "Unsloth"}
METHODS = ("lora", "qlora")
DEFAULTS: dict[str, dict[str, Any]] = {
    "cpu": {"peers": ["trl"], "pairs": 5, "steps": 6, "batch": 4, "threads": 2, "attention": "eager", "rate": 1e-3},
    # At a higher rate the losses of a large model of random weights jump, and drift apart by rounding alone.
    "cuda": {"peers": [*PEERS], "pairs": 3, "steps": 12, "batch": 8, "threads": 8, "attention": "auto", "rate": 2e-4},
}
_WARM = 2
"""Steps in which what is compiled for a GPU is compiled."""


class Taken(NamedTuple):
    """What a run took."""

    speed: float
    """Tokens a second."""
    later: float
    """The same of the second half of the steps, on a GPU."""
    device: float
    """MB of the GPU's memory that torch reserved."""
    allocated: float
    """MB of it that tensors filled; 0 where that is not told."""
    private: float
    """MB."""
    rss: float
    losses: list[float]
    steps: list[float]
    """Seconds of each step behind the first, to see by what still compiled later."""


class Bench:
    """The base, the rows and the adapter that all start from."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        import torch

        from freehold.tuning import lora, model
        from freehold.tuning.job import TrainJob

        self.folder, self.options = folder, options
        self.base, rows = folder / "base", folder / "rows.jsonl"
        write_base(self.base, SHAPES[options.shape], options.device)
        write_rows(rows, options.steps * options.batch, options.words)
        switch = "on" if options.checkpointing == "on" else "off"
        self.job = TrainJob(
            out=folder / "ours", train=rows, base=self.base, rank=16, alpha=32.0, learning_rate=options.rate,
            warmup=1 / options.steps, steps=options.steps, batch=options.batch, batch_tokens=1 << 20, max_length=4096,
            dtype=options.dtype, checkpointing=switch, offload="on" if options.offload else "off",
            threads=options.threads,
        )  # fmt: skip
        cpu = torch.device("cpu")
        decoder = model.load(self.base, cpu, torch.bfloat16, full=False)
        start = lora.attach(decoder.linears, 16, lora.scale("lora", 16, 32.0), self.job.seed, cpu)
        lora.save(start, folder / "adapter", method="lora", rank=16, alpha=32.0, base="base")
        self.tokens = self._write_ids(rows)
        self.packed = self._as_gguf(options.gguf) if options.gguf else None

    def _as_gguf(self, kind: str) -> Path:
        """The base as a GGUF file of that type, in a folder that our trainer reads."""
        from freehold.convert import quantize, to_gguf
        from freehold.tuning.unpack import unpack

        plain, packed = self.folder / "plain.gguf", self.folder / f"{kind}.gguf"
        to_gguf(self.base, plain)
        quantize(plain, packed, kind)
        plain.unlink()
        return unpack(packed, self.folder / "packed")

    def _write_ids(self, rows: Path) -> list[int]:
        """The rows' ids and labels in the order in which our trainer takes them. Returns the tokens of each step."""
        from freehold.data.rows import read_rows
        from freehold.tuning import model
        from freehold.tuning.batches import batches
        from freehold.tuning.render import Renderer

        template, names = model.chat_template(self.base)
        renderer = Renderer(model.tokenizer(self.base), template, max_length=4096, prompt_weight=0.0, **names)
        samples = list(renderer.samples([row.messages for row in read_rows(rows)]))
        job = self.job
        order = batches([len(sample.ids) for sample in samples], job.batch_tokens, job.seed, 0, job.batch)
        with (self.folder / "ids.jsonl").open("w") as file:
            for sample in (samples[index] for batch in order for index in batch):
                labels = [each if weight else -100 for each, weight in zip(sample.ids, sample.weights, strict=True)]
                file.write(json.dumps({"input_ids": list(sample.ids), "labels": labels}) + "\n")
        return [sum(len(samples[index].ids) for index in batch) for batch in order]

    def ours(self, method: str) -> Taken:
        """Our trainer's process, as `freehold tune` starts it."""
        import msgspec

        from freehold.tuning.job import encode

        job, path = self.job, self.folder / "job.json"
        if method == "qlora":
            changes = {"base": self.packed} if self.packed else {"base_dtype": "nf4"}
            job = msgspec.structs.replace(job, **changes)
        path.write_bytes(encode(job))
        subprocess.run(["rm", "-rf", job.out], check=True)
        job.out.mkdir()
        return self._taken(watched([sys.executable, "-m", "freehold.tuning.child", str(path)], self._environment()))

    def theirs(self, peer: str, method: str) -> Taken:
        """A peer's trainer, with the settings of threads and memory that help ours. Raises Ended."""
        options, path = self.options, self.folder / "peer.json"
        job = {
            "base": str(self.base), "rows": str(self.folder / "ids.jsonl"), "out": str(self.folder / "theirs"),
            "adapter": str(self.folder / "adapter"), "batch": options.batch, "steps": options.steps,
            "learning_rate": options.rate, "checkpointing": options.checkpointing != "off", "threads": options.threads,
            "attention": options.attention, "nf4": method == "qlora", "device": options.device,
        }  # fmt: skip
        path.write_text(json.dumps(job))
        script = Path(__file__).resolve().parent / "peers" / f"{peer}_sft.py"
        return self._taken(watched([options.peer, str(script), str(path)], self._environment(), self.folder))

    def _environment(self) -> dict[str, str]:
        from freehold.tuning.launch import ENVIRONMENT

        hidden = {"CUDA_VISIBLE_DEVICES": ""} if self.options.device == "cpu" else {}
        return {**os.environ, **ENVIRONMENT, **hidden}

    def _taken(self, run: Watched) -> Taken:
        """The figures of a run, all of which speak as our trainer does."""
        said = [(line.at, json.loads(line.text)) for line in run.lines]
        ends, found = [at for at, report in said if report.get("phase") == "training"], said[-1][1]

        def behind(step: int) -> float:
            return sum(self.tokens[step:]) / (ends[-1] - ends[step - 1])

        if self.options.device == "cpu":
            speed = later = sum(self.tokens) / found["seconds"]
        else:
            speed, later = behind(_WARM), behind(max(_WARM, len(ends) // 2))
        device, allocated = (found.get(name, 0) / 2**20 for name in ("peak_device", "peak_allocated"))
        steps = [round(end - begin, 4) for begin, end in pairwise(ends)]
        return Taken(speed, later, device, allocated, run.private, run.rss, found["losses"], steps)


def compare(bench: Bench, method: str) -> bool:
    """Print the figures of one method; whether no limit was missed."""
    options = bench.options
    turns: dict[str, list[Taken]] = {"freehold": [], **{peer: [] for peer in options.peers}}
    failed: set[str] = set()
    for pair in range(options.pairs):
        turns["freehold"].append(ours := bench.ours(method))
        for peer in options.peers:
            if peer in failed:
                continue
            try:
                turns[peer].append(theirs := bench.theirs(peer, method))
            except Ended as error:
                failed.add(peer)
                print(f"{PEERS[peer]} does not run: {error}", file=sys.stderr, flush=True)
                continue
            # Whoever stops a long bench keeps what it has found.
            print(f"pair {pair + 1}: {ours.speed / theirs.speed:.2f} times {PEERS[peer]}", file=sys.stderr, flush=True)
    packed = bool(options.gguf) and method == "qlora"
    beside = [
        beside_peer(peer, turns["freehold"], turns[peer], options, packed=packed)
        for peer in options.peers
        if turns[peer]
    ]
    figures = {
        "shape": options.shape, "method": method, "checkpointing": options.checkpointing, "device": options.device,
        "tokens": sum(bench.tokens), "medians": {name: medians(runs) for name, runs in turns.items() if runs},
        "losses": {name: runs[0].losses for name, runs in turns.items() if runs},
        "steps": {name: runs[-1].steps for name, runs in turns.items() if runs}, "beside": beside,
        "failed": sorted(failed),
    }  # fmt: skip
    print(json.dumps(figures, indent=2) if options.json else described(figures, options.pairs), flush=True)
    return not failed and not any(each["missed"] for each in beside)


def beside_peer(
    peer: str, ours: Sequence[Taken], theirs: Sequence[Taken], options: argparse.Namespace, *, packed: bool
) -> dict[str, Any]:
    """The ratios to a peer's figures, and which limits are missed. `packed` says that our base is a GGUF file."""
    pairs = list(zip(ours, theirs, strict=False))

    def ratio(figure: Callable[[Taken], float]) -> float:
        return statistics.median(figure(our) / figure(their) for our, their in pairs)

    speed, later = ratio(lambda taken: taken.speed), ratio(lambda taken: taken.later)
    memory = ratio(lambda taken: taken.device if options.device == "cuda" else taken.private)
    loss = max(abs(a - b) for our, their in pairs for a, b in zip(our.losses, their.losses, strict=True))
    if options.device == "cuda":
        slowest, most = GPU
    else:
        slowest, most = LIMITS[options.checkpointing != "off"], MEMORY
    large, apart = memory > most, not packed and not loss <= LOSS[options.device]
    if packed and options.device != "cuda":
        large = statistics.median(our.rss for our in ours) > GGUF
    missed = {"speed": speed < slowest, "memory": large, "losses": apart}
    return {
        "peer": peer, "speed": speed, "later": later, "memory": memory, "loss_difference": loss,
        "missed": [name for name, yes in missed.items() if yes],
    }  # fmt: skip


def medians(runs: Sequence[Taken]) -> dict[str, float]:
    """Of what is one number."""
    names = ("speed", "later", "device", "allocated", "private", "rss")
    return {name: statistics.median(getattr(run, name) for run in runs) for name in names}


def described(figures: dict[str, Any], pairs: int) -> str:
    """The figures as a person reads them."""
    cuda, switch = figures["device"] == "cuda", figures["checkpointing"]
    lines = [f"{figures['shape']}, {figures['method']}, checkpointing {switch}, medians of {pairs} turns"]
    for name, median in figures["medians"].items():
        sizes = f"{median['private']:7.0f} MB private {median['rss']:7.0f} MB resident"
        if cuda:
            filled = f"{median['allocated']:7.0f}" if median["allocated"] else "      -"
            sizes = f"{median['device']:7.0f} MB of the GPU {filled} MB filled {sizes}"
        lines.append(f"{PEERS.get(name, name):11} {median['speed']:9.1f} tokens/s {sizes}")
    lines += [f"{PEERS[peer]:11} does not run" for peer in figures["failed"]]
    kind = "GPU's memory" if cuda else "private memory"
    for each in figures["beside"]:
        later = f" ({each['later']:.2f} in the second half)" if cuda else ""
        ratios = f"{each['speed']:.2f} times the speed{later}, {each['memory']:.2f} of the {kind}"
        missed = f" (missed: {', '.join(each['missed'])})" if each["missed"] else ""
        lines.append(
            f"ratio to {PEERS[each['peer']]}: {ratios}; losses differ by {each['loss_difference']:.4f}{missed}"
        )
    return "\n".join(lines)


def context(options: argparse.Namespace) -> int:
    """Print what one long row takes."""
    from freehold.data.rows import Document
    from freehold.data.rows import write_rows as write
    from freehold.tuning.job import TrainJob
    from freehold.tuning.launch import train

    shape = SHAPES[options.shape] | ({"layers": options.layers} if options.layers else {})
    with tempfile.TemporaryDirectory(prefix="bench-tune-") as name:
        folder = Path(name)
        write_base(folder / "base", shape)
        write(folder / "rows.jsonl", [Document("the key of the lamp " * options.context)])
        job = TrainJob(
            out=folder / "out", train=folder / "rows.jsonl", base=folder / "base", objective="text", steps=1, batch=1,
            batch_tokens=options.context, max_length=options.context, dtype="bf16", checkpointing="on", evaluations=0,
            threads=options.threads,
        )  # fmt: skip
        result = train(job, lambda progress: None)
    print(
        f"{options.shape}, {shape['layers']} layers, one row of {result.tokens} tokens, checkpointing on: "
        f"{result.peak_private >> 20} MB private, {result.tokens / result.seconds:.0f} tokens/s"
    )
    return 0


def some_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Reads names with commas between them."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        if not set(names) <= set(known):
            raise argparse.ArgumentTypeError(f"{text}: known are {', '.join(known)}")
        return names

    return read


def arguments() -> argparse.Namespace:
    """The command line; what it leaves out is as the device's defaults say."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("peer", nargs="?")
    parser.add_argument("--context", type=int, help="tokens of one row, without the peer")
    parser.add_argument("--layers", type=int, help="in place of the shape's, with --context")
    parser.add_argument("--shape", choices=SHAPES, default="smol")
    parser.add_argument("--device", choices=DEFAULTS, default="cpu")
    parser.add_argument("--method", type=some_of(METHODS), default=["lora"], help="lora, qlora or both")
    parser.add_argument("--peers", type=some_of(list(PEERS)), help="trl, unsloth or both")
    parser.add_argument(
        "--checkpointing", nargs="?", const="on", default="off", choices=["off", "on", "peers"],
        help="of all, or of the peers alone: for a base that fits without it here, and not there",
    )  # fmt: skip
    parser.add_argument(
        "--offload", action="store_true",
        help="what checkpointing keeps of ours waits in the host's memory, as Unsloth's does",
    )  # fmt: skip
    parser.add_argument("--attention", choices=["eager", "sdpa", "auto"], help="of TRL; auto is the fastest there is")
    parser.add_argument("--gguf", help="our base for qlora: a GGUF file of this type in place of NF4")
    parser.add_argument("--dtype", choices=["auto", "bf16", "int8"], default="bf16", help="of our products")
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--words", type=int, default=110, help="about 350 tokens a row")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rate", type=float, help="of learning")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for name, value in DEFAULTS[options.device].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if not options.peer and not options.context:
        parser.error("PEER_PYTHON is missing")
    if options.device == "cuda" and options.steps <= _WARM:
        parser.error(f"--steps must be more than {_WARM}")
    if options.offload and options.checkpointing != "on":
        parser.error("--offload moves what checkpointing keeps: it needs --checkpointing")
    return options


def main() -> int:
    """Print the figures; 1 when a limit is missed."""
    options = arguments()
    if options.context:
        return context(options)
    with tempfile.TemporaryDirectory(prefix="bench-tune-") as folder:
        bench = Bench(Path(folder), options)
        try:
            good = [compare(bench, method) for method in options.method]
        except Ended as error:
            raise SystemExit(str(error)) from error
    return int(not all(good))


if __name__ == "__main__":
    sys.exit(main())
