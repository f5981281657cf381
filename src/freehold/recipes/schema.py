"""The recipe's sections and keys, each with its bounds."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from freehold.core import spans
from freehold.core.digest import Digest
from freehold.core.errors import BadName, BadRecipe
from freehold.core.name import Name
from freehold.core.paths import expanded
from freehold.data.loading import Pii
from freehold.recipes import wording
from freehold.tuning.job import (
    ADAPTERS,
    Architecture,
    Backend,
    BaseDtype,
    Dtype,
    Method,
    Objective,
    Pooling,
    Switch,
    TrainJob,
)

MAX_SIZE = 1 << 20
Share = Annotated[float, Meta(ge=0, le=1)]
Short = Annotated[str, Meta(max_length=4096)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of a recipe."""


class ModelSection(Section, frozen=True, kw_only=True):
    """What is made, of what."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    base: Annotated[str, Meta(min_length=1, max_length=4096)] = "starter"
    """A name in the catalog, or the path of a folder with safetensors weights; with method lora of a GGUF file too."""
    licence: Annotated[str, Meta(max_length=200)] = ""


class DataSection(Section, frozen=True, kw_only=True):
    """What is learned from: a data file, or a script that writes one."""

    path: Short = ""
    generator: Short = ""
    """A Python script, run as `python SCRIPT --out DIR --seed SEED`, that writes train.jsonl and held_out.jsonl."""
    columns: dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=1024)]] = {}
    system: Annotated[str, Meta(max_length=1 << 16)] = ""
    held_out: Annotated[float, Meta(gt=0, le=10_000_000)] = 0.1
    """A share below 1, or a number of rows."""
    held_out_path: Short = ""
    """A file of its own to hold out, in place of `held_out`. Rows of `path` that ask the same are left out."""
    format: Annotated[str, Meta(max_length=32)] = "auto"
    """csv, json, jsonl, parquet, xlsx, text or pdf."""
    kind: Annotated[str, Meta(max_length=32)] = "auto"
    """What a row is: chat, preference, judged, prompt, text, labelled or pair."""
    rows: Annotated[int, Meta(ge=0, le=100_000_000)] = 0
    """At most this many rows are used; 0 uses all. For a generator, the number given to its --rows."""
    broken: Literal["stop", "drop"] = "stop"
    """What becomes of rows that cannot be read: nothing is made, or it is made without them."""
    pii: Pii = "keep"
    """What becomes of rows with e-mail addresses, telephone numbers, IBANs, card numbers: keep, drop or mask."""
    about: dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=4096)]] = {}
    """What you declare in the data card: source, licence, collected, people, consent, contact."""


Several = Meta(min_length=1, max_length=16)
Rank = Annotated[int, Meta(ge=1, le=4096)]
Alpha = Annotated[float, Meta(gt=0, le=65536)]
Rate = Annotated[float, Meta(gt=0, lt=1)]
SWEPT = ("method", "rank", "alpha", "learning_rate")
"""Keys of [tune] that may have several values."""


class TuneSection(Section, frozen=True, kw_only=True):
    """How it is learned. The keys mean what they mean in `tuning.job.TrainJob`."""

    method: Method | Annotated[tuple[Method, ...], Several] = "lora"
    """lora, rslora, dora (adapters), full (all weights), scratch (a new model). A list of adapters tries each."""
    objective: Objective = "sft"
    """What is aimed at: sft (answers), text (plain text), dpo, orpo, kto (preferences), grpo (rewards), embed
    (pairs of texts), classify (labels; by `freehold tune` alone)."""
    beta: Annotated[float, Meta(ge=0, le=1000)] = 0.1
    rewards: tuple[Annotated[str, Meta(max_length=4096)], ...] = ()
    """For grpo: json, number, maths, exact, judge, regex:PATTERN, or FILE.py:NAME beside the recipe."""
    judge: Annotated[str, Meta(max_length=4096)] = ""
    """The model that grades answers where rewards has judge: a name in the catalog."""
    rubric: Annotated[str, Meta(max_length=1 << 16)] = ""
    """What a good answer has, for the judge."""
    group: Annotated[int, Meta(ge=2, le=1024)] = 8
    max_answer: Annotated[int, Meta(ge=1, le=1 << 16)] = 128
    temperature: Annotated[float, Meta(gt=0, le=10)] = 1.0
    scale: Annotated[float, Meta(gt=0, le=1000)] = 20.0
    """For embed: what cosines are multiplied by before they are compared; 1 / temperature."""
    pooling: Pooling = "auto"
    """For embed: mean or last, the states of a text's tokens that make its vector; auto as the base says, else mean."""
    rank: Rank | Annotated[tuple[Rank, ...], Several] = 16
    """A list, here and in the next two keys, tries each; the lowest held-out loss is taken."""
    alpha: Alpha | Annotated[tuple[Alpha, ...], Several] = 32.0
    learning_rate: Rate | Annotated[tuple[Rate, ...], Several] = 5e-4
    warmup: Share = 0.03
    weight_decay: Share = 0.0
    epochs: Annotated[float, Meta(gt=0, le=10_000)] = 3.0
    steps: Annotated[int, Meta(ge=0, le=100_000_000)] = 0
    time: Annotated[str, Meta(max_length=32)] = ""
    """Time to fit, as in 45s, 30m or 1h30m, in place of epochs."""
    batch_tokens: Annotated[int, Meta(ge=16, le=1 << 24)] = 4096
    batch: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    max_length: Annotated[int, Meta(ge=16, le=1 << 20)] = 1024
    prompt_weight: Share = 0.0
    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 1
    dtype: Dtype = "auto"
    """bf16 or f32, whichever is faster; int8 for products with a frozen base, as auto has them on a coarse one."""
    base_dtype: BaseDtype = "stored"
    """With `"nf4"`, methods lora, rslora and dora hold a base of safetensors in 4 bits while they train."""
    checkpointing: Switch = "auto"
    offload: Switch = "auto"
    """Whether what checkpointing keeps waits in the host's memory; auto: only on a GPU that is too small without."""
    backend: Backend = "freehold"
    """Who computes the model: freehold's own decoder, or unsloth, for adapters and objectives sft and text on a GPU."""
    evaluations: Annotated[int, Meta(ge=0, le=1000)] = 4
    patience: Annotated[int, Meta(ge=0, le=1000)] = 0
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    checkpoint_seconds: Annotated[float, Meta(gt=0, le=86400)] = 60.0
    log: Literal["", "tensorboard", "wandb", "trackio"] = ""
    """Where figures go while it tunes, beside the run's own record: tensorboard, wandb or trackio, on this machine."""
    vocab: Annotated[int, Meta(ge=300, le=1 << 20)] = 4096
    hidden: Annotated[int, Meta(ge=32, le=1 << 16)] = 512
    layers: Annotated[int, Meta(ge=1, le=512)] = 5
    heads: Annotated[int, Meta(ge=1, le=1024)] = 8
    kv_heads: Annotated[int, Meta(ge=1, le=1024)] = 2
    intermediate: Annotated[int, Meta(ge=32, le=1 << 18)] = 768
    context: Annotated[int, Meta(ge=64, le=1 << 20)] = 1024

    @property
    def embeds(self) -> bool:
        """Whether vectors of texts are learned."""
        return self.objective == "embed"

    @property
    def adapts(self) -> bool:
        """Whether an adapter comes out, beside a base that stays as it is."""
        return set(self.methods) <= set(ADAPTERS)

    @property
    def methods(self) -> tuple[str, ...]:
        """Each that is tried."""
        return self.method if isinstance(self.method, tuple) else (self.method,)

    def job(self, *, out: Path, train: Path, held_out: Path | None, base: Path | None) -> TrainJob:
        """The trainer's job with these keys."""
        values = msgspec.structs.asdict(self)
        shape = Architecture(**{key: values[key] for key in Architecture.__struct_fields__})
        common = {key: values[key] for key in TrainJob.__struct_fields__ if key in values and key != "judge"}
        limit = spans.seconds(self.time) if self.time else 0.0
        return TrainJob(out=out, train=train, held_out=held_out, base=base, architecture=shape, seconds=limit, **common)


