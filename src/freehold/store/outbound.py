"""The one client for everything that leaves this machine: models' sources speak through it, huggingface_hub too.

It refuses when the settings say offline, bounds redirects and never takes a credential or a secure connection to
another place with them, waits as servers ask, and gives up on those that stall. Proxies (HTTPS_PROXY, NO_PROXY) and
certificates (SSL_CERT_FILE, SSL_CERT_DIR, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE) are taken from the environment.
"""

import email.utils
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from freehold import __version__
from freehold.core.errors import BadInput, Forbidden, FreeholdError, NotFound, RateLimited, SourceFailed, Timeout
from freehold.core.settings import Settings
from freehold.formats.reading import shown

if TYPE_CHECKING:
    import ssl

    from httpx2 import Client, Request, Response

T = TypeVar("T")
MAX_REDIRECTS = 5
MAX_DOCUMENT = 32 << 20
"""Bytes of a listing or manifest; only models' files are larger, and these are never held in memory."""
ATTEMPTS = 6
"""For a file; a listing, of which nothing is lost, is asked for half as often."""
LONGEST_WAIT = 120.0
"""Seconds; a server that asks for more is told to the user instead."""
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_OFFLINE = "Unset FREEHOLD_OFFLINE (or HF_HUB_OFFLINE) to let Freehold fetch, or pull a local file"
_UNREACHED = "Check the address, the network and HTTPS_PROXY, and run the same command again: it resumes"
_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_FILE = "freehold_file"


class Passing(SourceFailed):
    """A failure that may be gone in a while; `wait` is how many seconds the server asked for."""

    def __init__(
        self, message: str, remedy: str, *, wait: float = 0.0, lasting: type[FreeholdError] = SourceFailed
    ) -> None:
        super().__init__(message, remedy)
        self.wait, self._lasting = wait, lasting

    def last(self) -> FreeholdError:
        """The error to show when it did not pass."""
        return self._lasting(self.message, self.remedy)


class Throttle:
    """Lets bytes pass at a rate, together for all threads."""

    def __init__(self, rate: int = 0) -> None:
        self._rate, self._lock, self._due = rate, threading.Lock(), 0.0

    def take(self, count: int) -> None:
        """Wait until `count` more bytes may have passed."""
        if not self._rate:
            return
        with self._lock:
            now = time.monotonic()
            self._due = max(self._due, now) + count / self._rate
            wait = self._due - now
        time.sleep(wait)


