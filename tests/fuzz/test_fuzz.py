"""A minute of fuzzing for each kind of text, from whole files onwards: it is read, or refused in one line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from freehold.convert import imatrix
from freehold.proofs.sign import envelope, keys, statement
from tests import pictures
from tests.convert.spm import trained
from tests.formats.ggufs import Raw
from tests.formats.test_bundle import Sample
from tests.store import models

SECONDS = 60
SCRIPT = Path(__file__).with_name("targets.py")
Seeds = dict[str, list[bytes]]


def seeds(tmp_path: Path) -> Seeds:
    """Whole files of each kind, to begin with."""
    sample, folder = Sample(600), models.folder(tmp_path / "model")
    keys.make(tmp_path / "key")
    layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + "0" * 64, "size": 1}]
    registry = json.dumps({"schemaVersion": 2, "config": layers[0], "layers": layers}).encode()
    chat = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    manifest = models.gguf(tmp_path / "x.gguf", size=340)
    return {
        "bundle": [
            sample.bytes(),
            sample.index.encode(),
            envelope.sign(statement.of("m", {}), keys.private(tmp_path / "key")),
        ],
        "gguf": [manifest.read_bytes(), importance(tmp_path)],
        "projector": [
            models.projector(tmp_path / f"{kind}.gguf", kind=kind).read_bytes()
            for kind in ("mlp", "idefics3", "gemma4v")
        ],
        "images": [*(pictures.picture(form=form) for form in pictures.FORMS), pictures.url_of(b"GIF89a").encode()],
        "safetensors": [(folder / "model.safetensors").read_bytes()[:2048]],
        "config": [(folder / "config.json").read_bytes()],
        "sentencepiece": [trained(gemma=False)[:4096]],
        "modelfile": [
            b'FROM x\nPARAMETER stop "a"\nTEMPLATE """{{ .Prompt }}"""\nMESSAGE user hi\nSYSTEM be brief\n',
            b"{{- range .Messages }}<|{{ .Role }}|>{{ .Content }}{{ end }}",
            b"{{ if .System }}x{{ end }}{{ .Prompt }}",
            b'{"stop": ["a"], "num_ctx": 5}',
            b'[{"role": "user", "content": "hi"}]',
        ],
        "reference": [b"hf.co/org/repo:Q4_K_M", b"ollama://host/a/b:c", b"https://h/x.gguf", b"org/repo@main//x.gguf"],
        "json": [registry, b'{"parts": [], "schema": 1}', b'{"a": [1e5, "\\ud83d\\ude00"]}'],
        "recipe": [b'[model]\nname = "a"\nbase = "starter"\n[data]\nfile = "x.csv"\n[tune]\nmethod = "lora"\n'],
        "rows": [
            b"question,answer\n" + b'"a, b",c\n' * 12,
            b"prompt;completion\n" + b"a;b\n" * 12,
            chat * 12,
            b'{"prompt": "a", "completion": "b"}\n' * 12,
            b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": "a", "completion": "b", "label": true}\n',
            b'{"messages": [{"role": "user", "content": "+49 170 1234567"}, {"role": "assistant", "weight": 0.5, '
            b'"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}], "tools": [{"name": "f"}]}\n',
        ],
    }


def importance(tmp_path: Path) -> bytes:
    raw = Raw().start(2, 4).text_key("general.type", imatrix.TYPE).number_key(imatrix.CHUNK_COUNT, 1)
    raw.number_key(imatrix.CHUNK_SIZE, 8).array_key(imatrix.DATASETS, 8, 0)
    raw.tensor("a.weight.in_sum2", (8, 1), 0, 0).tensor("a.weight.counts", (1, 1), 0, 32)
    return raw.write(tmp_path / "i.gguf", 64).read_bytes()


def fuzz(name: str, begin: list[bytes], folder: Path, seconds: int = SECONDS) -> str:
    """What went wrong; empty when nothing did."""
    corpus = folder / name
    corpus.mkdir()
    for number, seed in enumerate(begin):
        (corpus / str(number)).write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-max_len=8192", "-rss_limit_mb=2048", "-timeout=20"]
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(SCRIPT.parents[2])}
    command = [sys.executable, str(SCRIPT), name, *options, str(corpus)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    return "" if done.returncode == 0 and "Done" in done.stderr else f"{name}: {done.stderr[-3000:]}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_but_refusals(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    begin = seeds(tmp_path)
    (tmp_path / "corpus").mkdir()
    run: Callable[[str], str] = lambda name: fuzz(name, begin[name], tmp_path / "corpus")  # noqa: E731
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        wrong = [said for said in pool.map(run, begin) if said]
    assert not wrong, "\n\n".join(wrong)


def test_every_target_has_seeds_that_are_read(tmp_path: Path) -> None:
    text = SCRIPT.read_text("utf-8")
    assert all(f'    "{name}": ' in text for name in seeds(tmp_path))
