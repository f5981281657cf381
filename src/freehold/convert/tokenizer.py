"""A folder's BPE tokenizer as GGUF metadata: tokens, merges or scores, special ids, chat template."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from freehold.convert.config import Config, read_json
from freehold.convert.plan import Metadata
from freehold.convert.pretokenizer import pre_tokenizer_name
from freehold.convert.sentencepiece import adds_prefix, json_table, model_table, stripping
from freehold.convert.tokentypes import CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED
from freehold.core.errors import BadModelFile, NotFound, Unsupported
from freehold.formats.reading import bad_file, regular_file, shown

_LIMIT = 256 << 20
_TEMPLATE_LIMIT = 4 << 20
_END_OF_MESSAGE = "<|eom_id|>"
_LABELS = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
_AROUND = (("add_bos_token", True), ("add_eos_token", False))
"""What transformers adds around every text for a tokenizer.model when its settings do not say."""


class Settings:
    """What the files beside a tokenizer say of special tokens. `ids` maps every token to its number."""

    def __init__(self, folder: Path, config: Config, ids: dict[str, int]) -> None:
        self.config, self.ids = config, ids
        self.settings = _optional(folder / "tokenizer_config.json")
        self.special = _optional(folder / "special_tokens_map.json")
        self.generation = _optional(folder / "generation_config.json")

    def id_of(self, key: str) -> int | None:
        """The id of a special token such as `eos_token`: tokenizer_config.json first, then the older places."""
        for values in (self.settings, self.special):
            token = values.get(key)
            content = token.get("content") if isinstance(token, dict) else token
            if isinstance(content, str) and content in self.ids:
                return self.ids[content]
        return next(iter(self.configured(key)), None)

    def configured(self, key: str) -> list[int]:
        """The ids that generation_config.json, else config.json gives for a special token: none, one or several."""
        known = set(self.ids.values())
        for values in (self.generation, self.config.values):
            found = values.get(f"{key}_id")
            ids = found if isinstance(found, list) else [] if found is None else [found]
            if ids and all(type(id_) is int and id_ in known for id_ in ids):
                return ids
        return []


class Tokenizer:
    """A tokenizer.json. Raises NotFound, BadModelFile, Unsupported as its parts are looked into."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.path = folder / "tokenizer.json"
        if not self.path.exists():
            raise NotFound(
                f"{shown(folder, 400)} holds neither tokenizer.json nor tokenizer.model",
                "Save the tokenizer with transformers, or fetch it again",
            )
        self.json = read_json(self.path, _LIMIT)
        self.model = self._section("model")
        self.added = dict(self._added())
        self.vocab = self._vocab()
        self.ids = {**self.vocab, **{token["content"]: id_ for id_, token in self.added.items()}}
        self.settings = Settings(folder, config, self.ids)

    def bad(self, reason: str) -> BadModelFile:
        """The error to raise for tokenizer.json."""
        return bad_file(self.path, reason)

    def _section(self, key: str) -> dict[str, Any]:
        value = self.json.get(key)
        if not isinstance(value, dict):
            raise self.bad(f"{key} is missing")
        return value

    def listed(self, key: str, values: dict[str, Any]) -> list[Any]:
        """The list under `key`, empty where there is none. Raises BadModelFile."""
        value = values.get(key)
        if value is not None and not isinstance(value, list):
            raise self.bad(f"{key} is not a list")
        return value or []

    def _vocab(self) -> dict[str, int]:
        vocab = self.model.get("vocab")
        if not isinstance(vocab, dict) or not all(type(id_) is int for id_ in vocab.values()):
            raise self.bad("model.vocab does not map tokens to numbers")
        return vocab

    def _added(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for token in self.listed("added_tokens", self.json):
            match token:
                case {"id": int(id_), "content": str(content)}:
                    if token.get("lstrip") or token.get("single_word"):
                        raise Unsupported(
                            f"token {shown(content)} swallows spaces or matches whole words only",
                            "llama.cpp cannot do that: use another model",
                        )
                    yield id_, token
                case _:
                    raise self.bad("an added token has no id or no content")


def tokenizer_metadata(folder: Path, config: Config, vocab_size: int) -> Metadata:
    """Every `tokenizer.*` key for a vocabulary of `vocab_size` rows. Raises NotFound, BadModelFile, Unsupported."""
    if not (folder / "tokenizer.json").exists() and (folder / "tokenizer.model").exists():
        metadata = _from_model(folder, config, vocab_size)
    else:
        metadata = _from_json(Tokenizer(folder, config), vocab_size)
    template = chat_template(folder)
    if template:
        metadata["tokenizer.chat_template"] = template
    return metadata


def _from_json(tokenizer: Tokenizer, vocab_size: int) -> Metadata:
    _check_supported(tokenizer)
    fallback = tokenizer.model.get("byte_fallback") is True
    return {
        **(_by_score(tokenizer, vocab_size) if fallback else _by_merges(tokenizer, vocab_size)),
        **_special_ids(tokenizer.settings),
        **_added_around(tokenizer),
    }


def _by_merges(tokenizer: Tokenizer, vocab_size: int) -> Metadata:
    """A tokenizer that spells text in bytes."""
    if any(token.get("rstrip") for token in tokenizer.added.values()):
        raise Unsupported(
            f"{shown(tokenizer.path, 400)}: a token swallows spaces", "llama.cpp cannot do that: use another model"
        )
    tokens, types = _tokens(tokenizer, vocab_size)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre_tokenizer_name(
            tokenizer.json.get("pre_tokenizer"), ignore_merges=tokenizer.model.get("ignore_merges") is True
        ),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [f"{left} {right}" for left, right in _merges(tokenizer)],
    }


