"""From a tokenizer.json's `pre_tokenizer` to the name under which llama.cpp implements the same splitting.

llama.cpp's own converter knows vocabularies by a hash, so a new one fails there; here the structure decides.
The regular expressions are those of llama.cpp's src/llama-vocab.cpp. Only those are here with which llama.cpp and
tokenizers cut every text alike; its "tekken", for one, treats combining marks differently.
"""

from typing import Any, NamedTuple

from freehold.core.errors import Unsupported
from freehold.formats.reading import shown

_ANY_CASE = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BOTH_CASES = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

QWEN2 = f"{_BOTH_CASES}{_WORDS}\\p{{N}}{_REST}"
LLAMA3 = f"{_BOTH_CASES}{_WORDS}\\p{{N}}{{1,3}}{_REST}"


class Splitting(NamedTuple):
    """How text is cut before BPE: the steps in order, and whether a whole word that is a token skips the merges."""

    steps: tuple[str, ...]
    ignore_merges: bool


GPT2 = "byte-level words"
"""ByteLevel with its own regular expression, which is GPT-2's."""
DIGITS = "single digits"
BYTES = "bytes"

NAMES: dict[Splitting, str] = {
    Splitting((GPT2,), False): "gpt-2",
    Splitting((DIGITS, GPT2), False): "smollm",
    Splitting((QWEN2, BYTES), False): "qwen2",
    Splitting((LLAMA3, BYTES), True): "llama-bpe",
    Splitting((LLAMA3, BYTES), False): "smaug-bpe",
}


def pre_tokenizer_name(pre_tokenizer: Any, *, ignore_merges: bool) -> str:
    """The value of `tokenizer.ggml.pre`. Raises Unsupported where llama.cpp would split text differently."""
    steps = tuple(_step(part) for part in _flat(pre_tokenizer))
    name = NAMES.get(Splitting(steps, ignore_merges))
    if name is None:
        raise Unsupported(
            f"llama.cpp has no pre-tokenizer that does {shown(' + '.join(steps) or 'nothing')}"
            f" with ignore_merges={str(ignore_merges).lower()}",
            f"Supported are the pre-tokenizers of: {', '.join(NAMES.values())}",
        )
    return name


def _flat(pre_tokenizer: Any) -> list[Any]:
    if isinstance(pre_tokenizer, dict) and pre_tokenizer.get("type") == "Sequence":
        parts = pre_tokenizer.get("pretokenizers")
        return parts if isinstance(parts, list) else [pre_tokenizer]
    return [pre_tokenizer]


def _step(part: Any) -> str:
    """One step in words of NAMES; what is not understood comes out as it was written, and so matches nothing."""
    match part:
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return GPT2 if part.get("use_regex", True) is True else BYTES
        case {"type": "Digits", "individual_digits": True}:
            return DIGITS
        case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated"} if not part.get("invert"):
            return pattern.replace(_ANY_CASE, _BOTH_CASES)
    return str(part)
