"""llama.cpp's own compilers of grammars, JSON schemas and chat templates, called without a model. For a child process.

What they throw, or do to the stack, ends the process that calls them: `check_worker` forks one for each text. They are
C++ functions that the wheel exports by accident, with the ABI of its strings; `libllama` knows its version.
"""

import ctypes
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from freehold.engines.llamacpp import gbnf, probing
from freehold.engines.llamacpp.libllama import LOG

LARK = "%llguidance"
"""What a grammar begins with that is not GBNF but llguidance's Lark, by which it reads schemas too."""
STEPS = 128
"""Tokens that are drawn to see what applying it costs; fewer when that has cost much, but no fewer than FEWEST."""
FEWEST = 32
PARSED_NOT = "it cannot be parsed"
_WALKS = 8
_SCATTER = 2654435761
"""A prime, by which choices differ from one token to the next (Knuth's multiplicative hashing)."""
_SPECIAL = "special token"
_NOTHING = "NoExtensionBias"
"""llguidance's name for a place at which no token is allowed."""
_ERROR = 4
"""GGML_LOG_LEVEL_ERROR."""
_P, _I, _TEXT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p
_LLG_INIT = "_Z22llama_sampler_init_llgPK11llama_vocabPKcS3_"
_PARSE_JSON = "_ZN11common_json5parseERKSs"
_TO_GRAMMAR = "_Z22json_schema_to_grammarRK11common_jsonb"
_TEMPLATES = "_Z26common_chat_templates_initPK11llama_modelRKSsS3_S3_"
_EXAMPLE = "_Z26common_chat_format_examplePK21common_chat_templatesbRKSt3mapISsSsSt4lessISsESaISt4pairIKSsSsEEE"
_NEW_STRING = "_ZNSsC1EPKcmRKSaIcE"
_TOKENIZER = 3
"""Which word of llama.cpp's `llama_sampler_llg` is the tokenizer: the vocabulary and two strings come before."""
_SETTINGS_BYTES = 512
"""More than llguidance's LlgConstraintInit has."""
_SIGNATURES: dict[str, tuple[Any, Sequence[Any]]] = {
    "llama_sampler_init_grammar": (_P, (_P, _TEXT, _TEXT)),
    "llama_sampler_clone": (_P, (_P,)),
    "llama_sampler_free": (None, (_P,)),
    "llama_sampler_apply": (None, (_P, _P)),
    "llama_sampler_accept": (None, (_P, _I)),
    "llg_constraint_init_set_defaults": (None, (_P, _P)),
    "llg_new_matcher": (_P, (_P, _TEXT, _TEXT)),
    "llg_matcher_get_error": (_TEXT, (_P,)),
    "llg_matcher_compute_mask": (_I, (_P,)),
    "llg_matcher_get_mask": (_P, (_P,)),
    "llg_matcher_get_mask_byte_size": (ctypes.c_size_t, (_P,)),
    "llg_matcher_consume_token": (_I, (_P, ctypes.c_uint32)),
    "llg_matcher_is_stopped": (ctypes.c_bool, (_P,)),
    "llg_matcher_reset": (_I, (_P,)),
    _LLG_INIT: (_P, (_P, _TEXT, _TEXT)),
}
_CPP: dict[str, tuple[Any, Sequence[Any]]] = {
    _PARSE_JSON: (_P, (_P, _P)),
    _TO_GRAMMAR: (_P, (_P, _P, ctypes.c_bool)),
    _TEMPLATES: (_P, (_P, _P, _P, _P, _P)),
    _EXAMPLE: (_P, (_P, _P, ctypes.c_bool, _P)),
}


def _tell(level: int, text: bytes, data: object) -> None:
    """llama.cpp's log, as far as it says what is wrong."""
    if level == _ERROR:
        os.write(2, text)


_LOUD = LOG(_tell)


class WrongError(Exception):
    """llama.cpp says what is wrong with the text."""


class _Candidates(ctypes.Structure):
    """llama_token_data_array."""

    _fields_ = (("data", _P), ("size", ctypes.c_size_t), ("selected", ctypes.c_int64), ("sorted", ctypes.c_bool))


