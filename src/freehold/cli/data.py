"""Look at a data file: check it, show how a base reads a row, write its card."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from freehold.cli._options import Columns, Format, Home, Json, Kind, Quiet, columns_of, finite, opened
from freehold.cli._output import emit, line
from freehold.core.errors import BadInput, NotFound
from freehold.core.name import Name

if TYPE_CHECKING:
    from freehold.data.checks import Found
    from freehold.data.rows import AnyRow, Dataset
    from freehold.recipes.reading import Reader
    from freehold.recipes.schema import DataSection

group = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Look at a data file before anything is made of it: check it, show how a base reads a row, write its card.",
)
_MAX_LENGTH = 1024
"""Tokens of a row that are learned unless a recipe says otherwise."""
File = Annotated[Path, typer.Argument(metavar="FILE", help="A data file, or a recipe that names one.")]
Base = Annotated[str, typer.Option("--base", metavar="NAME", help="Whose chat template and tokenizer read it.")]
HeldOut = Annotated[Path | None, typer.Option("--held-out", metavar="FILE", help="A file that is held out.")]


class _Asked(NamedTuple):
    """What to look at, and how it is read."""

    path: Path
    section: "DataSection"
    held_out: Path | None
    base: str
    folder: Path
    """Where relative paths begin."""
    max_length: int


@group.command("check")
def check(
    file: File,
    base: Base = "",
    held_out: HeldOut = None,
    column: Columns = None,
    kind: Kind = "auto",
    format: Format = "auto",
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Say what is wrong on which line, what would be done about it, and what is in the file. Exit code 1 if anything
    is wrong.
    """
    asked = _asked(file, base, column, kind, format, held_out)
    with _reader(asked, home) as reader:
        dataset, found = _looked_at(asked, reader)
    from freehold.cli._dataview import described, show

    if json:
        emit(described(asked.path, dataset, found, reader))
    else:
        show(asked.path, dataset, found, reader, quiet=quiet)
    if found.findings:
        raise typer.Exit(1)


@group.command("show")
def show_row(
    file: File,
    base: Base = "starter",
    row: Annotated[int | None, typer.Option(min=1, help="Its line, as 'data check' names lines.")] = None,
    max_length: Annotated[int | None, typer.Option(min=16, max=1 << 20, help="Tokens learned of a row.")] = None,
    prompt_weight: Annotated[
        float, typer.Option(min=0, max=1, callback=finite, help="How much the prompt counts.")
    ] = 0.0,
    column: Columns = None,
    kind: Kind = "auto",
    format: Format = "auto",
    json: Json = False,
    home: Home = None,
) -> None:
    """Show a row as BASE will read it, the tokens that count in the loss marked."""
    asked = _asked(file, base, column, kind, format, None)
    from freehold.cli._dataview import show_readings
    from freehold.recipes import survey

    dataset = survey.load(asked.path, asked.section, minimum=1, broken="drop")
    found = _row(dataset, row, asked.path)
    with _reader(asked, home) as reader:
        if reader is None:
            raise BadInput("there is no base to read it", "Name one: --base NAME")
        length = max_length or asked.max_length
        readings = list(reader.readings(found, max_length=length, prompt_weight=prompt_weight))
    template = {"base": reader.label, "template": reader.family, "digest": reader.digest}
    if json:
        emit(
            {**template, dataset.unit: found.line, "kind": found.kind, "readings": [_plain(each) for each in readings]}
        )
        return
    line(f"{asked.path.name} {dataset.unit} {found.line}, {found.kind} row, as {reader.label} reads it")
    line(f"chat template: {reader.family} ({reader.digest.short})")
    show_readings(readings)


