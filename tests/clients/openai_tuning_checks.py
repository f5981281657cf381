"""Run by the client's own interpreter: what OpenAI's package sees of fine-tuning. Prints one JSON object of outcomes.

python openai_tuning_checks.py http://127.0.0.1:PORT/v1 MODEL
"""

import json
import sys
import time

import checking
import openai

BASE, MODEL = sys.argv[1], sys.argv[2]
FAILURES = (AssertionError, AttributeError, LookupError, TypeError, ValueError, openai.OpenAIError)
SECONDS = 500
THINGS = "bicycles desks gloves posters gardens seeds pianos maps newspapers chess films poetry fairs buses coats"
PLACES = "the library", "our town hall", "a school"

client = openai.OpenAI(base_url=BASE, api_key="none", max_retries=0, timeout=60, _strict_response_validation=True)
jobs = client.fine_tuning.jobs


def chat(question, answer):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


def rows():
    for thing in THINGS.split():
        for place in PLACES:
            yield chat(f"Where are {thing} in {place}?", f"Ask at the desk for {thing}.")


def uploaded(given):
    data = "\n".join(map(json.dumps, given)).encode()
    return client.files.create(file=("rows.jsonl", data), purpose="fine-tune").id


def reached(job, *statuses):
    end = time.monotonic() + SECONDS
    while job.status not in statuses:
        assert time.monotonic() < end, job
        assert job.status not in ("succeeded", "failed", "cancelled"), job
        time.sleep(0.2)
        job = jobs.retrieve(job.id)
    return job


def check_a_model_is_tuned_and_chatted_with():
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}}}
    asked = {"model": MODEL, "training_file": uploaded(rows()), "method": method, "suffix": "desk", "seed": 3}
    job = jobs.create(**asked, metadata={"for": "checks"})
    assert job.status == "validating_files"
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size, job.seed) == (2, 4, 3)
    other = jobs.create(model=MODEL, training_file=asked["training_file"])
    assert jobs.cancel(other.id).status == "cancelled"
    done = reached(job, "succeeded")
    assert done.fine_tuned_model == f"ft:{MODEL}-desk-{job.id[-8:]}"
    assert done.trained_tokens > 0
    assert done.error is None

    events = list(jobs.list_events(job.id, limit=4))
    assert len({event.id for event in events}) == len(events) > 8
    steps = [event.data["step"] for event in events if event.type == "metrics" and "train_loss" in event.data]
    assert steps == list(range(len(steps), 0, -1))
    assert any("full_valid_loss" in event.data for event in events)
    (checkpoint,) = list(jobs.checkpoints.list(job.id))
    assert checkpoint.fine_tuned_model_checkpoint == done.fine_tuned_model
    assert checkpoint.step_number == checkpoint.metrics.step == len(steps)
    assert checkpoint.metrics.full_valid_loss > 0

    table = client.files.content(done.result_files[0]).text.splitlines()
    assert table[0].startswith("step,train_loss,valid_loss")
    assert len(table) == len(steps) + 2
    assert [each.id for each in jobs.list(limit=1)][:2] == [other.id, job.id]

    answer = client.chat.completions.create(
        model=done.fine_tuned_model, messages=[{"role": "user", "content": "Where are desks?"}], max_tokens=8
    )
    assert answer.model == done.fine_tuned_model
    assert answer.choices[0].message.content is not None
    assert client.models.delete(done.fine_tuned_model).deleted is True
    assert checking.raises(openai.NotFoundError, lambda: client.models.retrieve(done.fine_tuned_model))
    assert checking.raises(openai.BadRequestError, lambda: jobs.cancel(job.id))


def check_a_job_is_paused_and_resumed():
    # The client's type does not know the status `paused`, which the documentation of its own method shows.
    with openai.OpenAI(base_url=BASE, api_key="none", max_retries=0) as lax:
        job = jobs.create(model=MODEL, training_file=uploaded(rows()), hyperparameters={"n_epochs": 50})
        assert lax.fine_tuning.jobs.pause(job.id).status == "paused"
        assert lax.fine_tuning.jobs.retrieve(job.id).status == "paused"
        assert lax.fine_tuning.jobs.resume(job.id).status in ("validating_files", "queued")
    reached(job, "queued", "running")
    assert jobs.cancel(job.id).status == "cancelled"
    assert jobs.retrieve(job.id).fine_tuned_model is None


def check_a_file_that_cannot_be_learned_from():
    job = reached(jobs.create(model=MODEL, training_file=uploaded([{"text": 1}])), "failed")
    assert (job.error.code, job.error.param) == ("invalid_data", "training_file")


def check_what_is_refused():
    asked = {"model": MODEL, "training_file": uploaded(rows())}
    wandb = {"type": "wandb", "wandb": {"project": "x"}}
    grader = {"type": "string_check", "name": "x", "input": "a", "reference": "b", "operation": "eq"}
    for more, param in (
        ({"integrations": [wandb]}, "integrations"),
        ({"method": {"type": "reinforcement", "reinforcement": {"grader": grader}}}, "method.type"),
        ({"suffix": "x" * 65}, "suffix"),
    ):
        error = checking.raises(openai.BadRequestError, lambda more=more: jobs.create(**asked, **more))
        assert error.param == param
    error = checking.raises(openai.NotFoundError, lambda: jobs.create(**{**asked, "model": "nobody"}))
    assert error.code == "model_not_found"


if __name__ == "__main__":
    checking.run(globals(), FAILURES)