def _by_score(tokenizer: Tokenizer, vocab_size: int) -> Metadata:
    """A tokenizer that spells text in characters, and in bytes where it has none."""
    prefix = adds_prefix(tokenizer.json.get("normalizer"), tokenizer.json.get("pre_tokenizer"))
    if prefix is None or tokenizer.model.get("ignore_merges"):
        raise Unsupported(
            f"{shown(tokenizer.path, 400)}: its normalizer and pre_tokenizer are not supported", "Use another model"
        )
    table = json_table(tokenizer.path, tokenizer.vocab, list(_merges(tokenizer)), tokenizer.added, vocab_size)
    unknown = tokenizer.model.get("unk_token")
    if isinstance(unknown, str) and unknown in tokenizer.ids:
        table.types[tokenizer.ids[unknown]] = UNKNOWN
    return {**table.metadata(prefix), **stripping(tokenizer.path, tokenizer.added)}


def _from_model(folder: Path, config: Config, vocab_size: int) -> Metadata:
    """A tokenizer.model of SentencePiece alone."""
    table, model = model_table(folder, vocab_size)
    settings = Settings(folder, config, {text: id_ for id_, text in enumerate(table.texts)})
    own = {f"tokenizer.ggml.{_LABELS[key]}_token_id": id_ for key, id_ in model.special.items() if id_ >= 0}
    around = {key: settings.settings.get(key, default) is True for key, default in _AROUND}
    return {
        **table.metadata(model.prefix),
        **own,
        **_special_ids(settings),
        **{f"tokenizer.ggml.{key}": value for key, value in around.items()},
    }


def _check_supported(tokenizer: Tokenizer) -> None:
    model, normalizer = tokenizer.model, tokenizer.json.get("normalizer")
    if model.get("type") != "BPE":
        raise Unsupported(f"{shown(tokenizer.path, 400)}: only BPE tokenizers are supported", "Use another model")
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(key):
            raise Unsupported(f"{shown(tokenizer.path, 400)}: {key} is not supported", "Use another model")
    # llama.cpp normalises nothing. NFC leaves nearly all text as it is, and llama.cpp's own converter drops it too.
    if model.get("byte_fallback") or normalizer is None:
        return
    if not (isinstance(normalizer, dict) and normalizer.get("type") == "NFC"):
        raise Unsupported(f"{shown(tokenizer.path, 400)}: its normalizer is not supported", "Use another model")


def _tokens(tokenizer: Tokenizer, vocab_size: int) -> tuple[list[str], list[int]]:
    """Token texts and types by id; rows that no token uses are padding."""
    tokens = [f"[PAD{id_}]" for id_ in range(vocab_size)]
    types = [UNUSED] * vocab_size
    for text, id_ in tokenizer.ids.items():
        if not 0 <= id_ < vocab_size:
            raise tokenizer.bad(f"token {shown(text)} has id {id_}, but the model has {vocab_size} rows")
        if types[id_] != UNUSED:
            raise tokenizer.bad(f"tokens {shown(tokens[id_])} and {shown(text)} both have id {id_}")
        if "\0" in text:  # C strings end there
            raise tokenizer.bad(f"token {id_} holds a NUL character")
        tokens[id_], types[id_] = text, _type(tokenizer.added.get(id_))
    return tokens, types


