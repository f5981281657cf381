"""Exactness after export: what is served says, answer for answer, what the trainer's own decoder says.

A tiny model of each family with random weights is tuned until it answers questions that it has not seen, merged,
converted, quantised, and asked through the engine that serves it.
"""

import asyncio
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from freehold.convert import families, quantize, to_gguf
from freehold.core.request import Message
from freehold.core.settings import Settings
from freehold.data.rows import Row, read_rows, write_rows
from freehold.engines.base import ModelFile
from freehold.engines.llamacpp import LlamaCpp
from freehold.formats.gguf import read_header
from freehold.proofs.evaluate import Evaluation, evaluate
from freehold.tuning import model
from freehold.tuning.decoder.sampling import sample
from freehold.tuning.job import TrainJob
from freehold.tuning.launch import train
from freehold.tuning.merge import merge
from freehold.tuning.render import Renderer
from tests.convert.torchmodels import write_model
from tests.tiny import CHATML

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CPU = torch.device("cpu")
MOST = 24
"""Tokens of an answer."""
NAMES = ("Ann", "Ben", "Cid", "Dora", "Eve", "Fay", "Gus", "Hal", "Ida", "Jon")
THINGS = ("key", "lamp", "map", "pen", "ring", "hat", "jug", "oar", "cup", "box")
LEAST = 0.99
"""The share of answers that must be the same."""
WINDOWS = ["sliding_attention", "full_attention", "sliding_attention"]
GEMMA: dict[str, Any] = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16, "layer_types": WINDOWS}
CAPS = {"attn_logit_softcapping": 20.0, "final_logit_softcapping": 30.0}
WIDER: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 256}
"""Than other tiny models: at 64 two tokens of some answers are within 0.1 nats, which rounding to 8 bits decides."""
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 16}),
    "qwen 2": ("Qwen2", {}),
    "qwen 3": ("Qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "smollm 3": ("SmolLM3", {"num_hidden_layers": 4}),
    "olmo 2": ("Olmo2", {}),
    "olmo 3": ("Olmo3", {"sliding_window": 16, "layer_types": WINDOWS}),
    "granite": (
        "Granite",
        {"embedding_multiplier": 3.0, "attention_multiplier": 0.4, "residual_multiplier": 0.6, "logits_scaling": 0.5},
    ),
    "phi 3": ("Phi3", {}),
    "gemma 2": ("Gemma2", {**GEMMA, **CAPS, "tie_word_embeddings": True}),
    "gemma 3": ("Gemma3Text", {**GEMMA, "tie_word_embeddings": True}),
}


def rows() -> tuple[list[Row], list[Row]]:
    """To learn from, and held out: the same names and things in other pairs."""
    made: tuple[list[Row], list[Row]] = [], []
    for (at, name), (other, thing) in product(enumerate(NAMES), enumerate(THINGS)):
        messages = Message("user", f"{name} {thing}?"), Message("assistant", f"{name} has the {thing}.")
        made[(at + other) % 4 == 0].append(Row(messages))
    return made


def tuned(folder: Path, family: str, changes: dict[str, Any]) -> Path:
    """A model of the family that has learned the rows, as one folder."""
    write_model(folder / "base", family, **WIDER | changes)
    (folder / "base" / "chat_template.jinja").write_text(CHATML)
    learned, held_out = rows()
    write_rows(folder / "train.jsonl", learned)
    write_rows(folder / "held_out.jsonl", held_out)
    job = TrainJob(
        out=folder / "run", base=folder / "base", train=folder / "train.jsonl", held_out=folder / "held_out.jsonl",
        method="lora", rank=32, alpha=64.0, learning_rate=3e-3, steps=240, batch_tokens=512, dtype="f32", threads=1,
        evaluations=2,
    )  # fmt: skip
    result = train(job, lambda progress: None)
    merge(folder / "base", result.model, folder / "tuned")
    return folder / "tuned"


def told(folder: Path, asked: list[Row]) -> list[str]:
    """The likeliest answers by the trainer's own decoder, in float32."""
    decoder = model.load(folder, CPU, torch.float32, full=False)
    template, names = model.chat_template(folder)
    with model.encoder(folder) as encoder:
        ends = model.ends(folder, encoder)
        renderer = Renderer(encoder, template, max_length=256, prompt_weight=0.0, **names)
        answers = []
        for row, read in zip(asked, renderer.samples(asked), strict=True):
            prompt = list(read.ids)[: list(read.weights).index(1.0)]
            # So cold that nothing but the likeliest token is ever drawn.
            draw = torch.Generator().manual_seed(0)
            [ids] = sample(decoder, prompt, count=1, most=MOST, ends=ends, draw=draw, temperature=1e-6)
            assert ids[-1] in ends, f"no end of an answer to {row.question}"
            answers.append(encoder.decode(ids, skip_special_tokens=True).strip())
    return answers


async def served(file: Path, asked: list[Row], home: Path) -> Evaluation:
    """The likeliest answers by the worker that serves the file."""
    settings = Settings(home=home, threads=1, parallel=1, context_length=256)
    worker = await LlamaCpp().start(ModelFile(file, "tuned"), settings)
    try:
        return await evaluate(worker, asked, max_tokens=MOST)
    finally:
        await worker.stop()


@pytest.mark.parametrize("case", CASES)
def test_what_is_served_says_what_was_learned(case: str, tmp_path: Path) -> None:
    family, changes = CASES[case]
    folder = tuned(tmp_path, family, changes)
    asked = read_rows(tmp_path / "held_out.jsonl")
    wanted = told(folder, asked)
    right = sum(answer == row.answer for answer, row in zip(wanted, asked, strict=True))
    assert right >= 0.8 * len(asked), "so much that it is no chance which token is the likeliest"
    to_gguf(folder, tmp_path / "tuned.F16.gguf", dtype="f16")
    quantize(tmp_path / "tuned.F16.gguf", tmp_path / "tuned.Q8_0.gguf", "Q8_0", threads=1)
    for kind in ("F16", "Q8_0"):
        file = tmp_path / f"tuned.{kind}.gguf"
        assert read_header(file).quantization == kind
        said = [answer.answer for answer in asyncio.run(served(file, asked, tmp_path / "home")).answers]
        same = sum(one == other for one, other in zip(said, wanted, strict=True))
        assert same >= LEAST * len(asked), [pair for pair in zip(said, wanted, strict=True) if pair[0] != pair[1]]


def test_there_is_a_case_for_each_family_that_is_converted() -> None:
    spelt = {name.split("For")[0].removesuffix("Text") for name in families.names()}
    assert {family.removesuffix("Text") for family, _ in CASES.values()} == spelt
