"""The command `freehold-llama-server`: llama-server's arguments and API in front of Freehold's own pool and workers."""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold import __version__
from freehold.cli._border import Border, settle_process
from freehold.cli._llama_arguments import ARGUMENTS, Given, parse
from freehold.cli._output import line, note
from freehold.core.errors import BadInput, NotFound, UnknownModel
from freehold.core.name import Name
from freehold.core.request import FOREVER
from freehold.core.settings import Settings, load

if TYPE_CHECKING:
    from freehold.serving.sole import Sole
    from freehold.serving.state import ServerState
    from freehold.store import Store

_PUBLIC = frozenset({"/health", "/v1/health", "/models", "/v1/models", "/"})
"""What llama-server answers without a key."""
_PORT = 8080
_SLOTS = 4


def main() -> None:
    """Run the command."""
    settle_process()
    with Border() as border:
        _run(sys.argv[1:])
    sys.exit(border.exit_code)


def _run(args: Sequence[str]) -> None:
    if {"-h", "--help", "--usage"} & set(args):
        _help()
        return
    if "--version" in args:
        line(f"freehold {__version__}")
        return
    given = parse(args, os.environ)
    for each in given.notes:
        note(each)
    settings = _settings(given)
    from freehold.store import Store

    with Store.open(settings.store, quota=settings.quota) as store:
        sole = _sole(given, settings, store)
        _serve(given, settings, store, sole)
        if sole is not None and sole.failure is not None:
            raise sole.failure


def _help() -> None:
    line("usage: freehold-llama-server [-m FILE.gguf | -hf USER/MODEL[:QUANT]] [arguments of llama-server]")
    line("Without a model, those of Freehold's store are served by their names.")
    for title, wanted in (("Honoured", ("own", "params", "sampling")), ("Without effect", ("idle",))):
        line(f"\n{title}:")
        for argument in ARGUMENTS:
            if argument.to.partition(".")[0] in wanted:
                line(f"  {argument.names.replace(' ', ', ')}{f', {argument.off}' if argument.off else ''}")


