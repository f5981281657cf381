"""The downloader against servers that are slow, broken or lie. Nothing wrong gets into the store, nothing is lost."""

import hashlib
import os
import random
import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.digest import Digest
from freehold.core.errors import (
    Conflict,
    Forbidden,
    FreeholdError,
    NoRoom,
    NotFound,
    RateLimited,
    SourceFailed,
    Timeout,
)
from freehold.core.settings import Settings
from freehold.store import Store
from freehold.store.check import prune
from freehold.store.fetching import Remote, fetch
from freehold.store.outbound import Outbound, Throttle, retry_after
from freehold.store.partials import Partial
from tests.store.models import blob_count
from tests.store.servers import Handler, Site, serving

PIECE = 1 << 16
DATA = random.Random(1).randbytes(5 * PIECE + 77)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as running:
        yield running


@pytest.fixture
def outbound(tmp_path: Path) -> Iterator[Outbound]:
    with Outbound(Settings(home=tmp_path), stall=1.0, patience=0.01) as client:
        yield client


def remote(site: Site, data: bytes = DATA, path: str = "/x.gguf", **fields: Any) -> Remote:
    digest = fields.pop("digest", Digest.of_bytes(data))
    url = site.add(path, data)
    return Remote(filename=path[1:], url=url, size=fields.pop("size", len(data)), digest=digest, **fields)


def got(store: Store, outbound: Outbound, *files: Remote, **options: Any) -> list[bytes]:
    with store.lease():
        return [store.path(digest).read_bytes() for digest in fetch(store, outbound, files, piece=PIECE, **options)]


def partials(store: Store) -> list[str]:
    folder = store.folder / "partial"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_several_files_in_pieces(store: Store, outbound: Outbound, site: Site):
    other = random.Random(2).randbytes(PIECE * 3)
    told: dict[str, list[tuple[int, int]]] = {}
    files = remote(site), remote(site, other, "/y.gguf"), remote(site, b"", "/empty"), remote(site, b"z" * 9, "/z")
    found = got(store, outbound, *files, on_progress=lambda name, *at: told.setdefault(name, []).append(at))
    assert found == [DATA, other, b"", b"z" * 9]
    assert partials(store) == []
    assert site.total == len(DATA) + len(other) + 9
    assert told["x.gguf"][-1] == (len(DATA), len(DATA))
    assert [done for done, _ in told["x.gguf"]] == sorted(done for done, _ in told["x.gguf"])


def test_what_is_there_is_not_fetched_again(store: Store, outbound: Outbound, site: Site):
    with store.lease():
        got(store, outbound, remote(site))
        site.asked.clear()
        assert got(store, outbound, remote(site), remote(site, path="/same.gguf")) == [DATA, DATA]
    assert site.asked == []


def test_what_is_damaged_is_fetched_again(store: Store, outbound: Outbound, site: Site):
    with store.lease():
        got(store, outbound, remote(site))
        blob = store.path(Digest.of_bytes(DATA))
        blob.chmod(0o600)
        blob.write_bytes(DATA[1:])
        assert got(store, outbound, remote(site)) == [DATA]


def cut(after: int) -> Callable[[Handler], None]:
    """An answer that breaks off."""

    def answer(handler: Handler) -> None:
        first, last = handler.headers["Range"].removeprefix("bytes=").split("-")
        begin, end = int(first), int(last) + 1
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(DATA)}")
        handler.send_header("Content-Length", str(end - begin))
        handler.end_headers()
        handler.wfile.write(DATA[begin : min(end, begin + after)])
        handler.close_connection = True

    return answer


def test_a_connection_that_breaks_off_goes_on_where_it_was(store: Store, outbound: Outbound, site: Site):
    site.fault("x.gguf", cut(5000), times=4)
    assert got(store, outbound, remote(site)) == [DATA]
    assert site.total == len(DATA) - 4 * 5000


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_failure_that_passes(store: Store, outbound: Outbound, site: Site, status: int):
    site.fault("x.gguf", lambda handler: handler.answer(status, b"busy", Retry_After="0"), times=3)
    assert got(store, outbound, remote(site)) == [DATA]


def test_the_wait_that_a_server_asks_for(store: Store, outbound: Outbound, site: Site):
    site.fault("x.gguf", lambda handler: handler.answer(429, Retry_After="1"), times=1)
    begin = time.monotonic()
    assert got(store, outbound, remote(site), connections=1) == [DATA]
    assert time.monotonic() - begin >= 1


def refused(store: Store, outbound: Outbound, kind: type[FreeholdError], *files: Remote) -> FreeholdError:
    """The error; nothing got into the store."""
    with pytest.raises(kind) as caught:
        got(store, outbound, *files)
    assert blob_count(store) == 0
    assert caught.value.remedy
    return caught.value


