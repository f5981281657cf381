"""Make a model smaller, and say what that loses."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli._options import DryRun, Home, Json, Quiet, finite, opened, require_writable
from freehold.cli._output import Bar, emit, line, note, size, table
from freehold.core.errors import BadInput
from freehold.core.name import Name

if TYPE_CHECKING:
    from freehold.core.settings import Settings
    from freehold.proofs.loss import Measured, Report
    from freehold.proofs.quantized import Source
    from freehold.proofs.quantizing import Bench, Wish
    from freehold.store import Store

_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?) ?([kmgt]?)(i?)b?", re.IGNORECASE)


def command(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A model's name, or ./file.gguf; unquantised.")],
    to: Annotated[str, typer.Option("--to", metavar="TYPE[,TYPE]", help="Types to make, such as Q4_K_M.")] = "",
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="What to call it; several types become tags.")] = "",
    text: Annotated[
        Path | None,
        typer.Option("--text", metavar="FILE", help="Your own text: part weighs errors, part measures the loss."),
    ] = None,
    imatrix: Annotated[
        Path | None, typer.Option("--imatrix", metavar="FILE", help="An importance matrix to use (GGUF).")
    ] = None,
    no_imatrix: Annotated[bool, typer.Option("--no-imatrix", help="Use --text to measure only.")] = False,
    save_imatrix: Annotated[
        Path | None, typer.Option("--save-imatrix", metavar="FILE", help="Write the importance matrix made from text.")
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Measure each type against the unquantised model.")] = False,
    target: Annotated[str, typer.Option(metavar="SIZE", help="Pick the best type of at most 1.2GB or so.")] = "",
    max_kl: Annotated[
        float | None,
        typer.Option("--max-kl", min=0, callback=finite, help="Pick the smallest type that diverges at most so far."),
    ] = None,
    tokens: Annotated[int, typer.Option(min=32, max=1 << 24, help="Tokens to measure on.")] = 4096,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Make a model smaller, and say what that loses: KL divergence, agreement, perplexity and size of each type."""
    from freehold.proofs import quantized
    from freehold.proofs.quantizing import Wish
    from freehold.store.rooms import room

    wish = Wish(
        types=tuple(part for part in to.split(",") if part.strip()),
        target=parsed_size(target) if target else 0,
        max_kl=max_kl,
        measure=report or max_kl is not None,
        tokens=tokens,
    )
    weighted = imatrix is not None or (text is not None and not no_imatrix)
    called = quantized.names(Name.parse(name), wish.names(weighted), picked=wish.picks) if name else {}
    if not name and not report and not dry_run:
        raise BadInput("no name for what is made", "Choose one: --as NAME, or ask for the loss alone: --report")
    if save_imatrix is not None and (text is None or imatrix is not None or no_imatrix):
        raise BadInput("there is no importance matrix to save", "It is made from text: --text FILE")
    require_writable(save_imatrix)
    with opened(home) as (settings, store), room(settings.home / "work") as folder:
        found = quantized.source(store, source, folder)
        bench = _bench(found, folder, settings, quiet=quiet or json)
        if dry_run:
            _say_plan(bench, wish, json=json)
            return
        _prepare(bench, wish, store, found, text=text, given=imatrix, weigh=not no_imatrix)
        if save_imatrix is not None and bench.importance is not None:
            from freehold.convert import imatrix as matrices

            matrices.write(bench.importance, save_imatrix)
        _finish(bench, wish, store, found, called, json=json)


def parsed_size(text: str) -> int:
    """Bytes: `1.2GB`, `900 MB`, `4GiB` or a plain number. Raises BadInput."""
    found = _SIZE.fullmatch(text.strip())
    if not found or not float(found[1]):
        raise BadInput(f"not a size: {text[:40]!r}", "Write it as 1.2GB, 900MB or 4GiB")
    base = 1024 if found[3] else 1000
    return int(float(found[1]) * base ** " kmgt".index(found[2].lower() or " "))


def _bench(found: "Source", folder: Path, settings: "Settings", *, quiet: bool) -> "Bench":
    from freehold.proofs.quantizing import Bench

    return Bench(found.path, found.label, folder, settings.threads, lambda label: _Progress(label, quiet=quiet))


