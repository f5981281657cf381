"""Where the server listens: a loopback address and port, and the ports where clients of other tools look."""

import errno
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches

from freehold.core.errors import BadInput, Conflict
from freehold.core.settings import Settings

USUAL = {"ollama": 11434, "lmstudio": 1234, "llamacpp": 8080}
"""The ports of other tools."""


def check(settings: Settings) -> None:
    """Raises BadInput for an address that other machines reach, and for a tool whose port is not known."""
    _require_loopback(settings.host)
    for tool in settings.also:
        if tool not in USUAL:
            near = get_close_matches(tool, USUAL, 1, 0.5)
            remedy = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(USUAL)}"
            raise BadInput(f"no usual port of {tool[:40]!r} is known", remedy)


@contextmanager
def sockets(settings: Settings) -> Iterator[list[socket.socket]]:
    """Those to be served, the first on the settings' own port. Raises Conflict when one is taken, and BadInput."""
    ports = dict.fromkeys([settings.port, *(USUAL[tool] for tool in settings.also)])
    with ExitStack() as stack:
        yield [stack.enter_context(_bound(settings.host, port)) for port in ports]


def _require_loopback(host: str) -> None:
    if host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise BadInput(
            f"{host} can be reached from other machines and no keys exist", "Serve on 127.0.0.1 (--host 127.0.0.1)"
        )


def _bound(name: str, port: int) -> socket.socket:
    host = "127.0.0.1" if name == "localhost" else name
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle off only where the protocol is named; left on, each answer waits 40 ms for an acknowledgement
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(2048)
    except OSError as error:
        bound.close()
        if error.errno != errno.EADDRINUSE:
            raise BadInput(f"cannot listen on {name} port {port}: {error.strerror}", "Choose another") from error
        tool = next((tool for tool, usual in USUAL.items() if usual == port), "")
        remedy = (
            f"Stop {tool}, or the program in its place, or leave it out of --also"
            if tool
            else "Stop the program that uses it, or choose another with --port or FREEHOLD_PORT (0 takes a free one)"
        )
        raise Conflict(f"port {port} on {name} is taken", remedy) from error
    return bound
