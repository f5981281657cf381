"""A notebook's process: `python -m freehold.notebooks.child JOB.json ANSWER.json`.

It runs code, as it is asked to: a notebook is a program that the user names.
"""

import ast
import builtins
import code
import io
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from freehold.core.errors import FreeholdError, Interrupted
from freehold.notebooks import notebook
from freehold.notebooks.job import NotebookJob, Ran
from freehold.notebooks.shim import install
from freehold.notebooks.shim.session import Session

_TEXT = 1 << 20
"""Characters of a cell's output that are kept."""


class Namespace(dict[str, Any]):
    """The notebook's variables, of which some keep the value that the user gave."""

    def __init__(self, session: Session) -> None:
        super().__init__(__name__="__main__", __builtins__=builtins)
        self.session = session

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, self.session.value(name, value))


class Outputs:
    """What a cell prints and shows, in order, as a notebook keeps it."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []
        self._size = 0

    def stream(self, name: str, text: str) -> None:
        """Add to what was printed."""
        self._size += len(text)
        if self._size > _TEXT:
            return
        if self.kept and self.kept[-1].get("name") == name:
            self.kept[-1]["text"] += text
        else:
            self.kept.append({"output_type": "stream", "name": name, "text": text})

    def result(self, value: Any, number: int) -> None:
        """Add the value of the last line."""
        shown = {"text/plain": repr(value)[:_TEXT]}
        self.kept.append({"output_type": "execute_result", "data": shown, "metadata": {}, "execution_count": number})

    def error(self, error: BaseException) -> None:
        """Add what went wrong."""
        lines = traceback.format_exception(error)
        self.kept.append(
            {"output_type": "error", "ename": type(error).__name__, "evalue": str(error), "traceback": lines}
        )


class Tee(io.TextIOBase):
    """A stream that is shown and kept."""

    def __init__(self, name: str, shown: Any, outputs: Outputs) -> None:
        self._name, self._shown, self._outputs = name, shown, outputs

    def write(self, text: str) -> int:
        """Show it and keep it."""
        self._shown.write(text)
        self._shown.flush()
        self._outputs.stream(self._name, text)
        return len(text)

    def fileno(self) -> int:
        """Of what is shown: child processes write there."""
        return int(self._shown.fileno())

    def isatty(self) -> bool:
        """Whether somebody looks."""
        return bool(self._shown.isatty())


class Interpreter(code.InteractiveInterpreter):
    """Runs one cell after the other in one namespace; an error is kept, not shown."""

    def __init__(self, session: Session) -> None:
        super().__init__(Namespace(session))
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
        except (SyntaxError, ValueError) as error:
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
    """Run a notebook's cells up to the first error, and write it."""
    begin = time.monotonic()
    document = notebook.read(job.notebook)
    session = Session(job)
    install(session)
    interpreter = Interpreter(session)
    error, at, skipped = "", 0, 0
    failure: BaseException | None = None
    for cell in document.cells:
        cell["outputs"], cell["execution_count"] = [], None
    for number, cell in enumerate(document.cells, 1):
        wanted = notebook.cell_of(notebook.source_of(cell), job.skip)
        if wanted.why:
            skipped += 1
            session.say(f"cell {number} is skipped: {wanted.why}")
            continue
        for line in wanted.dropped:
            session.say(f"cell {number}: not run: {line}")
        failure = _run(interpreter, cell, wanted.source, number)
        if failure is not None:
            error, at = _line(failure), number
            break
    notebook.write(document, job.out)
    if isinstance(failure, KeyboardInterrupt | Interrupted):
        raise KeyboardInterrupt
    return Ran(
        cells=len(document.cells),
        skipped=skipped,
        out=job.out,
        seconds=time.monotonic() - begin,
        unused=session.unused(),
        error=error,
        cell=at,
    )


def _run(interpreter: Interpreter, cell: dict[str, Any], source: str, number: int) -> BaseException | None:
    outputs = Outputs()
    with _captured(outputs, number):
        failure = interpreter.run(source, number)
    if failure is not None:
        outputs.error(failure)
    cell["outputs"], cell["execution_count"] = outputs.kept, number
    return failure


@contextmanager
def _captured(outputs: Outputs, number: int) -> Iterator[None]:
    def display(value: Any) -> None:
        if value is not None:
            outputs.result(value, number)
            before[0].write(f"{value!r}\n")
            before[0].flush()

    before = sys.stdout, sys.stderr, sys.displayhook
    sys.stdout, sys.stderr = Tee("stdout", sys.stdout, outputs), Tee("stderr", sys.stderr, outputs)
    sys.displayhook = display
    try:
        yield
    finally:
        sys.stdout, sys.stderr, sys.displayhook = before


def _line(error: BaseException) -> str:
    return error.line() if isinstance(error, FreeholdError) else f"{type(error).__name__}: {error}"


def _path(kind: type, value: Any) -> Any:
    return Path(value) if kind is Path else kind(value)


def main() -> int:
    """Run; the exit code says only that there is an answer."""
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=NotebookJob, dec_hook=_path)
    try:
        ran = execute(job)
    except KeyboardInterrupt:
        return 130
    Path(sys.argv[2]).write_bytes(msgspec.json.encode(ran, enc_hook=str))
    return 0


if __name__ == "__main__":
    sys.exit(main())
