"""Files that come in parts."""

import hashlib
import time
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from freehold.core.settings import Settings
from freehold.dialects.openai import uploads
from freehold.serving.app import create_app
from freehold.store import Store
from tests.serving.support import FakeEngine, live

PATH = "/v1/uploads"
DATA = bytes(range(256)) * 20


@pytest.fixture
def client(settings: Settings, store: Store) -> Iterator[httpx.Client]:
    with live(create_app(settings, store, engine=FakeEngine())) as url, httpx.Client(base_url=url) as opened:
        yield opened


def begin(client: httpx.Client, size: int = len(DATA), **more: Any) -> Any:
    asked = {"bytes": size, "filename": "a/rows.jsonl", "mime_type": "text/jsonl", "purpose": "batch", **more}
    return client.post(PATH, json=asked)


def part(client: httpx.Client, upload: str, data: bytes) -> Any:
    return client.post(f"{PATH}/{upload}/parts", files={"data": ("blob", data)})


def complete(client: httpx.Client, upload: str, parts: list[str], **more: str) -> Any:
    return client.post(f"{PATH}/{upload}/complete", json={"part_ids": parts, **more})


def test_a_file_in_parts(client: httpx.Client, settings: Settings):
    made = begin(client).json()
    assert made.items() >= {"object": "upload", "bytes": len(DATA), "status": "pending", "file": None}.items()
    assert made["expires_at"] == made["created_at"] + 3600
    second, first = (part(client, made["id"], piece).json() for piece in (DATA[1000:], DATA[:1000]))
    assert first.items() >= {"object": "upload.part", "upload_id": made["id"]}.items()
    assert client.get("/v1/files").json()["data"] == [], "parts are no files of their own"
    order = [first["id"], second["id"]]
    done = complete(client, made["id"], order, md5=hashlib.md5(DATA).hexdigest().upper()).json()
    assert (done["status"], done["file"]["filename"], done["file"]["bytes"]) == ("completed", "rows.jsonl", len(DATA))
    assert client.get(f"/v1/files/{done['file']['id']}/content").content == DATA
    assert len(list(settings.files.iterdir())) == 2
    for again in (part(client, made["id"], b"x"), complete(client, made["id"], order),
                  client.post(f"{PATH}/{made['id']}/cancel")):  # fmt: skip
        assert (again.status_code, "is completed" in again.json()["error"]["message"]) == (400, True)


def test_it_goes_on_after_a_restart(settings: Settings, store: Store):
    with live(create_app(settings, store, engine=FakeEngine())) as url, httpx.Client(base_url=url) as client:
        made = begin(client, expires_after={"anchor": "created_at", "seconds": 3600}).json()
        first = part(client, made["id"], DATA[:7]).json()["id"]
    with live(create_app(settings, store, engine=FakeEngine())) as url, httpx.Client(base_url=url) as client:
        second = part(client, made["id"], DATA[7:]).json()["id"]
        file = complete(client, made["id"], [first, second]).json()["file"]
        assert file["expires_at"] >= file["created_at"] + 3600


@pytest.mark.parametrize(
    ("parts", "more", "param"),
    [
        ([0], {}, "part_ids"),
        ([0, 1, 1], {}, "part_ids"),
        (["part_nothing"], {}, "part_ids"),
        ([0, 1], {"md5": "0" * 32}, "md5"),
        ([0, 1], {"md5": "x"}, "md5"),
    ],
)
def test_what_does_not_fit_together(client: httpx.Client, parts: list[Any], more: dict[str, str], param: str):
    made = begin(client).json()["id"]
    sent = [part(client, made, piece).json()["id"] for piece in (DATA[:1000], DATA[1000:])]
    named = [sent[each] if isinstance(each, int) else each for each in parts]
    wrong = complete(client, made, named, **more)
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, param)
    assert complete(client, made, sent).status_code == 200, "it can be put right"


