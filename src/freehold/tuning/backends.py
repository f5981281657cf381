"""Who computes the model: Freehold's own decoder for every job, Unsloth for those that it can do."""

from freehold.tuning.job import ADAPTERS, Backend

_OBJECTIVES = ("sft", "text", "tokens")
_OWN = 'write backend = "freehold"'


def flaw(backend: Backend, method: str, objective: str) -> tuple[str, str] | None:
    """What a backend cannot do of this, and the remedy; None where there is nothing."""
    if backend == "freehold":
        return None
    if method not in ADAPTERS:
        return f"backend {backend} is not for method {method}", f"Use {', '.join(ADAPTERS)}, or {_OWN}"
    if objective not in _OBJECTIVES:
        return f"backend {backend} is not for objective {objective}", f"Use sft or text, or {_OWN}"
    return None
