"""Families that are not converted here: by llama.cpp's own converter, out of a checked archive, in its own process.

The archive is the source of llama-cpp-python, which carries llama.cpp with `convert_hf_to_gguf.py`. Nothing of it is
installed; what is needed is unpacked for one conversion. The converter sees no network, no token and none of the code
that a model's folder may hold.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from freehold.convert.config import Config
from freehold.convert.families import classifies, names
from freehold.core.digest import Digest
from freehold.core.errors import BadModelFile, Damaged, MissingExtra, Unsupported
from freehold.engines.supervisor import clean_environment
from freehold.formats.atomic import disk_errors, replacing
from freehold.formats.gguf import read_header
from freehold.formats.reading import shown

VERSION = "0.3.36"
ARCHIVE = f"llama_cpp_python-{VERSION}.tar.gz"
DIGEST = Digest("sha256:832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e")
_ROOT = PurePosixPath(f"llama_cpp_python-{VERSION}", "vendor", "llama.cpp")
_SCRIPT = "convert_hf_to_gguf.py"
_FOLDERS = ("conversion", "gguf-py/gguf")
_MODEL = (".json", ".safetensors", ".model", ".jinja", ".txt", ".tiktoken")
"""Kinds of files that a converter reads; no code is among them."""
_NEEDED = ("torch", "transformers", "sentencepiece")
_TAIL = 400


def needed(folder: Path) -> bool:
    """Whether the model in `folder` is of a family that is not converted here. Nobody converts a classifier."""
    config = Config.read(folder / "config.json")
    return config.architecture() not in names() and not classifies(config)


def convert(folder: Path, out: Path, dtype: str, tools: Path) -> None:
    """Convert a folder of a model to GGUF with the archive in the folder `tools`.

    Raises Unsupported when there is none or when the converter refuses the model, Damaged when the archive is another,
    MissingExtra, BadModelFile, DiskFull; then nothing is left behind.
    """
    found = archive(folder, tools)
    with tempfile.TemporaryDirectory(prefix="freehold-convert-") as room, disk_errors(out.parent):
        source, model = Path(room, "source"), Path(room, folder.absolute().name or "model")
        _unpack(found, source)
        _link(folder, model)
        with replacing(out) as temporary:
            _run([str(source / _SCRIPT), str(model), "--outfile", str(temporary), "--outtype", dtype], Path(room))
            if not temporary.exists():
                raise BadModelFile(f"llama.cpp's converter wrote nothing for {shown(folder, 400)}", "Check the folder")
            read_header(temporary).details()


def archive(folder: Path, tools: Path) -> Path:
    """The archive, once it is known to be the right one. Raises Unsupported, MissingExtra, Damaged."""
    path = tools / ARCHIVE
    if not path.exists():
        name = Config.read(folder / "config.json").architecture()
        raise Unsupported(
            f"architecture {shown(name)} is none of {', '.join(sorted(names()))}; llama.cpp's converter may know it",
            f"Get it: pip download --no-deps --no-binary :all: llama-cpp-python=={VERSION} -d {tools}",
        )
    missing = next((name for name in _NEEDED if importlib.util.find_spec(name) is None), None)
    if missing is not None:
        raise MissingExtra(f"llama.cpp's converter needs {missing}", "pip install 'freehold[tune]' sentencepiece")
    found = Digest.of_file(path)
    if found != DIGEST:
        raise Damaged(f"{shown(path, 400)} is not the archive of that version: {found.short}", "Download it again")
    return path


def _unpack(path: Path, target: Path) -> None:
    """The converter's own files. The archive is known byte for byte, and still nothing but plain files is taken."""
    with tarfile.open(path) as opened:
        for member in opened:
            name = PurePosixPath(member.name)
            inside = name.relative_to(_ROOT).as_posix() if name.is_relative_to(_ROOT) else ""
            wanted = inside == _SCRIPT or (inside.startswith(_FOLDERS) and name.suffix == ".py")
            content = opened.extractfile(member) if wanted and member.isfile() and ".." not in name.parts else None
            if content is not None:
                place = target / inside
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content.read())


def _link(folder: Path, target: Path) -> None:
    """The model's data without any code; `auto_map`, which names code, is taken out of what says how to load it."""
    target.mkdir()
    for path in sorted(folder.iterdir()):
        if path.suffix in _MODEL and path.is_file():
            if path.name in ("config.json", "tokenizer_config.json"):
                values = json.loads(path.read_bytes())
                (target / path.name).write_text(json.dumps({k: v for k, v in values.items() if k != "auto_map"}))
            else:
                (target / path.name).symlink_to(path.resolve())


def _run(arguments: list[str], room: Path) -> None:
    home = room / "home"
    home.mkdir()
    environment = clean_environment(
        {
            "PATH": os.defpath,
            "HOME": str(home),
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
    )
    with _started([sys.executable, "-E", "-s", *arguments], environment, room) as process:
        _, complaint = process.communicate()
    if process.returncode != 0:
        lines = [line.strip() for line in complaint.decode("utf-8", "replace").splitlines() if line.strip()]
        raise Unsupported(
            f"llama.cpp's converter refuses it: {shown(lines[-1] if lines else f'exit {process.returncode}', _TAIL)}",
            "Look for a GGUF file of the model, or for one of a supported family",
        )


@contextmanager
def _started(command: list[str], environment: dict[str, str], room: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """A child that does not outlive an error or Ctrl-C here."""
    process = subprocess.Popen(
        command, env=environment, cwd=room, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
