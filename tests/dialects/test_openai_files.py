import json
import stat
from collections.abc import Iterator

import httpx
import msgspec
import pytest

from freehold.core.settings import Settings
from freehold.serving import files
from freehold.serving.app import create_app
from freehold.store import Store
from tests.serving.support import FakeEngine, live


@pytest.fixture
def client(settings: Settings, store: Store) -> Iterator[httpx.Client]:
    with live(create_app(settings, store, engine=FakeEngine())) as url, httpx.Client(base_url=url) as opened:
        yield opened


def send(client: httpx.Client, data: bytes = b"{}\n", name: str = "rows.jsonl", **fields: str) -> httpx.Response:
    return client.post("/v1/files", files={"file": (name, data)}, data={"purpose": "batch", **fields})


def test_a_file_goes_out_as_it_came_in(client: httpx.Client, settings: Settings):
    data = bytes(range(256)) * 5000
    sent = send(client, data, purpose="user_data").json()
    assert sent.items() >= {"object": "file", "bytes": len(data), "filename": "rows.jsonl"}.items()
    assert (sent["purpose"], sent["status"], sent["expires_at"]) == ("user_data", "processed", None)
    assert client.get(f"/v1/files/{sent['id']}").json() == sent
    answer = client.get(f"/openai/v1/files/{sent['id']}/content")
    assert answer.content == data
    assert answer.headers["content-length"] == str(len(data))
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''rows.jsonl"
    assert stat.S_IMODE(settings.files.stat().st_mode) == 0o700
    assert client.delete(f"/v1/files/{sent['id']}").json() == {"id": sent["id"], "object": "file", "deleted": True}
    for path in (f"/v1/files/{sent['id']}", f"/v1/files/{sent['id']}/content"):
        missing = client.get(path)
        assert missing.status_code == 404
        assert missing.json()["error"]["type"] == "invalid_request_error"
    assert list(settings.files.iterdir()) == []


def test_an_empty_file_and_one_of_a_single_byte(client: httpx.Client):
    for data in (b"", b"\r", b"\r\n--"):
        identifier = send(client, data).json()["id"]
        assert client.get(f"/v1/files/{identifier}/content").content == data


def test_files_are_still_there_after_a_restart(settings: Settings, store: Store):
    with live(create_app(settings, store, engine=FakeEngine())) as url, httpx.Client(base_url=url) as client:
        sent = send(client, b"kept").json()
    (settings.files / "0-abc.part").write_bytes(b"torn")
    (settings.files / "file-000000000000000000000000.data").write_bytes(b"without a description")
    (settings.files / ".file-1.json.ab.tmp").write_bytes(b"{")
    with live(create_app(settings, store, engine=FakeEngine())) as url, httpx.Client(base_url=url) as client:
        assert client.get("/v1/files").json()["data"] == [sent]
        assert client.get(f"/v1/files/{sent['id']}/content").content == b"kept"
    assert len(list(settings.files.iterdir())) == 2


def test_lists_are_filtered_ordered_and_cut_into_pages(client: httpx.Client):
    ids = [send(client, name=f"{i}.jsonl", purpose="batch" if i % 2 else "fine-tune").json()["id"] for i in range(6)]
    assert [each["id"] for each in client.get("/v1/files").json()["data"]] == ids[::-1]
    assert [each["id"] for each in client.get("/v1/files?order=asc&purpose=batch").json()["data"]] == ids[1::2]
    first = client.get("/v1/files?limit=4").json()
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, ids[5], ids[2])
    second = client.get("/v1/files", params={"limit": 4, "after": first["last_id"]}).json()
    assert [each["id"] for each in second["data"]] == ids[1::-1]
    assert second["has_more"] is False
    assert client.get("/v1/files?purpose=nothing").json()["data"] == []
    for query, param in (("limit=0", "limit"), ("limit=x", "limit"), ("limit=10001", "limit"), ("after=x", "after"),
                         ("order=up", "order")):  # fmt: skip
        refused = client.get(f"/v1/files?{query}")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_a_file_that_is_to_expire_does(client: httpx.Client, settings: Settings, store: Store):
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    sent = send(client, **fields).json()
    assert sent["expires_at"] - sent["created_at"] in (3600, 3601)
    assert send(client, **{**fields, "expires_after[seconds]": "5"}).status_code == 400
    description = settings.files / f"{sent['id']}.json"
    description.write_bytes(description.read_bytes().replace(b'"expires":', b'"expires":1.0,"was":'))
    later = files.Files(settings)
    assert later.all() == []
    assert list(settings.files.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\data\\rows.jsonl", "rows.jsonl"),
        ("a\x00b\x1b[31m", "ab[31m"),
        ("\u202egpj.exe", "gpj.exe"),
        ("/", "file"),
        ("größe 中.txt", "größe 中.txt"),
        ("x" * 1000, "x" * 255),
    ],
)
def test_names_are_only_names(client: httpx.Client, settings: Settings, name: str, kept: str):
    assert files.safe_name(name) == kept
    sent = send(client, b"x", name=name)
    if sent.status_code == 200:
        assert client.get(f"/v1/files/{sent.json()['id']}/content").content == b"x"
    assert {path.suffix for path in settings.files.iterdir()} <= {".json", ".data"}


