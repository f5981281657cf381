"""Who computes the model: Freehold's own decoder for every job, Unsloth for those that it can do."""

from freehold.core.errors import BadInput, Unsupported
from freehold.tuning.job import ADAPTERS, Backend, TrainJob

_OBJECTIVES = ("sft", "text", "tokens")
_NO_FILE = "Use a base of safetensors, or backend = 'freehold'"
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


def prepare(job: TrainJob) -> None:
    """Raises BadInput for what the job's backend cannot do, Unsupported and MissingExtra where it can do nothing."""
    found = flaw(job.backend, job.method, job.objective)
    if found is not None:
        raise BadInput(*found)
    if job.backend == "unsloth":
        # Recipes ask what is flawed where torch is not installed.
        from freehold.convert.origin import gguf_in
        from freehold.tuning import unsloth

        if job.base is not None and gguf_in(job.base) is not None:
            raise Unsupported(f"{job.base} is a GGUF file, which unsloth does not train on", _NO_FILE)
        unsloth.prepare(job.out.absolute() / "unsloth")
