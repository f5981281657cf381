"""Tuning beside TRL and PEFT in their best settings: the same rows, order, adapter and learning rates, in turns.

    python -m bench.tune PEER_PYTHON [--shape smol] [--checkpointing] [--pairs 5] [--steps 6] [--batch 2] [--json]

PEER_PYTHON is the interpreter of an environment with torch==2.13.0, trl and peft. The figures are medians of the ratios
of pairs: tokens a second in the training loop, and private memory (what no file backs) of the whole command at its
peak. Ends with 1 when a limit below is missed, or when the losses differ by more than 0.01.

    python -m bench.tune --context TOKENS [--shape smol] [--layers N]

What our trainer holds for one step on one row of so many tokens, with checkpointing. Half an hour of two cores for
32768 tokens and the shape of 135M; each layer holds and takes the same, so a few stand for all.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil

LIMITS = {False: 2.5, True: 2.0}
"""Times the peer's tokens a second, without and with checkpointing."""
MEMORY = 0.5
"""Share of the peer's private memory."""
LOSS = 1e-2
SHAPES = {
    "tiny": {"hidden": 256, "intermediate": 512, "layers": 4, "heads": 4, "kv_heads": 2, "vocab": 4096},
    "smol": {"hidden": 576, "intermediate": 1536, "layers": 30, "heads": 9, "kv_heads": 3, "vocab": 49152},
    "half": {"hidden": 896, "intermediate": 4864, "layers": 24, "heads": 14, "kv_heads": 2, "vocab": 151936},
    "billion": {"hidden": 2048, "intermediate": 5632, "layers": 22, "heads": 32, "kv_heads": 4, "vocab": 32000},
}
"""Those of SmolLM2-135M, Qwen2.5-0.5B and TinyLlama-1.1B."""
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}\n"
    "{% else %}{{ message['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
RATE = 1e-3


class Taken(NamedTuple):
    """What a run took."""

    speed: float
    """Tokens a second."""
    private: float
    """MB."""
    rss: float
    losses: list[float]


def write_base(folder: Path, shape: dict[str, int]) -> None:
    """A Llama of random weights in bfloat16 with the tokenizer of tests."""
    import torch
    from safetensors.torch import save_file
    from tests.tiny import tokenizer

    folder.mkdir(parents=True)
    tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    hidden, inter, size = shape["hidden"], shape["intermediate"], shape["hidden"] // shape["heads"]
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": inter, "num_hidden_layers": shape["layers"], "num_attention_heads": shape["heads"],
        "num_key_value_heads": shape["kv_heads"], "vocab_size": shape["vocab"], "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True, "eos_token_id": 2,
        "pad_token_id": 0, "dtype": "bfloat16", "hidden_act": "silu",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
        )
    )
    draw = torch.Generator().manual_seed(1)
    narrow = shape["kv_heads"] * size
    sizes = {
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (narrow, hidden),
        "self_attn.v_proj": (narrow, hidden), "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inter, hidden), "mlp.up_proj": (inter, hidden), "mlp.down_proj": (hidden, inter),
    }  # fmt: skip
    tensors = {"model.embed_tokens.weight": torch.randn(shape["vocab"], hidden, generator=draw).mul_(0.02).bfloat16()}
    for layer in range(shape["layers"]):
        for name, (rows, columns) in sizes.items():
            matrix = torch.randn(rows, columns, generator=draw).mul_(columns**-0.5)
            tensors[f"model.layers.{layer}.{name}.weight"] = matrix.bfloat16()
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{name}.weight"] = torch.ones(hidden).bfloat16()
    tensors["model.norm.weight"] = torch.ones(hidden).bfloat16()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def write_rows(path: Path, count: int, words: int) -> None:
    """Chats of about `words` words, three fifths of which are the answer's."""
    draw = random.Random(1)
    vocabulary = ["order", "parcel", "refund", "please", "the", "when", "arrives", "number", "thank", "you", "my", "is"]
    with path.open("w") as file:
        for _ in range(count):
            question, answer = (
                " ".join(draw.choices(vocabulary, k=round(words * share * draw.uniform(0.8, 1.2))))
                for share in (0.4, 0.6)
            )
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}) + "\n")


def watched(command: list[str], environment: dict[str, str]) -> tuple[str, float, float]:
    """What a command printed, and the most private and resident MB of it and its children together."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        whole, private, rss = psutil.Process(child.pid), 0, 0
        while child.poll() is None:
            sizes = [memory(each) for each in family(whole)]
            private, rss = max(private, sum(each[0] for each in sizes)), max(rss, sum(each[1] for each in sizes))
            time.sleep(0.02)
        err.seek(0)
        if child.returncode:
            raise SystemExit(f"{' '.join(map(str, command))} ended with {child.returncode}: {err.read()[-2000:]}")
        out.seek(0)
        return out.read(), private / 1024, rss / 1024


def family(whole: psutil.Process) -> list[psutil.Process]:
    """A process and all below it."""
    try:
        return [whole, *whole.children(recursive=True)]
    except psutil.Error:
        return []


def memory(process: psutil.Process) -> tuple[int, int]:
    """Its private and its resident KB."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0, 0
    found = {
        line.split(":")[0]: line.split()[1] for line in text.splitlines() if line.startswith("Rss") or "VmRSS" in line
    }
    return int(found.get("RssAnon", 0)), int(found.get("VmRSS", 0))


