"""draft: a recipe for a data file, written after a look at the file."""

import re
import shlex
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import msgspec

from freehold import data
from freehold.core.errors import BadName, Unsupported
from freehold.core.name import Name
from freehold.data import pii
from freehold.data.rows import Pair, as_chat
from freehold.proofs.metrics import LABELS
from freehold.recipes import survey
from freehold.recipes.kinds import OBJECTIVE_OF
from freehold.recipes.writing import quoted
from freehold.tuning.job import TrainJob

HELD_OUT = 0.1
SEED = 1
_AIMS = {
    "preference": "the wanted answer rises over the other",
    "judged": "answers that are wanted, or not",
    "prompt": "answers are drawn, and those worth more become likelier",
    "pair": "vectors of texts",
}
"""What is said of the objectives for kinds of rows other than conversations."""
_NUMBER = re.compile(r"-?\d[\d.,/]*")
_TURN = 6
"""Tokens that the chat template puts around a turn."""


class Draft(msgspec.Struct, frozen=True):
    """A recipe's text, and what was found and assumed in writing it."""

    name: str
    text: str
    findings: tuple[tuple[str, str], ...]
    """Pairs of a word and what there is to say about it."""
    notes: tuple[str, ...]
    """What was assumed."""
    wrong: tuple[str, ...] = ()
    """What is wrong with rows, and what becomes of them."""


def draft(path: Path, recipe_folder: Path) -> Draft:
    """A recipe for the data in `path`, to lie in `recipe_folder`. Raises BadData, Unsupported."""
    found = data.load(path)
    _check_measured(path, found)
    parts = data.divide(found.rows, HELD_OUT, SEED)
    lengths = _lengths(found.rows)
    longest = max(lengths)
    context = TrainJob.__struct_defaults__[TrainJob.__struct_fields__.index("max_length") - _required()]
    cut = sum(length > context for length in lengths)
    answers = len({row.answer for row in found.rows})
    findings = (
        ("format", found.format),
        ("kind", found.kind),
        ("columns", ", ".join(f"{column!r} is the {role}'s" for role, column in found.columns.items())),
        ("rows", f"{len(found.rows):,}, with {answers:,} different answers"),
        ("held out", f"{len(parts.held_out):,} rows ({HELD_OUT:.0%}), of questions that no other row repeats"),
        ("near-duplicates", f"{parts.groups:,} groups of questions; a group is never split"),
        ("length", f"{_middle(lengths):,} tokens in the middle, {longest:,} at most"),
        ("cut", f"{cut:,} rows are longer than {context:,} tokens and would lose their end" if cut else ""),
    )
    name = _name(path)
    text = _text(name, path, recipe_folder, found, len(parts.held_out))
    wrong = (*found.findings, *pii.kept(found.rows, found.unit))
    shown = tuple(pair for pair in findings if pair[1])
    assumed = (*found.assumed, survey.EXACT) if parts.exact else found.assumed
    return Draft(name, text, shown, assumed, tuple(each.said() for each in wrong))


def _required() -> int:
    return len(TrainJob.__struct_fields__) - len(TrainJob.__struct_defaults__)


def _lengths(rows: Sequence[data.AnyRow]) -> list[int]:
    """Tokens of each row, as the starter model counts them."""
    texts = [data.texts(row) for row in rows]
    shipped = resources.files("freehold.assets").joinpath("starter", "tokenizer.json")
    if not shipped.is_file():
        return [sum(len(text.split()) * 3 // 2 + _TURN for text in row) for row in texts]
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(shipped.read_text("utf-8"))
    return [sum(len(tokenizer.encode(text).ids) + _TURN for text in row) for row in texts]


def _middle(lengths: Sequence[int]) -> int:
    return sorted(lengths)[len(lengths) // 2]


def _name(path: Path) -> str:
    """A model's name from the file's."""
    word = re.sub(r"[^A-Za-z0-9]+", "-", path.stem).strip("-").lower()[:60] or "model"
    try:
        return str(Name.parse(word))
    except BadName:
        return "model"


def _text(name: str, path: Path, recipe_folder: Path, found: data.Dataset, held_out: int) -> str:
    absolute = path.absolute()
    inside = absolute.is_relative_to(recipe_folder.absolute())
    shown = absolute.relative_to(recipe_folder.absolute()) if inside else absolute
    columns = ", ".join(f"{role} = {quoted(column)}" for role, column in found.columns.items())
    return _TEMPLATE.format(
        name=quoted(name),
        path=quoted(shown.as_posix()),
        columns=f"columns = {{{columns}}}\n" if columns else "",
        format=quoted(found.format),
        kind=f"kind = {quoted(found.kind)}\n" if found.kind != "chat" else "",
        objective=_objective(found),
        rate="1e-3 " if found.kind in ("chat", "pair") else "5e-5 ",
        figure=_figure(found),
        held_out=HELD_OUT,
        rows=min(200, held_out),
        seed=SEED,
    )


def _objective(found: data.Dataset) -> str:
    """The line that says what is aimed at, where that is not answers, and what it needs beside it."""
    if found.kind not in _AIMS:
        return ""
    line = f'objective = "{OBJECTIVE_OF[found.kind]}"'
    text = f"{line:<26} # {_AIMS[found.kind]}\n"
    if found.kind != "prompt":
        return text
    numbers = all(_NUMBER.fullmatch(row.answer.strip()) for row in found.rows if row.answer)
    rewards = f'rewards = ["{"maths" if numbers else "exact"}"]'
    return f"{text}{rewards:<26} # what an answer is worth: also number, json, regex:PATTERN, FILE.py:NAME\n"


def _check_measured(path: Path, found: data.Dataset) -> None:
    """Raises Unsupported for rows by which no answer can be measured: a gate has nothing to go by."""
    if found.kind == "pair" or any(as_chat(row) is not None for row in found.rows):
        return
    objective = OBJECTIVE_OF[found.kind]
    reward = " --reward RULE" if objective == "grpo" else ""
    command = f"freehold tune BASE {shlex.quote(str(path))} --out NAME --objective {objective}{reward}"
    raise Unsupported(f"{path} has {found.kind} rows, of which no answer can be measured", f"Run: {command}")


def _figure(found: data.Dataset) -> str:
    """What the gate compares."""
    scored = any(isinstance(row, Pair) and row.score is not None for row in found.rows)
    return LABELS["spearman" if scored else "mrr"] if found.kind == "pair" else LABELS["token_f1"]


_TEMPLATE = """\
# How this model is made. Run it with 'freehold make'; what is done once is not done again.

[model]
name = {name}
base = "starter"           # or another model of 'freehold list', or a folder; for "lora" a GGUF file too

[data]
path = {path}
format = {format}
{kind}{columns}held_out = {held_out}             # share of the rows that is not learned from, to measure on
# system = "You are the help desk of …"
# pii = "mask"             # e-mail addresses, telephone numbers, IBANs and card numbers: keep, drop or mask

[tune]
{objective}method = "full"            # all weights: best for small bases; "lora" (an adapter) for large ones
learning_rate = {rate}      # about 2e-5 for full tuning of large bases, 2e-4 for lora
epochs = 6
batch_tokens = 2048
seed = {seed}

[quantize]
types = ["Q4_K_M"]         # the first gets the name

[evaluate]
rows = {rows}

[gate]
min_gain = 0.05            # {figure} that tuning must gain over the base
max_quantized_drop = 0.03  # {figure} that quantising may lose
"""
