"""Unload a model, or stop the server."""

import os
import signal
import time
from typing import Annotated

import typer

from freehold.cli._options import Home, Json, Quiet
from freehold.cli._output import emit, line, note
from freehold.cli._server import call, running
from freehold.core.errors import BadInput, NotFound, Timeout
from freehold.core.settings import Settings, load
from freehold.serving.state import ServerState, Stopped

_PATIENCE = 20.0
"""Seconds; the server lets running answers go on for ten."""


def command(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The model to unload.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Unload every model.")] = False,
    server: Annotated[bool, typer.Option("--server", help="Stop the server itself.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Unload a model, or stop the server. Answers that it is giving end with an error."""
    if (bool(name), everything, server).count(True) != 1:
        raise BadInput(
            "say what to stop", "Use 'freehold stop NAME', 'freehold stop --all' or 'freehold stop --server'"
        )
    settings = load({"home": home})
    state = running(settings)
    if state is None:
        raise NotFound("no server runs", "Start one with 'freehold serve'")
    if server:
        _stop_server(settings, state)
        if json:
            emit({"server": state.pid})
        else:
            line("stopped the server")
        return
    order = {"all": True} if everything else {"model": name}
    stopped = call(state, "POST", "/freehold/v1/workers/stop", Stopped, order).stopped
    if json:
        emit({"stopped": stopped})
    elif stopped:
        line(f"unloaded {name or f'{stopped} models'}")
    else:
        note(f"{name or 'nothing'} was not loaded" if name else "nothing was loaded", quiet=quiet)


def _stop_server(settings: Settings, state: ServerState) -> None:
    os.kill(state.pid, signal.SIGTERM)
    end = time.monotonic() + _PATIENCE
    while running(settings) == state:
        if time.monotonic() > end:
            raise Timeout(f"the server (pid {state.pid}) still runs", f"End it with 'kill -9 {state.pid}'")
        time.sleep(0.05)
