"""The worker process: llama.cpp's server from the xllamacpp wheel, on a Unix socket, with nothing else around it.

Run by path in isolated mode, so it imports nothing of Freehold. Reads one JSON document from stdin, writes one JSON
line to stdout when the model is loaded or cannot be, and ends when stdin closes, that is when its parent is gone.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Load the model named on stdin, serve it until stdin closes."""
    status = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # llama.cpp prints to stdout too; the status line must stay alone there
    _harden()
    wanted = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        server = _serve(wanted)
    except (RuntimeError, ValueError, OSError, ImportError) as error:
        print(json.dumps({"error": str(error)[:500]}), file=status, flush=True)
        os._exit(1)
    print(json.dumps({"ready": server.listening_address}), file=status, flush=True)
    threading.Event().wait()


def _harden() -> None:
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # the kernel should take the worker, not the server
        Path("/proc/self/oom_score_adj").write_text("500")
    with contextlib.suppress(OSError, AttributeError):  # Linux only; elsewhere stdin's end does it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _end_with_parent() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def _serve(wanted: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = wanted["model"]
    params.model_alias = {"model"}
    params.hostnames = [wanted["socket"]]
    params.n_parallel = wanted["parallel"]
    params.n_ctx = wanted["context_length"] * wanted["parallel"]
    params.n_batch = wanted["batch"]
    params.n_ubatch = wanted["ubatch"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = wanted["threads"]
    # Each stream holds one HTTP thread; health and cancelled ones need some beside.
    params.n_threads_http = 2 * wanted["parallel"] + 8
    params.cache_ram_mib = 0  # its 8 GiB default is in no memory estimate
    params.fit_params = False  # a context cut behind our back would make the estimate and the answer wrong
    params.ctx_shift = False  # never forget the start of a prompt silently
    params.offline = True
    params.ui = False
    params.endpoint_metrics = True
    params.cors_origins = ""
    if wanted["projector"]:
        params.mmproj.path = wanted["projector"]
    # What is no image for it the server would hand to ffmpeg; here there is none.
    params.video_ffmpeg_bin_dir = "/dev/null"
    if wanted["chat_template"]:
        params.chat_template = wanted["chat_template"]
    params.lora_adapters = [_adapter(*adapter) for adapter in wanted["adapters"]]
    if wanted["embedding"]:
        params.cache_prompt = False  # what is cached would be left out of the pooling
        params.kv_unified = True  # else texts of different lengths are split, and only their last pieces pooled
        params.embedding = True
        if wanted["mean_pooling"]:
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    if wanted["ranking"]:
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    _apply(params, wanted["parameters"])
    _apply(params.sampling, wanted["sampling"])
    return xllamacpp.Server(params)


def _apply(target: Any, given: dict[str, Any]) -> None:
    """Set fields; one of an enumeration is given by the end of its member's name."""
    for name, value in given.items():
        kind = type(getattr(target, name))
        if isinstance(value, str) and hasattr(kind, "__members__"):
            value = next(member for key, member in kind.__members__.items() if key.endswith(f"_{value.upper()}"))
        setattr(target, name, value)


def _adapter(path: str, scale: float) -> Any:
    import xllamacpp

    made = xllamacpp.CommonAdapterLoraInfo()
    made.path, made.scale = path, scale
    return made


if __name__ == "__main__":
    main()