def test_what_is_refused_at_its_beginning(client: httpx.Client):
    for wrong, status, param in (
        ({"purpose": "nonsense"}, 400, "purpose"),
        ({"bytes": -1}, 400, "bytes"),
        ({"bytes": 1 << 40}, 413, "bytes"),
        ({"filename": ""}, 400, "filename"),
    ):
        answer = begin(client, **wrong) if "bytes" not in wrong else begin(client, wrong["bytes"])
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    for path in ("upload_nothing", "resp_1", "..%2fx"):
        for tail in ("complete", "cancel"):
            assert client.post(f"{PATH}/{path}/{tail}", json={"part_ids": []}).status_code == 404
        assert part(client, path, b"x").status_code == 404


def test_a_part_larger_than_all(client: httpx.Client, settings: Settings):
    made = begin(client, 10).json()["id"]
    assert part(client, made, b"x" * 11).status_code == 400
    assert client.post(f"{PATH}/{made}/parts", json={}).status_code == 415
    assert list(settings.files.iterdir()) == []


def test_one_that_is_cancelled_or_too_old(client: httpx.Client, settings: Settings, monkeypatch: pytest.MonkeyPatch):
    made = begin(client).json()["id"]
    part(client, made, b"x")
    assert client.post(f"{PATH}/{made}/cancel").json()["status"] == "cancelled"
    assert list(settings.files.iterdir()) == []
    old = begin(client).json()["id"]
    later = time.time() + 3601
    monkeypatch.setattr(uploads.time, "time", lambda: later)
    for refused in (part(client, old, b"x"), complete(client, old, []), client.post(f"{PATH}/{old}/cancel")):
        assert (refused.status_code, "is expired" in refused.json()["error"]["message"]) == (400, True)


def test_no_more_parts_than_there_may_be(client: httpx.Client, settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(uploads, "_MOST_PARTS", 2)
    made = begin(client, 4).json()["id"]
    names = [part(client, made, piece).json()["id"] for piece in (b"ab", b"cd")]
    refused = part(client, made, b"e")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "data")
    assert "2 parts already" in refused.json()["error"]["message"]
    assert len(list(settings.files.iterdir())) == 4, (
        "what was sent for nothing is not kept: two parts, and what is told of each"
    )
    assert client.get(f"/v1/files/{complete(client, made, names).json()['file']['id']}/content").content == b"abcd"


def test_an_upload_that_cannot_be_read(settings: Settings, store: Store):
    app = create_app(settings, store, engine=FakeEngine())
    with live(app) as url, httpx.Client(base_url=url) as client:
        made = begin(client).json()["id"]
        app.state.desk.kept.change(made, lambda _: b'{"id": 1}')
        for answer in (part(client, made, b"x"), complete(client, made, []), client.post(f"{PATH}/{made}/cancel")):
            assert (answer.status_code, answer.json()["error"]["message"]) == (
                500, "the upload cannot be read. Begin another",
            )  # fmt: skip
    assert list(settings.files.iterdir()) == []


def test_a_file_that_nothing_can_be_remembered_of(settings: Settings, store: Store):
    small = msgspec.structs.replace(settings, kept_answers=10)
    with live(create_app(small, store, engine=FakeEngine())) as url, httpx.Client(base_url=url) as client:
        answer = begin(client)
        assert answer.status_code >= 400
        assert "FREEHOLD_KEPT_ANSWERS" in answer.json()["error"]["message"]


def test_a_file_that_there_is_no_room_for_is_refused_at_once(settings: Settings, store: Store):
    small = msgspec.structs.replace(settings, files_quota=1000)
    with live(create_app(small, store, engine=FakeEngine())) as url, httpx.Client(base_url=url) as client:
        assert begin(client, 2000).status_code >= 400
        assert begin(client, 500).status_code == 200


def test_the_whole_is_as_it_was_announced(client: httpx.Client):
    """An empty part counts for nothing, and what became of a file is told with the file itself."""
    made = begin(client, 3, purpose="user_data", filename="a.txt").json()["id"]
    names = [part(client, made, piece).json()["id"] for piece in (b"abc", b"")]
    done = complete(client, made, [names[1], names[0]]).json()
    assert (done["id"], done["object"], done["status"], done["bytes"]) == (made, "upload", "completed", 3)
    assert done["file"].items() >= {"object": "file", "bytes": 3, "filename": "a.txt", "purpose": "user_data"}.items()
