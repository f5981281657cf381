"""A gate before an application that stands in for another server: its keys, and the pages that may call it."""

import hmac
from collections.abc import Callable, Mapping, Sequence

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from freehold.core.errors import FreeholdError, Unauthorized

_ALLOWED = {"Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS", "Access-Control-Allow-Headers": "*"}


class Gate:
    """Answers browsers that ask beforehand (CORS), and turns away who shows none of the keys."""

    def __init__(
        self,
        app: ASGIApp,
        keys: Sequence[str],
        public: frozenset[str],
        pages: Callable[[str], bool],
        error: Callable[[FreeholdError], Response],
    ) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]
        self._public = public
        self._pages = pages
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        shared = self._shared(headers.get("origin", ""))

        async def sharing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_raw(shared)]
            await send(message)

        if scope["method"] == "OPTIONS":
            shared |= _ALLOWED if shared else {}
            await Response()(scope, receive, sharing)
        elif self._admits(scope["path"], headers):
            await self._app(scope, receive, sharing)
        else:
            await self._error(Unauthorized("Invalid API Key", "Send it as a bearer token"))(scope, receive, sharing)

    def _shared(self, origin: str) -> dict[str, str]:
        if not origin or not self._pages(origin):
            return {}
        credentials = {"Access-Control-Allow-Credentials": "true"} if self._keys else {}
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin", **credentials}

    def _admits(self, path: str, headers: Headers) -> bool:
        if not self._keys or path in self._public:
            return True
        kind, _, token = headers.get("authorization", "").partition(" ")
        shown = (token.strip() if kind.lower() == "bearer" else "") or headers.get("x-api-key", "")
        sent = (shown.encode("latin-1"), shown.encode())  # a client writes a key's letters in UTF-8, or in Latin-1
        return sum(hmac.compare_digest(each, key) for key in self._keys for each in sent) > 0  # all: time tells nothing


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Their names as they are: some clients of llama-server look for these letters."""
    return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
