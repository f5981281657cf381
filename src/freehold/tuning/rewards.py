"""What an answer is worth: rules with a name, and functions of the user's own, which run in a process of theirs.

json            1 for JSON, else 0
number          1 when the last number is spelt as that of the reference
maths           1 when the last number or fraction, or what is boxed, has the value of the reference's
exact           1 when it is the reference, but for case and spaces
regex:PATTERN   1 when the pattern is found
judge           how well a local model finds that it meets a rubric, from 0 to 1: see `judge`
FILE.py:NAME    what NAME(prompt, answer, reference) gives back, called in `python FILE.py` of its own
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from threading import Event, Timer
from typing import NamedTuple

from freehold.core.errors import BadInput, BadRecipe

_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")
_VALUE = re.compile(
    r"((?<!\d)-)?(?:\\[dt]?frac\{(-?\d{1,30})\}\{(\d{1,30})\}|(\d{1,30}(?:,\d{3})*(?:\.\d{1,30})?)(?:/(\d{1,30}))?)"
)
"""A number as people and LaTeX write it: sign, numerator and denominator, or decimals and a denominator."""
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]{0,100}\}){0,100})\}")
JUDGE = "judge"
_LONGEST = 1 << 16
"""Characters of an answer that a pattern is looked for in."""
_LIMIT = 1e9
"""What no reward reaches."""


class Answer(NamedTuple):
    """An answer to a prompt, and what a right one says."""

    prompt: str
    text: str
    reference: str


Reward = Callable[[Sequence[Answer]], list[float]]


def rewards(specs: Sequence[str], folder: Path, judge: Reward | None = None, log: Path | None = None) -> Reward:
    """The sum of rewards by their names; paths start in `folder`, and this process's stderr is in `log`.

    Raises BadRecipe.
    """
    if not specs:
        raise BadRecipe("[tune] objective grpo needs rewards", 'As in: rewards = ["number", "rewards.py:polite"]')
    found = [judge if spec == JUDGE and judge is not None else _reward(spec, folder, log) for spec in specs]

    def total(answers: Sequence[Answer]) -> list[float]:
        return [sum(each) for each in zip(*(reward(answers) for reward in found), strict=True)]

    return total


def _reward(spec: str, folder: Path, log: Path | None) -> Reward:
    kind, _, rest = spec.partition(":")
    if kind == "regex":
        return _each(_pattern(rest))
    if kind in _RULES and not rest:
        return _each(_RULES[kind])
    if kind.endswith(".py") and rest.isidentifier():
        path = folder / kind
        if not path.is_file():
            raise BadRecipe(f"[tune] rewards: no such file: {path}", "Name a Python file beside the recipe")
        return Own(path, rest, log)
    if spec == JUDGE:
        raise BadRecipe("[tune] rewards: judge needs to know who grades", "Name a model in [tune] judge, and a rubric")
    raise BadRecipe(
        f"[tune] rewards: unknown reward {spec[:80]!r}", f"Known: {', '.join(_RULES)}, judge, regex:…, FILE.py:NAME"
    )


def _each(rule: Callable[[Answer], bool]) -> Reward:
    return lambda answers: [float(rule(answer)) for answer in answers]


def _pattern(text: str) -> Callable[[Answer], bool]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise BadRecipe(f"[tune] rewards: {text[:80]!r} is no pattern: {error}", "Correct it") from error
    return lambda answer: bool(pattern.search(answer.text[:_LONGEST]))


def _no_json(text: str) -> None:
    raise ValueError(f"{text} is a number of Python's alone")


def _is_json(answer: Answer) -> bool:
    try:
        json.loads(answer.text, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return False
    return True


def _number(answer: Answer) -> bool:
    """Commas between digits count for nothing: 1,200 is 1200."""
    said, right = (_NUMBER.findall(text) for text in (answer.text, answer.reference))
    return bool(said and right) and said[-1].replace(",", "") == right[-1].replace(",", "")


def _maths(answer: Answer) -> bool:
    """1,200 is 1200.0, and 1/2, \\frac{1}{2} and 0.5 are the same."""
    said, right = map(_value, (answer.text, answer.reference))
    return said is not None and said == right


def _value(text: str) -> Fraction | None:
    """Of the last number; of that in the last box, where there is one."""
    text = text[-_LONGEST:]
    boxed = _BOXED.findall(text)
    found = _VALUE.findall(boxed[-1] if boxed else text)
    if not found:
        return None
    minus, above, below, decimal, divisor = found[-1]
    whole = Fraction((above or decimal).replace(",", ""))
    parts = int(below or divisor or 1)
    return (-whole if minus else whole) / parts if parts else None


def _exact(answer: Answer) -> bool:
    return answer.text.casefold().split() == answer.reference.casefold().split()


_RULES: dict[str, Callable[[Answer], bool]] = {
    "json": _is_json,
    "number": _number,
    "maths": _maths,
    "exact": _exact,
}
_LOOP = """
import importlib.util, json, os, sys, traceback
from freehold.core.system import end_with_parent
end_with_parent()
sys.path.insert(0, os.getcwd())
replies = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
def reply(**said):
    print(json.dumps(said), file=replies, flush=True)
