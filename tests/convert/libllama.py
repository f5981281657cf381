"""llama.cpp's C API from the xllamacpp wheel, as far as tests need it: tokenise, and logits for every position.

Structures as in llama.h of the version that pyproject.toml pins.
"""

import ctypes
from importlib.util import find_spec
from pathlib import Path

import numpy as np

_P, _I, _U, _F, _B = ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint32, ctypes.c_float, ctypes.c_bool


class ModelParams(ctypes.Structure):
    _fields_ = [
        *((name, _P) for name in ("devices", "overrides")),
        *((name, _I) for name in ("n_gpu_layers", "split_mode", "load_mode", "lazy_mode", "main_gpu")),
        *((name, _P) for name in ("tensor_split", "progress", "progress_data", "kv_overrides")),
        *((name, _B) for name in ("vocab_only", "check_tensors", "extra_bufts", "no_host", "no_alloc", "load_mtp")),
    ]


class ContextParams(ctypes.Structure):
    _fields_ = [
        *((name, _U) for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq", "n_out", "n_out_seq")),
        *((name, _I) for name in ("n_threads", "n_threads_batch", "ctx_type", "rope_scaling", "pooling", "attention")),
        ("flash_attn", _I),
        *((name, _F) for name in ("rope_base", "rope_scale", "yarn_ext", "yarn_attn", "yarn_fast", "yarn_slow")),
        ("yarn_orig", _U),
        ("defrag", _F),
        *((name, _P) for name in ("cb_eval", "cb_eval_data")),
        *((name, _I) for name in ("type_k", "type_v")),
        *((name, _P) for name in ("abort", "abort_data", "unused")),
        *((name, _B) for name in ("embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full", "kv_unified")),
        ("samplers", _P),
        ("n_samplers", ctypes.c_size_t),
        ("ctx_other", _P),
    ]


class Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", _I),
        ("token", ctypes.POINTER(_I)),
        ("embd", _P),
        ("pos", ctypes.POINTER(_I)),
        ("n_seq_id", ctypes.POINTER(_I)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(_I))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, _P)
_SILENT = _LOG(lambda level, text, data: None)


def _library() -> ctypes.CDLL:
    (folder,) = find_spec("xllamacpp").submodule_search_locations
    lib = ctypes.CDLL(str(next(Path(folder).glob("xllamacpp*.so"))))
    signatures = {
        "llama_model_default_params": (ModelParams, []),
        "llama_context_default_params": (ContextParams, []),
        "llama_model_load_from_file": (_P, [ctypes.c_char_p, ModelParams]),
        "llama_init_from_model": (_P, [_P, ContextParams]),
        "llama_model_get_vocab": (_P, [_P]),
        "llama_vocab_n_tokens": (_I, [_P]),
        "llama_vocab_is_eog": (_B, [_P, _I]),
        "llama_tokenize": (_I, [_P, ctypes.c_char_p, _I, ctypes.POINTER(_I), _I, _B, _B]),
        "llama_batch_init": (Batch, [_I, _I, _I]),
        "llama_batch_free": (None, [Batch]),
        "llama_decode": (_I, [_P, Batch]),
        "llama_get_logits_ith": (ctypes.POINTER(_F), [_P, _I]),
        "llama_free": (None, [_P]),
        "llama_model_free": (None, [_P]),
        "llama_log_set": (None, [_LOG, _P]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.llama_log_set(_SILENT, None)
    lib.llama_backend_init()
    return lib


class Llama:
    """A loaded GGUF file; `vocab_only` loads no tensors."""

    def __init__(self, path: Path, *, vocab_only: bool = False) -> None:
        self.lib = _library()
        params = self.lib.llama_model_default_params()
        params.vocab_only, params.check_tensors = vocab_only, True
        self.model = self.lib.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise ValueError(f"llama.cpp does not load {path}")
        self.vocab = self.lib.llama_model_get_vocab(self.model)

    def __enter__(self) -> "Llama":
        return self

    def __exit__(self, *error: object) -> None:
        self.lib.llama_model_free(self.model)

    def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        data = text.encode()
        room = len(data) + 8
        buffer = (_I * room)()
        count = self.lib.llama_tokenize(self.vocab, data, len(data), buffer, room, add_special, True)
        assert count >= 0
        return list(buffer[:count])

    def ends(self, token: int) -> bool:
        """Whether the token ends generation."""
        return bool(self.lib.llama_vocab_is_eog(self.vocab, token))

    def logits(self, tokens: list[int]) -> np.ndarray:
        """[len(tokens), vocabulary] in F32."""
        params = self.lib.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = max(64, len(tokens))
        params.n_threads = params.n_threads_batch = 1
        params.flash_attn, params.type_k, params.type_v = 0, 0, 0  # an F32 cache: nothing but the weights is rounded
        context = self.lib.llama_init_from_model(self.model, params)
        assert context
        batch = self.lib.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
            batch.seq_id[i][0] = 0
        try:
            assert self.lib.llama_decode(context, batch) == 0
            size = self.lib.llama_vocab_n_tokens(self.vocab)
            rows = [
                np.ctypeslib.as_array(self.lib.llama_get_logits_ith(context, i), (size,)) for i in range(len(tokens))
            ]
            return np.stack(rows).copy()
        finally:
            self.lib.llama_batch_free(batch)
            self.lib.llama_free(context)

    def greedy(self, prompt: list[int], count: int) -> list[int]:
        """The likeliest continuation, token by token."""
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(int(self.logits(tokens)[-1].argmax()))
        return tokens[len(prompt) :]
