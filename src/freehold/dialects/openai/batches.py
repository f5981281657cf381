"""OpenAI's batches: rows of a file that was uploaded, answers in files that can be fetched."""

import asyncio
import hashlib
import uuid
from typing import Any, Literal

from starlette.responses import Response

from freehold.core.errors import BadInput, FreeholdError
from freehold.core.event import Usage
from freehold.dialects.openai import answers, asking
from freehold.dialects.openai.batch_schema import BatchRequest, Row
from freehold.dialects.openai.pages import page
from freehold.guard import strict_json
from freehold.serving.batches import Answer
from freehold.serving.decoding import converted, decoded
from freehold.serving.desk import Desk
from freehold.serving.http import json_response
from freehold.serving.jobs import Fault, Folder, Job, Journal
from freehold.serving.routes import Incoming, Route

_SECONDS = {"m": 60, "h": 3600, "d": 86400}
_MOST = 100
_WHY = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed before the batch was cancelled."),
}


class OpenAIBatches:
    """Rows as OpenAI has them: `custom_id`, `method`, `url` and `body`."""

    name = "openai"

    def check(self, job: Job, row: bytes) -> str:
        """The row's custom_id. Raises BadInput."""
        found = row_of(row)
        if found.url != job.about["endpoint"]:
            raise BadInput(
                f"the url is {found.url[:80]!r}", f"The batch is for {job.about['endpoint']} alone", param="url"
            )
        model = str(found.body.get("model"))[:256]
        job.about["model"] = model if job.about.get("model", model) == model else None
        return found.custom_id

    async def ask(self, desk: Desk, job: Job, row: bytes) -> Answer:
        """The answer to the row's body. Raises FreeholdError."""
        return await asking.row(desk, job.about["endpoint"], row_of(row).body)

    def record(self, job: Job, row: bytes, answer: Answer | FreeholdError) -> dict[str, Any]:
        """A line of the file with the answers, or of that with the errors."""
        if isinstance(answer, FreeholdError):
            status, said = answer.status, answers.error_body(answer)
        else:
            status, said = 200, answer.body
        response = {"status_code": status, "request_id": f"req_{uuid.uuid4().hex}", "body": said}
        return {**_head(row), "response": response, "error": None}

    def left(self, job: Job, row: bytes) -> dict[str, Any]:
        """A line of the file with the errors."""
        code, message = _WHY[job.end]
        return {**_head(row), "response": None, "error": {"code": code, "message": message}}

    def finish(self, desk: Desk, job: Job, folder: Folder, journal: Journal) -> None:
        """Write the two files, each if it has any lines."""
        seconds = job.about.get("seconds")
        if job.done:
            name, identifier = f"{job.id}_output.jsonl", _file_id(job, "output")
            desk.files.write(journal.records("done"), name, "batch_output", seconds=seconds, identifier=identifier)
            job.about["output"] = identifier
        if job.failed or job.left:
            name, identifier = f"{job.id}_error.jsonl", _file_id(job, "error")
            desk.files.write(
                journal.records("failed", "left"), name, "batch_output", seconds=seconds, identifier=identifier
            )
            job.about["error"] = identifier


KIND = OpenAIBatches()


def row_of(line: bytes) -> Row:
    """A row of the file. Raises BadInput."""
    return converted(strict_json.parse(line), Row)


def _head(row: bytes) -> dict[str, Any]:
    return {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": row_of(row).custom_id}


def _file_id(job: Job, what: Literal["output", "error"]) -> str:
    """The same each time, so that a file that is written again takes its own place."""
    return "file-" + hashlib.sha256(f"{job.id} {what}".encode()).hexdigest()[:24]


def body(job: Job) -> dict[str, Any]:
    """A batch as OpenAI's clients read it."""
    at = {f"{status}_at": int(when) for status, when in job.at.items()}
    stamps = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
    return {
        "id": job.id,
        "object": "batch",
        "endpoint": job.about["endpoint"],
        "model": job.about.get("model"),
        "errors": {"object": "list", "data": [_fault(fault) for fault in job.faults]} if job.faults else None,
        "input_file_id": job.about["input"],
        "completion_window": job.about["window"],
        "status": job.status,
        "output_file_id": job.about.get("output"),
        "error_file_id": job.about.get("error"),
        "created_at": int(job.created),
        "expires_at": int(job.expires),
        **{f"{status}_at": at.get(f"{status}_at") for status in stamps},
        "request_counts": {"total": job.total, "completed": job.done, "failed": job.failed},
        "usage": _usage(job.usage),
        "metadata": job.about.get("metadata"),
    }


def _fault(fault: Fault) -> dict[str, Any]:
    return {"code": fault.code, "message": fault.message, "param": fault.param, "line": fault.line}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


async def create(incoming: Incoming, desk: Desk) -> Response:
    """POST /batches: many requests from a file, answered when nobody else asks."""
    asked = await decoded(incoming.body, BatchRequest)
    if asked.endpoint not in asking.ENDPOINTS:
        known = ", ".join(asking.ENDPOINTS)
        raise BadInput(f"the endpoint is {asked.endpoint[:80]!r}", f"Choose one of {known}", param="endpoint")
    kept = await asyncio.to_thread(desk.files.get, asked.input_file_id)
    if kept.purpose != "batch":
        raise BadInput(f"the file is for {kept.purpose!r}", "Upload it with the purpose 'batch'", param="input_file_id")
    about = {
        "endpoint": asked.endpoint,
        "input": asked.input_file_id,
        "window": asked.completion_window,
        "metadata": asked.metadata,
        "seconds": asked.output_expires_after.seconds if asked.output_expires_after else None,
    }
    seconds = int(asked.completion_window[:-1]) * _SECONDS[asked.completion_window[-1]]
    path = await asyncio.to_thread(desk.files.path, kept.id)
    return json_response(body(await desk.batches.create(KIND.name, "batch", path, seconds, about)))


async def index(incoming: Incoming, desk: Desk) -> Response:
    """GET /batches: all, the newest first, a page at a time."""
    found = await desk.batches.all(KIND.name)
    return json_response(page(incoming.query, found, lambda job: job.id, body, _MOST))


async def retrieve(incoming: Incoming, desk: Desk) -> Response:
    """GET /batches/{id}: how far it is."""
    return json_response(body(await desk.batches.get(KIND.name, incoming.path["batch"])))


async def cancel(incoming: Incoming, desk: Desk) -> Response:
    """POST /batches/{id}/cancel: answer no more of it."""
    return json_response(body(await desk.batches.cancel(KIND.name, incoming.path["batch"])))


ROUTES = (
    Route("POST", "/batches", "infer", create, body=BatchRequest),
    Route("GET", "/batches", "infer", index),
    Route("GET", "/batches/{batch}", "infer", retrieve),
    Route("POST", "/batches/{batch}/cancel", "infer", cancel, "any"),
)