class _Progress:
    """A bar for a stage; windows of text are counted in thousandths, so that the bar has a percentage."""

    def __init__(self, label: str, *, quiet: bool) -> None:
        self._label, self._quiet = label, quiet
        self._bar: Bar | None = None

    def __call__(self, done: int, total: int) -> None:
        if total < 1 << 16:  # windows, not bytes: a line at the end is enough
            if done == total:
                note(f"{self._label}: {total} windows of text", quiet=self._quiet)
            return
        self._bar = self._bar or Bar(self._label, quiet=self._quiet)
        self._bar(done, total)


def _prepare(
    bench: "Bench", wish: "Wish", store: "Store", found: "Source", *, text: Path | None, given: Path | None, weigh: bool
) -> None:
    """Read the importance matrix, or make it; read the text to measure on."""
    from freehold.convert import imatrix
    from freehold.proofs import quantized, texts
    from freehold.proofs.quantizing import CALIBRATION

    if given is not None:
        bench.importance = imatrix.read(given)
        bench.size(wish.names()[0])  # says now if the matrix is of another model
    calibrate = text is not None and given is None and weigh
    if not wish.measure and not calibrate:
        return
    words = texts.from_file(text) if text is not None else quantized.held_out(store, found)
    if words is None:
        raise BadInput(f"there is no text to measure {found.label} on", "Give some of your own: --text FILE")
    bench.read(words, measured=wish.tokens if wish.measure else 0, calibrated=CALIBRATION if calibrate else 0)


def _finish(
    bench: "Bench", wish: "Wish", store: "Store", found: "Source", called: dict[str, Name], *, json: bool
) -> None:
    from freehold.proofs import quantized, quantizing

    kept, made = quantizing.make(bench, wish)
    report = bench.report(found.digest, made) if bench.windows else None
    done = quantized.keep(store, found, kept, called, report) if called else {}
    measured = [each.measured for each in made]
    if json:
        picked = kept[0].measured.type if wish.picks else None
        models = [{"name": name, "digest": manifest.digest, "size": manifest.size} for name, manifest in done.items()]
        emit(_document(found, report, measured) | {"picked": picked, "models": models})
        return
    if report is not None:
        _print_report(report, found.label)
    for name, manifest in done.items():
        line(f"{name}: {size(manifest.size)} {manifest.details.quantization}, {manifest.digest.short}")
    if wish.picks and not done:
        line(f"picked {kept[0].measured.type}")


def _document(found: "Source", report: "Report | None", measured: "list[Measured]") -> dict[str, Any]:
    base = {"name": found.label, "size": found.path.stat().st_size}
    if report is not None:
        base |= {"digest": report.base, "perplexity": report.base_perplexity}
    shown: dict[str, Any] = {"base": base, "candidates": measured}
    if report is not None:
        shown |= {"predictions": report.predictions, "imatrix": report.imatrix}
    return shown


def _print_report(report: "Report", label: str) -> None:
    rows = [[label, size(report.base_size), "", "", "", f"{report.base_perplexity:.4g}"]]
    for each in report.candidates:
        if each.loss is not None:
            found = each.loss
            divergence = f"{found.kl_mean:.4f} ± {found.kl_error:.4f}"
            agreement = f"{100 * found.top1:.1f} %"
            rows.append(
                [each.type, size(each.size), divergence, f"{found.kl_p99:.4f}", agreement, f"{found.perplexity:.4g}"]
            )
    table(["MODEL", "SIZE", "KL MEAN", "KL 99 %", "SAME TOP", "PERPLEXITY"], rows)
    matrix = ", with an importance matrix" if report.imatrix else ""
    line(f"over {report.predictions} predictions{matrix}")


def _say_plan(bench: "Bench", wish: "Wish", *, json: bool) -> None:
    from freehold.proofs.quantizing import candidates

    found = candidates(bench, wish)
    if json:
        sizes = [{"type": each.type, "size": each.size} for each in found]
        emit({"base": {"name": bench.label, "size": bench.source.stat().st_size}, "candidates": sizes, "dry_run": True})
        return
    table(["TYPE", "SIZE"], [[each.type, size(each.size)] for each in found])