class QuantizeSection(Section, frozen=True, kw_only=True):
    """Which smaller copies are made."""

    types: Annotated[tuple[Annotated[str, Meta(max_length=16)], ...], Meta(max_length=16)] = ("Q4_K_M",)
    keep: bool = True
    """Whether the other types and the unquantised weights get names too, as NAME:q8_0 and NAME:weights; of a GGUF base
    the adapter alone, as NAME:adapter."""


class EvaluateSection(Section, frozen=True, kw_only=True):
    """How it is measured."""

    rows: Annotated[int, Meta(ge=1, le=1_000_000)] = 200
    """At most this many of the held-out rows are asked."""
    max_tokens: Annotated[int, Meta(ge=1, le=1 << 16)] = 256
    context_length: Annotated[int, Meta(ge=64, le=1 << 20)] = 4096
    """Tokens of question and answer, cut to what the model was trained with."""
    compared: Annotated[int, Meta(ge=0, le=1_000_000)] = 64
    """At most this many of the tuned model's answers are compared with what the trained model says; 0 for none."""


class GateSection(Section, frozen=True, kw_only=True):
    """What must hold before the name points to the new model."""

    min_token_f1: Share | None = None
    min_exact_match: Share | None = None
    min_recall_at_1: Share | None = None
    """For embed: the share of held-out texts whose nearest one is the one that belongs to it."""
    min_mrr: Share | None = None
    """For embed: the mean of 1 / the place of the right text."""
    min_spearman: Share | None = None
    """For embed, where pairs have scores: the correlation of cosines with them."""
    min_gain: Annotated[float, Meta(ge=-1, le=1)] | None = None
    """Token F1 of the tuned model over that of its base; 0 unless said, where there is a base. For embed MRR, or
    Spearman's correlation where pairs have scores; in the next key too."""
    max_quantized_drop: Annotated[float, Meta(ge=0, le=1)] = 0.03
    """Token F1 that a quantised copy may lose against the tuned model."""
    min_agreement: Share = 0.9
    """Of the answers compared, the share that must be the trained model's; the rest tells of a broken export."""


