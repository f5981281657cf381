"""The entry point: verbs are found by being there, and every error leaves by the one border."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from freehold import __version__
from freehold.cli import main as entry
from freehold.cli._border import Border, translate
from freehold.core.errors import BadInput, Damaged, DiskFull, FreeholdError, NotEnoughMemory
from tests.cli.conftest import Freehold, assert_refused, command


def test_help_names_every_verb_and_variable(freehold: Freehold) -> None:
    done = freehold("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for verb in entry.verbs():
        assert f"\n  {verb} " in done.stdout
        assert entry.summary(verb) in " ".join(done.stdout.split())
    for variable in ("FREEHOLD_HOME", "FREEHOLD_OFFLINE", "FREEHOLD_HOST", "FREEHOLD_PORT", "FREEHOLD_DEBUG"):
        assert variable in done.stdout


def test_without_a_verb_the_help_is_shown(freehold: Freehold) -> None:
    assert freehold().stdout == freehold("--help").stdout


def test_help_is_quick(freehold: Freehold) -> None:
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        freehold("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # CPU time: what a busy machine adds is not ours.
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.5


def test_version(freehold: Freehold) -> None:
    assert freehold("--version").stdout == f"freehold {__version__}\n"
    assert freehold("version").stdout == f"freehold {__version__}\n"


def test_help_imports_no_verb() -> None:
    code = (
        "import sys; from freehold.cli import main; main.run(['--help'])\n"
        "print([m for m in sys.modules if m.startswith('freehold.cli.')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "['freehold.cli._border', 'freehold.cli.main']"


@pytest.mark.parametrize("verb", entry.verbs())
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run([verb, "--help"]) == 0
    shown = capsys.readouterr()
    assert f"Usage: freehold {verb}" in shown.out
    assert shown.err == ""
    assert 10 < len(entry.summary(verb)) < 100
    assert entry.summary(verb).endswith(".")


@pytest.mark.parametrize("module", [p.stem for p in Path(entry.__file__).parent.glob("*.py")])
def test_private_files_are_not_verbs(module: str) -> None:
    assert (module in entry.verbs()) == (not module.startswith("_") and module != "main")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["lst"], "Did you mean 'freehold list'"),
        (["../list"], "no such command"),
        (["_border"], "no such command: '_border'"),
        (["main"], "no such command: 'main'"),
        (["\x1b[31mred"], "no such command"),
        ([""], "no such command"),
        (["--nope"], "No such option"),
        (["list", "--nope"], "See 'freehold list --help'"),
        (["list", "extra"], "extra"),
        (["show"], "NAME"),
        (["serve", "--port", "70000"], "--port"),
        (["serve", "--port", "http"], "--port"),
        (["run", "tiny", "x", "--temperature", "hot"], "--temperature"),
    ],
)
def test_wrong_usage_is_one_line(inside: Freehold, args: list[str], said: str) -> None:
    done = inside(*args)
    assert_refused(done, said)
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [("FREEHOLD_PORT", "x"), ("FREEHOLD_OFFLINE", "perhaps"), ("FREEHOLD_QUEUE", "0"), ("FREEHOLD_HOME", "/dev/null")],
)
def test_wrong_settings_are_one_line(
    inside: Freehold, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert_refused(inside("list"))


def test_a_wrong_config_file_is_one_line(freehold: Freehold, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("potr = 1")
    assert_refused(freehold("list"), "potr")


def test_an_error_that_nobody_foresaw_is_one_line_and_debug_shows_all(tmp_path: Path) -> None:
    code = "import sys; from freehold.cli import main; main.run = lambda args: 1 / 0; main.main()"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert_refused(done, "ZeroDivisionError", "FREEHOLD_DEBUG=1", code=1)
    done = subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, "FREEHOLD_DEBUG": "1"})
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_debug_shows_where_a_known_error_came_from(freehold: Freehold) -> None:
    done = freehold("show", "nope", env={"FREEHOLD_DEBUG": "1"})
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "UnknownModel" in done.stderr


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x"), DiskFull),
        (OSError(errno.EDQUOT, "Quota exceeded"), DiskFull),
        (OSError(errno.EFBIG, "File too large", "/x"), DiskFull),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), NotEnoughMemory),
        (MemoryError(), NotEnoughMemory),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/x"), BadInput),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), BadInput),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/x"), BadInput),
        (typer.BadParameter("bad"), BadInput),
    ],
)
def test_foreign_errors_are_translated(
    error: BaseException, kind: type[FreeholdError], capsys: pytest.CaptureFixture[str]
) -> None:
    with Border() as border:
        raise error
    assert type(translate(error)) is kind
    assert border.exit_code == kind.exit_code
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    translated = translate(error)
    assert translated is not None
    assert translated.remedy


def test_own_errors_keep_their_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with Border() as border:
        raise Damaged("blob is\nbroken\x1b[2J", "Run it again")
    assert border.exit_code == 1
    assert capsys.readouterr().err == "error: blob is broken\\x1b[2J. Run it again\n"


def test_exit_codes_of_verbs_pass() -> None:
    with Border() as border:
        raise typer.Exit(1)
    assert border.exit_code == 1


def test_what_is_not_an_error_of_ours_or_the_users_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), Border():
        raise ZeroDivisionError


def test_ctrl_c_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    with Border() as border:
        raise KeyboardInterrupt
    assert border.exit_code == 130
    assert capsys.readouterr().err == "interrupted; run the same command to resume\n"


def wait_until_it_reads_its_pipe(pid: int) -> None:
    deadline = time.monotonic() + 60
    while "pipe" not in Path(f"/proc/{pid}/wchan").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ctrl_c_at_a_real_command(home: Path) -> None:
    with subprocess.Popen(
        command("run", "starter"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until_it_reads_its_pipe(process.pid)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "interrupted; run the same command to resume\n"
    assert out == ""


def test_a_reader_that_leaves_is_no_error(home: Path) -> None:
    line = " ".join(command("--help")) + " | true; echo ${PIPESTATUS[0]}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() in ("0", "141")
    assert done.stderr == ""


def test_a_full_output_device_is_one_line(freehold: Freehold, home: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command("--help"), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no space left")
    assert done.stderr.count("\n") == 1


def test_an_interrupt_while_the_program_is_still_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    environment = {"PYTHONPATH": str(tmp_path), "PATH": os.defpath}
    command = [sys.executable, "-m", "freehold", "list"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_looking_for_a_server_does_not_load_one(tmp_path: Path) -> None:
    code = (
        "import sys; from freehold.cli import main\n"
        f"assert main.run(['ps', '--home', {str(tmp_path)!r}]) == 0\n"
        "print({'uvicorn', 'starlette', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
