"""How the machine is left: proxies, certificates, secure connections that stay so."""

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold.core.errors import BadInput, SourceFailed
from freehold.core.settings import Settings
from freehold.store.outbound import Outbound, Passing, certificates, host
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
