"""Whatever is printed of a file is one line, and only regular files are opened."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.errors import BadInput, NotFound
from freehold.formats.reading import bad_file, files_below, regular_file, shown


@given(st.text(), st.integers(2, 200))
def test_whatever_is_shown_is_one_short_line(text: str, limit: int):
    found = shown(text, limit)
    assert found.isprintable()
    assert len(found) <= limit
    if text.isprintable() and len(text) <= limit:
        assert found == text


@pytest.mark.parametrize(
    ("text", "said"),
    [("a\nb", "a\\nb"), ("\x1b[2J", "\\x1b[2J"), ("\u202egnp", "\\u202egnp"), ("\udcff", "\\udcff"),
     (b"\xff", "b'\\xff'"), (None, "None"), ("x" * 121, "x" * 119 + "…")],
)  # fmt: skip
def test_what_could_drive_a_terminal_is_spelled_out(text: object, said: str):
    assert shown(text) == said


def test_an_error_about_a_file_cannot_be_longer_than_a_few_lines():
    error = bad_file(Path("x" * 5000), "y\n" * 5000)
    assert len(error.message) < 900
    assert error.message.isprintable()


def test_files_that_go_while_they_are_looked_for_are_passed_over(tmp_path: Path):
    for name in ("a/one", "a/two", "b/three"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"xx")
    (tmp_path / "b" / "link").symlink_to("three")
    (tmp_path / "nowhere").symlink_to("nothing")
    found = {path.name: status.st_size for path, status in files_below(tmp_path)}
    assert found == {"one": 2, "two": 2, "three": 2}
    seen = []
    for path, _ in files_below(tmp_path / "a"):
        seen.append(path.name)
        for other in ("one", "two"):
            (tmp_path / "a" / other).unlink(missing_ok=True)
    assert len(seen) == 1
    assert list(files_below(tmp_path / "nothing")) == []


def test_only_regular_files_are_opened(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"four")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with regular_file(tmp_path / name) as (file, size):
            assert (file.read(), size) == (b"four", 4)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device", "."):
        with pytest.raises(BadInput, match="not a regular file"), regular_file(tmp_path / name):
            pass
    with pytest.raises(NotFound, match="no such file"), regular_file(tmp_path / "none"):
        pass


@pytest.mark.parametrize("name", ["a" * 300, "file/under", "loop", "nul\0"])
def test_what_cannot_be_opened_is_said(tmp_path: Path, name: str):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BadInput, match="cannot open") as caught, regular_file(tmp_path / name):
        pass
    assert caught.value.message.isprintable()


def test_a_socket_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        with pytest.raises(BadInput, match="cannot open"), regular_file(Path("s")):
            pass


def test_no_descriptor_is_left_open(tmp_path: Path):
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(20):
        for path in (tmp_path, tmp_path / "none"):
            with pytest.raises((BadInput, NotFound)), regular_file(path):
                pass
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
