"""Bytes of a data file to text: UTF-8, or UTF-16 with its mark. Anything else is refused by what it is, or where."""

import codecs
from pathlib import Path

from freehold.core.errors import BadData, TooLarge
from freehold.data import binary

MAX_FILE = 2 << 30
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises BadData when it is missing, empty or no file, TooLarge above 2 GiB."""
    try:
        if path.exists() and not path.is_file():
            raise BadData(f"cannot read {path}: not a file", "Give a data file")
        size = path.stat().st_size
        if size > MAX_FILE:
            raise TooLarge(f"{path} has {size:,} bytes", f"Split it: at most {MAX_FILE:,} bytes are read")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise BadData(f"no such file: {path}", "Check the path") from error
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror}", "Give a file that you may read") from error
    if not data.strip():
        raise _empty(path)
    return data


def beginning(data: bytes) -> bytes:
    """The first bytes of a file as UTF-8, without a mark: what kind of file it is shows in them."""
    if data[:2] in _UTF16:
        return data.decode("utf-16", "ignore").encode()
    return data.removeprefix(codecs.BOM_UTF8)


def read_text(path: Path) -> str:
    """The text of a file. Raises BadData naming the first byte that is not UTF-8."""
    data = read_bytes(path)
    encoding = _UTF16.get(data[:2], "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _wrong_encoding(path, data, encoding, error) from error
    if not text.strip():
        raise _empty(path)
    if "\0" in text:
        _check_kind(path, data)
        line = text.count("\n", 0, text.index("\0")) + 1
        raise BadData(f"{path} line {line} holds a NUL: this is not a text file", "Save it as text (UTF-8)")
    return text


def _empty(path: Path) -> BadData:
    return BadData(f"{path} is empty", "Give a file with a row for each question and answer")


def _check_kind(path: Path, data: bytes) -> None:
    """Raises BadData for a file that is known to be no UTF-8 text."""
    if found := binary.kind(path, data):
        raise BadData(f"{path} {found[0]}", found[1])


def _wrong_encoding(path: Path, data: bytes, encoding: str, error: UnicodeDecodeError) -> BadData:
    _check_kind(path, data)
    if encoding == "utf-16":
        return BadData(f"{path} begins like UTF-16 and is none at offset {error.start}", "Save it again, as UTF-8")
    # With a mark in front, the codec counts from behind the mark.
    offset = error.start + (3 if data.startswith(codecs.BOM_UTF8) else 0)
    line = data.count(b"\n", 0, offset) + 1
    if found := binary.control(data):
        return BadData(f"{path} is no text: byte 0x{found[0]:02x} at offset {found[1]}", binary.READ)
    fix = binary.as_utf8(path, "WINDOWS-1252")
    return BadData(f"{path} is not UTF-8: byte 0x{data[offset]:02x} at offset {offset}, line {line}", fix)
