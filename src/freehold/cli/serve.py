"""Serve the models over HTTP, for clients of OpenAI, Anthropic, Ollama and llama-server."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli._options import Home, Json, Quiet, opened
from freehold.cli._output import emit, flush, line, note
from freehold.core.settings import load

if TYPE_CHECKING:
    from freehold.serving.state import ServerState


def command(
    host: Annotated[str | None, typer.Option(help="Address to listen on (FREEHOLD_HOST, else 127.0.0.1).")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port (FREEHOLD_PORT, else 6464); 0 takes a free one.")
    ] = None,
    also: Annotated[
        str | None,
        typer.Option(metavar="TOOL[,TOOL]", help="Listen on these tools' ports too: ollama,lmstudio,llamacpp."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Serve the models over HTTP, for clients of OpenAI, Anthropic, Ollama and llama-server.

    It ends with Ctrl-C or 'freehold stop --server'. With --also it is found by clients that look for another tool.
    """
    from freehold.serving.listening import USUAL
    from freehold.serving.run import serve

    def ready(state: "ServerState") -> None:
        if json:
            emit({"url": state.url, "openai": f"{state.url}/v1", "also": ports, "pid": state.pid})
        else:
            line(f"serving at {state.url}; base URL for OpenAI clients: {state.url}/v1")
            for tool, port in ports.items():
                line(f"also where {tool} is looked for: port {port}")
            note("any API key will do. Ctrl-C stops the server", quiet=quiet)
        flush()

    tools = None if also is None else tuple(tool.strip() for tool in also.split(",") if tool.strip())
    flags: dict[str, Any] = {"host": host, "port": port, "also": tools}
    with opened(home, **flags) as (settings, store):
        ports = {tool: USUAL[tool] for tool in settings.also if tool in USUAL}
        serve(settings, store, ready, partial(load, {"home": home, **flags}))
    note("stopped", quiet=quiet)
