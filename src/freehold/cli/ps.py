"""List the models that the server has loaded."""

from freehold.cli._options import Home, Json, Quiet
from freehold.cli._output import emit, note, size, table
from freehold.cli._server import call, running
from freehold.core.settings import load
from freehold.serving.state import Workers


def command(json: Json = False, quiet: Quiet = False, home: Home = None) -> None:
    """List the models that the server has loaded."""
    state = running(load({"home": home}))
    told = call(state, "GET", "/freehold/v1/workers", Workers) if state else Workers([])
    if json:
        server = {"url": state.url, "pid": state.pid} if state else None
        emit({"server": server, "workers": told.workers, "loading": told.loading})
        return
    rows = [[w.model, w.task, size(w.memory), str(w.context_length), str(w.busy), str(w.served)] for w in told.workers]
    rows += [[each.model, f"loading {each.part:.0%}", "", "", "", ""] for each in told.loading]
    table(["NAME", "TASK", "MEMORY", "CONTEXT", "BUSY", "SERVED"], rows)
    note("no server runs; 'freehold serve' starts one", quiet=quiet or state is not None)
