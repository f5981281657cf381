import json
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.errors import BadInput
from freehold.guard import strict_json

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
BOMBS = {
    "escaped quotes": b'"' + b'\\"' * 2_000_000,
    "quotes": b'"' * 1_000_000,
    "backslashes": b"\\" * 4_000_000,
    "strings": b"[" + b'"\\\\",' * 500_000 + b"1]",
    "braces": b"{" * 4_000_000,
}


def _read_or_refused(data: bytes) -> None:
    with suppress(BadInput):
        strict_json.parse(data)


@given(VALUES)
def test_what_json_writes_is_read_back(value):
    assert strict_json.parse(json.dumps(value).encode()) == value
    assert strict_json.parse(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b'{"a":1}x', "Extra data"),
        (b'{"a":1,}', "property name"),
        (b"{'a':1}", "property name"),
        (b'{"a":1,"a":2}', "occurs twice"),
        (b'{"x":{"a":1,"a":1}}', "occurs twice"),
        (b"[NaN]", "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"[-Infinity]", "Infinity"),
        (b"[1e999]", "too large"),
        (b"[" + b"9" * 10_000 + b"]", "10000 digits"),
        (b"[-" + b"9" * 30 + b"]", "digits"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\udfff":1}', "surrogate"),
        (b'["\xff"]', "UTF-8"),
        (b'["\xed\xa0\x80"]', "UTF-8"),
        (b'["\xc0\x80"]', "UTF-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"a":1}'.decode().encode("utf-16"), "UTF-8"),
        (b"[" * 65 + b"]" * 65, "nested deeper"),
        (b'{"a":' * 100_000, "nested deeper"),
        (b"[" * 1_000_000, "nested deeper"),
        (b'["\x00"]', "control character"),
        (b'["\\x"]', "escape"),
        (b'"' + b'\\"' * 1000, "Unterminated"),
        (b"[1.]", "delimiter"),
        (b"[01]", "delimiter"),
    ],
)
def test_what_parsers_disagree_about_is_refused(data: bytes, said: str):
    with pytest.raises(BadInput, match=f"(?i){said}"):
        strict_json.parse(data)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'["\\ud83d\\ude00"]', ["😀"]),
        (b'"[[[["', "[[[["),
        (b'["\\"[", "]"]', ['"[', "]"]),
        (b"[" * 64 + b"]" * 64, None),
        (b"[9223372036854775807, -9223372036854775808]", [2**63 - 1, -(2**63)]),
        (b'{"":0}', {"": 0}),
        (b' \n{"a" : [ ] }\t', {"a": []}),
    ],
)
def test_odd_but_valid_json_is_taken(data: bytes, value):
    found = strict_json.parse(data)
    assert value is None or found == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes):
    _read_or_refused(data)


@pytest.mark.parametrize("kind", BOMBS)
def test_large_nonsense_takes_linear_time(kind: str):
    began = time.process_time()
    _read_or_refused(BOMBS[kind])
    assert time.process_time() - began < 1.0
