"""Files that are no text: told by their first bytes, with what to do about them."""

import codecs
import re
import shlex
from pathlib import Path

_PACKED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"\x28\xb5\x2f\xfd": ("Zstandard", "zstd -d"),
    b"\xfd7zXZ\x00": ("xz", "unxz"),
    b"BZh": ("bzip2", "bunzip2"),
}
_SUFFIXES = (".gz", ".zst", ".xz", ".bz2")
READ = "Give CSV, JSON, JSON Lines, Parquet, Excel, PDF or plain text"
"""What to do about a file that nothing reads."""
_OTHERS = {
    b"\x89PNG": ("a PNG image", READ),
    b"\xff\xd8\xff": ("a JPEG image", READ),
    b"GIF8": ("a GIF image", READ),
    b"%PDF-": ("a PDF", "Read it in the format pdf"),
    b"PAR1": ("a Parquet file", "Read it in the format parquet"),
    b"PK\x03\x04": ("a spreadsheet or another zip archive", "Save it as CSV (UTF-8)"),
    b"\xd0\xcf\x11\xe0": ("an old or encrypted Office file", "Save it as .xlsx without a password, or as CSV"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "Unpack it"),
    b"ARROW1": ("an Arrow file", "Save it as Parquet or JSON Lines"),
    b"SQLite format 3": ("an SQLite database", "Export the table as CSV or JSON Lines"),
    b"GGUF": ("a model in GGUF", READ),
}
_LOOKED_AT = 1 << 16
_CONTROL = re.compile(rb"[\x00-\x06\x0e-\x19\x1c-\x1f]")
"""What text has in no encoding. It may have the bell, the end of DOS files and what begins an escape."""
_RARE = 0.05


def kind(path: Path, data: bytes) -> tuple[str, str] | None:
    """What a file is, and what to do about it; None for one that begins like none that is known."""
    for magic, (what, command) in _PACKED.items():
        if data.startswith(magic):
            to = path.stem if path.suffix.lower() in _SUFFIXES else f"unpacked-{path.name}"
            return f"is packed with {what}", f"Unpack it: {command} < {shlex.quote(path.name)} > {shlex.quote(to)}"
    for magic, (what, remedy) in _OTHERS.items():
        if data.startswith(magic):
            return f"is {what}", remedy
    if data[257:262] == b"ustar":
        return "is a tar archive", f"Unpack it: tar -xf {shlex.quote(path.name)}"
    if encoding := _wide(data[:_LOOKED_AT]):
        return f"is text in {encoding}", as_utf8(path, encoding)
    return None


def control(data: bytes) -> tuple[int, int] | None:
    """The first byte that no text has, and its offset."""
    found = _CONTROL.search(data[:_LOOKED_AT])
    return (found[0][0], found.start()) if found else None


def as_utf8(path: Path, encoding: str) -> str:
    """The remedy for a text in another encoding."""
    old, new = shlex.quote(path.name), shlex.quote(f"utf8-{path.name}")
    return f"Save it as UTF-8, for example: iconv -f {encoding} -t UTF-8 {old} > {new}"


def _wide(data: bytes) -> str:
    """The encoding of several bytes a character that data is in, but for UTF-16 with its mark; empty for none."""
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ""
    zeros = data[::2].count(0), data[1::2].count(0)
    encoding = "UTF-16LE" if zeros[1] > zeros[0] else "UTF-16BE"
    # Whatever the language, line ends and separators have a zero on the one side, and nothing has on the other.
    if max(zeros) < _RARE * len(data) / 2 or min(zeros):
        return ""
    try:
        codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return ""
    return encoding