class ReleaseSection(Section, frozen=True, kw_only=True):
    """What the name gets."""

    quantization: Annotated[str, Meta(max_length=16)] = ""
    """The type that the name points to; the first of [quantize] types unless said."""
    tags: Annotated[tuple[Annotated[str, Meta(max_length=96)], ...], Meta(max_length=16)] = ()
    """Further tags of the same model, as NAME:TAG."""


class Recipe(Section, frozen=True, kw_only=True):
    """How a model is made."""

    model: ModelSection
    data: DataSection
    tune: TuneSection = TuneSection()
    quantize: QuantizeSection = QuantizeSection()
    evaluate: EvaluateSection = EvaluateSection()
    gate: GateSection = GateSection()
    release: ReleaseSection = ReleaseSection()

    @property
    def name(self) -> Name:
        """The model's name."""
        return Name.parse(self.model.name)

    @property
    def compares(self) -> bool:
        """Whether served answers are compared with the trained model's. Vectors are none."""
        return bool(self.evaluate.compared) and not self.tune.embeds

    @property
    def released_type(self) -> str:
        """The quantisation that gets the name; empty for the unquantised model."""
        return self.release.quantization or (self.quantize.types[0] if self.quantize.types else "")


class RecipeFile(msgspec.Struct, frozen=True):
    """A recipe and where it lies: relative paths in it start there."""

    recipe: Recipe
    path: Path
    source: bytes
    adapted: bool = False
    """Whether its base is a GGUF file, which stays as it is with an adapter beside it. See `sources.settled`."""

    def says(self, section: str, key: str) -> bool:
        """Whether the file itself has a value for this key."""
        return key in tomllib.loads(self.source.decode("utf-8-sig")).get(section, {})

    @property
    def digest(self) -> Digest:
        """Of the file's bytes."""
        return Digest.of_bytes(self.source)

    def resolve(self, path: str) -> Path:
        """A path that the recipe names, made absolute."""
        return (self.path.parent / expanded(path)).absolute()


