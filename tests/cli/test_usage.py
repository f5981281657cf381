"""Wrong usage of every command: found by looking at what each declares, refused in one line, with nothing done."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from freehold.cli import main as entry
from tests.cli.conftest import Freehold, assert_refused

SHARED = {"--home", "--json", "-q", "--dry-run"}


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """The words of each command, and what Typer knows of it."""
    root: Any = get_command(entry.app)
    for verb in entry.verbs():
        command = root.get_command(None, verb)
        inner = getattr(command, "commands", None)
        if inner is None:
            yield (verb,), command
        else:
            yield from (((verb, name), each) for name, each in inner.items())


COMMANDS = dict(commands())
GROUPS = sorted({words[0] for words in COMMANDS if len(words) > 1})
EVERY = pytest.mark.parametrize("words", COMMANDS, ids=" ".join)


def options(words: tuple[str, ...]) -> list[Any]:
    return [each for each in COMMANDS[words].params if each.param_type_name == "option"]


def arguments(words: tuple[str, ...]) -> list[Any]:
    return [each for each in COMMANDS[words].params if each.param_type_name == "argument"]


def needed(words: tuple[str, ...], without: str = "") -> list[str]:
    """Values for what the command cannot do without, but for one."""
    told = [each for each in options(words) if each.required and each.opts[0] != without]
    return [
        *(text for each in told for text in (each.opts[0], "x")),
        *("x" for each in arguments(words) if each.required),
    ]


def number(parameter: Any) -> str:
    """`int` or `float`, for a parameter that is one."""
    return next((kind for kind in ("int", "float") if parameter.type.name.startswith(kind)), "")


def refused(inside: Freehold, home: Path, *args: str, said: str) -> None:
    """In one line that names the command's own help; and not so much as a folder is made."""
    assert_refused(inside(*args), said)
    assert not home.exists()


def test_there_are_commands_to_look_at() -> None:
    assert len(COMMANDS) >= 30
    assert {"bundle", "trust"} <= set(GROUPS)
    assert sum(bool(number(each)) for words in COMMANDS for each in options(words)) >= 6


@EVERY
def test_an_option_that_is_not_there(inside: Freehold, home: Path, words: tuple[str, ...]) -> None:
    help_ = f"freehold {' '.join(words)} --help"
    for wrong in ("--nope", "--nope=1", "--home-", "-Z", "--JSON"):
        done = inside(*words, *needed(words), wrong)
        assert_refused(done, wrong.partition("=")[0][:3], help_)
    assert not home.exists()


@EVERY
def test_an_option_without_its_value(inside: Freehold, home: Path, words: tuple[str, ...]) -> None:
    for option in options(words):
        if not option.is_flag:
            refused(inside, home, *words, *needed(words), option.opts[0], said=option.opts[0])


@EVERY
def test_a_flag_with_a_value(inside: Freehold, home: Path, words: tuple[str, ...]) -> None:
    for option in options(words):
        if option.is_flag and option.opts[0].startswith("--"):
            refused(inside, home, *words, *needed(words), f"{option.opts[0]}=1", said=option.opts[0])


@EVERY
def test_what_must_be_said_and_is_not(inside: Freehold, home: Path, words: tuple[str, ...]) -> None:
    missing = [each for each in arguments(words) if each.required]
    if missing:
        done = inside(*words, *(text for each in options(words) if each.required for text in (each.opts[0], "x")))
        assert_refused(done, "issing", f"freehold {' '.join(words)} --help")
    for option in options(words):
        if option.required:
            refused(inside, home, *words, *needed(words, option.opts[0]), said=option.opts[0])
    assert not home.exists()


@EVERY
def test_more_than_can_be_said(inside: Freehold, home: Path, words: tuple[str, ...]) -> None:
    if any(each.nargs == -1 for each in arguments(words)):
        return
    told = [text for each in options(words) if each.required for text in (each.opts[0], "x")]
    refused(inside, home, *words, *told, *("x" for _ in arguments(words)), "surplus", said="surplus")


def wrong_numbers(option: Any) -> Iterator[str]:
    yield from ("", "x", "1,5", "0x10", "\u0661\u0662x", "--", "nan", "1e")
    if number(option) == "int":
        yield from ("1.5", "inf", "1e3", "9" * 5000)
    least, most = getattr(option.type, "min", None), getattr(option.type, "max", None)
    if least is not None:
        yield from (str(least - 1), "-inf")
    if most is not None:
        yield from (str(most + 1), "inf")


