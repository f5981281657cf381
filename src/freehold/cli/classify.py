"""Ask a classifier which label texts have."""

from pathlib import Path
from typing import Annotated

import typer

from freehold.cli._options import Home, Json, Model, opened
from freehold.cli._output import emit, line
from freehold.core.errors import BadInput
from freehold.core.name import Name


def command(
    name: Model,
    text: Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="Each is labelled by itself.")] = None,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="A text on each line.")] = None,
    json: Json = False,
    home: Home = None,
) -> None:
    """Say which label each TEXT has, by a classifier that 'freehold tune --objective classify' made."""
    texts = [*(text or ()), *(_lines(file) if file is not None else ())]
    if not texts:
        raise BadInput("there is no text to label", "Give some, or --file")
    with opened(home) as (_, store):
        manifest = store.get(Name.parse(name))
        if manifest.part("weights") is None or manifest.part("config") is None:
            raise BadInput(f"{name} is no classifier", "Make one: freehold tune BASE DATA --objective classify")
        from freehold.store.importing import materialise
        from freehold.tuning.launch import require_extra

        require_extra()
        from freehold.tuning.classifier import classify

        with store.lease(manifest.digest), store.room() as room:
            materialise(store, manifest, room / "model")
            found = classify(room / "model", texts)
    if json:
        told = [[guess._asdict() for guess in of] for of in found]
        emit([{"text": each, "labels": of} for each, of in zip(texts, told, strict=True)])
        return
    for of in found:
        line(f"{of[0].label}  {of[0].probability:.3f}")


def _lines(file: Path) -> list[str]:
    try:
        return [each for each in file.read_text("utf-8-sig").splitlines() if each.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {file}: {error}", "Give a text file in UTF-8") from error
