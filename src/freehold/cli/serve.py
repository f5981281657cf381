"""Serve the models over HTTP, as OpenAI's clients expect it."""

from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli._options import Home, Json, Quiet, opened
from freehold.cli._output import emit, flush, line, note

if TYPE_CHECKING:
    from freehold.serving.state import ServerState


def command(
    host: Annotated[str | None, typer.Option(help="Address to listen on (FREEHOLD_HOST, else 127.0.0.1).")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port (FREEHOLD_PORT, else 6464); 0 takes a free one.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Serve the models over HTTP, as OpenAI's clients expect it, until Ctrl-C or 'freehold stop --server'."""
    from freehold.serving.run import serve

    def ready(state: "ServerState") -> None:
        if json:
            emit({"url": state.url, "openai": f"{state.url}/v1", "pid": state.pid})
        else:
            line(f"serving at {state.url}; base URL for OpenAI clients: {state.url}/v1")
            note("any API key will do. Ctrl-C stops the server", quiet=quiet)
        flush()

    with opened(home, host=host, port=port) as (settings, store):
        serve(settings, store, ready)
    note("stopped", quiet=quiet)
