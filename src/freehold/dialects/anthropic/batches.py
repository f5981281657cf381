"""Anthropic's message batches: requests in one body, results a line each once all are done with."""

import asyncio
from typing import Any

import msgspec
from starlette.responses import Response

from freehold.core.errors import BadInput, FreeholdError
from freehold.core.event import Usage
from freehold.dialects.anthropic import answers, asking, files, pages, translate
from freehold.dialects.anthropic.schema import BatchRequest, BatchRow, MessagesRequest
from freehold.formats.atomic import replacing
from freehold.guard import strict_json
from freehold.serving.batches import ROW_SECONDS, Answer
from freehold.serving.decoding import converted, decode
from freehold.serving.desk import Desk
from freehold.serving.http import FileStream, json_response
from freehold.serving.jobs import Folder, Job, Journal
from freehold.serving.routes import Incoming, Route

_WINDOW = 86400.0
_PATH = "/messages/batches"


class MessageBatches:
    """Rows as Anthropic has them: `custom_id` and `params`."""

    name = "anthropic"

    def check(self, job: Job, row: bytes) -> str:
        """The row's custom_id. Raises BadInput."""
        return _row(row).custom_id

    async def ask(self, desk: Desk, job: Job, row: bytes) -> Answer:
        """The message that answers the row's params. Raises FreeholdError."""
        body = converted(_row(row).params, MessagesRequest)
        if body.stream:
            raise BadInput("a request of a batch is not answered as a stream", "Leave out stream", param="stream")
        await files.filled(desk, body)
        request = msgspec.structs.replace(translate.messages_request(body), deadline=ROW_SECONDS)
        return Answer(await asking.whole(desk, request, answers.Answer(body.model)), Usage())

    def record(self, job: Job, row: bytes, answer: Answer | FreeholdError) -> dict[str, Any]:
        """A line of the results."""
        if isinstance(answer, FreeholdError):
            return _result(row, {"type": "errored", "error": answers.error_body(answer)})
        return _result(row, {"type": "succeeded", "message": answer.body})

    def left(self, job: Job, row: bytes) -> dict[str, Any]:
        """A line of the results."""
        return _result(row, {"type": "expired" if job.end == "expired" else "canceled"})

    def finish(self, desk: Desk, job: Job, folder: Folder, journal: Journal) -> None:
        """Write the results."""
        with replacing(folder.results) as temporary, temporary.open("wb") as file:
            file.writelines(record + b"\n" for record in journal.records("done", "failed", "left"))


KIND = MessageBatches()


def _row(line: bytes) -> BatchRow:
    return converted(strict_json.parse(line), BatchRow)


def _result(row: bytes, result: dict[str, Any]) -> dict[str, Any]:
    return {"custom_id": _row(row).custom_id, "result": result}


def body(job: Job, root: str) -> dict[str, Any]:
    """A batch as Anthropic's clients read it; `root` is the address under which the routes are."""
    cancelled = job.at.get("cancelling")
    ended = job.at.get(job.status) if job.ended else None
    status = "ended" if job.ended else "canceling" if job.status == "cancelling" else "in_progress"
    results = f"{root}{_PATH}/{job.id}/results" if job.ended and job.status != "failed" else None
    return {
        "id": job.id,
        "type": "message_batch",
        "processing_status": status,
        "request_counts": _counts(job),
        "created_at": answers.moment(job.created),
        "expires_at": answers.moment(job.expires),
        "ended_at": None if ended is None else answers.moment(ended),
        "cancel_initiated_at": None if cancelled is None else answers.moment(cancelled),
        "archived_at": None,
        "results_url": results,
    }


def _counts(job: Job) -> dict[str, int]:
    """What became of the requests: none is counted before all are done with."""
    counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
    if not job.ended:
        return {**counts, "processing": job.total}
    if job.status == "failed":
        return {**counts, "errored": job.total}
    left = "expired" if job.status == "expired" else "canceled"
    return {**counts, "succeeded": job.done, "errored": job.failed, left: job.left}


def _root(incoming: Incoming) -> str:
    return incoming.url.rpartition(_PATH)[0]


async def create(incoming: Incoming, desk: Desk) -> Response:
    """POST /messages/batches: many requests, answered when nobody else asks."""
    rows = await asyncio.to_thread(_rows, incoming.body)
    return json_response(body(await desk.batches.create(KIND.name, "msgbatch", rows, _WINDOW, {}), _root(incoming)))


def _rows(sent: bytes) -> list[bytes]:
    """The requests of a body, one a line. Raises BadInput."""
    requests = decode(sent, BatchRequest).requests
    seen: dict[str, int] = {}
    for number, request in enumerate(requests):
        if (before := seen.setdefault(request.custom_id, number)) != number:
            raise BadInput(
                f"requests.{number}: the custom_id {request.custom_id!r} is that of requests.{before} too",
                "Give each its own",
                param="requests",
            )
    return [msgspec.json.encode(request) for request in requests]


async def index(incoming: Incoming, desk: Desk) -> Response:
    """GET /messages/batches: all, the newest first, a page at a time."""
    found, more = pages.page(incoming.query, await desk.batches.all(KIND.name), lambda job: job.id)
    data = [body(job, _root(incoming)) for job in found]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return json_response({"data": data, "has_more": more, "first_id": first, "last_id": last})


async def retrieve(incoming: Incoming, desk: Desk) -> Response:
    """GET /messages/batches/{id}: how far it is."""
    return json_response(body(await desk.batches.get(KIND.name, incoming.path["batch"]), _root(incoming)))


async def cancel(incoming: Incoming, desk: Desk) -> Response:
    """POST /messages/batches/{id}/cancel: answer no more of it."""
    return json_response(body(await desk.batches.cancel(KIND.name, incoming.path["batch"]), _root(incoming)))


async def delete(incoming: Incoming, desk: Desk) -> Response:
    """DELETE /messages/batches/{id}: forget one that ended."""
    await desk.batches.remove(KIND.name, incoming.path["batch"])
    return json_response({"id": incoming.path["batch"], "type": "message_batch_deleted"})


async def results(incoming: Incoming, desk: Desk) -> Response:
    """GET /messages/batches/{id}/results: the answers, one a line."""
    job = await desk.batches.get(KIND.name, incoming.path["batch"])
    if not job.ended or job.status == "failed":
        raise BadInput(f"the batch {job.id} has no results", "Wait until its processing_status is 'ended'")
    return FileStream(desk.batches.folder(job).results, "application/x-jsonl")


ROUTES = (
    Route("POST", _PATH, "infer", create, body=BatchRequest),
    Route("GET", _PATH, "infer", index),
    Route("GET", _PATH + "/{batch}", "infer", retrieve),
    Route("DELETE", _PATH + "/{batch}", "infer", delete),
    Route("POST", _PATH + "/{batch}/cancel", "infer", cancel, "any"),
    Route("GET", _PATH + "/{batch}/results", "infer", results),
)
