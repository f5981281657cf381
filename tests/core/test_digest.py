"""Digests: parsing is the only way in, and what comes in is safe in a path."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.digest import Digest
from freehold.core.errors import BadName

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

HOSTILE = [
    "",
    "sha256:",
    EMPTY[:-1],
    EMPTY + "0",
    EMPTY + "\n",
    "\n" + EMPTY,
    EMPTY.removeprefix("sha256:"),
    EMPTY.replace("sha256", "sha512"),
    EMPTY.replace("e3", "g3"),
    "sha256:" + "../" * 21 + "e",
    "sha256:" + "0" * 63 + "\x00",
    "sha256-" + "0" * 64,
    "sha256:" + "０" * 64,
    "sha256:" + "٣" * 64,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_parse_refuses_what_is_not_a_digest(text: str) -> None:
    with pytest.raises(BadName):
        Digest.parse(text)


@given(st.text())
def test_any_text_parses_to_a_safe_digest_or_is_refused(text: str) -> None:
    try:
        digest = Digest.parse(text)
    except BadName:
        return
    assert len(digest.hex) == 64
    assert set(digest.hex) <= set("0123456789abcdef")


@given(st.binary())
def test_bytes_chunks_and_files_agree(data: bytes) -> None:
    expected = "sha256:" + hashlib.sha256(data).hexdigest()
    assert str(Digest.of_bytes(data)) == expected
    assert Digest.of_chunks([data[:3], data[3:]]) == Digest.parse(expected)


def test_digest_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"x" * 3_000_000)
    assert Digest.of_file(path) == Digest.of_bytes(b"x" * 3_000_000)


@given(st.dictionaries(st.text(), st.integers() | st.text()))
def test_digest_of_json_does_not_depend_on_order(value: dict[str, object]) -> None:
    try:
        turned = dict(reversed(value.items()))
        assert Digest.of_json(value) == Digest.of_json(turned)
    except (OverflowError, UnicodeEncodeError):
        pass  # msgspec encodes neither integers beyond 64 bits nor lone surrogates


def test_of_json_is_canonical() -> None:
    assert Digest.of_json({"b": 1, "a": [True, None]}) == Digest.of_bytes(b'{"a":[true,null],"b":1}')


def test_case_is_folded_and_equal_digests_are_equal() -> None:
    assert Digest.parse(EMPTY.upper()) == Digest.of_bytes(b"")
    assert hash(Digest.parse(EMPTY)) == hash(Digest.of_bytes(b""))


def test_frozen() -> None:
    with pytest.raises(AttributeError):
        Digest.of_bytes(b"").text = EMPTY  # type: ignore[misc]


def test_short_is_the_beginning() -> None:
    assert Digest.parse(EMPTY).short == "e3b0c44298fc"
