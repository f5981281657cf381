"""Where a request may come from: programs on this machine, and pages that this server itself served.

A browser sends the cookies and reaches the loopback addresses of its user on behalf of any page (CSRF, DNS rebinding);
what gives it away is the Host it was told to ask and the Origin that it names.
"""

import re
from collections.abc import Collection

from freehold.core.errors import Forbidden

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::(?P<port>[0-9]{1,5}))?")
_SAME_SITE = frozenset({"same-origin", "none"})


def check(host: str, origin: str | None, fetch_site: str | None, allowed: Collection[str]) -> None:
    """Raises Forbidden unless Host is allowed and a browser's Origin, if any, is this server itself."""
    found = _HOST.fullmatch(host)
    if found is None or found["name"].lower() not in allowed:
        raise Forbidden(
            f"this server does not answer to the name {host[:80]!r}", "Use 127.0.0.1, or set FREEHOLD_ALLOWED_HOSTS"
        )
    if origin is not None and origin.lower() not in {f"http://{host}".lower(), f"https://{host}".lower()}:
        raise Forbidden(f"pages of {origin[:80]!r} may not use this server", "Call it from a program, not from a page")
    if fetch_site is not None and fetch_site not in _SAME_SITE:
        raise Forbidden("pages of another site may not use this server", "Call it from a program, not from a page")