try:
    spec = importlib.util.spec_from_file_location("rewards", sys.argv[1])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, sys.argv[2])
    for line in sys.stdin:
        for each in json.loads(line):
            found = function(*each)
            try:
                value = float(found)
            except (TypeError, ValueError, OverflowError):
                reply(gave=repr(found)[:200])
            else:
                reply(worth=value)
except BaseException as error:
    traceback.print_exc()
    lines = [at.lineno for at in traceback.extract_tb(error.__traceback__) if at.filename == sys.argv[1]]
    if isinstance(error, SyntaxError) and error.filename == sys.argv[1]:
        lines.append(error.lineno)
    where = f" in line {lines[-1]}" if lines else ""
    reply(failed=where + ": " + traceback.format_exception_only(error)[-1].strip()[:300])
    raise SystemExit(1)
"""
"""Reads answers, a list a line, and writes what each is worth, a line each. What the function prints goes to stderr. A
function that never comes back ends with the trainer all the same.
"""
_PATIENCE = 300.0
"""Seconds for one answer; the first one's are for loading the file too."""


class Own:
    """A function of the user's, in a process that lives as long as the training. `log` has what that process says."""

    def __init__(self, path: Path, name: str, log: Path | None = None) -> None:
        self.path, self.name, self.log = path, name, log
        self._child: subprocess.Popen[str] | None = None

    def __call__(self, answers: Sequence[Answer]) -> list[float]:
        """What each answer is worth.

        Raises BadInput when the function fails, says something else than numbers, or takes minutes for an answer.
        """
        if self._child is None:
            command = [sys.executable, "-P", "-c", _LOOP, str(self.path), self.name]
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=self.path.parent,
                start_new_session=True,  # a Ctrl-C in the terminal is the trainer's, which ends its step first
            )
        child = self._child
        try:
            with self._limit(child):
                _tell(child, json.dumps([tuple(answer) for answer in answers]))
            return [self._reply(child) for _ in answers]
        except BaseException:
            self.close()
            raise

    def _reply(self, child: "subprocess.Popen[str]") -> float:
        """What the next answer is worth."""
        with self._limit(child):
            line = child.stdout.readline() if child.stdout is not None else ""
            if not line:
                raise self._error(f"failed: its process ended with code {child.wait()}")
        said = json.loads(line)
        if "failed" in said:
            raise self._error(f"failed{said['failed']}")
        value = said.get("worth", said.get("gave"))
        if isinstance(value, str) or not (value == value and abs(value) < _LIMIT):
            raise self._error(f"gave {value}", "A reward is a finite number")
        return float(value)

    @contextmanager
    def _limit(self, child: "subprocess.Popen[str]") -> Iterator[None]:
        """End the process when this takes minutes."""
        late = Event()

        def end() -> None:
            late.set()
            child.kill()

        timer = Timer(_PATIENCE, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            if late.is_set():
                took = f"took more than {_PATIENCE / 60:.0f} minutes for one answer"
                raise self._error(took, "Correct the function, or give it a limit of its own")

    def _error(self, what: str, remedy: str = "Correct the function") -> BadInput:
        said = f"; all that it said is in {self.log}" if self.log else ""
        return BadInput(f"{self.path.name}:{self.name} {what}", f"{remedy}{said}")

    def close(self) -> None:
        """End the process."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            with suppress(BrokenPipeError):
                child.communicate()

    def __del__(self) -> None:
        self.close()


def _tell(child: "subprocess.Popen[str]", line: str) -> None:
    """Hand the child a line. One that has ended says why when its reply is read."""
    with suppress(BrokenPipeError):
        if child.stdin is not None:
            child.stdin.write(line + "\n")
            child.stdin.flush()