class Compiler:
    """The compilers, with a vocabulary that stands for any model's. Raises OSError, AttributeError, WrongError."""

    def __init__(self, library: Any) -> None:
        self._library = library
        _declare(library, _SIGNATURES)
        library.llama_log_set(_LOUD, None)
        self._standard = _standard_library(library)
        self._pieces = probing.pieces()
        self._vocab = self._vocabulary()
        self._size = library.llama_vocab_n_tokens(self._vocab)
        self._fresh = probing.candidates(self._size)
        self._tokenizer = self._llguidance()

    def grammar(self, text: str, seconds: float) -> None:
        """Compile and try a grammar, within about so many seconds of computing. Raises WrongError."""
        if text.startswith(LARK):
            try:
                self._guided(text, seconds)
            except WrongError as error:
                if _SPECIAL not in str(error):  # the model's are not known here
                    raise
            return
        text = gbnf.without_tokens(text)
        self._walk(self._gbnf(text, "root"), STEPS, seconds)
        # Behind a long word a walk would end before it comes to what takes time.
        if (short := gbnf.shortened(text)) != text:
            with suppress(WrongError):
                self._walk(self._gbnf(short, "root"), STEPS, seconds)
                text = short
        self._every_rule(text, seconds)

    def _every_rule(self, text: str, seconds: float) -> None:
        """Walk from each rule too, what looks worst first: one that no walk came to may be the one that never ends."""
        rules = gbnf.rules(text)
        if len(rules) == 1:
            return
        every = f"every-{'-'.join(rules)}"[:200]
        marks = {name: f"{number:05d}" for number, name in enumerate(rules)}
        ways = " | ".join(f'"{mark}" {name}' for name, mark in marks.items())
        made = self._gbnf(f"{text}\n{every} ::= {ways}\n", every)
        for name in sorted(rules, key=lambda each: -rules[each]):
            if time.process_time() > seconds / 2:
                return
            self._walk(made, FEWEST, seconds, [self._pieces.index(digit.encode()) for digit in marks[name]])

    def schema(self, text: str, seconds: float) -> None:
        """The same of a JSON schema, as llguidance holds an answer to it, and as chat routes read it beforehand."""
        self._converted(text)
        self._guided(f"{LARK} {{}}\nstart: %json {text}", seconds)

    def tools(self, text: str, seconds: float) -> None:
        """The same of a JSON schema, as the chat route holds tool calls to it: by a grammar in GBNF."""
        converted = self._converted(text)
        if converted is not None:
            self.grammar(converted, seconds)

    def template(self, text: str, seconds: float) -> None:
        """Have a chat template analysed and rendered as a worker does when it loads a model."""
        if self._standard is None:
            return
        # An empty std::map: its header is its own leftmost and rightmost node (libstdc++'s _Rb_tree_header).
        nothing, made, out = (_P * 6)(), (_P * 1)(), (_P * 8)()
        nothing[3] = nothing[4] = ctypes.addressof(nothing) + ctypes.sizeof(_P)
        empty = self._string("")
        getattr(self._library, _TEMPLATES)(made, None, self._string(text), empty, empty)
        getattr(self._library, _EXAMPLE)(out, made[0], True, nothing)

    def _gbnf(self, text: str, root: str) -> "_Gbnf":
        made = self._library.llama_sampler_init_grammar(self._vocab, text.encode("utf-8", "replace"), root.encode())
        if not made:
            raise WrongError(PARSED_NOT)
        return _Gbnf(self._library, made, self._fresh, self._size)

    def _guided(self, text: str, seconds: float) -> None:
        self._walk(self._matcher(text), STEPS, seconds)

    def _matcher(self, text: str) -> "_Guided":
        settings = (ctypes.c_uint8 * _SETTINGS_BYTES)()
        self._library.llg_constraint_init_set_defaults(settings, self._tokenizer)
        matcher = self._library.llg_new_matcher(settings, b"lark", text.encode("utf-8", "replace"))
        return _Guided(self._library, matcher, self._size)

    def _walk(self, rules: "_Gbnf | _Guided", steps: int, seconds: float, first: Sequence[int] = ()) -> None:
        """Draw tokens that are allowed, behind the first: any, and the longest, in turns. The same ones each time."""
        done = 0
        for _ in range(_WALKS):
            rules.begin()
            for token in first:
                rules.accept(token)
            for allowed in rules.allowed():
                token = allowed[_SCATTER * done % len(allowed)]
                if done % 2:
                    token = max(allowed, key=lambda each: len(self._pieces[each]))
                if token == probing.END:
                    break
                rules.accept(token)
                done += 1
                if done >= steps or (done >= FEWEST and time.process_time() > seconds / 2):
                    return

    def _converted(self, schema: str) -> str | None:
        """The schema in GBNF; None where the ABI hides the function."""
        if self._standard is None:
            return None
        parsed, out = (_P * 8)(), (_P * 4)()
        getattr(self._library, _PARSE_JSON)(parsed, self._string(schema))
        getattr(self._library, _TO_GRAMMAR)(out, parsed, True)
        length = ctypes.c_size_t.from_address((out[0] or 0) - 3 * ctypes.sizeof(_P)).value
        return ctypes.string_at(out[0] or 0, length).decode("utf-8", "replace")

    def _string(self, text: str) -> Any:
        """A std::string in the ABI before C++11, in which it is a pointer."""
        data, made = text.encode("utf-8", "replace"), (_P * 1)()
        getattr(self._standard, _NEW_STRING)(made, data, len(data), (_P * 1)())
        return made

    def _vocabulary(self) -> Any:
        params = self._library.llama_model_default_params()
        params.vocab_only = True
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            file.write(probing.vocabulary(self._pieces))
            file.flush()
            model = self._library.llama_model_load_from_file(file.name.encode(), params)
        if not model:
            raise WrongError("llama.cpp does not load the vocabulary")
        return self._library.llama_model_get_vocab(model)

    def _llguidance(self) -> Any:
        """The tokenizer that llama.cpp makes for llguidance, and keeps. Raises WrongError for another layout."""
        sampler = getattr(self._library, _LLG_INIT)(self._vocab, b"lark", f'{LARK} {{}}\nstart: "a"'.encode())
        words = ctypes.cast(ctypes.cast(sampler, ctypes.POINTER(_P))[1] or 0, ctypes.POINTER(_P))
        if words[0] != self._vocab or self._standard is None:
            raise WrongError("llama.cpp's use of llguidance is laid out differently")
        return words[_TOKENIZER]


