"""The binding to llama.cpp's C API refuses every library but the one that it was written for."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.engines import wheel
from freehold.engines.llamacpp import libllama
from freehold.engines.llamacpp.libllama import BadLibraryError


def test_the_installed_wheel_passes_the_self_test() -> None:
    assert wheel.version() in libllama.BUILDS
    assert libllama.faults(libllama.load()) == []


def test_another_build_is_refused() -> None:
    with pytest.raises(BadLibraryError, match=r"1999\.1\.1"):
        libllama.load(builds=("1999.1.1",))


@pytest.mark.parametrize(
    ("function", "structure", "said"),
    [
        ("llama_context_default_params", "ContextParams", "llama_context_default_params writes"),
        ("llama_model_default_params", "ModelParams", "llama_model_default_params writes"),
    ],
)
def test_a_structure_of_another_size_is_noticed(
    function: str, structure: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fields one too few, as another version may have it: noticed before the function writes past the end."""

    class Shorter(ctypes.Structure):
        _fields_ = getattr(libllama, structure)._fields_[2:]

    library = libllama.load()
    monkeypatch.setattr(libllama, structure, Shorter)
    assert any(said in fault for fault in libllama.faults(library))


def test_shifted_fields_are_noticed_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shifted(ctypes.Structure):
        _fields_ = (
            *((name, kind) for name, kind in libllama.ContextParams._fields_ if name != "unnamed"),
            ("more", ctypes.c_void_p),
        )

    library = libllama.load()
    monkeypatch.setattr(libllama, "ContextParams", Shifted)
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    library.llama_context_default_params.restype = Shifted
    try:
        assert any("offload_kqv is False" in fault for fault in libllama.faults(library))
    finally:
        library.llama_context_default_params.restype = libllama.ContextParams


def test_a_tensor_of_another_size_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Longer(libllama.Tensor):
        _fields_ = (("more", ctypes.c_int64),)

    library = libllama.load()
    monkeypatch.setattr(libllama, "Tensor", Longer)
    assert libllama.faults(library) == ["a tensor has 336 bytes of 344"]


def test_a_library_without_the_functions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadLibraryError, match="nothing"):
        libllama._declared(tmp_path / "nothing.so")


def test_the_parent_never_loads_it() -> None:
    code = (
        "import sys, freehold.engines.llamacpp.scorer\n"
        "print([name for name in sys.modules if name.startswith('xllamacpp') or name.endswith('libllama')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"
