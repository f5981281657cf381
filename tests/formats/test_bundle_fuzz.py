"""A minute of fuzzing, from whole bundles and signatures onwards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.proofs.sign import envelope, keys, statement
from tests.formats.test_bundle import Sample

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SECONDS = 60


def test_nothing_but_refusals(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    sample = Sample(600)
    keys.make(tmp_path / "key")
    signed = envelope.sign(statement.of("m", {}), keys.private(tmp_path / "key"))
    for number, seed in enumerate((sample.bytes(), sample.index.encode(), signed)):
        (corpus / str(number)).write_bytes(seed)
    script = Path(__file__).with_name("fuzz_bundle.py")
    command = [sys.executable, script, f"-max_total_time={SECONDS}", "-max_len=8192", "-rss_limit_mb=1024", corpus]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr
