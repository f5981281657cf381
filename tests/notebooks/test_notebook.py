"""The file format, and which lines of a notebook are Python to be run."""

import json
from pathlib import Path

import pytest

from freehold.core.errors import BadInput
from freehold.notebooks.notebook import cell_of, read, source_of, write


def test_a_notebook_is_read_and_written_whole(tmp_path: Path) -> None:
    document = {
        "nbformat": 4,
        "metadata": {"colab": {"x": 1}},
        "cells": [{"cell_type": "markdown", "source": "# é"}, {"cell_type": "code", "source": ["a = 1\n", "a"]}],
    }
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps(document))
    notebook = read(path)
    assert [source_of(cell) for cell in notebook.cells] == ["a = 1\na"]
    notebook.cells[0]["outputs"] = [1]
    write(notebook, path)
    document["cells"][1]["outputs"] = [1]  # type: ignore[index]
    assert json.loads(path.read_text()) == document


@pytest.mark.parametrize(
    "content",
    [
        "{", "[]", '{"cells": 1}', '{"worksheets": []}', '{"cells": ["x"]}', "\xff", "", "null", '{"cells": {}}',
        '{"cells": [{"cell_type": "code", "source": null}]}', '{"cells": [{"cell_type": "code", "source": ["a", 1]}]}',
        '{"cells": [{"cell_type": "code", "source": 7}]}', '{"cells": [NaN]}', "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_notebook_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "n.ipynb"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(BadInput, match="is no notebook"):
        read(path)
    with pytest.raises(BadInput, match="no such notebook"):
        read(tmp_path / "other.ipynb")


@pytest.mark.parametrize(
    "source",
    [
        "%%capture\nimport os\n!pip install x",
        "!pip install x",
        "import os\nif True:\n    !pip install --no-deps x",
        "# get it\n%pip install x",
        "!uv pip install x",
        "!apt-get install x",
    ],
)
def test_cells_that_install_are_skipped(source: str) -> None:
    assert cell_of(source).why == "it installs or downloads"
    assert cell_of(source).source == ""


def test_what_the_user_skips_is_skipped() -> None:
    assert cell_of("model.push_to_hub('x')", ["push_to_hub"]).why == "--skip push_to_hub"
    assert cell_of("a = 1", ["push_to_hub"]).source == "a = 1"


def test_lines_for_a_shell_are_left_out_and_told() -> None:
    cell = cell_of("%matplotlib inline\nif x:\n    !nvidia-smi\ny = 5 % 3")
    assert cell.source == "pass\nif x:\n    pass\ny = 5 % 3"
    assert cell.dropped == ("%matplotlib inline", "!nvidia-smi")
    assert cell_of("%%bash\nls").why == "%%bash is not Python"
    assert cell_of("%%time\nx = 1").source == "pass\nx = 1"


def test_a_text_that_looks_like_a_shell_stays() -> None:
    source = 'text = """\n!important\n%s\n"""'
    assert cell_of(source).source == source


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("%%bash\nls", "%%bash is not Python"),
        ("%%html\n<p>x = 1</p>", "%%html is not Python"),
        ("%%writefile a.py\nx = 1", "%%writefile is not Python"),
        ("\n  %%capture\n!pip install x\nimport os", "it installs or downloads"),
        ("!mamba install -y x", "it installs or downloads"),
        ("%conda install x", "it installs or downloads"),
    ],
)
def test_why_a_cell_is_not_run(given: str, reason: str) -> None:
    assert (cell_of(given).why, cell_of(given).source) == (reason, "")


@pytest.mark.parametrize(
    ("given", "runs", "told"),
    [
        # A cell whose output IPython would hide trains as any other.
        ("%%capture out\ntrainer.train()", "pass\ntrainer.train()", ()),
        ("%%time\ntrainer.train()", "pass\ntrainer.train()", ()),
        ("%time stats = trainer.train()\nstats", "stats = trainer.train()\nstats", ()),
        ("if x:\n    %time f()\n    !ls", "if x:\n    f()\n    pass", ("!ls",)),
        ("%timeit f()\nf()", "pass\nf()", ("%timeit f()",)),
        ("%time\nf()", "pass\nf()", ("%time",)),
        # A shell reads on behind a backslash, to the end of the cell if it must.
        ("!wget https://x \\\n  -O y \\\n  -q\na = 1", "pass\n\n\na = 1", ("!wget https://x \\",)),
        ("a = 1\n!wget \\", "a = 1\npass", ("!wget \\",)),
        # Texts keep lines that look like a shell's, beside lines that are.
        ('!ls\ntext = """\n!important\n%s"""\n!ls', 'pass\ntext = """\n!important\n%s"""\npass', ("!ls", "!ls")),
        ('help = """\n!pip install x\n"""', 'help = """\n!pip install x\n"""', ()),
        ("!echo it's (", "pass", ("!echo it's (",)),
        ("x = 5 \\\n  % 3", "x = 5 \\\n  % 3", ()),
        ("%env A=1\n%cd /tmp\n?", "pass\npass\n?", ("%env A=1", "%cd /tmp")),
        ("", "", ()),
        ("# !pip install x", "# !pip install x", ()),
    ],
)  # fmt: skip
def test_what_of_a_cell_is_python(given: str, runs: str, told: tuple[str, ...]) -> None:
    cell = cell_of(given)
    assert (cell.why, cell.source, cell.dropped) == ("", runs, told)


@pytest.mark.parametrize("given", ["x = !ls", "def f(:\n    pass", "f?", "a\x00b", "-" * 200_000 + "1", "!ls\nx ="])
def test_what_is_no_python_is_left_for_python_to_say(given: str) -> None:
    cell = cell_of(given)
    assert cell.why == ""
    with pytest.raises((SyntaxError, ValueError, RecursionError, MemoryError)):
        compile(cell.source, "cell", "exec")


def test_lines_stay_where_they_were() -> None:
    given = "!ls \\\n  -l\n%time f()\n\n%cd a\nraise"
    assert cell_of(given).source.split("\n")[5] == "raise", "an error names its line"


def test_a_cell_without_a_source_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text('{"cells": [{"cell_type": "code"}, {"cell_type": "raw", "source": null}, {}], "nbformat": 5}')
    [cell] = read(path).cells
    assert source_of(cell) == ""


def test_a_folder_is_no_notebook(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cannot read .*: Is a directory"):
        read(tmp_path)


def test_a_notebook_with_too_much_in_it_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    with path.open("wb") as file:
        file.truncate((1 << 28) + 1)
    with pytest.raises(BadInput, match="larger than a notebook can be"):
        read(path)