def test_a_wait_that_is_too_long_is_told(store: Store, outbound: Outbound, site: Site):
    site.fault("x.gguf", lambda handler: handler.answer(429, Retry_After="3600"))
    error = refused(store, outbound, RateLimited, remote(site))
    assert "3600 s" in error.remedy


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Forbidden), (403, Forbidden), (404, NotFound), (410, NotFound), (416, SourceFailed), (451, SourceFailed),
     (503, SourceFailed), (204, SourceFailed), (304, SourceFailed)],
)  # fmt: skip
def test_a_failure_that_stays(store: Store, outbound: Outbound, site: Site, status: int, kind: type[FreeholdError]):
    site.fault("x.gguf", lambda handler: handler.answer(status))
    refused(store, outbound, kind, remote(site))


def test_wrong_bytes_are_not_kept(store: Store, outbound: Outbound, site: Site):
    file = remote(site)
    site.files["/x.gguf"] = DATA[:-1] + b"!"
    error = refused(store, outbound, SourceFailed, file)
    assert "not what was announced" in error.message
    assert partials(store) == []
    site.files["/x.gguf"] = DATA
    assert got(store, outbound, file) == [DATA]


def test_gits_name_of_the_content_is_checked(store: Store, outbound: Outbound, site: Site):
    name = hashlib.sha1(b"blob 4\0good").hexdigest()
    assert got(store, outbound, remote(site, b"good", digest=None, git=name)) == [b"good"]
    with pytest.raises(SourceFailed):
        got(store, outbound, remote(site, b"evil", digest=None, git=name))
    assert partials(store) == []


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1, 10 * len(DATA)])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_wrong_length(store: Store, outbound: Outbound, site: Site, size: int, ranges: bool):
    site.ranges = ranges
    error = refused(store, outbound, SourceFailed, remote(site, size=size, whole=not ranges))
    assert "announced" in error.message


def test_a_server_that_sends_more_than_it_says(store: Store, outbound: Outbound, site: Site):
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for _ in range(20):
            handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    site.fault("x.gguf", answer)
    error = refused(store, outbound, SourceFailed, remote(site, whole=True))
    assert "more than" in error.message


def test_another_part_than_asked_for(store: Store, outbound: Outbound, site: Site):
    def answer(handler: Handler) -> None:
        handler.answer(206, DATA[7:PIECE], Content_Range=f"bytes 7-{PIECE - 1}/{len(DATA)}")

    site.fault("x.gguf", answer)
    assert "another part" in refused(store, outbound, SourceFailed, remote(site)).message


def test_a_server_that_knows_no_parts(store: Store, outbound: Outbound, site: Site):
    site.ranges = False
    assert got(store, outbound, remote(site, whole=True)) == [DATA]
    site.files.clear()
    small = random.Random(3).randbytes(PIECE)
    site.fault("small", lambda handler: handler.answer(503), times=2)
    assert got(store, outbound, remote(site, small, "/small")) == [small]
    with pytest.raises(SourceFailed, match="whole file"):
        got(store, outbound, remote(site, DATA[1:], "/large"))


def test_redirects_have_an_end(store: Store, outbound: Outbound, site: Site):
    file = remote(site)
    site.redirects = {"/x.gguf": "/a", "/a": "/b", "/b": "/a"}
    assert "redirects more than" in refused(store, outbound, SourceFailed, file).message


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "gopher://x", "//[::1"])
def test_redirects_lead_to_the_web_only(store: Store, outbound: Outbound, site: Site, target: str):
    file = remote(site)
    site.redirects = {"/x.gguf": target}
    refused(store, outbound, SourceFailed, file)


def test_a_credential_stays_with_its_host(store: Store, outbound: Outbound, site: Site):
    with serving() as elsewhere:
        elsewhere.add("/there", DATA)
        file = remote(site, headers={"Authorization": "Bearer secret"})
        site.redirects = {"/x.gguf": elsewhere.url.replace("127.0.0.1", "localhost") + "/there"}
        assert got(store, outbound, file) == [DATA]
        assert all(headers["authorization"] == "Bearer secret" for _, _, headers in site.asked)
        assert elsewhere.asked
        assert not any("authorization" in headers for _, _, headers in elsewhere.asked)


def test_packing_that_nobody_asked_for(store: Store, outbound: Outbound, site: Site):
    site.fault("x.gguf", lambda handler: handler.answer(200, b"\x1f\x8b" + bytes(99), Content_Encoding="gzip"))
    assert "gzip" in refused(store, outbound, SourceFailed, remote(site)).message


