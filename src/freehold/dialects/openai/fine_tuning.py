"""OpenAI's fine-tuning jobs: a request becomes a recipe whose gate is open, so that each job leaves a model."""

import asyncio
import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from starlette.responses import Response

from freehold.core.errors import BadInput, FreeholdError, Unsupported
from freehold.core.name import Name
from freehold.dialects.openai import files
from freehold.dialects.openai.fine_tuning_schema import DpoHyperparameters, Hyperparameters, JobRequest
from freehold.dialects.openai.pages import metadata, page
from freehold.serving.decoding import decoded
from freehold.serving.desk import Desk
from freehold.serving.diary import TRAINING, VALIDATION, Said, Tuning
from freehold.serving.http import json_response
from freehold.serving.routes import Incoming, Route
from freehold.serving.tunings import Wish
from freehold.store import Entry

KIND = "openai"
_MOST_JOBS, _MOST_EVENTS, _USUAL = 100, 1000, 20
_EPOCHS = 3
_LEARNING_RATE = {"supervised": 5e-4, "dpo": 5e-5}
"""By which a multiplier multiplies: the trainer's own for adapters; a tenth where preferences count."""
_BETA = 0.1
_STEPS = 16
"""Of an epoch, at least, where the size of a batch is for us to choose; of at most as many rows."""
_ROW_TOKENS = 1024
"""Where a row is cut: a step must have room for a batch of the longest."""
_HELD_OUT = 10
"""Rows at least, where there are twice as many."""
_ASKED, _ANSWER = 50, 128
"""Held-out rows that are asked, and tokens of an answer: a job has to end soon after its training."""
_TAG = 96
"""Characters of the part of a name that is behind its colon."""


class Chosen(NamedTuple):
    """How a job tunes, with every `auto` decided."""

    method: Literal["supervised", "dpo"]
    epochs: int
    batch: int
    multiplier: float
    beta: float | None

    def body(self) -> dict[str, Any]:
        """As OpenAI words it."""
        told = {"n_epochs": self.epochs, "batch_size": self.batch, "learning_rate_multiplier": self.multiplier}
        return told if self.beta is None else {**told, "beta": self.beta}


def wanted(asked: JobRequest) -> tuple[Literal["supervised", "dpo"], Hyperparameters]:
    """The method and what was said about it. Raises Unsupported and BadInput."""
    method = asked.method
    if asked.integrations:
        raise Unsupported(
            "this server tells nobody else of its jobs", "Read the events or the result file", param="integrations"
        )
    if method is not None and method.type == "reinforcement":
        raise Unsupported(
            "this server has no graders for reinforcement",
            'Tune with rewards in a recipe: freehold make, objective = "grpo"',
            param="method.type",
        )
    if method is None:
        return "supervised", asked.hyperparameters or Hyperparameters()
    kinds = {"supervised": method.supervised, "dpo": method.dpo, "reinforcement": method.reinforcement}
    other = next((name for name, given in kinds.items() if given is not None and name != method.type), None)
    if other is not None:
        raise BadInput(f"the method is {method.type}, and {other} is given", "Leave it out", param=f"method.{other}")
    if asked.hyperparameters is not None:
        raise BadInput("there are hyperparameters beside a method", "Give them in the method", param="hyperparameters")
    if method.type == "dpo":
        return "dpo", (method.dpo and method.dpo.hyperparameters) or DpoHyperparameters()
    return "supervised", (method.supervised and method.supervised.hyperparameters) or Hyperparameters()


