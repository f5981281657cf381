"""Paths with a tilde, and whether anything is at a path."""

from pathlib import Path

import pytest

from freehold.core.errors import BadInput
from freehold.core.paths import expanded, there
from freehold.core.settings import load


def test_the_tilde_is_the_home_of_whoever_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/m.gguf") == tmp_path / "m.gguf"
    assert expanded(Path("~")) == tmp_path
    assert load({}, {}).home == tmp_path / ".freehold"


@pytest.mark.parametrize("text", ["m.gguf", "./~x", "a/~b", "/~", "a~", ""])
def test_a_tilde_elsewhere_is_a_letter(text: str):
    assert expanded(text) == Path(text)
    assert expanded(text).absolute() == Path.cwd() / text


@pytest.mark.parametrize("text", ["~no-such-user", "~no-such-user/x", "~no-such-user" + "x" * 5000])
def test_the_folder_of_nobody_is_refused(text: str):
    with pytest.raises(BadInput, match="no such user") as caught:
        expanded(text)
    assert len(caught.value.line()) < 300
    with pytest.raises(BadInput, match="no such user"):
        load({}, {"FREEHOLD_HOME": text})
    with pytest.raises(BadInput, match="no such user"):
        load({"home": Path(text)}, {})


def test_what_is_there(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "lost").symlink_to("nowhere")
    assert there(tmp_path)
    assert there(tmp_path / "file")
    for none in ("none", "file/under", "lost", "loop", "loop/under", "a" * 300, "a/" * 3000, "nul\0"):
        assert not there(tmp_path / none), none