NUMBERS = [
    pytest.param(words, option, id=f"{' '.join(words)} {option.opts[0]}")
    for words in COMMANDS
    for option in options(words)
    if number(option)
]


@pytest.mark.parametrize(("words", "option"), NUMBERS)
def test_a_number_that_is_none_or_out_of_bounds(
    inside: Freehold, home: Path, words: tuple[str, ...], option: Any
) -> None:
    for text in wrong_numbers(option):
        done = inside(*words, *needed(words), f"{option.opts[0]}={text}")
        assert_refused(done, option.opts[0])
        assert len(done.stderr) < 6000
    assert not home.exists()


CHOICES = [
    pytest.param(words, option, id=f"{' '.join(words)} {option.opts[0]}")
    for words in COMMANDS
    for option in options(words)
    if hasattr(option.type, "choices")
]


@pytest.mark.parametrize(("words", "option"), CHOICES)
def test_a_choice_that_is_none(inside: Freehold, home: Path, words: tuple[str, ...], option: Any) -> None:
    for text in ("", "nope", "1", "\x1b[31m"):
        refused(inside, home, *words, *needed(words), f"{option.opts[0]}={text}", said=option.opts[0])


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_wants_one_of_its_verbs(inside: Freehold, home: Path, group: str) -> None:
    for wrong in ("nope", "", "../x", "--nope"):
        refused(inside, home, group, wrong, said="freehold" if wrong else group)


@EVERY
def test_options_are_spelt_alike(words: tuple[str, ...]) -> None:
    for option in options(words):
        long = [spelt for spelt in option.opts if spelt.startswith("--")]
        assert long, f"{option.opts} has no long form"
        assert all(spelt == spelt.lower() and "_" not in spelt for spelt in long)
        assert option.help, f"{long[0]} has no help"
    spelt = list(itertools.chain.from_iterable(each.opts for each in options(words)))
    assert len(spelt) == len(set(spelt))


HOMED = {
    "bundle export": ["x", "x.fhb"], "cp": ["x", "y"], "du": [], "fsck": [], "list": [],
    "link": ["x", "--to", "hf"], "prune": [], "push": ["x", "oci://localhost:1/x"], "rm": ["x"], "run": ["x", "hi"],
    "serve": ["--port", "0"], "show": ["x"], "verify": ["x"],
}  # fmt: skip


def no_catalog(home: Path) -> None:
    (home / "store").mkdir(parents=True)
    (home / "store/catalog.sqlite").write_text("x" * 999)


SPOILT = {
    "a file for a home": lambda home: home.write_text("x"),
    "a file for a store": lambda home: (home.mkdir(), (home / "store").write_text("x")),
    "no catalog": no_catalog,
    "a folder for a catalog": lambda home: (home / "store/catalog.sqlite").mkdir(parents=True),
    "a config that is none": lambda home: (home.mkdir(), (home / "config.toml").write_text("port = ")),
    "a config of nonsense": lambda home: (home.mkdir(), (home / "config.toml").write_text("queue = 'x'")),
    "a home that leads nowhere": lambda home: home.symlink_to(home / "nowhere"),
}


@pytest.mark.parametrize("verb", HOMED)
@pytest.mark.parametrize("what", SPOILT)
def test_a_home_that_cannot_be_used(inside: Freehold, home: Path, verb: str, what: str) -> None:
    SPOILT[what](home)
    done = inside(*verb.split(), *HOMED[verb])
    assert done.returncode in (1, 2)
    assert_refused(done, code=done.returncode)


@pytest.mark.parametrize("verb", HOMED)
def test_the_home_of_nobody(inside: Freehold, verb: str) -> None:
    assert_refused(inside(*verb.split(), *HOMED[verb], "--home", "~no-such-user/x"), "no such user")


PATHS = {
    "convert": ["~no-such-user/x", "out.gguf"], "verify": ["~no-such-user/x"], "cp": ["starter", "~no-such-user/x"],
    "pull": ["~no-such-user/x.gguf"], "quantize": ["~no-such-user/x.gguf", "--to", "Q4_0", "--report"],
}  # fmt: skip


@pytest.mark.parametrize("verb", PATHS)
def test_the_path_of_nobody(inside: Freehold, home: Path, verb: str) -> None:
    done = inside(verb, *PATHS[verb])
    assert_refused(done, "~no-such-user")
