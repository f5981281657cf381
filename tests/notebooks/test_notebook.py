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


@pytest.mark.parametrize("content", ["{", "[]", '{"cells": 1}', '{"worksheets": []}', '{"cells": ["x"]}', "\xff"])
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
