"""How a decoder's states become one vector of a text, where its folder says so: a key of config.json, and of GGUF."""

from freehold.convert.config import Config
from freehold.convert.plan import Metadata

KEY = "pooling_type"
NUMBERS = {"mean": 1, "last": 3}
"""By the names of config.json, llama.cpp's numbers."""


def metadata(config: Config, architecture: str) -> Metadata:
    """The key of a GGUF header; nothing for a folder that says nothing of vectors."""
    named = config.values.get(KEY)
    return {f"{architecture}.{KEY}": NUMBERS[named]} if isinstance(named, str) and named in NUMBERS else {}
