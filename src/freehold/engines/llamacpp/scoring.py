"""What the scoring process computes: tokens of text, log-probabilities, divergences, squared activations.

A window is a list of token ids that is read from nothing: each token after its first is predicted from those before.
"""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from freehold.engines.llamacpp.libllama import EVAL, ContextParams, LlamaError, Tensor
from freehold.engines.llamacpp.vocabulary import Vocabulary

Floats = NDArray[np.float32]
Moved = Callable[[int, int], None]
"""Told of windows done and windows in all."""
STEP = 128
"""Tokens computed at once, whose logits are in memory: 78 MB for a vocabulary of 152,000."""
_F32 = 0
_NO_FLASH = 0
_MATRIX, _EXPERTS = "MUL_MAT", "MUL_MAT_ID"


class Model:
    """A GGUF file in llama.cpp, with a context of `context` tokens and an F32 cache: nothing but weights is rounded.

    GGUF `adapters` are applied to it.
    """

    def __init__(
        self,
        library: Any,
        path: str,
        context: int,
        threads: int,
        *,
        adapters: Sequence[str] = (),
        collecting: bool = False,
    ) -> None:
        self.library, self.context_length = library, context
        self.collector = Collector(library)
        # Kept, since the library calls it for as long as the context lives.
        self._hook = EVAL(self.collector) if collecting else None
        params = library.llama_model_default_params()
        self._model = library.llama_model_load_from_file(path.encode(), params)
        if not self._model:
            raise LlamaError("llama.cpp cannot load it")
        if library.llama_model_has_encoder(self._model) or not library.llama_model_has_decoder(self._model):
            raise LlamaError("it is not a model that continues text")
        self.words = Vocabulary(library, self._model)
        self.vocabulary = self.words.size
        self._context = library.llama_init_from_model(self._model, self._params(threads))
        if not self._context:
            raise LlamaError("llama.cpp cannot make a context for it")
        self._adapt(adapters)

    def _adapt(self, paths: Sequence[str]) -> None:
        found = [self.library.llama_adapter_lora_init(self._model, path.encode()) for path in paths]
        count = len(found)
        applied = all(found) and not (
            count
            and self.library.llama_set_adapters_lora(
                self._context, (ctypes.c_void_p * count)(*found), count, (ctypes.c_float * count)(*[1.0] * count)
            )
        )
        if not applied:
            raise LlamaError("llama.cpp cannot apply its adapter")

    def _params(self, threads: int) -> ContextParams:
        params: ContextParams = self.library.llama_context_default_params()
        params.n_ctx = max(STEP, self.context_length)
        params.n_batch = params.n_ubatch = STEP
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn, params.type_k, params.type_v = _NO_FLASH, _F32, _F32
        if self._hook is not None:
            params.cb_eval = ctypes.cast(self._hook, ctypes.c_void_p)
        return params

    def logits(self, window: Sequence[int]) -> Iterator[tuple[int, Floats]]:
        """(place of the first token read, logits after it and the following), in steps; views that soon are reused."""
        self.check(window)
        self.library.llama_memory_clear(self.library.llama_get_memory(self._context), True)
        for start in range(0, len(window), STEP):
            piece = window[start : start + STEP]
            self._decode(piece, start)
            pointer = self.library.llama_get_logits(self._context)
            yield start, np.ctypeslib.as_array(pointer, (len(piece), self.vocabulary))

    def check(self, window: Sequence[int]) -> None:
        """Raises LlamaError for a window that the model cannot read."""
        if not 0 < len(window) <= self.context_length:
            raise LlamaError(f"a window of {len(window)} tokens, where the context holds {self.context_length}")
        if not all(0 <= token < self.vocabulary for token in window):
            raise LlamaError(f"a token that is none of the {self.vocabulary} of the vocabulary")

    def _decode(self, piece: Sequence[int], start: int) -> None:
        batch = self.library.llama_batch_init(len(piece), 0, 1)
        try:
            batch.n_tokens = len(piece)
            for i, token in enumerate(piece):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, start + i, 1, 1
                batch.seq_id[i][0] = 0
            code = self.library.llama_decode(self._context, batch)
        finally:
            self.library.llama_batch_free(batch)
        if code:
            raise LlamaError(f"llama.cpp could not compute it (code {code})")
        if self.collector.error:
            raise LlamaError(self.collector.error)

    def predictions(self, window: Sequence[int]) -> Iterator[tuple[NDArray[np.intp], Floats]]:
        """(the tokens that came next, log-probabilities of all tokens) in steps: len(window) - 1 rows in all."""
        for start, logits in self.logits(window):
            following = np.array(window[start + 1 : start + 1 + len(logits)], dtype=np.intp)
            if len(following):
                yield following, log_softmax(logits[: len(following)])