class Bench:
    """The base, the rows and the adapter that both start from."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        import torch

        from freehold.tuning import lora, model
        from freehold.tuning.job import TrainJob, encode

        self.folder, self.options = folder, options
        self.base, rows = folder / "base", folder / "rows.jsonl"
        write_base(self.base, SHAPES[options.shape])
        write_rows(rows, options.steps * options.batch, options.words)
        switch = "on" if options.checkpointing else "off"
        self.job = TrainJob(
            out=folder / "ours", train=rows, base=self.base, rank=16, alpha=32.0, learning_rate=RATE,
            warmup=1 / options.steps, steps=options.steps, batch=options.batch, batch_tokens=1 << 20, max_length=4096,
            dtype="bf16", checkpointing=switch, threads=options.threads,
        )  # fmt: skip
        (folder / "job.json").write_bytes(encode(self.job))
        cpu = torch.device("cpu")
        decoder = model.load(self.base, cpu, torch.bfloat16, full=False)
        start = lora.attach(decoder.linears, 16, lora.scale("lora", 16, 32.0), self.job.seed, cpu)
        lora.save(start, folder / "adapter", method="lora", rank=16, alpha=32.0, base="base")
        self._write_peer_job(rows)

    def _write_peer_job(self, rows: Path) -> None:
        """The rows in the order in which our trainer takes them."""
        from freehold.data.rows import read_rows
        from freehold.tuning import model
        from freehold.tuning.batches import batches
        from freehold.tuning.render import Renderer

        template, names = model.chat_template(self.base)
        renderer = Renderer(model.tokenizer(self.base), template, max_length=4096, prompt_weight=0.0, **names)
        samples = list(renderer.samples([row.messages for row in read_rows(rows)]))
        order = batches(
            [len(sample.ids) for sample in samples], self.job.batch_tokens, self.job.seed, 0, self.job.batch
        )
        lines = rows.read_text().splitlines()
        (self.folder / "ordered.jsonl").write_text("\n".join(lines[index] for batch in order for index in batch) + "\n")
        options = self.options
        peer = {
            "base": str(self.base), "rows": str(self.folder / "ordered.jsonl"), "out": str(self.folder / "theirs"),
            "adapter": str(self.folder / "adapter"), "batch": options.batch, "steps": options.steps,
            "learning_rate": RATE, "checkpointing": options.checkpointing, "threads": options.threads,
            "attention": options.attention, "nf4": options.nf4,
        }  # fmt: skip
        (self.folder / "peer.json").write_text(json.dumps(peer))

    def ours(self) -> Taken:
        """Our trainer's process, as `freehold tune` starts it."""
        from freehold.tuning.launch import ENVIRONMENT

        subprocess.run(["rm", "-rf", self.job.out], check=True)
        self.job.out.mkdir()
        command = [sys.executable, "-m", "freehold.tuning.child", str(self.folder / "job.json")]
        text, private, rss = watched(command, {**os.environ, **ENVIRONMENT})
        found = json.loads(text.splitlines()[-1])
        return Taken(found["tokens"] / found["seconds"], private, rss, found["losses"])

    def theirs(self) -> Taken:
        """TRL's trainer, with the settings of threads and memory that help ours."""
        from freehold.tuning.launch import ENVIRONMENT

        environment = {**os.environ, **ENVIRONMENT}
        script = Path(__file__).parent / "peers" / "trl_sft.py"
        text, private, rss = watched([self.options.peer, str(script), str(self.folder / "peer.json")], environment)
        found = json.loads(text.splitlines()[-1])
        return Taken(found["tokens"] / found["seconds"], private, rss, found["losses"])


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


def main() -> int:
    """Print the figures; 1 when a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("peer", nargs="?")
    parser.add_argument("--context", type=int, help="tokens of one row, without the peer")
    parser.add_argument("--layers", type=int, help="in place of the shape's, with --context")
    parser.add_argument("--shape", choices=SHAPES, default="smol")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--attention", default="eager", choices=["eager", "sdpa"], help="of the peer")
    parser.add_argument("--nf4", action="store_true", help="the peer's base in NF4")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--words", type=int, default=110, help="about 190 tokens a row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.context:
        return context(options)
    if not options.peer:
        parser.error("PEER_PYTHON is missing")
    with tempfile.TemporaryDirectory(prefix="bench-tune-") as folder:
        bench = Bench(Path(folder), options)
        pairs = [(bench.ours(), bench.theirs()) for _ in range(options.pairs)]
    speed = statistics.median(ours.speed / theirs.speed for ours, theirs in pairs)
    private = statistics.median(ours.private / theirs.private for ours, theirs in pairs)
    loss = max(abs(a - b) for ours, theirs in pairs for a, b in zip(ours.losses, theirs.losses, strict=True))
    middle = [
        {name: statistics.median(getattr(pair[side], name) for pair in pairs) for name in ("speed", "private", "rss")}
        for side in (0, 1)
    ]
    figures: dict[str, Any] = {
        "shape": options.shape, "checkpointing": options.checkpointing, "speed": speed, "private": private,
        "loss_difference": loss, "ours": middle[0], "theirs": middle[1], "losses": pairs[0][0].losses,
        "their_losses": pairs[0][1].losses,
    }  # fmt: skip
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        print(
            f"{options.shape}, checkpointing {'on' if options.checkpointing else 'off'}, medians of {len(pairs)} pairs"
        )
        for name, side in zip(("freehold", "TRL + PEFT"), middle, strict=True):
            sizes = f"{side['private']:7.0f} MB private {side['rss']:7.0f} MB resident"
            print(f"{name:11} {side['speed']:7.1f} tokens/s {sizes}")
        print(f"ratio: {speed:.2f} times the speed, {private:.2f} of the private memory; losses differ by {loss:.4f}")
    return int(speed < LIMITS[options.checkpointing] or private > MEMORY or loss > LOSS)


if __name__ == "__main__":
    sys.exit(main())