def test_a_server_that_says_nothing(store: Store, tmp_path: Path, site: Site):
    site.fault("x.gguf", lambda handler: time.sleep(1.0))
    with Outbound(Settings(home=tmp_path), stall=0.1, patience=0.01) as outbound:
        assert "stalled" in refused(store, outbound, Timeout, remote(site)).message


def test_a_server_that_drips(store: Store, tmp_path: Path, site: Site):
    def drip(handler: Handler) -> None:
        handler.send_response(206)
        begin = int(handler.headers["Range"].removeprefix("bytes=").partition("-")[0])
        handler.send_header("Content-Range", f"bytes {begin}-{PIECE - 1}/{PIECE}")
        handler.send_header("Content-Length", str(PIECE - begin))
        handler.end_headers()
        for _ in range(40):
            handler.wfile.write(b"x")
            time.sleep(0.05)

    site.fault("x.gguf", drip)
    with Outbound(Settings(home=tmp_path), stall=0.2, patience=0.01) as outbound:
        assert "stalled" in refused(store, outbound, Timeout, remote(site, bytes(PIECE))).message


def test_nobody_there(store: Store, outbound: Outbound, site: Site):
    file = Remote(filename="x", url="http://127.0.0.1:1/x", size=9)
    assert "cannot reach 127.0.0.1:1" in refused(store, outbound, SourceFailed, file).message


def test_a_file_that_changes_meanwhile(store: Store, outbound: Outbound, site: Site):
    file = remote(site, digest=None, etag='"old"')
    site.headers["/x.gguf"]["ETag"] = '"new"'
    assert "changed" in refused(store, outbound, SourceFailed, file).message


def wanted_bytes(site: Site) -> int:
    """Bytes that were asked for, whether or not they came."""
    ranges = [headers["range"].removeprefix("bytes=").split("-") for _, _, headers in site.asked]
    return sum(int(last) + 1 - int(first) for first, last in ranges)


@pytest.mark.parametrize("connections", [1, 4])
def test_what_came_is_kept_for_the_next_time(store: Store, outbound: Outbound, site: Site, connections: int):
    """With one connection all that was sent; of others, what was on its way when they were stopped is lost."""
    file = remote(site)
    site.fault("x.gguf", lambda handler: handler.answer(404) if len(site.asked) > 4 else handler.file(
        "/x.gguf", DATA, {}))  # fmt: skip
    with pytest.raises(NotFound):
        got(store, outbound, file, connections=connections)
    assert blob_count(store) == 0
    assert len(partials(store)) == 2
    assert prune(store).temporary == 0, "a pull can go on with it"
    site.faults.clear()
    site.asked.clear()
    assert got(store, outbound, file, connections=connections) == [DATA]
    assert wanted_bytes(site) <= len(DATA) - PIECE, "a fifth piece is asked for when one has come"
    assert connections > 1 or wanted_bytes(site) == len(DATA) - 4 * PIECE


def test_prune_removes_what_no_pull_can_go_on_with(store: Store, outbound: Outbound, site: Site):
    folder, key = store.folder / "partial", Digest.of_bytes(DATA)
    with store.lease():
        got(store, outbound, remote(site))
        for stem in (key.hex, "0" * 64, "1" * 64):
            (folder / f"{stem}.part").write_bytes(bytes(5000))
        for stem in (key.hex, "1" * 64):
            (folder / f"{stem}.journal").write_bytes(b"")
        (folder / "foreign").write_bytes(b"not ours")
        assert prune(store, dry_run=True).temporary == 2
        assert prune(store).temporary == 2
    assert partials(store) == sorted(["foreign", "1" * 64 + ".journal", "1" * 64 + ".part"])
    held = Partial(folder, Digest("sha256:" + "1" * 64), 100)
    assert prune(store, unfinished=True).temporary == 0
    held.close()
    assert prune(store, unfinished=True).temporary == 1
    assert partials(store) == ["foreign"]


def test_two_at_once(store: Store, outbound: Outbound, site: Site):
    file = remote(site)
    held = Partial(store.folder / "partial", file.key, file.size)
    with pytest.raises(Conflict):
        got(store, outbound, file)
    held.close()
    assert got(store, outbound, file) == [DATA]


@pytest.mark.parametrize("journal", [b"", b"{}", b"\xff" * 600, b'{"size":1,"piece":0,"boot":""}'.ljust(600, b"\0")])
def test_a_journal_that_cannot_be_read_starts_anew(store: Store, outbound: Outbound, site: Site, journal: bytes):
    file = remote(site)
    Partial(store.folder / "partial", file.key, file.size).close()
    (store.folder / "partial" / f"{file.key.hex}.journal").write_bytes(journal)
    assert got(store, outbound, file) == [DATA]


