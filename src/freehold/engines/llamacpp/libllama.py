"""llama.cpp's C API from the xllamacpp wheel, as far as scoring and tuning need it. Only child processes load it.

The wheel exports these functions by accident and says no build number, so the binding is for the versions of BUILDS
and refuses another, or one whose structures are not laid out as they are here (llama.h, ggml.h).
"""

import ctypes
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from freehold.engines import wheel

BUILDS = ("2026.10.11549",)
"""Versions of the wheel whose structures were compared with those below."""
_REMEDY = "Reinstall xllamacpp in the version that freehold asks for"
_P, _I, _U, _F, _B = ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint32, ctypes.c_float, ctypes.c_bool
_I64, _SIZE = ctypes.c_int64, ctypes.c_size_t
_TENSOR_OVERHEAD = 32
"""Bytes of ggml's own object around each tensor."""
NAME_BYTES = 64


class ModelParams(ctypes.Structure):
    """llama_model_params."""

    _fields_ = (
        *((name, _P) for name in ("devices", "overrides")),
        *((name, _I) for name in ("n_gpu_layers", "split_mode", "load_mode", "lazy_mode", "main_gpu")),
        *((name, _P) for name in ("tensor_split", "progress", "progress_data", "kv_overrides")),
        *((name, _B) for name in ("vocab_only", "check_tensors", "extra_bufts", "no_host", "no_alloc", "load_mtp")),
    )


