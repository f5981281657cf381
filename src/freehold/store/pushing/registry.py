"""A registry's HTTP routes for pushing, with credentials that go to nobody else."""

import ipaddress
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import Forbidden, FreeholdError, Timeout, WorkerFailed
from freehold.formats.reading import regular_file, shown
from freehold.store.outbound import Outbound
from freehold.store.pushing.logins import Login, login

if TYPE_CHECKING:
    from httpx2 import Response

T = TypeVar("T")
ATTEMPTS = 4
_CHUNK = 1 << 20
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_TOKEN_HOSTS = {"registry-1.docker.io": "auth.docker.io", "docker.io": "auth.docker.io"}
"""Registries whose tokens come from another host. Any other gets no password: a registry may name whom it likes."""
_AGAIN = "Check the address and the network, and run the same command again: it goes on where it was"


class _Passing(WorkerFailed):
    """A failure after which a second attempt is worthwhile."""


class Registry:
    """One repository of one registry."""

    def __init__(self, host: str, repo: str, outbound: Outbound, *, patience: float = 1.0) -> None:
        self.host = host
        scheme = "http" if is_loopback(host) else "https"
        self._base = f"{scheme}://{host}/v2/{repo}/"
        self._repo, self._patience = repo, patience
        self._token = ""
        self._http = outbound.connected()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def send(self, digest: Digest, size: int, source: Path | bytes) -> bool:
        """Bring a blob there; whether it had to be sent. Raises Forbidden, WorkerFailed and Timeout."""
        return self._patiently(lambda: self._send(digest, size, source))

    def _send(self, digest: Digest, size: int, source: Path | bytes) -> bool:
        if self._ask("HEAD", self._base + f"blobs/{digest}", (200, 404)).status_code == 200:
            return False
        begun = self._ask("POST", self._base + "blobs/uploads/", (202,))
        place = self._joined(begun.headers.get("location", ""))
        place += ("&" if urlsplit(place).query else "?") + urlencode({"digest": digest.text})
        if urlsplit(place).scheme == "http" and not is_loopback(urlsplit(place).netloc):
            raise Forbidden(f"{self.host} wants the model without encryption", "Nothing was sent; tell the registry")
        self._ask("PUT", place, (201,), source=source, size=size)
        return True

    def _joined(self, location: str) -> str:
        try:
            return urljoin(self._base, location)
        except ValueError as error:
            raise WorkerFailed(f"{self.host} names a place that is none: {shown(location)!r}", _AGAIN) from error

    def tag(self, tag: str, manifest: bytes, media_type: str) -> None:
        """Let a tag point to a manifest whose blobs are there. Raises as `send`."""
        place = self._base + f"manifests/{tag}"
        self._patiently(lambda: self._ask("PUT", place, (200, 201), source=manifest, media_type=media_type))

    def _patiently(self, attempt: Callable[[], T]) -> T:
        for number in range(ATTEMPTS):
            try:
                return attempt()
            except _Passing:
                if number == ATTEMPTS - 1:
                    raise
                time.sleep(self._patience * 2**number)
        raise FreeholdError("no attempt was made")

    def _ask(
        self,
        method: str,
        url: str,
        fine: tuple[int, ...],
        *,
        source: Path | bytes = b"",
        size: int | None = None,
        media_type: str = "application/octet-stream",
    ) -> "Response":
        """An answer with one of the statuses that are fine; once more with a token if the registry asks for one."""
        answer = self._once(method, url, source, size, media_type)
        if answer.status_code == 401 and self._same_host(url):
            self._token = self._authorise(answer.headers.get("www-authenticate", ""))
            answer = self._once(method, url, source, size, media_type)
        if answer.status_code in fine:
            return answer
        raise self._failure(method, answer)

    def _once(self, method: str, url: str, source: Path | bytes, size: int | None, media_type: str) -> "Response":
        import httpx2

        headers = {"Content-Type": media_type} if method == "PUT" else {}
        if method == "PUT":
            headers["Content-Length"] = str(len(source) if isinstance(source, bytes) else size)
        if self._token and self._same_host(url):
            headers["Authorization"] = self._token
        content = source if isinstance(source, bytes) else _read(source)
        try:
            return self._http.request(
                method, url, headers=headers, content=content if method == "PUT" else None, follow_redirects=False
            )
        except httpx2.TimeoutException as error:
            raise Timeout(f"{self.host} does not answer in time", _AGAIN) from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _Passing(f"{self.host} cannot be reached: {shown(error)}", _AGAIN) from error

    def _same_host(self, url: str) -> bool:
        return urlsplit(url)[:2] == urlsplit(self._base)[:2]

    def _failure(self, method: str, answer: "Response") -> FreeholdError:
        said = f"{self.host} answered {answer.status_code} to {method}{_message(answer)}"
        if answer.status_code in (401, 403):
            return Forbidden(said, f"Log in with 'docker login {self.host}'; its credentials are used here")
        kind = _Passing if answer.status_code in (408, 425, 429, 500, 502, 503, 504) else WorkerFailed
        return kind(said, _AGAIN)

    def _authorise(self, challenge: str) -> str:
        """The Authorization header that the challenge asks for. Raises Forbidden, WorkerFailed."""
        kind, _, rest = challenge.partition(" ")
        known = login(self.host)
        if kind.lower() == "basic":
            return f"Basic {known.basic}"
        fields = dict(_CHALLENGE.findall(rest))
        realm = fields.get("realm", "")
        parts = _split(realm)
        if kind.lower() != "bearer" or not (parts.scheme == "https" or is_loopback(parts.netloc)):
            raise Forbidden(f"{self.host} asks for a login of a kind that is not known here", "Use another registry")
        trusted = parts.netloc in (self.host, _TOKEN_HOSTS.get(self.host))
        return f"Bearer {self._fetch_token(realm, fields, known if trusted else Login())}"

    def _fetch_token(self, realm: str, fields: dict[str, str], known: Login) -> str:
        import httpx2

        asked = {"scope": f"repository:{self._repo}:pull,push", "service": fields.get("service", "")}
        try:
            answer = self._ask_for_token(realm, asked, known)
            found = msgspec.json.decode(answer.content, type=dict[str, msgspec.Raw])
            token = msgspec.json.decode(found.get("token") or found.get("access_token") or b'""', type=str)
        except (httpx2.HTTPError, httpx2.InvalidURL, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _Passing(f"{self.host} gives no token: {shown(error)}", _AGAIN) from error
        if not re.fullmatch(r"[\x21-\x7e]{1,65536}", token):
            raise Forbidden(f"{self.host} gives no token", f"Log in with 'docker login {self.host}'")
        return token

    def _ask_for_token(self, realm: str, asked: dict[str, str], known: Login) -> "Response":
        """With a password, or by refreshing a token as OAuth 2 has it (RFC 6749, section 6)."""
        if known.refresh:
            form = asked | {"grant_type": "refresh_token", "refresh_token": known.refresh, "client_id": "freehold"}
            return self._http.post(realm, data=form, follow_redirects=False)
        headers = {"Authorization": f"Basic {known.basic}"} if known.basic else {}
        return self._http.get(realm, params=asked, headers=headers, follow_redirects=False)


def _message(answer: "Response") -> str:
    try:
        text = str(msgspec.json.decode(answer.content[:65536])["errors"][0]["message"])
    except (msgspec.MsgspecError, KeyError, IndexError, TypeError, UnicodeDecodeError, RecursionError):
        return ""
    return f": {shown(text, 200)}"


def _split(url: str) -> SplitResult:
    """The pieces of an address; empty ones for what is none."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _read(path: Path) -> Iterator[bytes]:
    with regular_file(path) as (file, _):
        while chunk := file.read(_CHUNK):
            yield chunk


def is_loopback(netloc: str) -> bool:
    """Whether a host is this machine, to which plain HTTP may be spoken."""
    name = _split(f"//{netloc}").hostname or ""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
