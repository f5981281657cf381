"""Tokenizers in SentencePiece's style, BPE over characters with bytes to fall back on, as llama.cpp's "llama" model.

llama.cpp joins the two neighbours whose union has the highest score; tokenizers follows its list of merges. Both do
the same where every way to cut a token in two is a merge and a token's merges stand together: that is checked, and
the score of a token is minus the place of its first merge.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from freehold.convert.config import read_json
from freehold.convert.plan import Metadata
from freehold.convert.spmodel import SentencePieceModel, read_model
from freehold.convert.tokentypes import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED
from freehold.core.errors import Unsupported
from freehold.formats.reading import bad_file, shown

SPACE = "▁"
_NEVER, _ADDED = -1e6, -1e3
"""Scores of what no merge makes."""
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
_BYTE_SET = frozenset(BYTES)
_TO_SPACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_PREPEND = {"type": "Prepend", "prepend": SPACE}
_NOTHING: tuple[Any, ...] = (None, {"type": "Sequence", "pretokenizers": []})
_SPACES_STAY = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
"""Splits at spaces, of which none are left by then."""
_NEVER_STRIP = {"<unk>", "<s>", "<|endoftext|>"}
_PHI = "Phi-3"
"""In a model of this name llama.cpp lets special tokens swallow the spaces after them, but for _NEVER_STRIP."""
_SETTINGS = "tokenizer_config.json"


def adds_prefix(normalizer: Any, pre_tokenizer: Any) -> bool | None:
    """Whether a space goes before every text, None where spaces are treated in a way that llama.cpp does not know.

    Metaspace departs from SentencePiece: it adds no space before one that is there, and with "first" none after a
    special token. llama.cpp does as SentencePiece does.
    """
    if normalizer == {"type": "Sequence", "normalizers": [_PREPEND, _TO_SPACE]}:
        return True if pre_tokenizer in _NOTHING else None
    if normalizer == _TO_SPACE:
        return False if pre_tokenizer in (*_NOTHING, _SPACES_STAY) else None
    match pre_tokenizer:
        case {"type": "Metaspace", "replacement": "▁", "prepend_scheme": str(scheme), "split": False}:
            return scheme != "never" if normalizer is None else None
    return None


def scores(vocab: dict[str, int], merges: list[tuple[str, str]], added: set[str]) -> dict[str, float]:
    """A score for every token that is a merge. `added` tokens are looked for in the text before anything merges.

    Raises Unsupported where llama.cpp would join what the merges do not, or in another order.
    """
    found: dict[str, float] = {}
    last = ""
    for place, (left, right) in enumerate(merges):
        union = left + right
        # A run of one character is the same whichever of its parts are joined first.
        if union in found and union != last and union not in added and union != union[0] * len(union):
            raise Unsupported(f"the merges of token {shown(union)} are apart", "llama.cpp cannot do that")
        found.setdefault(union, -float(place + 1))
        last = union
    # Marked spaces arise from merging even where they are added: text comes with spaces.
    _check_closed(vocab, set(merges), {*BYTES, *(token for token in added if SPACE not in token)})
    return found


def _check_closed(vocab: dict[str, int], merges: set[tuple[str, str]], outside: set[str]) -> None:
    for token in vocab:
        if token in outside:
            continue
        for i in range(1, len(token)):
            left, right = token[:i], token[i:]
            if (left, right) not in merges and _arises(left, vocab, outside) and _arises(right, vocab, outside):
                raise Unsupported(
                    f"token {shown(token)} has no merge of {shown(left)} and {shown(right)}",
                    "llama.cpp would join them: use another model",
                )


def _arises(part: str, vocab: dict[str, int], outside: set[str]) -> bool:
    return len(part) == 1 or (part in vocab and part not in outside)


class Table:
    """Tokens by id; rows that no token uses are padding."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.texts = [f"[PAD{id_}]" for id_ in range(size)]
        self.types, self.scores = [UNUSED] * size, [_NEVER] * size

    def put(self, id_: int, text: str, kind: int, score: float) -> None:
        """Raises BadModelFile where the model has no such row, and for a NUL, at which C strings end."""
        if not 0 <= id_ < len(self.texts):
            raise bad_file(self.path, f"token {shown(text)} has id {id_}, but the model has {len(self.texts)} rows")
        if "\0" in text:
            raise bad_file(self.path, f"token {id_} holds a NUL character")
        self.texts[id_], self.types[id_], self.scores[id_] = text, kind, score

    def metadata(self, prefix: bool) -> Metadata:
        """The keys that every such tokenizer has. Raises Unsupported where a byte has no token to fall back on."""
        known = set(self.texts)
        for byte, name in enumerate(BYTES):
            if name not in known and not (byte < 128 and chr(byte) in known):
                raise Unsupported(f"{shown(self.path, 400)} has no token {name}", "Use another model")
        return {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.pre": "default",
            "tokenizer.ggml.tokens": self.texts,
            "tokenizer.ggml.scores": self.scores,
            "tokenizer.ggml.token_type": self.types,
            "tokenizer.ggml.add_space_prefix": prefix,
        }