def _settings(given: Given) -> Settings:
    """Ours, as the arguments change them."""
    own = given.own
    slots = own.get("parallel", -1)
    slots = _SLOTS if slots < 1 else slots
    sleep = own.get("sleep", -1)
    flags: dict[str, Any] = {
        "host": own.get("host", "127.0.0.1").split(",")[0].strip(),
        "port": own.get("port", _PORT),
        "parallel": slots,
        "threads": max(0, own.get("threads", 0)) or None,
        "queue": 100_000,
        "queue_tokens": 1 << 40,
        "queue_seconds": 86400.0,
        "keep_alive": float(sleep) if sleep >= 0 else FOREVER,
        "scrub_rate": 0,
        "also": (),
        "pinned": (),
        "offline": True if own.get("offline") else None,
    }
    if given.params.get("n_ctx") and not _wants_model(given):
        flags["context_length"] = max(16, given.params["n_ctx"] // slots)
    return load(flags)


def _wants_model(given: Given) -> bool:
    return bool(given.own.get("model") or given.own.get("hf_repo"))


def _sole(given: Given, settings: Settings, store: "Store") -> "Sole | None":
    """The model that is asked for; None where all of the store are served."""
    if not _wants_model(given):
        return None
    from freehold.engines.base import Launch
    from freehold.formats import gguf
    from freehold.serving.ready import Own
    from freehold.serving.sole import Sole

    own = given.own
    ranking = own.get("reranking", False) or given.params.get("pooling_type") == "rank"
    folder = Path(own["slot_folder"]).absolute() if own.get("slot_folder") else None
    path = Path(own["model"]).expanduser().absolute() if own.get("model") else None
    if path and not path.is_file() and (path.suffix == ".gguf" or own["model"].startswith(("/", ".", "~"))):
        raise NotFound(f"there is no model file {path}", "Check the path after -m")
    catalogued = None if path and path.is_file() else Own(store, _named(own, settings, store))
    sole = Sole(
        None if catalogued else path,
        own=catalogued,
        aliases=tuple(sorted({alias.strip() for alias in own.get("alias", "").split(",") if alias.strip()})),
        tags=tuple(tag.strip() for tag in own.get("tags", "").split(",") if tag.strip()),
        launch=Launch(_parameters(given, folder), given.sampling),
        embedding=own.get("embedding", False) or ranking,
        ranking=ranking,
        chat_template=_template(own),
        adapters=tuple(Path(each).absolute() for each in own.get("lora", ())),
        projector=Path(own["mmproj"]).expanduser().absolute() if own.get("mmproj") else None,
        blind=not own.get("mmproj_auto", True),
        slots=own.get("slots", True),
        metrics=own.get("metrics", False),
        verbose=own.get("verbose", False),
        slot_folder=folder,
    )
    if sole.path is not None:
        gguf.read_header(sole.path)  # what cannot be loaded is said before anybody waits for it
    sole.eye()
    return sole


def _named(own: dict[str, Any], settings: Settings, store: "Store") -> Name:
    """The model in the catalog that -m or -hf names; one of the Hub is pulled if it is not there."""
    if own.get("model"):
        return Name.parse(own["model"])
    text = own["hf_repo"] if not own.get("hf_file") else f"{own['hf_repo'].partition(':')[0]}/{own['hf_file']}"
    name = Name.parse(own["hf_repo"])
    try:
        store.resolve(name)
    except UnknownModel:
        from freehold.core.reference import parse as reference
        from freehold.store import pulling
        from freehold.store.outbound import Outbound

        with Outbound(settings) as outbound:
            offer = pulling.look(reference(f"hf.co/{text}"), outbound)
            pulling.take(store, outbound, offer, name)
    return name


def _parameters(given: Given, folder: Path | None) -> dict[str, Any]:
    """llama-server's own defaults, where they differ from those of our workers, under what is given."""
    params = {"n_batch": 2048, "n_ubatch": 512, "slot_prompt_similarity": 0.1, **given.params}
    params["n_ubatch"] = min(params["n_ubatch"], params["n_batch"])
    if "kv_offload" in params:
        params["no_kv_offload"] = not params.pop("kv_offload")
    if folder is not None:
        params["slot_save_path"] = f"{folder}/"
    return params


def _template(own: dict[str, Any]) -> str:
    file = own.get("chat_template_file")
    return _text_of(file, "--chat-template-file") if file else str(own.get("chat_template", ""))


def _text_of(file: str, option: str) -> str:
    try:
        return Path(file).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{option}: {file} is not UTF-8 (byte {error.start})", "Give a text file") from error


def _serve(given: Given, settings: Settings, store: "Store", sole: "Sole | None") -> None:
    from freehold.dialects.anthropic.routes import DIALECT as anthropic
    from freehold.dialects.llamacpp.routes import ALONE, VERTEX
    from freehold.dialects.openai.routes import DIALECT as openai
    from freehold.serving import listening
    from freehold.serving.app import create_app
    from freehold.serving.gate import Gate
    from freehold.serving.run import serve_unrecorded
    from freehold.serving.state import ServerState

    own_dialect = VERTEX if os.environ.get("AIP_MODE") == "PREDICTION" else ALONE
    keys = _keys(given)
    pages = partial(_is_page, _origins(given, keys))
    if sole is not None:
        sole.loaded = False
        sole.on_failure = lambda error: signal.raise_signal(signal.SIGTERM)
    app = create_app(settings, store, dialects=[own_dialect, openai, anthropic], sole=sole, pages=pages)
    hosts = [host.strip() for host in given.own.get("host", "127.0.0.1").split(",")]
    with ExitStack() as stack:
        sockets = []
        for host in hosts:
            listening.require_loopback(host)
            sockets.append(stack.enter_context(listening.bound(host, settings.port)))
        state = ServerState.here(*sockets[0].getsockname()[:2])
        gated = Gate(app, keys, _PUBLIC, pages, own_dialect.error)
        serve_unrecorded(gated, app.state.desk, state, sockets, _say)


def _say(state: "ServerState") -> None:
    line(f"server is listening on {state.url}")
    sys.stdout.flush()


def _keys(given: Given) -> list[str]:
    """The keys that are asked for. Raises BadInput where some were to be and none is: all would be let in."""
    keys = list(given.own.get("api_key", []))
    if given.own.get("api_key_file"):
        keys += _text_of(given.own["api_key_file"], "--api-key-file").splitlines()
    found = [key.strip() for key in keys if key.strip()]
    if not found and {"api_key", "api_key_file"} & given.own.keys():
        raise BadInput("--api-key and --api-key-file hold no key", "Give one, or leave them out")
    return found


def _origins(given: Given, keys: Sequence[str]) -> frozenset[str]:
    """The pages that may call. Any may where a key is asked for: a page of somebody else's has none.

    Raises BadInput for any page without a key, which llama-server would allow.
    """
    wanted = given.own.get("cors_origins")
    if wanted is None:
        return frozenset({"*"} if keys else ())
    names = frozenset(name.strip().lower() for name in wanted.split(",") if name.strip())
    if "*" in names and not keys:
        raise BadInput("--cors-origins '*' lets every page of the web use the model", "Set --api-key too")
    return names


def _is_page(allowed: frozenset[str], origin: str) -> bool:
    from urllib.parse import urlsplit

    if "*" in allowed or origin.lower() in allowed:
        return True
    try:
        name = urlsplit(origin).hostname
    except ValueError:
        return False
    return "localhost" in allowed and name in ("localhost", "127.0.0.1", "::1")
