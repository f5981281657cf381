"""The ports that a server takes."""

import socket
from pathlib import Path

import pytest

from freehold.core.errors import BadInput, Conflict
from freehold.core.settings import Settings
from freehold.serving import listening


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Ports that nobody has, in the place of the tools' own."""
    found = {}
    for tool in listening.USUAL:
        with socket.create_server(("127.0.0.1", 0)) as free:
            found[tool] = free.getsockname()[1]
    monkeypatch.setattr(listening, "USUAL", found)
    return found


def ports(settings: Settings) -> list[int]:
    listening.check(settings)
    with listening.sockets(settings) as bound:
        return [each.getsockname()[1] for each in bound]


def test_its_own_port_and_the_tools(usual: dict[str, int], tmp_path: Path):
    assert ports(Settings(home=tmp_path, port=0, also=("ollama", "llamacpp")))[1:] == [
        usual["ollama"],
        usual["llamacpp"],
    ]
    assert ports(Settings(home=tmp_path, port=usual["ollama"], also=("ollama", "ollama"))) == [usual["ollama"]]
    assert len(ports(Settings(home=tmp_path, port=0))) == 1


def test_a_taken_port_is_named_and_the_others_are_given_back(usual: dict[str, int], tmp_path: Path):
    with socket.create_server(("127.0.0.1", usual["lmstudio"])), pytest.raises(Conflict) as caught:
        ports(Settings(home=tmp_path, port=0, also=("ollama", "lmstudio")))
    assert str(usual["lmstudio"]) in caught.value.message
    assert "Stop lmstudio" in caught.value.remedy
    assert ports(Settings(home=tmp_path, port=usual["ollama"])) == [usual["ollama"]]


def test_an_unknown_tool_is_named_with_the_nearest(tmp_path: Path):
    with pytest.raises(BadInput, match="olama") as caught:
        ports(Settings(home=tmp_path, also=("olama",)))
    assert "ollama" in caught.value.remedy


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "::", "example.com"])
def test_only_loopback(host: str, tmp_path: Path):
    with pytest.raises(BadInput, match="other machines"):
        ports(Settings(home=tmp_path, host=host))
