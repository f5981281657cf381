"""Anthropic's files: apart from OpenAI's, and named in messages."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from freehold.core.settings import Settings
from freehold.serving.app import create_app
from freehold.store import Store
from tests.dialects.test_anthropic_batches import begin, ended, results
from tests.serving.support import FakeEngine, add_model, live

THEIRS = {"anthropic-version": "2026-10-21"}
FILES = "/v1/files"


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def client(settings: Settings, store: Store, engine: FakeEngine) -> Iterator[httpx.Client]:
    add_model(store, "helpdesk")
    app = create_app(settings, store, engine=engine)
    with live(app) as url, httpx.Client(base_url=url, headers=THEIRS, timeout=20) as opened:
        yield opened


def send(
    client: httpx.Client, data: bytes = b"No dogs.", name: str = "rules.txt", media: str = "", **fields: str
) -> Any:
    file = (name, data, media) if media else (name, data)
    return client.post(FILES, files={"file": file}, data=fields)


def ask(*sources: dict[str, Any], **fields: Any) -> dict[str, Any]:
    documents = [{"type": "document", "source": source} for source in sources]
    content = [*documents, {"type": "text", "text": "May I?"}]
    return {"model": "helpdesk", "max_tokens": 9, "messages": [{"role": "user", "content": content}], **fields}


def named(file: dict[str, Any]) -> dict[str, Any]:
    return {"type": "file", "file_id": file["id"]}


@pytest.mark.parametrize("mount", ["/v1", "/anthropic/v1"])
def test_a_file_from_its_coming_to_its_going(client: httpx.Client, mount: str):
    sent = client.post(f"{mount}/files", files={"file": ("a/b.txt", b"No dogs.")}).json()
    assert sent.pop("created_at").endswith("Z")
    identifier = sent["id"]
    assert identifier.startswith("file_")
    assert sent == {
        "id": identifier, "type": "file", "filename": "b.txt", "mime_type": "text/plain", "size_bytes": 8,
        "expires_at": None, "downloadable": True,
    }  # fmt: skip
    path = f"{mount}/files/{identifier}"
    assert client.get(path).json().items() >= sent.items()
    assert client.get(f"{path}/content").content == b"No dogs."
    assert client.delete(path).json() == {"id": identifier, "type": "file_deleted"}
    for gone in (client.get(path), client.get(f"{path}/content"), client.delete(path)):
        assert (gone.status_code, gone.json()["error"]["type"]) == (404, "not_found_error")


def test_media_types_are_as_said_or_as_the_name_tells(client: httpx.Client):
    for name, media, told in (
        ("a.bin", "text/markdown", "text/markdown"),
        ("a.pdf", "application/octet-stream", "application/pdf"),
        ("a", "application/octet-stream", "application/octet-stream"),
        ("a.txt", 'x"y/z', "text/plain"),
    ):
        assert send(client, name=name, media=media).json()["mime_type"] == told


def test_pages_by_cursor_by_id_and_by_name(client: httpx.Client):
    ids = [send(client, name=f"{number}.txt").json()["id"] for number in range(5)][::-1]
    first = client.get(FILES, params={"limit": 2}).json()
    assert ([each["id"] for each in first["data"]], first["has_more"]) == (ids[:2], True)
    assert (first["first_id"], first["last_id"]) == (ids[0], ids[1])
    second = client.get(FILES, params={"limit": 3, "page": first["next_page"]}).json()
    assert ([each["id"] for each in second["data"]], second["next_page"]) == (ids[2:], None)
    older = client.get(FILES, params={"limit": 2, "after_id": ids[1]}).json()
    assert [each["id"] for each in older["data"]] == ids[2:4]
    some = client.get(FILES, params={"ids[]": [ids[3], ids[0], "file_nothing"]}).json()
    assert ([each["id"] for each in some["data"]], some["has_more"], some["next_page"]) == (
        [ids[0], ids[3]],
        False,
        None,
    )
    for wrong in ({"ids[]": ids[0], "limit": 2}, {"ids": ["x" + str(i) for i in range(101)]}, {"page": "page_x"}):
        assert client.get(FILES, params=wrong).status_code == 400


def test_they_are_apart_from_openais(client: httpx.Client):
    theirs = send(client).json()
    with httpx.Client(base_url=client.base_url) as other:
        sent = other.post(FILES, files={"file": ("a.txt", b"x")}, data={"purpose": "user_data"}).json()
        assert [file["id"] for file in other.get(FILES).json()["data"]] == [sent["id"]]
        twin = f"{FILES}/{theirs['id'].replace('file_', 'file-')}"
        for answer in (other.get(twin), other.delete(twin), other.get(f"{twin}/content")):
            assert answer.status_code == 404
        rows = {"input_file_id": theirs["id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
        assert other.post("/v1/batches", json=rows).status_code == 404
    assert [file["id"] for file in client.get(FILES).json()["data"]] == [theirs["id"]]
    assert client.get(f"{FILES}/{sent['id'].replace('file-', 'file_')}").status_code == 404


def test_files_that_expire(client: httpx.Client):
    sent = send(client, expires_in_seconds="3600").json()
    assert sent["expires_at"] > sent["created_at"]
    for wrong in ("3599", "7776001", "x"):
        assert send(client, expires_in_seconds=wrong).status_code == 400


def test_a_message_reads_the_files_that_it_names(client: httpx.Client, engine: FakeEngine):
    first, second = send(client).json(), send(client, b'{"n": 1}', "b.json").json()
    inside = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "document", "source": named(second)}]}
    used = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]}
    body = ask(named(first))
    body["messages"] += [used, {"role": "user", "content": [inside]}]
    assert client.post("/v1/messages", json=body).status_code == 200
    seen = [message.content for message in engine.workers[0].seen[-1].messages]
    assert seen == ["No dogs.\nMay I?", "", '{"n": 1}']
    counted = client.post("/v1/messages/count_tokens", json={key: body[key] for key in ("model", "messages")})
    assert counted.json()["input_tokens"] == 1 + 4 + 2
    batch = begin(client, [{"custom_id": "a", "params": ask(named(first))}])
    ended(client, batch["id"])
    batch = client.get(f"/v1/messages/batches/{batch['id']}").json()
    assert results(client, batch)[0]["result"]["type"] == "succeeded"
    assert engine.workers[0].seen[-1].messages[0].content == "No dogs.\nMay I?"


def test_files_that_no_message_can_read(client: httpx.Client, settings: Settings):
    for data, name, status, why in (
        (b"%PDF", "a.pdf", 400, "application/pdf"),
        (b"\xff\xfe", "a.txt", 400, "is no text"),
        (b"x" * (settings.max_body + 1), "a.txt", 413, "larger"),
    ):
        answer = client.post("/v1/messages", json=ask(named(send(client, data, name).json())))
        assert (answer.status_code, why in answer.json()["error"]["message"]) == (status, True)
    for missing in ("file_x", "file-" + "0" * 24, "", "../../etc/passwd"):
        answer = client.post("/v1/messages", json=ask({"type": "file", "file_id": missing}))
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")
