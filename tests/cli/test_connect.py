"""The lines that make clients use this server."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from freehold.cli._clients import CLIENTS
from freehold.core.settings import Settings
from freehold.serving.state import ServerState
from tests.cli.conftest import Freehold


def test_every_line_names_the_server(inside: Freehold) -> None:
    done = inside("connect", "--model", "org/tiny:v1")
    assert done.returncode == 0
    assert all(client.title in done.stdout for client in CLIENTS)
    assert not re.search(r"[{]url|[{]model|[{][{]|[}][}]{2}", done.stdout)
    assert done.stdout.count("http://127.0.0.1:6464") >= len(CLIENTS)
    assert "freehold serve" in done.stderr


def test_codex_finds_its_lines_readable(inside: Freehold) -> None:
    config = tomllib.loads(inside("connect", "codex", "--model", "org/tiny:v1").stdout.split("\n", 1)[1])
    assert (config["model"], config["model_provider"]) == ("org/tiny:v1", "freehold")
    provider = config["model_providers"]["freehold"]
    assert (provider["base_url"], provider["wire_api"]) == ("http://127.0.0.1:6464/v1", "responses")


def test_a_running_server_is_named_where_it_is(inside: Freehold, home: Path) -> None:
    home.mkdir()
    ServerState.here("127.0.0.1", 7001).record(Settings(home=home))
    done = inside("connect", "ollama")
    assert "export OLLAMA_HOST=http://127.0.0.1:7001" in done.stdout
    assert done.stderr == ""
    told = json.loads(inside("connect", "--json").stdout)
    assert (told["url"], told["running"]) == ("http://127.0.0.1:7001", True)
    assert [each["name"] for each in told["clients"]] == [client.name for client in CLIENTS]


@pytest.mark.parametrize("model", ["base:latest+desk", "org/base+desk:v2", "ollama::llama3:8b"])
def test_whatever_answers_can_be_named(inside: Freehold, model: str) -> None:
    told = json.loads(inside("connect", "--model", model, "--json").stdout)
    named = model.replace(":latest", "")
    texts = {each["name"]: each["text"] for each in told["clients"]}
    assert f'"model": "{named}"' in texts["curl"]
    assert shlex.split(texts["curl"])[-1].startswith("{")
    assert tomllib.loads(texts["codex"])["model"] == named
    compile(texts["langchain"], "langchain", "exec")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["olama"], "Did you mean ollama"),
        (["zzz"], "Known: curl"),
        (["curl", "--model", "a b"], "not a model name"),
        (["curl", "--model", "a+b+c"], "not a model name: 'b+c'"),
        (["curl", "--model", 'lmstudio::it\'s "here"'], "cannot stand in such a line"),
        (["curl", "--model", "ollama::$(date)"], "cannot stand in such a line"),
    ],
)
def test_what_is_not_known_is_named(inside: Freehold, wrong: list[str], said: str) -> None:
    done = inside("connect", *wrong)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_serve_names_a_tool_that_it_does_not_know(inside: Freehold) -> None:
    done = inside("serve", "--port", "0", "--also", "olama")
    assert (done.returncode, "Did you mean ollama" in done.stderr) == (2, True)
