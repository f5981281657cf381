"""Files that are no text are called what they are, with what to do about them."""

import bz2
import gzip
import io
import lzma
import shlex
import tarfile

import pytest

from freehold import data
from freehold.core.errors import BadData
from tests.data.conftest import PAIRS, Write

TEXT = "question,answer\n" + "".join(f'"{question}","{answer}"\n' for question, answer in PAIRS)


def _refusal(write: Write, content: bytes, name: str = "a.csv") -> BadData:
    with pytest.raises(BadData) as caught:
        data.load(write(name, content), format="csv")
    assert "\n" not in caught.value.line()
    return caught.value


@pytest.mark.parametrize(
    ("content", "suffix", "what"),
    [
        (gzip.compress(TEXT.encode()), ".gz", "gunzip"),
        (bz2.compress(TEXT.encode()), ".bz2", "bunzip2"),
        (lzma.compress(TEXT.encode()), ".xz", "unxz"),
        (b"\x28\xb5\x2f\xfd\x04\x00\x99", ".zst", "zstd -d"),
    ],
)
def test_packed_files_are_to_be_unpacked(write: Write, content: bytes, suffix: str, what: str) -> None:
    error = _refusal(write, content, f"my rows.csv{suffix}")
    assert "is packed with" in error.message
    assert error.remedy == f"Unpack it: {what} < 'my rows.csv{suffix}' > 'my rows.csv'"
    assert shlex.split(_refusal(write, content, "a.jsonl").remedy)[-1] == "unpacked-a.jsonl"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG image"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG image"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "a PDF"),
        (b"PAR1\x15\x04\x15\x00\xff", "a Parquet file"),
        (b"PK\x03\x04\x14\0\xff", "a spreadsheet or another zip archive"),
        (b"ARROW1\0\0rest", "an Arrow file"),
        (b"SQLite format 3\0rest", "an SQLite database"),
        (b"GGUF\x03\0\0\0", "a model in GGUF"),
    ],
)
def test_known_files_are_called_what_they_are(write: Write, content: bytes, what: str) -> None:
    error = _refusal(write, content)
    assert error.message.endswith(f"a.csv is {what}")
    assert "iconv" not in error.remedy


def test_a_tar_archive(write: Write) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.csv"))
    assert "is a tar archive" in _refusal(write, file.getvalue()).message


def test_other_bytes_are_no_text_in_any_encoding(write: Write) -> None:
    error = _refusal(write, b"abc\x01" + bytes(range(256)))
    assert error.message.endswith("is no text: byte 0x01 at offset 3")
    assert "iconv" not in error.remedy


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("text", [TEXT, "質問,答え\n東京はどこですか,日本の首都です\n"])
def test_text_of_wide_characters_names_its_encoding(write: Write, text: str, encoding: str) -> None:
    name = encoding.upper().replace("-LE", "LE").replace("-BE", "BE")
    error = _refusal(write, text.encode(encoding))
    assert error.message.endswith(f"is text in {name}")
    assert f"iconv -f {name} -t UTF-8 a.csv" in error.remedy


@pytest.mark.parametrize("start", ["GGUF", "PAR1", "%PDF-", "BZh", "GIF8", "ARROW1", "7z"])
def test_a_text_may_begin_as_it_will(write: Write, start: str) -> None:
    text = f"{start} is the question,answer\n{TEXT}"
    columns = {"user": f"{start} is the question"}
    assert len(data.load(write("a.csv", text), format="csv", columns=columns).rows) == len(PAIRS) + 1