SECTIONS: dict[str, type[Section]] = {
    "model": ModelSection,
    "data": DataSection,
    "tune": TuneSection,
    "quantize": QuantizeSection,
    "evaluate": EvaluateSection,
    "gate": GateSection,
    "release": ReleaseSection,
}


def read(path: Path) -> RecipeFile:
    """The recipe in a TOML file. Raises BadRecipe naming section and key, and the nearest known one."""
    source = _source(path)
    try:
        values = tomllib.loads(source.decode("utf-8-sig"))  # Notepad marks what it saves
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadRecipe(f"{path} is not TOML: {error}", "Correct it there") from error
    return RecipeFile(parse(values, path), path.absolute(), source)


def parse(values: Mapping[str, Any], path: Path) -> Recipe:
    """The recipe that decoded TOML spells; `path` is for messages. Raises BadRecipe."""
    _check_keys(values, path)
    try:
        recipe = msgspec.convert(values, Recipe)
    except msgspec.ValidationError as error:
        message, remedy = wording.flaw(str(error), SECTIONS)
        raise BadRecipe(f"{path}: {message}", remedy) from error
    _check_length(values, path)
    _check_sense(recipe, path)
    from freehold.recipes.kinds import wanted

    return msgspec.structs.replace(recipe, data=wanted(recipe.data, recipe.tune))


