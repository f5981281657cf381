"""A notebook's process: `python -m freehold.notebooks.child JOB.json ANSWER.json`.

It runs code, as it is asked to: a notebook is a program that the user names.
"""

import ast
import builtins
import code
import io
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from freehold.core.errors import FreeholdError, Interrupted
from freehold.notebooks import notebook
from freehold.notebooks.job import NotebookJob, Ran, decode, encode
from freehold.notebooks.shim import install
from freehold.notebooks.shim.session import Session

_TEXT = 1 << 20
"""Characters of a cell's output that are kept."""
_CUT = "\n(what it printed further is not kept)\n"


class Namespace(dict[str, Any]):
    """The notebook's variables, of which some keep the value that the user gave."""

    def __init__(self, session: Session) -> None:
        super().__init__(__name__="__main__", __builtins__=builtins)
        self.session = session

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, self.session.value(name, value))


class Main(ModuleType):
    """What `__main__` is to a notebook: pickle looks its classes up there."""

    def __init__(self, names: Namespace) -> None:
        super().__init__("__main__")
        self._names = names

    def __getattr__(self, name: str) -> Any:
        try:
            return self._names[name]
        except KeyError:
            raise AttributeError(f"the notebook has no {name}") from None


class Outputs:
    """What a cell prints and shows, in order, as a notebook keeps it."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []
        self._room = _TEXT

    def stream(self, name: str, text: str) -> None:
        """Add to what was printed, as far as there is room."""
        if not text or self._room < 0:
            return
        kept = _encodable(text[: self._room])
        self._room -= len(text)
        text = kept if self._room >= 0 else kept + _CUT
        if self.kept and self.kept[-1].get("name") == name:
            self.kept[-1]["text"] += text
        else:
            self.kept.append({"output_type": "stream", "name": name, "text": text})

    def result(self, value: Any, number: int) -> None:
        """Add the value of the last line."""
        shown = {"text/plain": _encodable(repr(value)[:_TEXT])}
        self.kept.append({"output_type": "execute_result", "data": shown, "metadata": {}, "execution_count": number})

    def error(self, error: BaseException) -> None:
        """Add what went wrong."""
        lines = [_encodable(line) for line in traceback.format_exception(error)]
        name = type(error).__name__
        self.kept.append({"output_type": "error", "ename": name, "evalue": _said(error), "traceback": lines})


def _encodable(text: str) -> str:
    """As a file can hold it: names of files, for one, may have halves of characters."""
    return text.encode("utf-8", "backslashreplace").decode()


def _said(error: BaseException) -> str:
    """What an error says, if it can."""
    if isinstance(error, SyntaxError):
        return _encodable(str(error))
    first = next(traceback.TracebackException.from_exception(error).format_exception_only())
    return _encodable(first.partition(": ")[2].removesuffix("\n"))


class Tee(io.TextIOBase):
    """A stream that is shown, and kept among the outputs of the cell that runs, whoever holds it."""

    encoding = "utf-8"

    def __init__(self, name: str, shown: Any) -> None:
        self._name, self._shown = name, shown
        self.outputs = Outputs()

    def write(self, text: str) -> int:
        """Show it and keep it."""
        self._shown.write(text)
        self._shown.flush()
        self.outputs.stream(self._name, text)
        return len(text)

    def writable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """It stays open: the next cell prints too."""

    def fileno(self) -> int:
        """Of what is shown: child processes write there."""
        return int(self._shown.fileno())

    def isatty(self) -> bool:
        """Whether somebody looks."""
        return bool(self._shown.isatty())


class Interpreter(code.InteractiveInterpreter):
    """Runs one cell after the other in one namespace; an error is kept, not shown."""

    def __init__(self, session: Session) -> None:
        self.names = Namespace(session)
        super().__init__(self.names)
        self.error: BaseException | None = None

    def showtraceback(self) -> None:
        """Keep the error."""
        self.error = sys.exc_info()[1]

    def showsyntaxerror(self, filename: str | None = None, **_: Any) -> None:
        """Keep the error."""
        self.error = sys.exc_info()[1]

    def run(self, source: str, number: int) -> BaseException | None:
        """Run a cell; the value of a last line that is an expression is shown. The error, if there is one."""
        self.error = None
        name = f"<cell {number}>"
        try:
            tree = ast.parse(source, name)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return error
        first, last = _parted(source, tree)
        for text, symbol in ((first, "exec"), (last, "single")):
            if text.strip() and self.error is None:
                try:
                    self.runsource(f"{text}\n", name, symbol)
                except SystemExit as error:
                    return error
        return self.error


def _parted(source: str, tree: ast.Module) -> tuple[str, str]:
    """A cell without its last expression, and that expression, on the lines where they were."""
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr) or last.col_offset or source.rstrip().endswith(";"):
        return source, ""
    lines = source.split("\n")
    before = last.lineno - 1
    return "\n".join(lines[:before]), "\n" * before + "\n".join(lines[before:]).rstrip()


def execute(job: NotebookJob) -> Ran:
    """Run a notebook's cells up to the first error; it is written after each, so that no death takes what was done."""
    begin = time.monotonic()
    document = notebook.read(job.notebook)
    session = Session(job)
    install(session)
    # As in Jupyter. Not before here: a notebook's neighbours may have the names of modules that its stand-ins need.
    sys.path.insert(0, "")
    interpreter, tees = Interpreter(session), (Tee("stdout", sys.stdout), Tee("stderr", sys.stderr))
    sys.modules["__main__"] = Main(interpreter.names)
    at = skipped = 0
    failure: BaseException | None = None
    for cell in document.cells:
        cell["outputs"], cell["execution_count"] = [], None
    notebook.write(document, job.out)
    for number, cell in enumerate(document.cells, 1):
        wanted = notebook.cell_of(notebook.source_of(cell), job.skip)
        if wanted.why:
            skipped += 1
            session.say(f"cell {number} is skipped: {wanted.why}")
            continue
        for line in wanted.dropped:
            session.say(f"cell {number}: not run: {line}")
        failure = _run(interpreter, tees, cell, wanted.source, number)
        notebook.write(document, job.out)
        if failure is not None:
            at = number
            break
    if isinstance(failure, KeyboardInterrupt | Interrupted):
        raise KeyboardInterrupt
    return Ran(
        cells=len(document.cells),
        skipped=skipped,
        out=job.out,
        seconds=time.monotonic() - begin,
        unused=session.unused(),
        error="" if failure is None else _line(failure),
        cell=at,
    )


