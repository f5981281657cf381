"""Caps on what makes an engine work hard before it draws a token: schemas, grammars, patterns, images."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from freehold.core.errors import BadInput, TooLarge
from freehold.core.request import MAX_IMAGES, Request
from freehold.formats.image_decoding import MOST_READ
from freehold.formats.images import MAX_PIXELS

MAX_SCHEMA = 64 << 10
"""Bytes of a schema as JSON."""
MAX_PATTERN = 2 << 10
MAX_REPEAT = 2000
"""Repetitions that llama.cpp's grammar parser unrolls; it refuses more."""
MAX_UNROLLED = 20_000
"""Characters that a schema's patterns stand for, repetitions written out; a hundred take a millisecond to compile."""
MAX_OPTIONAL = 200
"""Properties of one object that may be left out; of several, fewer: compiling takes time with the square of each."""
MAX_NAME_PATTERNS = 50
MAX_GROUPS = 64
"""Nested groups in a grammar: tens of thousands have overflowed llama.cpp's stack."""
_REPEATS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_BRACES = re.compile(r"\{\s*(\d*)\s*,?\s*(\d*)\s*\}")
_ATOMS = re.compile(r"\\[pP]\{[^}]*\}|\\.|\[(?:\\.|[^\]\\])*\]|\{(?P<low>\d*)(?:,(?P<high>\d*))?\}|.", re.DOTALL)
"""The atoms of a pattern: classes, escaped and plain characters, groups' ends; and repetitions."""
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|#[^\n]*')
"""What holds no groups of a grammar: literals, classes, and comments, in which a quote opens nothing."""


def check(request: Request) -> None:
    """Raises BadInput or TooLarge for a request whose schemas, grammar or images would harm the engine."""
    _check_images(request)
    for tool in request.tools:
        _check_size(tool.parameters, "tools")
    _check_work([tool.parameters for tool in request.tools], "tools")
    constraint = request.constraint
    if constraint is not None and constraint.kind == "schema":
        check_schema(constraint.schema, "response_format")
    if constraint is not None and constraint.kind == "grammar":
        check_grammar(constraint.grammar)


def _check_images(request: Request) -> None:
    images = request.seen
    if len(images) > MAX_IMAGES:
        raise TooLarge(f"{len(images)} images are sent", f"Send at most {MAX_IMAGES} at once", param="messages")
    pixels = sum(min(image.width * image.height, MOST_READ) for image in images)
    if pixels > MAX_PIXELS:
        raise TooLarge(
            f"the images have {pixels / 1e6:.0f} million pixels together",
            f"Send {MAX_PIXELS // 10**6} million at most: fewer or smaller ones",
            param="messages",
        )


def check_schema(schema: Mapping[str, Any], param: str) -> None:
    """Raises for a schema that is too large, points outside itself or repeats too much."""
    _check_size(schema, param)
    _check_work(schema, param)


def _check_size(schema: Mapping[str, Any], param: str) -> None:
    if len(msgspec.json.encode(schema)) > MAX_SCHEMA:
        raise TooLarge(f"a JSON schema is larger than {MAX_SCHEMA} bytes", "Make it smaller", param=param)


def _check_work(schemas: object, param: str) -> None:
    unrolled = squares = named = 0
    for node in _nodes(schemas):
        reference = node.get("$ref", "#")
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise _bad(f"a JSON schema refers to {str(reference)[:80]!r}", "Refer only to '#/…' inside it", param)
        for key in _REPEATS:
            count = node.get(key, 0)
            if isinstance(count, int | float) and not 0 <= count <= MAX_REPEAT:
                raise _bad(f"{key} is {count} in a JSON schema", f"Use 0 to {MAX_REPEAT}", param)
        for pattern in _patterns(node):
            _check_pattern(pattern, param)
            unrolled += _unrolled(pattern)
        squares += _optional(node) ** 2
        named += len(_mapping(node, "patternProperties"))
    for found, limit, what, remedy in (
        (unrolled, MAX_UNROLLED, "characters, patterns' repetitions written out", "Repeat less"),
        (math.isqrt(squares), MAX_OPTIONAL, "optional properties", "Make them required"),
        (named, MAX_NAME_PATTERNS, "patternProperties", "Use fewer"),
    ):
        if found > limit:
            raise _bad(f"a JSON schema has more than {limit} {what}", remedy, param)


def _mapping(node: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = node.get(key)
    return found if isinstance(found, Mapping) else {}


def _patterns(node: Mapping[str, Any]) -> Iterator[str]:
    for pattern in (node.get("pattern"), *_mapping(node, "patternProperties")):
        if isinstance(pattern, str):
            yield pattern


def _optional(node: Mapping[str, Any]) -> int:
    required = node.get("required")
    needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    return len(_mapping(node, "properties").keys() - needed)


def check_grammar(grammar: str) -> None:
    """Raises for a grammar with too deep groups or too many repetitions."""
    bare = _QUOTED.sub("", grammar)
    depth = 0
    for char in bare:
        depth += (char == "(") - (char == ")")
        if depth > MAX_GROUPS:
            raise _bad(f"the grammar nests more than {MAX_GROUPS} groups", "Flatten it", "grammar")
    _check_braces(bare, "grammar")


def _check_pattern(pattern: str, param: str) -> None:
    if len(pattern) > MAX_PATTERN:
        raise TooLarge(f"a pattern is longer than {MAX_PATTERN} characters", "Make it shorter", param=param)
    if pattern.count("(") > MAX_GROUPS:
        raise _bad(f"a pattern has more than {MAX_GROUPS} groups", "Make it simpler", param)
    _check_braces(pattern, param)


def _unrolled(pattern: str) -> int:
    """Characters of a pattern with its repetitions written out."""
    sizes, last = [0], 0
    for found in _ATOMS.finditer(pattern):
        if found[0] == "(":
            sizes.append(0)
            last = 0
        elif found["low"] is not None:
            more = last * (max(int(found["low"] or 0), int(found["high"] or 0), 1) - 1)
            sizes[-1] += more
            last += more
        else:
            last = sizes.pop() if found[0] == ")" and len(sizes) > 1 else 1
            sizes[-1] += last
    return sum(sizes)


def _check_braces(text: str, param: str) -> None:
    for found in _BRACES.finditer(text):
        for digits in found.groups():
            if len(digits) > 5 or (digits and int(digits) > MAX_REPEAT):
                raise _bad(f"{found[0][:40]!r} repeats more than {MAX_REPEAT} times", "Repeat less", param)


def _nodes(value: Any) -> Iterator[Mapping[str, Any]]:
    """All objects inside a JSON value. Its depth is bounded by the JSON reader."""
    if isinstance(value, Mapping):
        yield value
        for item in value.values():
            yield from _nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _nodes(item)


def _bad(message: str, remedy: str, param: str) -> BadInput:
    return BadInput(message, remedy, param=param)