def _type(added: dict[str, Any] | None) -> int:
    if added is None:
        return NORMAL
    return CONTROL if added.get("special") else USER_DEFINED


def _merges(tokenizer: Tokenizer) -> Iterator[tuple[str, str]]:
    """The merges; tokenizers writes both "left right" and pairs."""
    for merge in tokenizer.listed("merges", tokenizer.model):
        match merge:
            case str(text) if text.count(" ") == 1 and text.strip(" ") == text:
                left, right = text.split(" ")
            case [str(left), str(right)] if left and right and " " not in left + right:
                pass
            case _:
                raise tokenizer.bad(f"merge {shown(repr(merge))} is not a pair of tokens")
        yield left, right


def _special_ids(tokenizer: Settings) -> Metadata:
    """The ids of bos, eos, pad and unk, and of the tokens that end a turn or a message beside eos."""
    metadata: Metadata = {}
    for key, label in _LABELS.items():
        if (id_ := tokenizer.id_of(f"{key}_token")) is not None:
            metadata[f"tokenizer.ggml.{label}_token_id"] = id_
    ends, message = tokenizer.configured("eos_token"), tokenizer.ids.get(_END_OF_MESSAGE)
    if message in ends:
        metadata["tokenizer.ggml.eom_token_id"] = message
    turn = [id_ for id_ in ends if id_ not in (message, metadata.get("tokenizer.ggml.eos_token_id"))]
    if turn:
        # Llama 3 lists <|end_of_text|>, <|eom_id|>, <|eot_id|> in this order: the last one ends a turn.
        metadata["tokenizer.ggml.eot_token_id"] = turn[-1]
    return metadata


def _added_around(tokenizer: Tokenizer) -> Metadata:
    """Whether every text gets bos before it and eos after it, as the post-processor says. Raises Unsupported."""
    before, after = _template(tokenizer)
    bos, eos = tokenizer.settings.id_of("bos_token"), tokenizer.settings.id_of("eos_token")
    for found, wanted in ((before, bos), (after, eos)):
        if len(found) > 1 or any(wanted is None or tokenizer.ids.get(token) != wanted for token in found):
            raise Unsupported(
                f"{shown(tokenizer.path, 400)}: its post_processor adds {shown(' '.join(found))}",
                "Only bos before and eos after the text are supported",
            )
    return {"tokenizer.ggml.add_bos_token": bool(before), "tokenizer.ggml.add_eos_token": bool(after)}


def _template(tokenizer: Tokenizer) -> tuple[list[str], list[str]]:
    """The special tokens that the post-processor puts before and after a text."""
    processor = tokenizer.json.get("post_processor")
    inner = processor.get("processors") if isinstance(processor, dict) else None
    steps = inner if isinstance(inner, list) else [processor]
    before: list[str] = []
    after: list[str] = []
    for step in steps:
        match step:
            case None | {"type": "ByteLevel"}:
                continue
            case {"type": "TemplateProcessing", "single": list(pieces)}:
                _read_template(pieces, before, after)
            case _:
                raise Unsupported(
                    f"{shown(tokenizer.path, 400)}: its post_processor is not supported", "Use another model"
                )
    return before, after


def _read_template(pieces: list[Any], before: list[str], after: list[str]) -> None:
    side = before
    for piece in pieces:
        match piece:
            case {"SpecialToken": {"id": str(token)}}:
                side.append(token)
            case {"Sequence": _}:
                side = after


def chat_template(folder: Path) -> str:
    """The model's chat template, "" without one: chat_template.jinja (transformers 5), else tokenizer_config.json."""
    path = folder / "chat_template.jinja"
    if path.exists():
        with regular_file(path) as (file, size):
            if size > _TEMPLATE_LIMIT:
                raise bad_file(path, f"is larger than {_TEMPLATE_LIMIT >> 20} MiB")
            try:
                return file.readall().decode()
            except UnicodeDecodeError as error:
                raise bad_file(path, "is not UTF-8") from error
    return _inline_template(_optional(folder / "tokenizer_config.json").get("chat_template"))


def _inline_template(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        found = [entry.get("template") for entry in value if isinstance(entry, dict) and entry.get("name") == "default"]
        return found[-1] if found and isinstance(found[-1], str) else ""
    return ""


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path, _LIMIT) if path.exists() else {}