def stripping(path: Path, added: dict[int, dict[str, Any]]) -> Metadata:
    """The name that makes llama.cpp swallow spaces after special tokens, where all but the usual ones do."""
    known = {token["content"] for token in added.values()}
    strip = {token["content"] for token in added.values() if token.get("rstrip")}
    if not strip:
        return {}
    if strip != known - _NEVER_STRIP or not known >= {"</s>", *_NEVER_STRIP}:
        raise Unsupported(f"{shown(path, 400)}: only some tokens swallow spaces", "llama.cpp cannot do that")
    return {"general.name": _PHI}


def model_table(folder: Path, size: int) -> tuple[Table, SentencePieceModel]:
    """The tokens of tokenizer.model and of the files beside it."""
    model = read_model(folder / "tokenizer.model")
    table = Table(folder / "tokenizer.model", size)
    for id_, piece in enumerate(model.pieces):
        # Users' tokens are looked for in text as it comes, where spaces are not yet marked.
        text = piece.text.replace(SPACE, " ") if piece.kind == USER_DEFINED else piece.text
        table.put(id_, text, piece.kind, piece.score)
    for id_, text, special in _added_beside(folder):
        if id_ < len(model.pieces) and model.pieces[id_].kind in (UNKNOWN, CONTROL):
            continue
        table.put(id_, text, CONTROL if special else USER_DEFINED, _ADDED)
    return table, model


def _added_beside(folder: Path) -> Iterator[tuple[int, str, bool]]:
    """Ids, texts, and whether they are special, from added_tokens.json and tokenizer_config.json."""
    if (path := folder / "added_tokens.json").exists():
        for text, id_ in read_json(path, 16 << 20).items():
            if type(id_) is not int:
                raise bad_file(path, f"token {shown(text)} has no number")
            yield id_, text, False
    if (path := folder / _SETTINGS).exists():
        for key, token in (read_json(path, 64 << 20).get("added_tokens_decoder") or {}).items():
            match token:
                case {"content": str(text)} if key.isdecimal() and len(key) < 10:
                    yield int(key), text, token.get("special") is True
                case _:
                    raise bad_file(path, "added_tokens_decoder does not map numbers to tokens")


def json_table(
    path: Path, vocab: dict[str, int], merges: list[tuple[str, str]], added: dict[int, dict[str, Any]], size: int
) -> Table:
    """The tokens of a tokenizer.json, without its unknown token. Raises Unsupported as `scores` does."""
    known = scores(vocab, merges, {token["content"] for token in added.values()})
    table = Table(path, size)
    for text, id_ in vocab.items():
        if 0 <= id_ < size and table.types[id_] != UNUSED:
            raise bad_file(path, f"tokens {shown(table.texts[id_])} and {shown(text)} both have id {id_}")
        table.put(id_, text, BYTE if text in _BYTE_SET else NORMAL, known.get(text, _NEVER))
    for id_, token in added.items():
        text = token["content"]
        if 0 <= id_ < size and table.types[id_] != UNUSED and table.texts[id_] != text:
            raise bad_file(path, f"tokens {shown(table.texts[id_])} and {shown(text)} both have id {id_}")
        # Those that are looked for in text after its spaces were marked, llama.cpp looks for before.
        shown_text = text.replace(SPACE, " ") if token.get("normalized") and not token.get("special") else text
        table.put(id_, shown_text, CONTROL if token.get("special") else USER_DEFINED, known.get(text, _NEVER))
    return table
