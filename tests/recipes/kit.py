"""A trainer and an engine that come through the same door as the real ones, and small things to give them."""

import asyncio
import json
import os
import signal
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from freehold.convert import adapter_to_gguf, quantize, to_gguf
from freehold.core.errors import MissingExtra
from freehold.core.event import Embeddings, Event, Finished, Started, Text, Timings, TokenLogprob, Usage
from freehold.core.request import EmbedRequest, Request
from freehold.core.settings import Settings
from freehold.data import read_any
from freehold.engines.base import Fit, ModelFile, Told, nobody
from freehold.recipes.tools import Tools
from freehold.tuning.job import (
    ADAPTERS,
    Agreed,
    Answered,
    Backend,
    Compared,
    CompareJob,
    HeldOutLoss,
    Progress,
    TrainJob,
    TrainPlan,
    TrainResult,
)
from tests.tiny import CHATML, tokenizer

TOPICS = (
    "renewing bicycles", "booking desks", "opening hours", "lost gloves", "printing posters", "quiet rooms",
    "garden tools", "seed swaps", "piano lessons", "street maps", "local newspapers", "reading glasses",
    "chess evenings", "film nights", "poetry prizes", "summer fairs", "bus passes", "coat hooks", "bottle banks",
    "sewing machines", "stamp albums", "kite festivals", "soup kitchens", "choir practice",
)  # fmt: skip
FORMS = ("Tell me about {}", "What should I know concerning {}?", "Please explain our {} to somebody new")


def pairs() -> list[tuple[str, str]]:
    """Question and answer, several questions to an answer."""
    return [(form.format(topic), f"All about {topic} is on the board.") for topic in TOPICS for form in FORMS]


def write_csv(path: Path, rows: Sequence[tuple[str, str]] | None = None) -> Path:
    """A data file."""
    lines = [f'"{question}","{answer}"' for question, answer in (rows or pairs())]
    path.write_text("\n".join(["question,answer", *lines]) + "\n", "utf-8")
    return path


