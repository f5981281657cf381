"""Will it fit? As people read it, and as JSON."""

from typing import TYPE_CHECKING, Any

from freehold.cli._output import line, size, table

if TYPE_CHECKING:
    from freehold.convert.outlook import Outlook
    from freehold.engines.base import Fit


def print_outlook(outlook: "Outlook") -> None:
    """A table of what each length of context takes, and which quantisation would fit where this one does not."""
    slots = f"{outlook.slots} conversation{'s' * (outlook.slots != 1)} at a time"
    line(f"\nmemory, {slots}; {size(outlook.fits[0].available)} free")
    head = ["CONTEXT", "WEIGHTS", "CACHE", "SCRATCH", "IN ALL", "HERE"]
    table(head, [_row(fit) for fit in outlook.fits])
    if outlook.ok:
        return
    best = outlook.advice
    if best is None:
        line("no quantisation of it fits here")
    else:
        line(f"{best.quantization} would fit: {size(best.size)} on the disk, {size(best.fit.needed)} in memory")


def _row(fit: "Fit") -> list[str]:
    amounts = [size(amount) for amount in (fit.weights, fit.cache, fit.scratch, fit.needed)]
    return [str(fit.context_length), *amounts, "fits" if fit.ok else f"{size(fit.needed - fit.available)} too much"]


def described(outlook: "Outlook") -> dict[str, Any]:
    """The same for `--json`, in bytes."""
    return {
        "size": outlook.size,
        "slots": outlook.slots,
        "available": outlook.fits[0].available,
        "contexts": [_numbers(fit) for fit in outlook.fits],
        "smaller": [
            {"quantization": each.quantization, "size": each.size, **_numbers(each.fit)} for each in outlook.smaller
        ],
        "advice": outlook.advice.quantization if outlook.advice else None,
    }


def _numbers(fit: "Fit") -> dict[str, Any]:
    return {
        "context_length": fit.context_length,
        "weights": fit.weights,
        "cache": fit.cache,
        "scratch": fit.scratch,
        "needed": fit.needed,
        "fits": fit.ok,
    }
