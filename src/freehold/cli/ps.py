"""List the models that the server has loaded."""

from freehold.cli._options import Home, Json, Quiet
from freehold.cli._output import emit, note, size, table
from freehold.cli._server import call, running
from freehold.core.settings import load
from freehold.serving.state import Workers


def command(json: Json = False, quiet: Quiet = False, home: Home = None) -> None:
    """List the models that the server has loaded."""
    state = running(load({"home": home}))
    workers = call(state, "GET", "/freehold/v1/workers", Workers).workers if state else []
    if json:
        emit({"server": {"url": state.url, "pid": state.pid} if state else None, "workers": workers})
        return
    rows = [[w.model, w.task, size(w.memory), str(w.context_length), str(w.busy), str(w.served)] for w in workers]
    table(["NAME", "TASK", "MEMORY", "CONTEXT", "BUSY", "SERVED"], rows)
    note("no server runs; 'freehold serve' starts one", quiet=quiet or state is not None)