class ContextParams(ctypes.Structure):
    """llama_context_params. This build has one pointer more than the sources of its version."""

    _fields_ = (
        *((name, _U) for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq", "n_out", "n_out_seq")),
        *((name, _I) for name in ("n_threads", "n_threads_batch", "ctx_type", "rope_scaling", "pooling", "attention")),
        ("flash_attn", _I),
        *((name, _F) for name in ("rope_base", "rope_scale", "yarn_ext", "yarn_attn", "yarn_fast", "yarn_slow")),
        ("yarn_orig", _U),
        ("defrag", _F),
        *((name, _P) for name in ("cb_eval", "cb_eval_data")),
        *((name, _I) for name in ("type_k", "type_v")),
        *((name, _P) for name in ("abort", "abort_data", "unnamed")),
        *((name, _B) for name in ("embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full", "kv_unified")),
        ("samplers", _P),
        ("n_samplers", _SIZE),
        ("ctx_other", _P),
    )


class Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = (
        ("n_tokens", _I),
        ("token", ctypes.POINTER(_I)),
        ("embd", _P),
        ("pos", ctypes.POINTER(_I)),
        ("n_seq_id", ctypes.POINTER(_I)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(_I))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )


class Tensor(ctypes.Structure):
    """ggml_tensor."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", _P),
        ("ne", _I64 * 4),
        ("nb", _SIZE * 4),
        ("op", ctypes.c_int),
        ("op_params", _I * 16),
        ("flags", _I),
        ("src", _P * 10),
        ("view_src", _P),
        ("view_offs", _SIZE),
        ("data", _P),
        ("name", ctypes.c_char * NAME_BYTES),
        ("extra", _P),
        ("padding", ctypes.c_char * 8),
    )


LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, _P)
EVAL = ctypes.CFUNCTYPE(_B, ctypes.POINTER(Tensor), _B, _P)
"""ggml_backend_sched_eval_callback: the node, whether it is asked for (else: computed), our data."""
_SIGNATURES: dict[str, tuple[Any, Sequence[Any]]] = {
    "llama_backend_init": (None, ()),
    "llama_log_set": (None, (LOG, _P)),
    "llama_model_default_params": (ModelParams, ()),
    "llama_context_default_params": (ContextParams, ()),
    "llama_model_load_from_file": (_P, (ctypes.c_char_p, ModelParams)),
    "llama_init_from_model": (_P, (_P, ContextParams)),
    "llama_model_free": (None, (_P,)),
    "llama_model_get_vocab": (_P, (_P,)),
    "llama_model_has_decoder": (_B, (_P,)),
    "llama_model_has_encoder": (_B, (_P,)),
    "llama_vocab_n_tokens": (_I, (_P,)),
    "llama_vocab_bos": (_I, (_P,)),
    "llama_vocab_eos": (_I, (_P,)),
    "llama_vocab_get_add_bos": (_B, (_P,)),
    "llama_vocab_get_add_eos": (_B, (_P,)),
    "llama_tokenize": (_I, (_P, ctypes.c_char_p, _I, ctypes.POINTER(_I), _I, _B, _B)),
    "llama_token_to_piece": (_I, (_P, _I, ctypes.c_char_p, _I, _I, _B)),
    "llama_batch_init": (Batch, (_I, _I, _I)),
    "llama_batch_free": (None, (Batch,)),
    "llama_decode": (_I, (_P, Batch)),
    "llama_get_logits": (ctypes.POINTER(_F), (_P,)),
    "llama_get_memory": (_P, (_P,)),
    "llama_memory_clear": (None, (_P, _B)),
    "llama_adapter_lora_init": (_P, (_P, ctypes.c_char_p)),
    "llama_set_adapters_lora": (_I, (_P, ctypes.POINTER(_P), _SIZE, ctypes.POINTER(_F))),
    "ggml_op_name": (ctypes.c_char_p, (ctypes.c_int,)),
    "ggml_nbytes": (_SIZE, (ctypes.POINTER(Tensor),)),
    "ggml_backend_tensor_get": (None, (ctypes.POINTER(Tensor), _P, _SIZE, _SIZE)),
    "ggml_tensor_overhead": (_SIZE, ()),
}
_MODEL_DEFAULTS = {"n_gpu_layers": -1, "split_mode": 1, "main_gpu": 0, "vocab_only": False, "extra_bufts": True}
_CONTEXT_DEFAULTS = {
    "n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "rope_scaling": -1, "pooling": -1, "attention": -1,
    "flash_attn": -1, "yarn_ext": -1.0, "defrag": -1.0, "type_k": 1, "type_v": 1, "embeddings": False,
    "offload_kqv": True, "no_perf": True, "op_offload": True, "swa_full": True, "kv_unified": False, "n_samplers": 0,
}  # fmt: skip
"""What this build sets: were a field before them of another size, they would not read so."""


class LlamaError(Exception):
    """llama.cpp could not do it."""


class BadLibraryError(Exception):
    """The wheel's library is missing, or is not the one that this binding was written for."""


def _ignore(level: int, text: bytes, data: object) -> None:
    """llama.cpp's log: what matters comes back as an error."""


_SILENT = LOG(_ignore)


def load(builds: Sequence[str] = BUILDS) -> Any:
    """The library with its functions declared and its structures checked. Raises BadLibraryError."""
    found = wheel.version()
    if found not in builds:
        raise BadLibraryError(f"xllamacpp {found or 'is not installed'}: scoring knows {', '.join(builds)}. {_REMEDY}")
    paths = wheel.libraries()
    if not paths:
        raise BadLibraryError(f"xllamacpp {found} has no shared library. {_REMEDY}")
    library = _declared(paths[0])
    wrong = faults(library)
    if wrong:
        raise BadLibraryError(f"xllamacpp {found} is laid out differently ({wrong[0]}). {_REMEDY}")
    library.llama_log_set(_SILENT, None)
    library.llama_backend_init()
    return library


def _declared(path: Path) -> Any:
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, list(arguments)
    except (OSError, AttributeError) as error:
        raise BadLibraryError(f"{path.name}: {error}. {_REMEDY}") from error
    return library


def faults(library: Any) -> list[str]:
    """The self-test: what in the library is not as declared here; nothing when all is well."""
    wrong = []
    for function, structure, defaults in (
        ("llama_model_default_params", ModelParams, _MODEL_DEFAULTS),
        ("llama_context_default_params", ContextParams, _CONTEXT_DEFAULTS),
    ):
        # First: were the structure too short, calling the function as declared would write past its end.
        written = _written(library, function)
        if written is not None and not ctypes.sizeof(structure) - 8 < written <= ctypes.sizeof(structure):
            wrong.append(f"{function} writes {written} bytes of {ctypes.sizeof(structure)}")
            continue
        params = getattr(library, function)()
        wrong += [
            f"{name} is {getattr(params, name)}" for name, value in defaults.items() if getattr(params, name) != value
        ]
    size = library.ggml_tensor_overhead() - _TENSOR_OVERHEAD
    if size != ctypes.sizeof(Tensor):
        wrong.append(f"a tensor has {size} bytes of {ctypes.sizeof(Tensor)}")
    return wrong


def _written(library: Any, function: str) -> int | None:
    """How many bytes a function that returns a structure fills in; None where the ABI hides it."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    # A large structure is returned through a pointer that is the first argument (System V ABI for x86-64, 3.2.3).
    call = ctypes.CFUNCTYPE(_P, _P)(ctypes.cast(getattr(library, function), _P).value or 0)
    outcomes = []
    for fill in (0xA5, 0x5A):
        buffer = (ctypes.c_ubyte * 1024)(*([fill] * 1024))
        call(ctypes.addressof(buffer))
        outcomes.append(bytes(buffer))
    return max((i + 1 for i in range(1024) if outcomes[0][i] == outcomes[1][i]), default=0)