class Outbound:
    """An HTTP client with the house's manners. Threads may share one. `stall` is in seconds, `limit_rate` in bytes/s.

    Every method raises Forbidden when offline or refused, NotFound, RateLimited, Timeout, SourceFailed.
    """

    def __init__(self, settings: Settings, *, limit_rate: int = 0, stall: float = 30.0, patience: float = 1.0) -> None:
        self.offline = settings.offline
        self.stall, self.throttle = stall, Throttle(limit_rate)
        self._patience = patience
        self._client: Client | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            self._client.close()

    @property
    def client(self) -> "Client":
        """The HTTP library's client, connected when it is first needed."""
        with self._lock:
            if self._client is None:
                self._client = self.connected()
            return self._client

    def connected(self) -> "Client":
        """A client of the same manners, for a library that wants one of its own and closes it."""
        import httpx2

        return httpx2.Client(
            verify=certificates(),
            headers={"User-Agent": f"freehold/{__version__}", "Accept-Encoding": "identity"},
            timeout=httpx2.Timeout(self.stall, connect=min(self.stall, 20.0), pool=None),
            follow_redirects=True,
            max_redirects=MAX_REDIRECTS,
            event_hooks={"request": [self._before], "response": [_after]},
        )

    def _before(self, request: "Request") -> None:
        self.refuse_offline(str(request.url.host))

    def refuse_offline(self, what: str) -> None:
        """Raises Forbidden when no packet may leave the machine."""
        if self.offline:
            raise Forbidden(f"offline: {shown(what)} was not asked", _OFFLINE)

    @contextmanager
    def open(self, url: str, headers: Mapping[str, str] | None = None) -> "Iterator[Response]":
        """The answer to a GET, its body not yet read. Raises Passing for what is worth another try."""
        self.refuse_offline(host(url))
        with translated(url):
            request = self.client.build_request("GET", url, headers=dict(headers or {}))
            request.extensions[_FILE] = True
            response = self.client.send(request, stream=True)
            try:
                _check_status(response, url)
                yield response
            finally:
                response.close()

    def document(self, url: str, headers: Mapping[str, str] | None = None, limit: int = MAX_DOCUMENT) -> bytes:
        """A small body, whole, after as many tries as it takes."""
        return self.patiently(lambda: self._document(url, headers, limit))

    def _document(self, url: str, headers: Mapping[str, str] | None, limit: int) -> bytes:
        with self.open(url, headers) as response:
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > limit:
                    raise SourceFailed(f"{host(url)} sent more than {limit} bytes where a listing belongs", _UNREACHED)
            return bytes(body)

    def patiently(self, attempt: Callable[[], T]) -> T:
        """What `attempt` gives, tried again with growing pauses while it raises Passing."""
        number = 0
        while True:
            try:
                return attempt()
            except Passing as error:
                self.pause(number, error, last=ATTEMPTS // 2 - 1)
            number += 1

    def pause(
        self,
        number: int,
        error: Passing,
        wait: Callable[[float], object] = time.sleep,
        last: int = ATTEMPTS - 1,
    ) -> None:
        """Wait before the try after the `number`-th, counted from 0. Raises what to say when it was the last."""
        if number >= last or error.wait > LONGEST_WAIT:
            raise error.last() from error
        wait(max(error.wait, self._patience * 0.5 * 2**number * random.uniform(0.5, 1.0)))  # noqa: S311


def host(url: str) -> str:
    """Who a message is about; never the whole address, since that can hold a key."""
    try:
        name = urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        name = ""
    return shown(name) or "an address that is none"


def certificates() -> "ssl.SSLContext":
    """Whom to believe: the bundle that the environment names, else the system's. Raises BadInput."""
    import ssl

    named = next((n for n in _BUNDLES if os.environ.get(n)), None)
    path = Path(os.environ[named]) if named else None
    try:
        if path is not None and path.is_dir():
            return ssl.create_default_context(capath=str(path))
        return ssl.create_default_context(cafile=str(path) if path else None)
    except OSError as error:
        raise BadInput(f"{named} names {shown(path, 300)}, which holds no certificates", f"Correct {named}") from error


def _after(response: "Response") -> None:
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise SourceFailed(f"{host(str(response.url))} packs with {shown(encoding, 40)!r} unasked", _UNREACHED)
    if response.has_redirect_location:
        _check_redirect(response)
    elif _FILE not in response.request.extensions:
        response.stream = _bounded(response.stream, str(response.url))


def _check_redirect(response: "Response") -> None:
    there = response.url.join(response.headers["location"])
    if there.scheme not in ("http", "https") or (response.url.scheme == "https" and there.scheme == "http"):
        raise SourceFailed(
            f"{host(str(response.url))} leads from a secure to an insecure place", "Fetch the file in another way"
        )


def _bounded(stream: Any, url: str) -> Any:
    from httpx2 import SyncByteStream

    class Bounded(SyncByteStream):
        """A library reads whole bodies into memory: none that is too large."""

        def __iter__(self) -> Iterator[bytes]:
            seen = 0
            for chunk in stream:
                seen += len(chunk)
                if seen > MAX_DOCUMENT:
                    raise SourceFailed(f"{host(url)} sent more than {MAX_DOCUMENT} bytes of listing", _UNREACHED)
                yield chunk

        def close(self) -> None:
            stream.close()

    return Bounded()


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Our errors for the library's."""
    import httpx2

    try:
        yield
    except httpx2.TooManyRedirects as error:
        raise SourceFailed(f"{host(url)} redirects more than {MAX_REDIRECTS} times", _UNREACHED) from error
    except httpx2.TimeoutException as error:
        raise stalled(url) from error
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
        raise SourceFailed(
            f"{host(url)} leads to an address that cannot be used: {shown(error)}", _UNREACHED
        ) from error
    except httpx2.TransportError as error:
        certificate = "certificate" in str(error).lower()
        kind = SourceFailed if certificate else Passing
        remedy = "Set SSL_CERT_FILE to your organisation's certificates" if certificate else _UNREACHED
        raise kind(f"cannot reach {host(url)}: {shown(error) or type(error).__name__}", remedy) from error


def stalled(url: str) -> Passing:
    """The error for a server that sends nothing, or too slowly to be waited for."""
    return Passing(f"{host(url)} stalled: it sent too little for too long", _UNREACHED, lasting=Timeout)


def _check_status(response: "Response", url: str) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    check_passing(response)
    where = host(str(response.url))
    if status in (404, 410):
        raise NotFound(f"{where} has no {shown(urlsplit(url).path)}", "Check the name and the address")
    if status in (401, 403):
        raise Forbidden(
            f"{where} refuses to give {shown(urlsplit(url).path)} ({status})", "Log in there, or ask for access"
        )
    raise SourceFailed(_answer(response), _UNREACHED)


def check_passing(response: "Response") -> None:
    """Raises Passing for an answer that may be another in a while."""
    if response.status_code in _PASSING:
        wait = retry_after(response.headers.get("retry-after", ""))
        lasting = RateLimited if response.status_code == 429 else SourceFailed
        raise Passing(_answer(response), _later(wait), wait=wait, lasting=lasting)


def _answer(response: "Response") -> str:
    return f"{host(str(response.url))} answers {response.status_code} ({shown(response.reason_phrase, 60)})"


def retry_after(text: str) -> float:
    """Seconds that a server asks to wait, given as a number or a date; 0 when it does not say."""
    if text.strip().isdecimal():
        return float(text)
    try:
        date = email.utils.parsedate_tz(text)
        return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else 0.0
    except (ValueError, OverflowError, IndexError):  # a day that no calendar has
        return 0.0


def _later(wait: float) -> str:
    when = f"It asks to wait {wait:.0f} s: run" if wait else "Wait a while and run"
    return f"{when} the same command again, which resumes"
