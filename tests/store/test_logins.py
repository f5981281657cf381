"""Logins are found where `docker login` keeps them: in its file, or with the helper that the file names."""

import base64
import json
import os
from pathlib import Path

import pytest

from freehold.core.errors import Forbidden
from freehold.store.pushing.logins import Login, login

BASIC = base64.b64encode(b"me:secret").decode()


@pytest.fixture
def keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes Docker's file."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def write(value: object) -> None:
        (tmp_path / "config.json").write_text(value if isinstance(value, str) else json.dumps(value))

    return write


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs a helper that runs a line of shell."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def install(line: str, called: str = "test") -> None:
        program = tmp_path / "bin" / f"docker-credential-{called}"
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)

    return install


def test_without_a_file_nobody_is_known(keep):
    assert login("h") == Login()
    keep({})
    assert login("h") == Login()


def test_a_password_and_a_token_in_the_file(keep):
    keep({"auths": {"h": {"auth": BASIC}, "https://t": {"auth": "", "identitytoken": "long"}, "later": {"more": 1}}})
    assert login("h") == Login(basic=BASIC)
    assert login("t") == Login(refresh="long")
    assert login("later") == login("other") == Login()


def test_docker_hub_under_its_older_name(keep):
    keep({"auths": {"https://index.docker.io/v1/": {"auth": BASIC}}})
    assert login("registry-1.docker.io") == Login(basic=BASIC)
    assert login("h") == Login()


def test_a_helper_is_asked_for_this_registry_only(keep, helper, tmp_path: Path):
    keep({"auths": {"h": {}}, "credsStore": "test"})
    helper(
        f"""cat >> {tmp_path}/asked; echo " $1" >> {tmp_path}/asked; echo '{{"Username": "me", "Secret": "secret"}}'"""
    )
    assert login("h") == Login(basic=BASIC)
    assert (tmp_path / "asked").read_text() == "h get\n"


def test_a_helper_for_one_registry_goes_before_the_store(keep, helper):
    keep({"credsStore": "test", "credHelpers": {"h": "own"}})
    helper("exit 1")
    helper("""echo '{"Username": "<token>", "Secret": "long"}'""", "own")
    assert login("h") == Login(refresh="long")
    assert login("other") == Login(), "a helper that knows nobody exits with an error"


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"auths": {"h": {"auth": "%%"}}}', '{"auths": []}', '{"auths": {"h": 1}}', '{"credsStore": 1}']
)
def test_a_file_that_cannot_be_read(keep, text: str):
    keep(text)
    with pytest.raises(Forbidden, match="cannot read the credentials"):
        login("h")


@pytest.mark.parametrize("called", ["none", "../../bin/sh", "a b", "-x"])
def test_a_helper_that_is_not_there(keep, called: str):
    keep({"credsStore": called})
    with pytest.raises(Forbidden, match="no program docker-credential-"):
        login("h")


@pytest.mark.parametrize("line", ["echo no json", "printf '\\377'", "echo '[]'"])
def test_a_helper_that_says_something_else(keep, helper, line: str):
    keep({"credsStore": "test"})
    helper(line)
    with pytest.raises(Forbidden, match="gives no login"):
        login("h")


DEEP = "[" * 100_000


@pytest.mark.parametrize("text", ['{"x":' + DEEP, '{"auths":{"h":{"x":' + DEEP, '{"auths":' + '{"h":' * 50_000])
def test_a_file_without_end_to_its_brackets(keep, text: str):
    keep(text)
    with pytest.raises(Forbidden, match="cannot read the credentials"):
        login("h")


def test_a_helper_that_answers_brackets_without_end(keep, helper, tmp_path: Path):
    keep({"credsStore": "test"})
    (tmp_path / "answer").write_text('{"x":' + DEEP)
    helper(f"cat {tmp_path}/answer")
    with pytest.raises(Forbidden, match="gives no login"):
        login("h")


def test_a_folder_in_the_place_of_the_file(keep, tmp_path: Path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(Forbidden, match="cannot read the credentials"):
        login("h")


def test_an_answer_without_a_secret_is_nobody(keep, helper):
    keep({"credsStore": "test", "auths": {"h": {"auth": BASIC}}})
    helper("""echo '{"Username": "me"}'""")
    assert login("h") == Login(), "a helper goes before the file"