def log_softmax(logits: Floats) -> Floats:
    """Natural-log probabilities along the last axis."""
    shifted: Floats = logits - logits.max(-1, keepdims=True)
    total = np.exp(shifted).sum(-1, keepdims=True, dtype=np.float64)
    shifted -= np.log(total).astype(np.float32)
    return shifted


def score(model: Model, window: Sequence[int]) -> Floats:
    """The log-probability of each token after the first."""
    found = [all_[np.arange(len(following)), following] for following, all_ in model.predictions(window)]
    return np.concatenate(found) if found else np.empty(0, np.float32)


class Told(NamedTuple):
    """Log-probabilities [n] of the tokens after the first, and the `top` likeliest in each place: ids and [n, top]."""

    logprobs: Floats
    ids: NDArray[np.int32]
    top: Floats


def tell(model: Model, window: Sequence[int], top: int) -> Told:
    """What the model thinks of each token after the first, and what it would rather have seen, likeliest first."""
    model.check(window)
    width = min(top, model.vocabulary)
    pieces = [Told(np.empty(0, np.float32), np.empty((0, width), np.int32), np.empty((0, width), np.float32))]
    for following, found in model.predictions(window):
        rows = np.arange(len(following))
        ids = np.argsort(-found, -1, kind="stable")[:, :width]
        pieces.append(Told(found[rows, following], ids.astype(np.int32), found[rows[:, None], ids]))
    return Told(*(np.concatenate(column) for column in zip(*pieces, strict=True)))


def keep(model: Model, windows: Sequence[Sequence[int]], path: Path, moved: Moved) -> Floats:
    """Write the distributions to `path`, and give the log-probability of each token that came.

    The file: a float16 for each prediction and token of the vocabulary, its logit less the largest of its row. Read
    back, rows are normalised anew: rounding then changes a divergence in the second order only.
    """
    said = []
    with path.open("wb") as file:
        for done, window in enumerate(windows, 1):
            for following, found in model.predictions(window):
                said.append(found[np.arange(len(following)), following])
                file.write((found - found.max(-1, keepdims=True)).clip(-6e4).astype(np.float16))
            moved(done, len(windows))
    return np.concatenate(said)


def compare(model: Model, windows: Sequence[Sequence[int]], path: Path, moved: Moved) -> Floats:
    """How far the model is from the one that `keep` wrote: [3, predictions].

    Rows: KL divergence of the kept distribution to this one in nats; 1 where both have the same likeliest token, else
    0; this model's log-probability of the token that came.
    """
    kept = np.memmap(path, np.float16, "r").reshape(-1, model.vocabulary)
    pieces, row = [], 0
    for done, window in enumerate(windows, 1):
        for following, found in model.predictions(window):
            base = log_softmax(kept[row : row + len(following)].astype(np.float32))
            row += len(following)
            divergence = (np.exp(base) * (base - found)).sum(-1, dtype=np.float64)
            same = base.argmax(-1) == found.argmax(-1)
            pieces.append(np.stack([divergence.clip(0), same, found[np.arange(len(following)), following]]))
        moved(done, len(windows))
    return np.concatenate(pieces, 1).astype(np.float32)


