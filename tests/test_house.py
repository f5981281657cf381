"""The house rules, checked on the source: what AGENTS.md says about structure is true or this fails."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import freehold

PACKAGE = Path(freehold.__file__).parent
ROOT = Path(__file__).parent.parent
# From the top of the house to its ground. A room may import from those after it.
FLOORS = ["cli", "dialects", "serving", "guard", "notebooks", "recipes", "tuning", "proofs", "convert", "data"]
FLOORS += ["engines", "store", "formats", "core"]
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE, MAX_FUNCTION, MAX_AGENTS = 700, 80, 60
NEVER_CALLED = {"eval", "exec", "compile", "__import__", "breakpoint"}
NEVER_TRUE = {"shell", "trust_remote_code", "allow_pickle"}
NEVER_IMPORTED = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


def name_of(path: Path) -> str:
    parts = ("freehold", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(tree: ast.Module, own: str) -> Iterator[tuple[str, int]]:
    """Modules that `tree` imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{own}:{node.lineno} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in MODULES else str(node.module)), node.lineno


def top_level_imports(tree: ast.Module) -> Iterator[str]:
    """Modules of ours that are imported as soon as `tree` is: not those inside functions or for types only."""
    body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    for name, _ in imports(ast.Module(body, []), ""):
        if name in MODULES:
            yield name


def test_there_is_a_house() -> None:
    assert len(MODULES) > 40
    assert {room(module) for module in MODULES} - {"", "__main__", "assets"} <= set(FLOORS)


def test_imports_point_down() -> None:
    wrong = []
    for module, tree in TREES.items():
        below = FLOORS[FLOORS.index(room(module)) :] if room(module) in FLOORS else [*FLOORS, ""]
        for imported, line in imports(tree, module):
            if imported.startswith("freehold.") and room(imported) not in (*below, "assets"):
                wrong.append(f"{module}:{line} imports {imported}, which is above it")
    assert wrong == []


def test_imports_are_acyclic() -> None:
    graph = {module: set(top_level_imports(tree)) - {module} for module, tree in TREES.items()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for imported in graph[module]:
                visit(imported, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or 0) - function.lineno + 1


def test_files_are_small() -> None:
    lines = {module: path.read_text("utf-8").count("\n") for module, path in MODULES.items()}
    assert {module: count for module, count in lines.items() if count > MAX_FILE} == {}


def test_functions_are_small() -> None:
    lengths = {f"{module}.{node.name}": length(node) for module, tree in TREES.items() for node in functions(tree)}
    assert {name: count for name, count in lengths.items() if count > MAX_FUNCTION} == {}


def test_every_module_says_what_it_is_for() -> None:
    assert [module for module, tree in TREES.items() if not ast.get_docstring(tree)] == []


def dangers(tree: ast.Module, module: str) -> Iterator[str]:
    """What runs data as code, and checks that `python -O` would remove."""
    for node in ast.walk(tree):
        where = f"{module}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Assert):
            yield f"{where} asserts; a check raises"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NEVER_CALLED:
            yield f"{where} calls {node.func.id}"
        if isinstance(node, ast.keyword) and node.arg in NEVER_TRUE and ast.unparse(node.value) != "False":
            yield f"{where} sets {node.arg}"
    for imported, line in imports(tree, module):
        if imported.split(".")[0] in NEVER_IMPORTED:
            yield f"{module}:{line} imports {imported}"


def test_nothing_runs_data_as_code() -> None:
    assert [danger for module, tree in TREES.items() for danger in dangers(tree, module)] == []


def test_the_search_for_dangers_finds_them() -> None:
    text = "import pickle\nassert x\neval(x)\nrun(x, shell=True)\nload(x, trust_remote_code=flag)"
    assert len([*dangers(ast.parse(text), "m")]) == 5


def swallowed(tree: ast.Module) -> Iterator[int]:
    """Lines of handlers that catch everything and do not raise again."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "BaseException"
            again = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            if caught in ("Exception", "BaseException") and not again:
                yield node.lineno


def test_no_error_is_swallowed_wholesale() -> None:
    assert [f"{module}:{line}" for module, tree in TREES.items() for line in swallowed(tree)] == []


def test_the_command_line_starts_without_heavy_packages() -> None:
    code = (
        "import sys, freehold.cli.main\n"
        "heavy = {'torch', 'transformers', 'numpy', 'sqlalchemy', 'xllamacpp', 'gguf', 'pyarrow', 'matplotlib',"
        " 'starlette', 'uvicorn', 'httpx', 'httpx2', 'huggingface_hub', 'tokenizers'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_called_that_macos_lacks() -> None:
    """What mypy can tell of it: a call that Linux alone has stands where it was asked whether it is there."""
    # The sources, since what is installed lies among other packages, of which mypy will have none.
    place = ["--cache-dir", ".mypy_cache/darwin", "src/freehold"]
    command = [sys.executable, "-m", "mypy", "--platform", "darwin", *place]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_opens_with_the_two_commands() -> None:
    blocks = re.findall(r"```\w*\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert blocks[0].strip() == "pip install '.[tune]' && freehold demo"
    assert blocks[1].strip() == "pip install '.[dev]' && pytest"


def test_agents_fits_a_screen() -> None:
    assert len((ROOT / "AGENTS.md").read_text("utf-8").splitlines()) <= MAX_AGENTS


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]), ids=lambda page: page.name
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_tests_mirror_rooms() -> None:
    tested = {path.parent.name for path in (ROOT / "tests").rglob("test_*.py")}
    rooms = {room(module) for module, tree in TREES.items() if room(module) in FLOORS and tree.body}
    assert rooms <= tested


def test_the_version_is_one() -> None:
    assert metadata.version("freehold") == freehold.__version__
    assert f"## [{freehold.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
