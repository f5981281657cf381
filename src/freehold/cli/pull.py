"""Bring a model into the store from the Hub, Ollama's registry, the web, a file or a folder."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli._bars import Bars
from freehold.cli._options import DryRun, Home, Json, Quiet
from freehold.cli._outlook import described, print_outlook
from freehold.cli._output import emit, line, note, pairs, size
from freehold.core.errors import BadInput
from freehold.core.name import Name
from freehold.core.paths import expanded, there
from freehold.core.reference import Reference, parse
from freehold.core.settings import load

if TYPE_CHECKING:
    from freehold.convert.outlook import Outlook
    from freehold.core.manifest import Manifest
    from freehold.core.settings import Settings
    from freehold.store.outbound import Outbound
    from freehold.store.sources import Offer

_BAR_FROM = 4 << 20
"""Bytes from which copying a file is worth a bar."""
_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*([kmg]?)i?b?(?:/s)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def command(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="org/repo:TYPE, ollama://model:tag, https://….gguf, ./file, ./folder."),
    ],
    name: Annotated[
        str, typer.Option("--as", metavar="NAME", help="Its name here (else as the source calls it).")
    ] = "",
    revision: Annotated[str, typer.Option(help="A branch, tag or commit of a Hub repository.")] = "",
    limit_rate: Annotated[str, typer.Option(metavar="RATE", help="At most so many bytes a second: 500k, 2M.")] = "",
    mmproj: Annotated[
        str, typer.Option("--mmproj", metavar="FILE", help="A projector to see images with (GGUF); 'none' for none.")
    ] = "",
    accept_new: Annotated[
        bool, typer.Option("--accept-new", help="Take it even if the repository was made anew since the last pull.")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Bring a model into the store from the Hugging Face Hub, Ollama's registry, a web address, a file or a folder.

    A name that exists points to the new model afterwards. A pull that was stopped goes on when it is repeated;
    --dry-run says what SOURCE is taken for and what would be fetched.
    """
    reference = parse(source, lambda path: there(expanded(path)))
    reference = reference.at(revision) if revision else reference
    rate = _rate(limit_rate)
    settings = load({"home": home})
    from freehold.store import pulling
    from freehold.store.outbound import Outbound

    with Outbound(settings, limit_rate=rate) as outbound:
        offer = pulling.look(reference, outbound)
        if mmproj:
            offer = pulling.seeing(offer, None if mmproj == "none" else expanded(mmproj))
        target = pulling.title(offer, name)
        if dry_run:
            _say_plan(reference, offer, target, _outlook(offer, outbound, settings), json)
            return
        from freehold.store import Store

        with (
            Store.open(settings.store, quota=settings.quota) as store,
            Bars(quiet=quiet or json, least=_BAR_FROM if offer.local else 0) as bars,
        ):
            note(f"{reference}: {size(offer.size)}, {offer.choice}", quiet=quiet or json or bool(offer.local))
            manifest = pulling.take(store, outbound, offer, target, accept_new=accept_new, on_progress=bars)
    _say(target, manifest, json)


def _outlook(offer: "Offer", outbound: "Outbound", settings: "Settings") -> "Outlook | None":
    """Whether it would fit; None for what cannot be run alone and for families that are not known here."""
    from freehold.convert.outlook import of_folder, outlook
    from freehold.store import glimpse

    if offer.local is not None and offer.local.path.is_dir():
        return of_folder(offer.local.path, settings)
    header = glimpse.header(offer, outbound)
    if header is not None:
        return outlook(header, settings, glimpse.projector(offer, outbound))
    with glimpse.folder(offer, outbound) as folder:
        return None if folder is None else of_folder(folder, settings)


def _rate(text: str) -> int:
    """Bytes a second; 0 for no limit. Raises BadInput."""
    if not text:
        return 0
    match = _RATE.fullmatch(text.strip())
    rate = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if rate < 1024:
        raise BadInput(f"--limit-rate {text[:40]!r} is no rate of at least 1 kB a second", "Write 500k or 2M")
    return rate


def _say(name: Name, manifest: "Manifest", json: bool) -> None:
    if json:
        emit({"name": str(name), "digest": manifest.digest, "size": manifest.size, "source": manifest.lineage.source})
    else:
        line(f"{name}: {size(manifest.size)} {manifest.details.quantization}, {manifest.digest.short}")


def _say_plan(reference: Reference, offer: "Offer", name: Name, seen: "Outlook | None", json: bool) -> None:
    details = offer.details
    if json:
        files = [{"name": file.filename, "size": file.size, "digest": file.digest} for file in offer.files]
        plan = {"name": str(name), "source": offer.source, "why": reference.why, "choice": offer.choice}
        known = {"size": offer.size, "files": files, "licence": offer.licence, "details": details}
        emit({**plan, **known, "outlook": described(seen) if seen else None, "dry_run": True})
        return
    what = f": {details.architecture} {details.quantization}" if details else ""
    line(f"would pull {reference} as {name}{what}")
    pairs(
        [
            ("read as", f"{reference.kind}, because {reference.why}"),
            ("taken", offer.choice),
            ("pinned to", "" if offer.local else offer.source),
            ("licence", offer.licence),
            ("size", size(offer.size)),
        ]
    )
    pairs(
        [(file.filename, f"{size(file.size):>8}  {file.digest.short if file.digest else ''}") for file in offer.files]
    )
    if seen is not None:
        print_outlook(seen)