class _Gbnf:
    """A compiled grammar in GBNF, applied as llama.cpp's sampler does."""

    def __init__(self, library: Any, rules: Any, fresh: bytes, size: int) -> None:
        self._library, self._rules, self._fresh, self._size = library, rules, fresh, size
        self._data = (ctypes.c_uint8 * len(fresh))()
        self._now: Any = None

    def begin(self) -> None:
        """From the start."""
        if self._now is not None:
            self._library.llama_sampler_free(self._now)
        self._now = self._library.llama_sampler_clone(self._rules)

    def allowed(self) -> Iterator[list[int]]:
        """What may come next, for as long as something may."""
        while True:
            ctypes.memmove(self._data, self._fresh, len(self._fresh))
            candidates = _Candidates(ctypes.addressof(self._data), self._size, -1, False)
            self._library.llama_sampler_apply(self._now, ctypes.byref(candidates))
            found = probing.kept(self._data)
            if not found:
                return
            yield found

    def accept(self, token: int) -> None:
        """Go on."""
        self._library.llama_sampler_accept(self._now, token)


class _Guided:
    """A matcher of llguidance. Raises WrongError where it fails: llama.cpp would go on as if there were none."""

    def __init__(self, library: Any, matcher: Any, size: int) -> None:
        self._library, self._matcher, self._size = library, matcher, size
        self._check(0)

    def begin(self) -> None:
        """From the start."""
        self._check(self._library.llg_matcher_reset(self._matcher))

    def allowed(self) -> Iterator[list[int]]:
        """What may come next, for as long as something may."""
        while not self._library.llg_matcher_is_stopped(self._matcher):
            self._check(self._library.llg_matcher_compute_mask(self._matcher))
            length = self._library.llg_matcher_get_mask_byte_size(self._matcher)
            mask = ctypes.string_at(self._library.llg_matcher_get_mask(self._matcher), length)
            found = probing.set_bits(mask)
            if not found:
                return
            yield found

    def accept(self, token: int) -> None:
        """Go on."""
        self._check(self._library.llg_matcher_consume_token(self._matcher, token))

    def _check(self, code: int) -> None:
        said = self._library.llg_matcher_get_error(self._matcher)
        if code or said:
            text = (said or b"llguidance cannot go on").decode("utf-8", "replace")
            raise WrongError("no text matches it" if text.startswith(_NOTHING) else text)


def _declare(library: Any, signatures: dict[str, tuple[Any, Sequence[Any]]]) -> None:
    for name, (result, arguments) in signatures.items():
        function: Callable[..., Any] = getattr(library, name)
        function.restype, function.argtypes = result, list(arguments)  # type: ignore[attr-defined]


def _standard_library(library: Any) -> Any:
    """The C++ library, where its strings are as `_string` makes them and ctypes can call what returns an object."""
    if platform.machine() not in ("x86_64", "AMD64") or not hasattr(library, _PARSE_JSON):
        return None
    _declare(library, _CPP)
    standard = ctypes.CDLL("libstdc++.so.6")
    _declare(standard, {_NEW_STRING: (None, (_P, _TEXT, ctypes.c_size_t, _P))})
    return standard
