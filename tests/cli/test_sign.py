"""keygen, sign, verify, trust: as the guide tells it, and what is refused."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Freehold, assert_refused


@pytest.fixture
def key(inside: Freehold, tmp_path: Path) -> Path:
    assert inside("keygen", "key").returncode == 0
    return tmp_path / "key"


def test_keygen(freehold: Freehold, tmp_path: Path) -> None:
    done = freehold("keygen", "key", "--json", env={"FREEHOLD_KEY_PASSPHRASE": "secret"})
    made = json.loads(done.stdout)
    assert (made["private"], made["public"], made["encrypted"]) == ("key", "key.pub", True)
    assert "ENCRYPTED" in (tmp_path / "key").read_text()
    assert_refused(freehold("keygen", "key"), "never overwritten")


def test_a_model(freehold: Freehold, inside: Freehold, key: Path, tiny: str, tmp_path: Path) -> None:
    assert_refused(inside("verify", "tiny", "--key", "key.pub"), "model tiny is not signed")
    assert inside("sign", "tiny", "--key", "key", "--dry-run").stdout.startswith("would sign tiny")
    assert_refused(inside("verify", "tiny", "--key", "key.pub"), "model tiny is not signed")
    done = freehold("sign", "tiny", "--key", "key", "--out", "tiny.sig")
    assert done.stdout.startswith("signed tiny with ")
    assert json.loads((tmp_path / "tiny.sig").read_bytes())["dsseEnvelope"]
    assert "tiny is as " in freehold("verify", "tiny", "--key", "key.pub").stdout
    assert_refused(inside("verify", "tiny"), "not by a key that is trusted here")
    assert inside("trust", "add", "key.pub", "--for", "_").returncode == 0
    assert json.loads(inside("verify", "tiny", "--json").stdout)["subject"] == "tiny"
    assert "_ " in inside("trust", "list").stdout
    hint = json.loads(inside("trust", "list", "--json").stdout)[0]["key"]
    assert "no longer trusted" in inside("trust", "rm", hint[:16]).stdout
    assert_refused(inside("verify", "tiny"), "not by a key that is trusted here")


def test_a_file_and_a_bundle(inside: Freehold, key: Path, tiny: str, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"weights")
    assert inside("bundle", "export", "tiny", "x.fhb").returncode == 0
    for file in ("m.gguf", "x.fhb"):
        assert inside("sign", file, "--key", "key").stdout.endswith(f"{file}.sig\n")
        assert inside("verify", file, "--key", "key.pub").returncode == 0
        with (tmp_path / file).open("ab") as changed:
            changed.write(b"x")
        assert_refused(inside("verify", file, "--key", "key.pub"), f"{file}.sig is of something else")


def test_a_signature_travels_in_the_bundle(inside: Freehold, key: Path, tiny: str, tmp_path: Path) -> None:
    inside("sign", "tiny", "--key", "key")
    inside("bundle", "export", "tiny", "x.fhb")
    other = str(tmp_path / "other")
    inside("bundle", "import", "x.fhb", "--home", other)
    assert inside("verify", "tiny", "--key", "key.pub", "--home", other).returncode == 0


def test_an_unsigned_model_does_not_run_where_the_policy_forbids_it(
    inside: Freehold, key: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEHOLD_REQUIRE_SIGNATURE", "1")
    monkeypatch.setenv("FREEHOLD_THREADS", "1")
    assert_refused(inside("run", "tiny", "hello"), "tiny needs a signature here", "--for _")
    inside("trust", "add", "key.pub", "--for", "_")
    assert_refused(inside("run", "tiny", "hello"), "model tiny is not signed")
    inside("sign", "tiny", "--key", "key")
    assert inside("run", "tiny", "hello", "--max-tokens", "2").returncode == 0


def test_wrong_input(inside: Freehold, key: Path, tiny: str, tmp_path: Path) -> None:
    assert_refused(inside("sign", "tiny"), "--key")
    assert_refused(inside("sign", "tiny", "--key", "none"), "no such file")
    assert_refused(inside("sign", "tiny", "--key", "key.pub"), "key.pub")
    assert_refused(inside("sign", "nope", "--key", "key"), "no model named 'nope'")
    assert_refused(inside("sign", "./none", "--key", "key"), "no such file")
    assert_refused(inside("verify", "tiny", "--key", "key"), "no public key")
    assert_refused(inside("verify", "./key.pub", "--key", "key.pub"), "is not signed")
    assert_refused(inside("trust", "add", "key.pub", "--for", "../x"), "not a namespace")
    key.chmod(0o644)
    assert_refused(inside("sign", "tiny", "--key", "key"), "others can read")