def _source(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            source = file.read(MAX_SIZE + 1)
    except FileNotFoundError as error:
        raise BadRecipe(
            f"no such recipe: {path}", "Check the path, or write one with: freehold make --new DATA"
        ) from error
    except OSError as error:
        raise BadRecipe(f"cannot read {path}: {error.strerror}", "Give a TOML file that you may read") from error
    if len(source) > MAX_SIZE:
        raise BadRecipe(f"{path} is larger than a recipe can be", "Give the recipe, not the data")
    return source


def _check_keys(values: Mapping[str, Any], path: Path) -> None:
    for section, keys in values.items():
        if section not in SECTIONS:
            kind = f"section [{section}]" if isinstance(keys, dict) else f"key {section!r} outside of a section"
            raise BadRecipe(
                f"{path}: unknown {kind}{wording.nearest(section, SECTIONS)}", wording.known("Sections", SECTIONS)
            )
        if not isinstance(keys, dict):
            raise BadRecipe(f"{path}: {section!r} is not a section", f"Write [{section}] on a line of its own")
        known = SECTIONS[section].__struct_fields__
        for key in keys:
            if key not in known:
                raise BadRecipe(
                    f"{path}: unknown key {key!r} in [{section}]{wording.nearest(key, known)}",
                    wording.known("Keys", known),
                )


def _check_length(values: Mapping[str, Any], path: Path) -> None:
    """Of what says how long it is tuned, one counts."""
    said = [key for key in ("steps", "epochs", "time") if values.get("tune", {}).get(key)]
    if len(said) > 1:
        named = " and ".join(f"[tune] {key}" for key in said)
        raise BadRecipe(f"{path}: {named} {'both' if len(said) == 2 else 'all'} say how long to tune", "Keep one")


def _check_time(section: TuneSection, path: Path) -> None:
    if not section.time:
        return
    try:
        limit = spans.seconds(section.time)
    except ValueError as error:
        raise BadRecipe(f"{path}: [tune] time {error}", "Write 45s, 30m or 1h30m") from error
    if limit <= 0:
        raise BadRecipe(f"{path}: [tune] time is {section.time}", "Give it some time, as in 30m")


def _check_sweep(section: TuneSection, path: Path) -> None:
    from freehold.recipes.sweep import flaw

    found = flaw(section)
    if found is not None:
        raise BadRecipe(f"{path}: [tune] {found[0]}", found[1])


def _check_backend(section: TuneSection, path: Path) -> None:
    from freehold.tuning.backends import flaw

    found = next(filter(None, (flaw(section.backend, each, section.objective) for each in section.methods)), None)
    if found is not None:
        raise BadRecipe(f"{path}: [tune] {found[0]}", found[1])


def _check_judge(section: TuneSection, path: Path) -> None:
    from freehold.tuning.rewards import JUDGE

    if JUDGE in section.rewards and not (section.judge and section.rubric.strip()):
        remedy = "Name a model in [tune] judge, and say in [tune] rubric what is good"
        raise BadRecipe(f"{path}: [tune] rewards has judge", remedy)
    if JUDGE not in section.rewards and (section.judge or section.rubric):
        said = "[tune] judge and [tune] rubric are for rewards that have judge"
        raise BadRecipe(f"{path}: {said}", 'Write rewards = ["judge"]')


def _check_aim(recipe: Recipe, path: Path) -> None:
    from freehold.recipes import kinds, vectors

    found = kinds.flaw(recipe) or vectors.flaw(recipe)
    if found is not None:
        raise BadRecipe(f"{path}: {found[0]}", found[1])


def _check_data(section: DataSection, path: Path) -> None:
    from freehold.data.rows import KINDS
    from freehold.proofs.data_card import ABOUT

    if section.held_out_path and section.generator:
        raise BadRecipe(f"{path}: [data] has a generator and held_out_path", "A generator writes what is held out")
    if section.held_out > 1 and not section.held_out.is_integer():
        raise BadRecipe(
            f"{path}: [data] held_out is {section.held_out:g}",
            "Give a share below 1, as 0.1, or a whole number of rows",
        )
    kinds, keys = ("auto", *KINDS), tuple(ABOUT)
    for what, given, known in (("kind", section.kind, kinds), *(("about", key, keys) for key in section.about)):
        if given not in known:
            where = f"{path}: [data] {what}: {given!r} is unknown{wording.nearest(given, known)}"
            raise BadRecipe(where, wording.known("Known", known))


def _check_sense(recipe: Recipe, path: Path) -> None:
    """What no single key can tell."""
    from freehold.convert.types import TYPES

    try:
        name = recipe.name
        for tag in recipe.release.tags:
            Name(name.org, name.model, tag)
    except BadName as error:
        raise BadRecipe(f"{path}: {error.message}", error.remedy) from error
    _check_time(recipe.tune, path)
    _check_sweep(recipe.tune, path)
    _check_judge(recipe.tune, path)
    _check_backend(recipe.tune, path)
    _check_data(recipe.data, path)
    _check_aim(recipe, path)
    if bool(recipe.data.path) == bool(recipe.data.generator):
        raise BadRecipe(f"{path}: [data] needs either path or generator", 'As in: path = "tickets.csv"')
    for kind in recipe.quantize.types:
        if kind not in TYPES:
            raise BadRecipe(
                f"{path}: [quantize] unknown type {kind!r}{wording.nearest(kind, TYPES)}", wording.known("Types", TYPES)
            )
        if TYPES[kind].weighted:
            raise BadRecipe(
                f"{path}: [quantize] {kind} needs an importance matrix", "Make it of the result: freehold quantize"
            )
    if recipe.release.quantization and recipe.release.quantization not in recipe.quantize.types:
        raise BadRecipe(
            f"{path}: [release] quantization {recipe.release.quantization!r} is not made",
            "Name one of [quantize] types",
        )
    if recipe.tune.base_dtype != "stored" and not recipe.tune.adapts:
        raise BadRecipe(
            f"{path}: [tune] base_dtype is for methods lora, rslora and dora, which leave the base as it is",
            "Remove it",
        )
    if recipe.tune.method == "scratch" and recipe.gate.min_gain is not None:
        raise BadRecipe(f"{path}: [gate] min_gain needs a base, and method scratch has none", "Remove min_gain")