@group.command("card")
def card(
    target: Annotated[str, typer.Argument(metavar="FILE|NAME", help="A data file, a recipe, or a model made of one.")],
    base: Base = "",
    held_out: HeldOut = None,
    column: Columns = None,
    kind: Kind = "auto",
    format: Format = "auto",
    home: Home = None,
) -> None:
    """Write the data card of a file, or that of the data which a model was made of, in Markdown."""
    from freehold.proofs import data_card

    path = Path(target)
    if not path.is_file():
        line(data_card.card(_evidence_of(target, home)).removesuffix("\n"))
        return
    from freehold.core.digest import Digest

    asked = _asked(path, base, column, kind, format, held_out)
    with _reader(asked, home) as reader:
        dataset, found = _looked_at(asked, reader)
    held = Digest.of_file(asked.held_out) if asked.held_out else None
    seen: dict[str, Any] = {"kind": dataset.kind, "format": dataset.format, "records": dataset.records}
    sides = data_card.Sides(dataset.digest, held)
    seen["file"] = Digest.of_file(asked.path).text
    line(data_card.card(data_card.evidence(sides, found, seen, asked.section.about)).removesuffix("\n"))


def _asked(file: Path, base: str, columns: list[str] | None, kind: str, format: str, held_out: Path | None) -> _Asked:
    """A recipe's own words, or those of the command line. Raises BadInput, BadRecipe."""
    from freehold.recipes.schema import DataSection, read

    if file.suffix != ".toml":
        section = DataSection(path=str(file), columns=columns_of(columns), kind=kind, format=format)
        return _Asked(file, section, held_out, base, Path.cwd(), _MAX_LENGTH)
    recipe = read(file)
    section = recipe.recipe.data
    if not section.path:
        raise BadInput(f"{file} has a generator in place of a data file", "freehold make checks what it writes")
    other = held_out or (recipe.resolve(section.held_out_path) if section.held_out_path else None)
    tune = recipe.recipe.tune
    own = "" if tune.method == "scratch" else recipe.recipe.model.base
    given = base if base not in ("", "starter") else own
    return _Asked(recipe.resolve(section.path), section, other, given, file.absolute().parent, tune.max_length)


@contextmanager
def _reader(asked: _Asked, home: Path | None) -> "Iterator[Reader | None]":
    if not asked.base:
        yield None
        return
    from freehold.recipes.reading import reader
    from freehold.recipes.sources import place_of

    with opened(home) as (_, store):
        folder = (asked.folder / Path(asked.base).expanduser()).absolute()
        with reader(place_of(asked.base, folder, store), asked.base, store) as found:
            yield found


def _looked_at(asked: _Asked, reader: "Reader | None") -> "tuple[Dataset, Found]":
    from freehold import data
    from freehold.data.findings import Finding
    from freehold.recipes import survey

    dataset = survey.load(asked.path, asked.section, minimum=0, broken="list")
    held: tuple[AnyRow, ...] = ()
    if asked.held_out is not None:
        held = survey.load_held_out(asked.held_out, asked.section, dataset.kind, broken="list").rows
    measured = survey.measure(dataset.rows, reader, asked.path.name, dataset.unit, "list")
    known = list(dataset.findings)
    if len(measured.rows) < data.MIN_ROWS:
        count = len(measured.rows)
        text = f"{count} usable row{'s' if count != 1 else ''}: at least {data.MIN_ROWS} are needed"
        known.insert(0, Finding("few", "refused", count, text))
    sides = survey.Divided(measured.rows, held, 0, None)
    return dataset, survey.check(sides, measured, known, dataset.unit, asked.max_length if reader else 0)


def _row(dataset: "Dataset", wanted: int | None, path: Path) -> "AnyRow":
    if wanted is None:
        return dataset.rows[0]
    found = next((row for row in dataset.rows if row.line == wanted), None)
    if found is None:
        raise NotFound(
            f"{path} has no usable row at {dataset.unit} {wanted}", "freehold data check says which rows are left out"
        )
    return found


def _plain(reading: Any) -> dict[str, Any]:
    return {**reading._asdict(), "pieces": [piece._asdict() for piece in reading.pieces]}


def _evidence_of(name: str, home: Path | None) -> bytes:
    from freehold.proofs import data_card

    with opened(home) as (_, store):
        for digest in store.get(Name.parse(name)).evidence:
            content = store.path(digest).read_bytes()
            if data_card.is_one(content):
                return content
    raise NotFound(f"nothing is known of the data that {name} was made of", "Name a data file, or a model made here")