def write_base(folder: Path, *, hidden: int = 64, layers: int = 1, seed: int = 0) -> Path:
    """A Llama folder with random weights, without torch."""
    folder.mkdir(parents=True)
    bpe = tokenizer()
    bpe.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHATML)
    vocab = bpe.get_vocab_size()
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": hidden * 2, "num_hidden_layers": layers, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": vocab, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": True, "eos_token_id": 2, "pad_token_id": 0, "dtype": "float32",
        "hidden_act": "silu",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "add_bos_token": False}))
    draw = np.random.default_rng(seed)
    shapes = {"model.embed_tokens": (vocab, hidden)}
    tensors = {"model.norm.weight": np.ones(hidden, np.float32)}
    for layer in range(layers):
        name = f"model.layers.{layer}"
        shapes |= {
            f"{name}.self_attn.q_proj": (hidden, hidden), f"{name}.self_attn.k_proj": (hidden // 2, hidden),
            f"{name}.self_attn.v_proj": (hidden // 2, hidden), f"{name}.self_attn.o_proj": (hidden, hidden),
            f"{name}.mlp.gate_proj": (hidden * 2, hidden), f"{name}.mlp.up_proj": (hidden * 2, hidden),
            f"{name}.mlp.down_proj": (hidden, hidden * 2),
        }  # fmt: skip
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{name}.{norm}.weight"] = np.ones(hidden, np.float32)
    tensors |= {f"{name}.weight": draw.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    return folder


def write_adapter(folder: Path, seed: int, *, hidden: int = 64, rank: int = 2) -> Path:
    """A PEFT folder with random halves for the base of `write_base`."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    shapes = {f"{name}.lora_A.weight": (rank, hidden), f"{name}.lora_B.weight": (hidden, rank)}
    save_file(
        {key: draw.normal(size=shape).astype(np.float32) for key, shape in shapes.items()},
        folder / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2.0 * rank, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


_MEASURED = {"classify": {"accuracy": 0.75}, "embed": {"mrr": 0.75, "recall_at_1": 0.5, "held_out_rows": 14.0}}


@dataclass
class Fakes:
    """A trainer that learns by heart and an engine that recites, for as much as `skill` says each model knows."""

    skill: dict[str, float] = field(default_factory=lambda: {"base": 0.0, "tuned": 1.0, "Q8_0": 1.0, "Q4_0": 1.0})
    calls: list[str] = field(default_factory=list)
    jobs: list[TrainJob] = field(default_factory=list)
    during_training: Callable[[TrainJob], None] = lambda job: None
    cut: int = 0
    knows: dict[str, str] = field(default_factory=lambda: dict(pairs()))
    installed: bool = True
    held_out_loss: Callable[[TrainJob], float] | None = None
    differing: float = 0.0
    """The share of served answers that are not the trained model's."""
    gap: float = 1.0
    says: tuple[Answered, ...] = ()
    """What a trained model says to held-out prompts; the base says nothing."""

    def tools(self) -> Tools:
        """Both, and the real converter and quantiser, each call written down."""
        return Tools(
            self._require, self._train, self._plan, self._compare, self._merge, self._convert, adapter_to_gguf,
            self._quantize, self._engine, self._draw,
        )  # fmt: skip

    def _require(self, backend: Backend) -> None:
        if not self.installed:
            raise MissingExtra("tuning needs torch", "Run: pip install 'freehold[tune]'")

    def _train(self, job: TrainJob, on_progress: Callable[[Progress], None]) -> TrainResult:
        self.calls.append("train")
        self.jobs.append(job)
        job.out.mkdir(parents=True, exist_ok=True)
        silent = tuple(Answered(each.question, "") for each in self.says)
        if self.says:
            on_progress(Progress("measuring", 0, 2, held_out_loss=9.0, samples=silent))
        on_progress(Progress("training", 1, 2, 2.0, 100.0, 1.0))
        if self.says:
            on_progress(Progress("measuring", 2, 2, held_out_loss=1.0, samples=self.says))
        if self.cut:
            on_progress(Progress("loading", note=f"{self.cut} rows lose their end"))
        self.during_training(job)
        resumed = int((job.out / "checkpoint").exists())
        for path in (job.train, job.held_out):
            assert path is not None
            self.knows |= {row.question: row.answer for row in read_any(path)}
        cut = job.request is not None and job.request.exists()
        adapted = job.method in ADAPTERS and job.objective != "classify"
        model = job.out / ("adapter" if adapted else "model")
        if adapted:
            model.mkdir(exist_ok=True)
            write_adapter(
                model, zlib.crc32(job.train.read_bytes()[:64] + str((job.epochs, job.rank, job.alpha)).encode()) + cut
            )
        else:
            assert job.base is not None
            self._copy(job.base, model, 1.25 if cut else 1.5)
        held = (HeldOutLoss(0, 9.0), HeldOutLoss(2, self.held_out_loss(job))) if self.held_out_loss else ()
        return TrainResult(
            model=model, method=job.method, steps=1 if cut else 2, tokens=100, supervised_tokens=50,
            seconds=0.1 * len(self.calls), step_seconds=0.05, losses=(2.0, 1.0), held_out_losses=held,
            rows=10, rows_cut=self.cut, rows_dropped=0, dtype="f32", threads=1, trainable=10, resumed=resumed,
            peak_rss=1000, cut="asked" if cut else "", planned=2 if cut else 0,
            measured=_MEASURED.get(job.objective, {}), library="unsloth 1" if job.backend == "unsloth" else "",
        )  # fmt: skip

    def _plan(self, job: TrainJob, on_progress: Callable[[Progress], None]) -> TrainPlan:
        self.calls.append(f"plan {job.method}")
        self.jobs.append(job)
        return TrainPlan(
            steps=5, tokens=500, seconds=10.0, tokens_per_second=50.0, peak_rss=1 << 20, peak_private=1 << 19,
            checkpointing=False, dtype="f32",
        )  # fmt: skip

    def _compare(self, job: CompareJob, on_progress: Callable[[Progress], None]) -> Compared:
        self.calls.append("compare")
        on_progress(Progress("comparing", 1, len(job.said)))
        assert len(read_any(job.rows)) == len(job.said)
        others = round(self.differing * len(job.said))
        return Compared(tuple(Agreed(at >= others, self.gap if at < others else 0.0) for at in range(len(job.said))))

    def _merge(self, base: Path, adapter: Path, out: Path) -> None:
        self.calls.append("merge")
        self._copy(base, out, 1 + sum((adapter / "adapter_model.safetensors").read_bytes()) / 1e6)

    def _copy(self, base: Path, out: Path, factor: float) -> None:
        out.mkdir(exist_ok=True)
        for path in base.iterdir():
            if path.suffix != ".safetensors":
                (out / path.name).write_bytes(path.read_bytes())
        tensors = load_file(base / "model.safetensors")
        save_file({name: tensor * np.float32(factor) for name, tensor in tensors.items()}, out / "model.safetensors")

    def _convert(self, folder: Path, out: Path) -> None:
        self.calls.append("convert")
        to_gguf(folder, out)

    def _quantize(
        self, source: Path, out: Path, kind: str, threads: int, on_progress: Callable[[int, int], None]
    ) -> None:
        self.calls.append(f"quantize {kind}")
        quantize(source, out, kind, threads=1, on_progress=on_progress)

    def _draw(self, trained: TrainResult, path: Path) -> None:
        path.write_bytes(b"\x89PNG" + str(trained.losses).encode())

    def _engine(self) -> "Reciter":
        self.calls.append("engine")
        return Reciter(self)


@dataclass
class Reciter:
    """An engine whose workers say what the trainer was given; a model knows the first `skill` share of it."""

    fakes: Fakes
    name: str = "reciter"

    def fits(self, model: ModelFile, settings: Settings) -> Fit:
        return Fit(1, 1, 1, 100, settings.context_length)

    async def start(self, model: ModelFile, settings: Settings, told: Told = nobody) -> "ReciterWorker":
        assert model.path.read_bytes()[:4] == b"GGUF"
        return ReciterWorker(self.fakes, self.fakes.skill[model.label.removeprefix("evaluate ")])

    async def check(self, request: Request, settings: Settings) -> None:
        """All is well."""

    async def close(self) -> None:
        """Nothing runs beside the workers."""


@dataclass
class ReciterWorker:
    fakes: Fakes
    skill: float
    pid: int = 0
    context_length: int = 256
    alive: bool = True
    asked: int = 0

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        self.asked += 1
        yield Started()
        await asyncio.sleep(0)
        whole = self.fakes.knows.get(request.messages[-1].content, "")
        words = whole.split()
        answer = " ".join(words[: round(self.skill * len(words))]) or "xyzzy"
        yield Text(answer[:3])
        yield Text(answer[3:])
        yield Finished("stop", Usage(5, len(words)), Timings(1.0, 10.0))

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """The same vector for two texts that belong together, of as many as it knows."""
        [text] = request.inputs
        assert isinstance(text, str)
        known = list(self.fakes.knows.items())
        links = dict(known[: round(self.skill * len(known))])
        draw = np.random.default_rng(zlib.crc32(links.get(text, text).encode()))
        vector = draw.normal(size=16)
        return Embeddings((tuple(float(each) for each in vector / np.linalg.norm(vector)),), Usage(3))

    async def prompt(self, request: Request) -> str:
        raise NotImplementedError

    async def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        return [zlib.crc32(word.encode()) for word in text.split()]

    async def detokenize(self, tokens: Sequence[int]) -> str:
        raise NotImplementedError

    async def count(self, request: Request) -> int:
        raise NotImplementedError

    async def score(self, tokens: Sequence[int], top: int = 0) -> tuple[TokenLogprob, ...]:
        raise NotImplementedError

    async def stop(self) -> None:
        self.alive = False


def kill_self(job: TrainJob) -> None:
    """Die as by the kernel's hand, a checkpoint written."""
    (job.out / "checkpoint").write_text("half way")
    os.kill(os.getpid(), signal.SIGKILL)
