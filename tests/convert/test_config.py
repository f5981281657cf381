"""The JSON files of a model's folder, read before anything believes them."""

from pathlib import Path

import pytest

from freehold.convert.config import read_json
from freehold.core.errors import BadModelFile, FreeholdError, NotFound

BAD = [b"", b"[]", b"5", b"{", b'{"a": "\xff"}', b"\xff\xfe", b'{"a":' * 5000, b"\x00" * 9, b"null", b'"text"']


@pytest.mark.parametrize("data", BAD, ids=lambda data: repr(data[:10]))
def test_what_is_no_object_is_a_bad_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(BadModelFile, match=r"config\.json") as caught:
        read_json(tmp_path / "config.json", 1 << 20)
    assert len(caught.value.line()) < 600


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'{"a": 1}')
    assert read_json(path, 8) == {"a": 1}
    with pytest.raises(BadModelFile, match="more than 7"):
        read_json(path, 7)


def test_what_is_not_there_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_json(tmp_path / "config.json", 9)
    with pytest.raises(FreeholdError):
        read_json(tmp_path, 9)
