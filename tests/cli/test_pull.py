"""`freehold pull` from servers on loopback, as a person types it."""

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from freehold.core.digest import Digest
from tests.cli.conftest import Freehold, assert_refused, command
from tests.store.servers import COMMIT, Repo, Site, registry, serving
from tests.tiny import write_gguf


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, gguf: Path) -> Iterator[Site]:
    """A Hub with one repository, and a registry with the same model."""
    with serving() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_HOME", "/nonexistent")
        data = gguf.read_bytes()
        running.repos["org/tiny-GGUF"] = Repo({"tiny-Q4_K_M.gguf": data, "tiny-Q8_0.gguf": data + b" "})
        registry(running, "library/tiny", "latest", {"model": data, "system": b"Be brief."})
        yield running


def test_pull_from_the_hub_and_run(freehold: Freehold, site: Site, gguf: Path) -> None:
    done = freehold("pull", "org/tiny-GGUF:q4_k_m")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("org/tiny-GGUF:Q4_K_M: 496 kB F32, ")
    assert "tiny-Q4_K_M.gguf: 100 % of 496 kB" in done.stderr
    assert "\r" not in done.stderr
    shown = json.loads(freehold("show", "org/tiny-GGUF:Q4_K_M", "--json").stdout)
    assert shown["manifest"]["lineage"]["source"] == f"hf://org/tiny-GGUF@{COMMIT}:Q4_K_M"
    answer = freehold("run", "org/tiny-GGUF:Q4_K_M", "hello", "--max-tokens", "3", "--json")
    assert json.loads(answer.stdout)["usage"]["completion_tokens"] == 3


def test_the_plan_says_what_the_name_means_and_changes_nothing(
    inside: Freehold, site: Site, home: Path, gguf: Path
) -> None:
    done = inside("pull", "org/tiny-GGUF", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "would pull hf://org/tiny-GGUF as org/tiny-GGUF" in done.stdout
    assert "org/repo without more is the Hugging Face Hub" in done.stdout
    assert "no type was named, and Q4_K_M comes first of Q4_K_M, Q8_0" in done.stdout
    assert f"@{COMMIT}" in done.stdout
    assert "IN ALL" in done.stdout, "whether it would fit"
    assert site.total < gguf.stat().st_size, "no more than the header"
    assert not home.exists()
    plan = json.loads(inside("pull", "org/tiny-GGUF", "--revision", COMMIT, "--dry-run", "--json").stdout)
    assert [file["name"] for file in plan["files"]] == ["tiny-Q4_K_M.gguf"]
    assert plan["licence"] == "apache-2.0"
    assert plan["outlook"]["contexts"][0]["fits"] is True


def test_pull_from_a_registry(inside: Freehold, site: Site, gguf: Path) -> None:
    done = inside("pull", f"ollama://{site.url.removeprefix('http://')}/library/tiny", "--as", "tiny", "--json", "-q")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    pulled = json.loads(done.stdout)
    assert pulled["name"] == "tiny"
    assert "@sha256:" in pulled["source"]


def test_pull_from_an_address_at_a_rate(inside: Freehold, site: Site, gguf: Path) -> None:
    url = site.add("/files/tiny.gguf", gguf.read_bytes())
    begin = time.monotonic()
    assert inside("pull", f"{url}#sha256={Digest.of_file(gguf).hex}", "--limit-rate", "500k").returncode == 0
    assert time.monotonic() - begin > 0.8


def test_a_bar_for_each_file_in_a_terminal(site: Site, home: Path, gguf: Path) -> None:
    url = site.add("/tiny.gguf", gguf.read_bytes())
    ours, theirs = pty.openpty()
    with subprocess.Popen(command("pull", url), stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # how Linux says that nobody writes there any more
            while piece := os.read(ours, 4096):
                shown += piece
    os.close(ours)
    assert process.returncode == 0
    assert b"tiny.gguf" in shown
    assert b"\x1b[" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["org/none"], "no repository"),
        (["org/tiny-GGUF:Q2_K"], "It has Q4_K_M, Q8_0"),
        (["org/tiny-GGUF", "--revision", "v9"], "no revision"),
        (["org/tiny-GGUF", "--revision", "../x"], "not a revision"),
        (["llama3", "--revision", "v9"], "only the Hub"),
        (["org/tiny-GGUF", "--limit-rate", "fast"], "Write 500k"),
        (["org/tiny-GGUF", "--limit-rate", "1"], "Write 500k"),
        (["oci://x/y"], "no models come from oci://"),
        (["https://user:pw@host/x.gguf"], "password"),
        ([""], "not a source"),
        (["a" * 300], "not a source"),
        (["a" * 300 + ".gguf"], "no file or folder"),
        (["a/" * 900 + "m.gguf"], "no file or folder"),
        (["./" + "a" * 300], "no file or folder"),
        (["./tiny.gguf/inside"], "no file or folder"),
        (["~nobody-has-this-name/m.gguf"], "no such user"),
        (["~nobody-has-this-name/m.fhb"], "no such user"),
        (["no-such-model"], "offline"),
    ],
)
def test_refusals(
    inside: Freehold, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    (tmp_path / "tiny.gguf").touch()
    if said == "offline":
        monkeypatch.setenv("FREEHOLD_OFFLINE", "1")
    assert_refused(inside("pull", *arguments), said)
    assert site.total == 0


def test_a_file_that_is_here_goes_before_a_model_elsewhere(
    inside: Freehold, site: Site, tmp_path: Path, gguf: Path
) -> None:
    (tmp_path / "llama3").write_bytes(gguf.read_bytes())
    assert inside("pull", "llama3", "--as", "mine").returncode == 0
    plan = json.loads(inside("pull", "llama3", "--dry-run", "--json").stdout)
    assert (plan["source"], plan["why"]) == ("./llama3", "there is a llama3 here, which goes first")
    assert site.asked == []


def test_ctrl_c_and_again(freehold: Freehold, site: Site, gguf: Path) -> None:
    site.pause = lambda: time.sleep(0.03)
    with subprocess.Popen(
        command("pull", "org/tiny-GGUF"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        while site.total < 200_000 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert out == ""
    assert "resume" in err
    assert "org/tiny-GGUF" not in freehold("list").stdout
    before = site.total
    assert freehold("pull", "org/tiny-GGUF").returncode == 0
    assert site.total - before < gguf.stat().st_size - 100_000
    assert "0 B" in freehold("prune", "--unfinished").stdout


def test_a_model_in_several_files_runs(freehold: Freehold, site: Site, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    write_gguf(tmp_path / "parts" / "big.gguf", split=8)
    parts = sorted((tmp_path / "parts").iterdir())
    assert len(parts) == 3
    site.repos["org/big"] = Repo({part.name: part.read_bytes() for part in parts})
    assert freehold("pull", "org/big", "-q").returncode == 0
    assert freehold("pull", str(parts[0]), "--as", "local", "-q").returncode == 0
    for name in ("org/big", "local"):
        answer = freehold("run", name, "hello", "--max-tokens", "3", "--json")
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout)["usage"]["completion_tokens"] == 3
    whole = json.loads(freehold("show", "local", "--json").stdout)
    assert whole["manifest"]["details"]["parameters"] == 121_664
    assert freehold("rm", "local", "org/big").returncode == 0
    assert freehold("fsck", "--deep").returncode == 0