def _run(
    interpreter: Interpreter, tees: tuple[Tee, Tee], cell: dict[str, Any], source: str, number: int
) -> BaseException | None:
    outputs = Outputs()
    with _captured(tees, outputs, number):
        failure = interpreter.run(source, number)
    if failure is not None:
        outputs.error(failure)
    cell["outputs"], cell["execution_count"] = outputs.kept, number
    return failure


@contextmanager
def _captured(tees: tuple[Tee, Tee], outputs: Outputs, number: int) -> Iterator[None]:
    def display(value: Any) -> None:
        if value is not None:
            outputs.result(value, number)
            before[0].write(f"{value!r}\n")
            before[0].flush()

    before = sys.stdout, sys.stderr, sys.displayhook
    for tee in tees:
        tee.outputs = outputs
    sys.stdout, sys.stderr = tees
    sys.displayhook = display
    try:
        yield
    finally:
        sys.stdout, sys.stderr, sys.displayhook = before


def _line(error: BaseException) -> str:
    if isinstance(error, FreeholdError):
        return _encodable(error.line())
    name, said = type(error).__name__, _said(error)
    return f"{name}: {said}" if said else name


def _interrupt(*_: object) -> None:
    """Once: the terminal's own signal and that of the parent would else also end what the first one began."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Run; the exit code says only that there is an answer."""
    job = decode(Path(sys.argv[1]).read_bytes(), NotebookJob)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        ran = execute(job)
    except KeyboardInterrupt:
        return 130
    Path(sys.argv[2]).write_bytes(encode(ran))
    return 0


if __name__ == "__main__":
    ended = main()
    sys.stdout.flush()
    if any(not each.daemon for each in threading.enumerate() if each is not threading.main_thread()):
        os._exit(ended)  # what a cell left running ends with its last cell, as in Jupyter
    sys.exit(ended)