class Sums:
    """Squared activations that one weight matrix met: [matrices, columns] added up, and rows counted for each."""

    def __init__(self, matrices: int, columns: int, counts: int) -> None:
        self.squares = np.zeros((matrices, columns))
        self.counts = np.zeros(counts, np.int64)


class Collector:
    """llama.cpp calls it around each node of its graph; it adds up what comes into weight matrices."""

    def __init__(self, library: Any) -> None:
        self.error = ""
        self.sums: dict[str, Sums] = {}
        self._library = library
        self._ops: dict[int, str] = {}

    def __call__(self, node: Any, ask: bool, data: object) -> bool:
        """Whether the node is wanted; once it is computed, whether to go on."""
        tensor = node.contents
        if ask:
            return self._wanted(tensor)
        try:
            self._add(tensor)
        except (ValueError, IndexError, MemoryError) as error:  # an exception would be lost in the C code
            self.error = f"activations of {_weight(tensor)}: {error}"
        return not self.error

    def _wanted(self, tensor: Tensor) -> bool:
        if self._op(tensor) not in (_MATRIX, _EXPERTS):
            return False
        return _weight(tensor).startswith("blk.") and _source(tensor, 1).type == _F32

    def _op(self, tensor: Tensor) -> str:
        if tensor.op not in self._ops:
            self._ops[tensor.op] = self._library.ggml_op_name(tensor.op).decode()
        return self._ops[tensor.op]

    def _add(self, tensor: Tensor) -> None:
        matrices = _source(tensor, 0).ne[2] * _source(tensor, 0).ne[3]
        values = self._read(_source(tensor, 1), np.dtype(np.float32))
        experts = self._op(tensor) == _EXPERTS
        name = _weight(tensor)
        if name not in self.sums:
            self.sums[name] = Sums(matrices, values.shape[-1], matrices if experts else 1)
        if experts:
            self._add_experts(self.sums[name], values[0], self._read(_source(tensor, 2), np.dtype(np.int32))[0, 0])
        else:
            _add_dense(self.sums[name], values)
        if not np.isfinite(self.sums[name].squares).all():
            raise ValueError("not finite")

    def _add_experts(self, sums: Sums, values: NDArray[Any], ids: NDArray[Any]) -> None:
        """values: [tokens, 1 or experts used, columns]; ids: [tokens, experts used]."""
        squares = np.square(values, dtype=np.float64)
        for used in range(ids.shape[1]):
            np.add.at(sums.squares, ids[:, used], squares[:, used % squares.shape[1]])
            np.add.at(sums.counts, ids[:, used], 1)

    def _read(self, tensor: Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
        """A tensor of any backend and stride as [ne3, ne2, ne1, ne0]."""
        size = self._library.ggml_nbytes(ctypes.byref(tensor))
        buffer = np.empty(size, np.uint8)
        self._library.ggml_backend_tensor_get(ctypes.byref(tensor), buffer.ctypes.data, 0, size)
        return np.ndarray(tuple(tensor.ne)[::-1], dtype, buffer, strides=tuple(tensor.nb)[::-1]).copy()


def _add_dense(sums: Sums, values: NDArray[Any]) -> None:
    outer, inner, rows, _ = values.shape
    for i in range(outer * inner):
        sums.squares[i % len(sums.squares)] += np.square(values[i // inner, i % inner], dtype=np.float64).sum(0)
    sums.counts += outer * inner * rows // len(sums.squares)


def _source(tensor: Tensor, index: int) -> Tensor:
    return Tensor.from_address(tensor.src[index])


def _weight(tensor: Tensor) -> str:
    """The name of the weights, without what a backend adds: `CUDA0#blk.0.attn_k.weight#0`."""
    name = bytes(_source(tensor, 0).name).decode("utf-8", "replace")
    return name.split("#")[1] if "#" in name else name


def collect(model: Model, windows: Sequence[Sequence[int]], moved: Moved) -> dict[str, Sums]:
    """The squared activations that the model's weight matrices meet while it reads the windows."""
    for done, window in enumerate(windows, 1):
        for _ in model.logits(window):
            pass
        moved(done, len(windows))
    return model.collector.sums