@pytest.mark.parametrize("identifier", ["..%2f..%2fetc", "file-x", "file-" + "0" * 24, "%00", "x" * 3000])
def test_hostile_ids_are_just_unknown(client: httpx.Client, identifier: str):
    for method in ("GET", "DELETE"):
        assert client.request(method, f"/v1/files/{identifier}").status_code == 404


def test_what_is_no_form_is_refused_in_words(client: httpx.Client, settings: Settings):
    head = {"content-type": "multipart/form-data; boundary=b"}
    part = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    whole = part % (b"purpose", b"", b"batch") + part % (b"file", b'; filename="x"', b"data")
    cases: list[tuple[int, bytes, dict[str, str]]] = [
        (415, b"{}", {"content-type": "application/json"}),
        (415, b"x", {"content-type": "multipart/form-data"}),
        (415, whole, {"content-type": "multipart/form-data; boundary=" + "b" * 300}),
        (415, whole + b"--b--\r\n", {**head, "content-encoding": "gzip"}),
        (400, b"", head),
        (400, b"garbage", head),
        (400, whole, head),
        (400, part % (b"purpose", b"", b"batch") + b"--b--\r\n", head),
        (400, part % (b"file", b'; filename="x"', b"data") + b"--b--\r\n", head),
        (400, whole + part % (b"file", b'; filename="y"', b"data") + b"--b--\r\n", head),
        (400, part % (b"purpose", b"", b"nonsense") + whole.split(b"batch\r\n")[1] + b"--b--\r\n", head),
        (400, part % (b"extra", b"", b"1") + whole + b"--b--\r\n", head),
        (413, part % (b"purpose", b"", b"b" * 5000) + b"--b--\r\n", head),
        (413, b"".join(part % (b"p%d" % i, b"", b"") for i in range(40)) + b"--b--\r\n", head),
        (400, b"--b\r\nContent-Disposition: form-data; name=" + b"n" * 9000 + b"\r\n\r\n\r\n--b--\r\n", head),
        (400, b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n", head),
        (400, b"--b\r\nContent-Transfer-Encoding: base64\r\n\r\nx\r\n--b--\r\n", head),
    ]
    for number, (status, body, headers) in enumerate(cases):
        answer = client.post("/v1/files", content=body, headers=headers)
        assert answer.status_code in (status, 413), (number, answer.text)
        assert answer.json()["error"]["message"], number
    assert client.post("/v1/files", content=whole + b"--b--\r\n", headers=head).status_code == 200
    assert len(client.get("/v1/files").json()["data"]) == 1
    assert not list(settings.files.glob("*.part"))


def test_room_is_bounded(settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch):
    small = msgspec.structs.replace(settings, files_quota=5000)
    with live(create_app(small, store, engine=FakeEngine())) as url, httpx.Client(base_url=url) as client:
        assert send(client, b"x" * 3000).status_code == 200
        refused = send(client, b"x" * 3000)
        assert refused.status_code == 507
        assert "FREEHOLD_FILES_QUOTA" in refused.json()["error"]["message"]

        def pieces() -> Iterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
            for _ in range(100):
                yield b"x" * 1000

        unsaid = client.post("/v1/files", content=pieces(), headers={"content-type": "multipart/form-data; boundary=b"})
        assert unsaid.status_code == 507
        assert not list(settings.files.glob("*.part"))
        monkeypatch.setattr(files, "MAX_FILE", 100)
        assert send(client, b"x" * 500).status_code == 413
        monkeypatch.setattr(files, "MAX_FILES", 1)
        assert send(client, b"x").status_code == 507


def test_a_full_disk_is_said(client: httpx.Client, monkeypatch: pytest.MonkeyPatch, settings: Settings):
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr("freehold.serving.files.shutil.disk_usage", lambda folder: usage)
    refused = send(client, b"x")
    assert refused.status_code == 507
    assert refused.json()["error"]["code"] == "disk_full"


def test_a_client_that_leaves_in_the_middle_leaves_nothing(client: httpx.Client, settings: Settings):
    def pieces() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        yield b"x" * 100_000
        raise httpx.ReadError("gone")

    with pytest.raises(httpx.ReadError):
        client.post("/v1/files", content=pieces(), headers={"content-type": "multipart/form-data; boundary=b"})
    assert client.get("/v1/files").json()["data"] == []
    assert send(client).status_code == 200
    assert {path.suffix for path in settings.files.iterdir()} == {".json", ".data"}


def test_damaged_descriptions_are_left_out(client: httpx.Client, settings: Settings, store: Store):
    kept, broken, short = (send(client, b"data").json()["id"] for _ in range(3))
    (settings.files / f"{broken}.json").write_bytes(b"{")
    (settings.files / f"{short}.data").write_bytes(b"da")
    assert [each.id for each in files.Files(settings).all()] == [kept]
    assert json.loads((settings.files / f"{kept}.json").read_bytes())["filename"] == "rows.jsonl"
