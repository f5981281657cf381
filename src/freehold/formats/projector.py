"""Projectors: the GGUF files (`mmproj-….gguf`) with which llama.cpp's text models see images.

How many tokens an image becomes is up to the kind of projector, as llama.cpp's clip.cpp and mtmd-image.cpp have it.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from freehold.core.errors import Unsupported
from freehold.formats.gguf import GgufHeader, read_header
from freehold.formats.gguf_values import GgufArray
from freehold.formats.reading import bad_file, shown

ARCHITECTURE = "clip"
_MOST = 1 << 20
"""Of a size or a count in the header: more than any projector has, and few enough to count with."""
_MOST_SIZES = 4096
"""Of a list of image sizes."""
_MARKS = 32
"""Tokens of text around an image, or around one of its tiles."""
_ENCODING = 12
"""Activations of a patch that are kept at once, in widths of the encoder."""
_FLOAT = 4


class Projector(msgspec.Struct, frozen=True):
    """What a projector's header says."""

    kind: str
    """As llama.cpp spells it: mlp, gemma3, qwen2.5vl_merger."""
    size: int
    """Bytes of the file."""
    tokens: int
    """Most tokens that one image becomes; 0 where that is not known here, and nothing but the context bounds it."""
    scratch: int
    """Bytes that encoding an image takes beside the weights, as an estimate."""
    at_once: bool
    """Whether the tokens of an image must be read in one batch: they attend to those after them too."""


def is_projector(header: GgufHeader) -> bool:
    """Whether a GGUF file is one, and not a model or an adapter."""
    return header.architecture == ARCHITECTURE and header.metadata.get("general.type") != "adapter"


def named(filename: str) -> bool:
    """Whether a file's name says that it is one, as all tools have it."""
    return "mmproj" in filename.rpartition("/")[2].lower()


def read(path: Path, *, label: Path | None = None, whole: int = 0) -> Projector:
    """The projector in a file, which `label` calls by name; `whole` as `gguf.read_header` has it.

    Raises NotFound, BadModelFile, and Unsupported for one that sees no images.
    """
    header = read_header(path, whole=whole)
    label = label or path
    if not is_projector(header):
        raise Unsupported(
            f"{shown(label, 400)} is no projector but a GGUF of {shown(header.architecture) or 'no'} architecture",
            "Name the model's mmproj file",
        )
    if header.metadata.get("clip.has_vision_encoder") is not True:
        raise Unsupported(f"{shown(label, 400)} is a projector that sees no images", "Name the model's mmproj file")
    if not header.tensors:
        raise bad_file(label, "holds no weights")
    return _of(header)


def _of(header: GgufHeader) -> Projector:
    kind = header.metadata.get("clip.projector_type") or header.metadata.get("clip.vision.projector_type")
    if not isinstance(kind, str):
        raise bad_file(header.path, "clip.projector_type is missing")
    width, forward = _number(header, "embedding_length"), _number(header, "feed_forward_length")
    tokens = min(_KINDS[kind](header), _MOST) if kind in _KINDS else 0
    patches = max(_square(header, 1), _patches(header, kind))
    at_once = kind in ("gemma3", "gemma4v", "gemma4uv")
    return Projector(kind, header.file_size, tokens, _FLOAT * patches * (_ENCODING * width + 2 * forward), at_once)


def _number(header: GgufHeader, key: str, default: int = 0) -> int:
    """A number about the vision part. Raises BadModelFile for what is none, or far too large."""
    value = header.number(f"clip.vision.{key}", default)
    if value > _MOST:
        raise bad_file(header.path, f"clip.vision.{key} is {value}")
    return value


def _square(header: GgufHeader, merged: int) -> int:
    """Tokens of one square tile, of whose patches `merged` by `merged` become one."""
    side = _number(header, "image_size") // max(1, _number(header, "patch_size", 14))
    return side * side // max(1, merged * merged)


def _patches(header: GgufHeader, kind: str) -> int:
    """Patches that are encoded at once of an image that keeps its form."""
    merged = _number(header, "spatial_merge_size", 2)
    return _SHAPED.get(kind, 0) * merged * merged


def _fixed(default: int = 1) -> Callable[[GgufHeader], int]:
    """One square tile, whatever the image."""
    return lambda header: _square(header, _number(header, "projector.scale_factor", default)) + _MARKS


def _tiled(header: GgufHeader) -> int:
    """A square tile of the whole and some of its parts."""
    tiles = 1 + _number(header, "preproc_max_tiles", 12)
    return tiles * (_square(header, _number(header, "projector.scale_factor", 1)) + _MARKS)


def _llava(header: GgufHeader) -> int:
    """The same with as many parts as the largest of the sizes that the header lists needs; none without such a list."""
    points = header.metadata.get("clip.vision.image_grid_pinpoints")
    size = max(1, _number(header, "image_size"))
    listed = points.values() if isinstance(points, GgufArray) and len(points) <= _MOST_SIZES else []
    sides = [value for value in listed if isinstance(value, int)]
    pairs = zip(sides[::2], sides[1::2], strict=False)
    tiles = 1 + max((-(-width // size) * -(-height // size) for width, height in pairs), default=0)
    return min(tiles, _MOST) * (_square(header, 1) + _MARKS)


def _idefics(header: GgufHeader) -> int:
    """The same of an image whose longer side is made as long as the header says."""
    longest, size = _number(header, "preproc_image_size"), max(1, _number(header, "image_size"))
    tiles = 1 + (-(-longest // size)) ** 2
    return tiles * (_square(header, _number(header, "projector.scale_factor", 1)) + _MARKS) if longest else 0


def _resampled(header: GgufHeader) -> int:
    """MiniCPM-V: so many tokens for the whole and for each of up to nine parts."""
    queries = header.number("clip.minicpmv_query_num") or 96
    return 10 * (queries + _MARKS)


def _shaped(kind: str) -> Callable[[GgufHeader], int]:
    """As many tokens as llama.cpp allows an image that keeps its form."""
    return lambda header: _SHAPED[kind] + _MARKS


_SHAPED = {
    "qwen2vl_merger": 4096,
    "qwen2.5vl_merger": 4096,
    "qwen3vl_merger": 4096,
    "qwen2.5o": 4096,
    "glm4v": 4096,
    "muse-glimmer": 4096,
    "minimax_m3": 576,
    "pixtral": 2048,  # 1024, and a break after each row
    "kimivl": 1024,
    "gemma4v": 1120,
    "gemma4uv": 1120,
    "hunyuanvl": 16384,
}
_KINDS: dict[str, Callable[[GgufHeader], int]] = {
    "mlp": _llava,
    "ldp": _fixed(2),
    "ldpv2": _fixed(2),
    "adapter": _fixed(2),
    "janus_pro": _fixed(),
    "cogvlm": _fixed(),
    "gemma3": _fixed(4),
    "internvl": _tiled,
    "llama4": _tiled,
    "idefics3": _idefics,
    "resampler": _resampled,
    **{kind: _shaped(kind) for kind in _SHAPED},
}