def test_after_a_restart_of_the_machine_only_what_was_synced_counts(tmp_path: Path, monkeypatch):
    key = Digest.of_bytes(b"")
    partial = Partial(tmp_path, key, 100, 50)
    os.ftruncate(os.open(partial.path, os.O_WRONLY), 100)
    (piece, _), (second, _) = partial.missing
    with partial.writer(piece, 0) as writer:
        writer.write(b"x" * 20)
    torn = partial.writer(second, 0)
    torn.write(b"y" * 10)  # killed before it could sync
    partial.close()
    again = Partial(tmp_path, key, 100)
    assert [done for _, done in again.missing] == [20, 10]
    again.close()
    monkeypatch.setattr("freehold.store.partials._boot", lambda: "another")
    later = Partial(tmp_path, key, 100)
    assert [done for _, done in later.missing] == [20, 0]
    later.close()


def test_a_limit_on_the_rate(store: Store, tmp_path: Path, site: Site):
    begin = time.monotonic()
    with Outbound(Settings(home=tmp_path), limit_rate=400_000) as outbound:
        got(store, outbound, remote(site))
    assert time.monotonic() - begin > 0.9 * len(DATA) / 400_000


def test_threads_share_the_rate():
    throttle, begin = Throttle(100_000), time.monotonic()
    threads = [threading.Thread(target=lambda: [throttle.take(1000) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.35 < time.monotonic() - begin < 2


@pytest.mark.parametrize(("text", "seconds"), [("7", 7), ("", 0), ("soon", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)])
def test_retry_after(text: str, seconds: float):
    assert retry_after(text) == seconds


def test_retry_after_a_date():
    when = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    assert 90 < retry_after(when) <= 100


def test_offline_asks_nobody(store: Store, tmp_path: Path, site: Site):
    with Outbound(Settings(home=tmp_path, offline=True)) as outbound:
        refused(store, outbound, Forbidden, remote(site))
        with pytest.raises(Forbidden):
            outbound.document(site.url)
        with pytest.raises(Forbidden):
            outbound.client.get(site.url)
    assert site.asked == []


def test_a_listing_without_end(outbound: Outbound, site: Site):
    site.add("/list", bytes(100_000))
    with pytest.raises(SourceFailed, match="more than 1000 bytes"):
        outbound.document(site.url + "/list", limit=1000)


def test_memory_stays_small(store: Store, outbound: Outbound, site: Site):
    """120 MB in three files; the server's copies are made before."""
    data = bytes(40 << 20)
    files = [remote(site, data, "/a"), remote(site, data, "/b", digest=None), remote(site, data, "/c", digest=None)]
    got(store, outbound, remote(site))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with store.lease():
        fetch(store, outbound, files)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 << 10


def test_more_than_the_quota_allows_is_not_even_asked_for(tmp_path: Path, outbound: Outbound, site: Site):
    files = [remote(site), remote(site, b"z" * 9, "/z")]
    with Store.open(tmp_path / "small", quota=len(DATA)) as small:
        with pytest.raises(NoRoom, match=r"327\.8 kB would be added"):
            got(small, outbound, *files)
        assert (site.asked, partials(small), blob_count(small)) == ([], [], 0)
        assert got(small, outbound, files[0]) == [DATA]
        assert got(small, outbound, files[0]) == [DATA], "what is there takes no more room"


NEVER = ["²", "٣", "-5", "1.5", "Mon, 32 Foo 9999 99:99:99 GMT", "Wed, 99 Oct 2015 07:28:00 GMT", "\0", "1 2 3", "()"]
NEVER += ["Wed, 21 Oct 99999999 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 +99999999"]


@pytest.mark.parametrize("text", NEVER)
def test_a_wait_that_no_clock_knows_is_none(text: str):
    assert retry_after(text) in (0.0, 3.0)


@given(st.text(max_size=40) | st.from_regex(r"\A\w{3}, \d{1,3} (Jan|Feb|Dec) \d{1,6} \d+:\d+:\d+ ([+-]\d+|GMT)\Z"))
def test_whatever_a_server_says_is_a_wait(text: str):
    assert retry_after(text) >= 0


@pytest.mark.parametrize("text", ["²", "32 Foo"])
def test_a_wait_that_cannot_be_read_is_the_usual_one(store: Store, outbound: Outbound, site: Site, text: str):
    site.fault("x.gguf", lambda handler: handler.answer(503, Retry_After=text), times=2)
    assert got(store, outbound, remote(site)) == [DATA]
