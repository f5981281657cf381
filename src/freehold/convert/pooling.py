"""How a decoder's states become one vector of a text, where its folder says so: a key of config.json, and of GGUF.

Folders as sentence-transformers writes them say it in a file of their own: modules.json names what is done after the
model, 1_Pooling/config.json how states are pooled.
"""

from pathlib import Path
from typing import Any

import msgspec

from freehold.convert.config import Config, read_json
from freehold.convert.plan import Metadata
from freehold.core.errors import Unsupported
from freehold.formats.reading import bad_file, regular_file, shown
from freehold.store.folders import NESTED

KEY = "pooling_type"
NUMBERS = {"mean": 1, "last": 3}
"""By the names of config.json, llama.cpp's numbers."""
_MODULES = "modules.json"
_SERVED = ("Transformer", "Pooling", "Normalize")
_MODES = {"mean": "mean", "lasttoken": "last"}
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Of versions before 5.4; newer ones write `pooling_mode`."""
_LIMIT = 1 << 20
_REMEDY = 'Use a base that pools by mean or lasttoken, or add "pooling_type": "mean" to its config.json'


def metadata(folder: Path, config: Config, architecture: str) -> Metadata:
    """The key of a GGUF header; nothing for a folder that says nothing of vectors. Raises Unsupported, BadModelFile."""
    named = named_by(folder, config.values)
    return {f"{architecture}.{KEY}": NUMBERS[named]} if named else {}


def named_by(folder: Path, config: dict[str, Any]) -> str:
    """The pooling that a model's folder names, by its config.json or by sentence-transformers' files; empty for none.

    Raises Unsupported where llama.cpp would make other vectors, BadModelFile for files that cannot be read.
    """
    named = config.get(KEY)
    if isinstance(named, str) and named in NUMBERS:
        return named
    if (folder / _MODULES).exists():
        _check_modules(folder / _MODULES)
    found = next((path for pair in NESTED.items() for name in pair if (path := folder / name).exists()), None)
    return _mode(found) if found else ""


def _check_modules(path: Path) -> None:
    with regular_file(path) as (file, size):
        data = file.read(_LIMIT) if size <= _LIMIT else b""
    try:
        modules = msgspec.json.decode(data, type=list[dict[str, Any]])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_file(path, f"not a list of modules: {error}") from error
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    other = next((kind for kind in kinds if kind not in _SERVED), None)
    if other is not None:
        raise Unsupported(f"{shown(path, 400)} names a module {shown(other)}, which is not served", _REMEDY)


def _mode(path: Path) -> str:
    config = read_json(path, _LIMIT)
    modes = config.get("pooling_mode") or [mode for flag, mode in _FLAGS.items() if config.get(flag) is True]
    modes = [modes] if isinstance(modes, str) else modes or ["mean"]
    if not isinstance(modes, list) or len(modes) != 1 or modes[0] not in _MODES:
        said = " and ".join(map(str, modes)) if isinstance(modes, list) else str(modes)
        raise Unsupported(f"{shown(path, 400)} pools vectors by {shown(said)}", _REMEDY)
    return _MODES[modes[0]]
