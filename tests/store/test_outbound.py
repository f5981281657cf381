"""How the machine is left: proxies, certificates, secure connections that stay so."""

import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.errors import BadInput, Forbidden, FreeholdError, NotFound, RateLimited, SourceFailed
from freehold.core.settings import Settings
from freehold.store.outbound import Outbound, Passing, Throttle, certificates, host
from tests.store.servers import Site, serving

VARIABLES = ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]
PROXIES = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [*VARIABLES, *PROXIES, *(proxy.lower() for proxy in PROXIES)]:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody else trusts, with its key in the same file."""
    file = tmp_path_factory.mktemp("certificate") / "both.pem"
    subject = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "9"]
    try:
        subprocess.run(
            ["openssl", *new, *subject, "-keyout", file, "-out", f"{file}.crt"], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("no openssl to make a certificate with")
    file.write_bytes(file.read_bytes() + Path(f"{file}.crt").read_bytes())
    return file


@pytest.fixture
def secure(certificate: Path) -> Iterator[Site]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(context) as site:
        site.add("/x", b"content")
        yield site


def fetched(tmp_path: Path, url: str) -> bytes:
    with Outbound(Settings(home=tmp_path), patience=0.001) as outbound:
        return outbound.document(url)


def test_an_unknown_certificate_is_refused(secure: Site, tmp_path: Path):
    with pytest.raises(SourceFailed, match="certificate") as caught:
        fetched(tmp_path, secure.url + "/x")
    assert "SSL_CERT_FILE" in caught.value.remedy
    assert secure.asked == []


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_ones_own_certificates(secure: Site, tmp_path: Path, certificate: Path, monkeypatch, variable: str):
    monkeypatch.setenv(variable, str(certificate))
    assert fetched(tmp_path, secure.url + "/x") == b"content"


def test_certificates_that_are_none(tmp_path: Path, monkeypatch):
    (tmp_path / "x.pem").write_text("no certificate")
    for path in (tmp_path / "x.pem", tmp_path / "none.pem"):
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with pytest.raises(BadInput, match="SSL_CERT_FILE"):
            certificates()


def test_a_secure_connection_stays_secure(secure: Site, tmp_path: Path, certificate: Path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving() as plain:
        secure.redirects["/away"] = plain.add("/x", b"content")
        with pytest.raises(SourceFailed, match="insecure"):
            fetched(tmp_path, secure.url + "/away")
        assert plain.asked == []


def test_the_proxy_is_asked(tmp_path: Path, monkeypatch):
    with serving() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        proxy.fault("^http://models.invalid/x", lambda handler: handler.answer(200, b"through"))
        assert fetched(tmp_path, "http://models.invalid/x") == b"through"
        with pytest.raises(SourceFailed, match=r"models\.invalid"):
            fetched(tmp_path, "https://models.invalid/x")
        assert ("CONNECT", "models.invalid:443", {}) in proxy.asked


def test_the_proxy_is_not_asked_for_what_is_near(tmp_path: Path, monkeypatch):
    with serving() as proxy, serving() as near:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert fetched(tmp_path, near.add("/x", b"direct")) == b"direct"
        assert proxy.asked == []


def test_messages_name_no_secret(tmp_path: Path):
    assert host("https://user:secret@example.com:8/x?key=1") == "example.com:8"
    with pytest.raises(SourceFailed) as caught:
        fetched(tmp_path, "http://127.0.0.1:1/x?key=secret")
    assert "secret" not in caught.value.line()


def test_patience_has_an_end(tmp_path: Path):
    tries = []

    def attempt() -> None:
        tries.append(1)
        raise Passing("busy", "wait")

    with Outbound(Settings(home=tmp_path), patience=0.001) as outbound, pytest.raises(SourceFailed, match="busy"):
        outbound.patiently(attempt)
    assert len(tries) == 3


def test_a_library_gets_a_client_with_the_same_manners(tmp_path: Path):
    """And a listing that it would read whole has an end."""
    with serving() as site, Outbound(Settings(home=tmp_path)) as outbound, outbound.connected() as client:
        site.add("/endless", bytes(33 << 20))
        with pytest.raises(SourceFailed, match="of listing"):
            client.get(site.url + "/endless")


@pytest.mark.parametrize(
    ("url", "said"),
    [("https://example.com/x", "example.com"), ("https://u:p@example.com:8/x", "example.com:8"),
     ("http://[::1]:9/x", "[::1]:9"), ("http://[::1/x", "an address that is none"),
     ("http://[x]/", "an address that is none"), ("//[", "an address that is none"), ("", "an address that is none"),
     ("x?key=secret", "an address that is none"),
     ("https://me:secret@/", "an address that is none"),
     ("http://a\x1b2J/x", "a\\x1b2J")],
)  # fmt: skip
def test_who_a_message_is_about(url: str, said: str):
    assert host(url) == said


@given(st.text(max_size=80))
def test_any_text_may_be_where_an_address_was(text: str):
    for url in (text, f"http://{text}", f"https://me:secret@{text}/"):
        assert host(url).isprintable()
    assert "secret" not in host(f"https://me:secret@{text.replace('/', '')}/")


@pytest.mark.parametrize("url", ["http://[::1/x", "http://[x]/", "http://", "nothing", "ftp://h/x", "http://h:99999/x"])
@pytest.mark.parametrize("offline", [False, True])
def test_an_address_that_is_none_is_refused(tmp_path: Path, url: str, offline: bool):
    with Outbound(Settings(home=tmp_path, offline=offline), patience=0.001) as outbound:
        with pytest.raises(Forbidden if offline else SourceFailed) as caught:
            outbound.document(url)
    assert caught.value.line().isprintable()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, None), (206, None), (301, SourceFailed), (400, SourceFailed), (401, Forbidden), (403, Forbidden),
     (404, NotFound), (410, NotFound), (418, SourceFailed), (429, RateLimited),
     (500, SourceFailed), (599, SourceFailed)],
)  # fmt: skip
def test_what_each_status_means(tmp_path: Path, status: int, kind: type[FreeholdError] | None):
    with serving() as site, Outbound(Settings(home=tmp_path), patience=0.001) as outbound:
        site.fault("/x", lambda handler: handler.answer(status, b"body"))
        if kind is None:
            assert outbound.document(site.url + "/x") == b"body"
            return
        with pytest.raises(FreeholdError) as caught:
            outbound.document(site.url + "/x?key=secret")
    assert type(caught.value) is kind
    assert "secret" not in caught.value.line()


@pytest.mark.parametrize("location", ["", "http://[::1/x", "http://h:99999/", "\x1b[2J", "http://", "%", "?" * 9000])
def test_a_server_that_leads_nowhere(tmp_path: Path, location: str):
    with serving() as site:
        site.fault("/x", lambda handler: handler.answer(302, location=location))
        with pytest.raises(FreeholdError) as caught:
            fetched(tmp_path, site.url + "/x")
    assert caught.value.line().isprintable()


def test_the_largest_document_that_is_taken(tmp_path: Path):
    with serving() as site, Outbound(Settings(home=tmp_path)) as outbound:
        site.add("/x", b"x" * 1000)
        assert len(outbound.document(site.url + "/x", limit=1000)) == 1000
        with pytest.raises(SourceFailed, match="more than 999 bytes where a listing belongs"):
            outbound.document(site.url + "/x", limit=999)


def test_pauses_grow_and_are_as_long_as_the_server_asks(tmp_path: Path):
    waits: list[float] = []
    with Outbound(Settings(home=tmp_path), patience=1.0) as outbound:
        for number in range(5):
            outbound.pause(number, Passing("busy", "wait"), waits.append)
        outbound.pause(0, Passing("busy", "wait", wait=50.0), waits.append)
        with pytest.raises(RateLimited, match="busy"):
            outbound.pause(0, Passing("busy", "wait", wait=121.0, lasting=RateLimited), waits.append)
        with pytest.raises(SourceFailed):
            outbound.pause(5, Passing("busy", "wait"), waits.append)
    assert all(0.25 * 2**number <= wait <= 0.5 * 2**number for number, wait in enumerate(waits[:5]))
    assert waits[5:] == [50.0]


def test_a_rate_of_nothing_is_no_limit():
    before = time.monotonic()
    Throttle(0).take(1 << 40)
    assert time.monotonic() - before < 1