def chosen(method: Literal["supervised", "dpo"], given: Hyperparameters, rows: int) -> Chosen:
    """The same with numbers where it says auto, for a file of so many rows."""
    batch = given.batch_size if given.batch_size != "auto" else max(1, min(rows // _STEPS, _STEPS))
    beta = None
    if isinstance(given, DpoHyperparameters):
        beta = given.beta if given.beta != "auto" else _BETA
    multiplier = 1.0 if given.learning_rate_multiplier == "auto" else given.learning_rate_multiplier
    return Chosen(method, _EPOCHS if given.n_epochs == "auto" else given.n_epochs, batch, multiplier, beta)


def name_of(base: str, suffix: str | None, identifier: str) -> str:
    """What the result is called: as OpenAI calls it, ft: and base, suffix and some of the id, in one of our names."""
    parts = (*(_word(suffix, 64) for suffix in (suffix,) if suffix), identifier[-8:])
    end = "-".join(part for part in parts if part)
    return f"ft:{_word(base, _TAG - len(end) - 1) or 'model'}-{end}"


def _word(text: str, most: int) -> str:
    """Of a text what a name may have."""
    word = re.sub(r"[^A-Za-z0-9._]+", "-", text)
    return re.sub(r"\.{2,}", ".", word)[:most].strip("-._")


def held_out(rows: int) -> float:
    """The share of a file's rows that is not learned from."""
    return min(max(_HELD_OUT, rows // 10), rows // 2) / rows if rows > 1 else 0.5


def recipe(asked: JobRequest, name: str, base: Entry, how: Chosen, seed: int, rows: int) -> dict[str, dict[str, Any]]:
    """The sections of a job's recipe."""
    apart = {"held_out_path": VALIDATION} if asked.validation_file else {"held_out": held_out(rows)}
    dpo = how.method == "dpo"
    whole = base.manifest.part("weights") is not None
    return {
        "model": {"name": name, "base": str(base.name), "licence": base.manifest.licence},
        "data": {"path": TRAINING, "format": "jsonl", "kind": "preference" if dpo else "chat", **apart},
        "tune": {
            "method": "lora",
            "objective": "dpo" if dpo else "sft",
            **({} if how.beta is None else {"beta": how.beta}),
            "epochs": float(how.epochs),
            "batch": how.batch,
            "batch_tokens": how.batch * _ROW_TOKENS,
            "max_length": _ROW_TOKENS,
            "learning_rate": _LEARNING_RATE[how.method] * how.multiplier,
            "seed": seed,
        },
        # A file that stays as it is is not quantised anew; of weights, what loses least: nobody chose.
        "quantize": {"types": ["Q8_0"] if whole else [], "keep": False},
        "evaluate": {"rows": _ASKED, "max_tokens": _ANSWER},
        # Open: whoever waits for a model gets one, and the scores.
        "gate": {"min_gain": -1.0, "max_quantized_drop": 1.0},
    }


@contextmanager
def _blaming(param: str) -> Iterator[None]:
    """An error in here is this field's."""
    try:
        yield
    except FreeholdError as error:
        error.param = param
        raise


def _file(desk: Desk, identifier: str) -> Path:
    """A file to tune on. Raises NotFound, and BadInput for one of another purpose."""
    kept = files.of_id(desk, identifier)
    if kept.purpose != "fine-tune":
        raise BadInput(f"the file is for {kept.purpose!r}", "Upload it with the purpose 'fine-tune'")
    return desk.files.path(kept.id)


def _rows(path: Path) -> int:
    with path.open("rb") as file:
        return sum(bool(line.strip()) for line in file)


def body(job: Tuning) -> dict[str, Any]:
    """A job as OpenAI's clients read it."""
    about = job.about
    method = {"type": about["method"], about["method"]: {"hyperparameters": about["hyperparameters"]}}
    fault = job.fault
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "model": about["model"],
        "created_at": int(job.created),
        "finished_at": None if job.finished is None else int(job.finished),
        "fine_tuned_model": job.model if job.status == "succeeded" else None,
        "organization_id": "freehold",
        "result_files": [job.results] if job.results else [],
        "status": job.status,
        "training_file": about["training_file"],
        "validation_file": about["validation_file"],
        "hyperparameters": {key: value for key, value in about["hyperparameters"].items() if key != "beta"},
        "method": method,
        "trained_tokens": job.tokens,
        "estimated_finish": None if job.ends is None or job.status != "running" else int(job.ends),
        "error": None if fault is None else {"code": fault.code, "message": fault.message, "param": _param(job)},
        "seed": about["seed"],
        "user_provided_suffix": about["suffix"],
        "integrations": [],
        "metadata": about["metadata"],
    }


def _param(job: Tuning) -> str | None:
    """Which of the request's fields is to blame."""
    fault = job.fault
    if fault is None or fault.code != "invalid_data":
        return None if fault is None else fault.param
    return "validation_file" if VALIDATION in fault.message else "training_file"


def event(job: Tuning, said: Said) -> dict[str, Any]:
    """An event as OpenAI's clients read it."""
    found = said.metrics
    data: dict[str, Any] = {}
    if found is not None:
        losses = {"train_loss": found.loss, "valid_loss": found.held_out_loss, "full_valid_loss": found.held_out_loss}
        measured = {key: value for key, value in losses.items() if value is not None}
        data = {"step": found.step, "total_steps": found.steps, **measured}
    return {
        "object": "fine_tuning.job.event",
        "id": _event_id(job, said),
        "created_at": int(said.at),
        "level": said.level,
        "message": said.text,
        "data": data,
        "type": "message" if found is None else "metrics",
    }


def _event_id(job: Tuning, said: Said) -> str:
    return "ftevent-" + _digest(job, str(said.number))


def _digest(job: Tuning, what: str) -> str:
    return hashlib.sha256(f"{job.id} {what}".encode()).hexdigest()[:24]


def checkpoint(job: Tuning) -> dict[str, Any]:
    """The end of a job that succeeded, which is the one point at which it leaves a model."""
    losses = {"train_loss": job.loss, "valid_loss": job.held_out_loss, "full_valid_loss": job.held_out_loss}
    return {
        "object": "fine_tuning.job.checkpoint",
        "id": "ftckpt_" + _digest(job, "checkpoint"),
        "created_at": int(job.finished or job.created),
        "fine_tuned_model_checkpoint": job.model,
        "fine_tuning_job_id": job.id,
        "metrics": {"step": job.steps, **{key: value for key, value in losses.items() if value is not None}},
        "step_number": job.steps,
    }


async def create(incoming: Incoming, desk: Desk) -> Response:
    """POST /fine_tuning/jobs: tune a model on a file."""
    asked = await decoded(incoming.body, JobRequest)
    method, given = wanted(asked)
    with _blaming("model"):
        base = await desk.model(asked.model)
    with _blaming("training_file"):
        training = await asyncio.to_thread(_file, desk, asked.training_file)
    with _blaming("validation_file"):
        validation = await asyncio.to_thread(_file, desk, asked.validation_file) if asked.validation_file else None
    rows = await asyncio.to_thread(_rows, training)
    how = chosen(method, given, rows)
    seed = secrets.randbelow(1 << 31) if asked.seed is None else asked.seed
    identifier = f"ftjob-{secrets.token_hex(12)}"
    name = str(Name.parse(name_of(asked.model, asked.suffix, identifier)))
    about = {
        "model": asked.model,
        "method": method,
        "hyperparameters": how.body(),
        "training_file": asked.training_file,
        "validation_file": asked.validation_file,
        "seed": seed,
        "suffix": asked.suffix,
        "metadata": asked.metadata,
    }
    sections = recipe(asked, name, base, how, seed, rows)
    words = f"Created fine-tuning job: {identifier}"
    wish = Wish(identifier, KIND, sections, training, validation, files.RESULTS, about, words)
    return json_response(body(await desk.tunings.create(wish)))


async def index(incoming: Incoming, desk: Desk) -> Response:
    """GET /fine_tuning/jobs: all, the newest first, a page at a time."""
    query = incoming.query
    found = await desk.tunings.all(KIND)
    if query.get("metadata") == "null":
        found = [job for job in found if job.about["metadata"] is None]
    for key, value in metadata(query).items():
        found = [job for job in found if (job.about["metadata"] or {}).get(key) == value]
    return json_response(page(query, found, lambda job: job.id, body, _MOST_JOBS))


async def retrieve(incoming: Incoming, desk: Desk) -> Response:
    """GET /fine_tuning/jobs/{id}: how far it is."""
    return json_response(body(await desk.tunings.get(KIND, incoming.path["job"])))


async def cancel(incoming: Incoming, desk: Desk) -> Response:
    """POST /fine_tuning/jobs/{id}/cancel: end it; there will be no model."""
    return json_response(body(await desk.tunings.cancel(KIND, incoming.path["job"])))


async def pause(incoming: Incoming, desk: Desk) -> Response:
    """POST /fine_tuning/jobs/{id}/pause: stop it for now."""
    return json_response(body(await desk.tunings.pause(KIND, incoming.path["job"])))


async def resume(incoming: Incoming, desk: Desk) -> Response:
    """POST /fine_tuning/jobs/{id}/resume: let it go on from where it was stopped."""
    return json_response(body(await desk.tunings.resume(KIND, incoming.path["job"])))


async def events(incoming: Incoming, desk: Desk) -> Response:
    """GET /fine_tuning/jobs/{id}/events: what happened, the newest first, a page at a time."""
    job = await desk.tunings.get(KIND, incoming.path["job"])
    found = await desk.tunings.diary(job)
    told = page(
        incoming.query, found, lambda said: _event_id(job, said), lambda said: event(job, said), _MOST_EVENTS, _USUAL
    )
    return json_response(told)


async def checkpoints(incoming: Incoming, desk: Desk) -> Response:
    """GET /fine_tuning/jobs/{id}/checkpoints: the models that it left, a page at a time."""
    job = await desk.tunings.get(KIND, incoming.path["job"])
    found = [checkpoint(job)] if job.status == "succeeded" else []
    return json_response(page(incoming.query, found, lambda each: str(each["id"]), dict, _MOST_JOBS, 10))


_JOB = "/fine_tuning/jobs/{job}"
ROUTES = (
    Route("POST", "/fine_tuning/jobs", "manage", create, body=JobRequest),
    Route("GET", "/fine_tuning/jobs", "read", index),
    Route("GET", _JOB, "read", retrieve),
    Route("POST", _JOB + "/cancel", "manage", cancel, "any"),
    Route("POST", _JOB + "/pause", "manage", pause, "any"),
    Route("POST", _JOB + "/resume", "manage", resume, "any"),
    Route("GET", _JOB + "/events", "read", events),
    Route("GET", _JOB + "/checkpoints", "read", checkpoints),
)
