"""The figures of a loss report, and the text that they are taken on."""

import asyncio
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, DiskFull, NotFound
from freehold.core.request import Message
from freehold.data import Row
from freehold.engines.llamacpp.scorer import Compared
from freehold.formats.gguf import read_header
from freehold.proofs import loss, texts
from freehold.proofs.loss import Loss, Measured, Report
from freehold.proofs.texts import Texts
from tests.tiny import write_gguf


def compared(divergence: Sequence[float], same: Sequence[float], logprobs: Sequence[float]) -> Compared:
    return Compared(*(np.array(values, np.float32) for values in (divergence, same, logprobs)))


def test_the_figures() -> None:
    found = Loss.of(compared([0.0, 0.1, 0.2, 0.3], [1, 1, 0, 1], [-1.0, -2.0, -3.0, -2.0]))
    assert found.kl_mean == pytest.approx(0.15)
    assert found.kl_error == pytest.approx(np.std([0, 0.1, 0.2, 0.3]) / 2, rel=1e-4)
    assert found.kl_p99 == pytest.approx(np.quantile([0, 0.1, 0.2, 0.3], 0.99), rel=1e-4)
    assert found.top1 == 0.75
    assert found.perplexity == pytest.approx(math.exp(2), rel=1e-5)


@given(st.lists(st.floats(-1e4, 0), min_size=1, max_size=50))
def test_perplexity_is_a_finite_number_of_at_least_one(values: list[float]) -> None:
    found = loss.perplexity(np.array(values, np.float32))
    assert 1 <= found < math.inf


def test_the_report_is_evidence() -> None:
    base, small = Digest.of_bytes(b"base"), Digest.of_bytes(b"small")
    figures = Loss(0.02, 0.001, 0.3, 0.95, 12.5)
    measured = (Measured("Q4_K_M", 100, small, figures), Measured("Q2_K", 50))
    report = Report(
        base=base,
        base_size=400,
        base_perplexity=12.0,
        text=Digest.of_bytes(b"text"),
        predictions=99,
        imatrix=True,
        candidates=measured,
    )
    content = json.loads(report.encode())
    assert (content["kind"], content["predictions"], content["imatrix"]) == ("quantization", 99, True)
    facts = {(fact["subject"]["text"], fact["name"]): fact for fact in content["facts"]}
    assert facts[str(small), "quantization.kl_mean"]["value"] == 0.02
    assert facts[str(base), "quantization.perplexity"]["value"] == 12.0
    assert {fact["grade"] for fact in facts.values()} == {"verified"}
    assert measured[1].facts() == ()
    assert report.encode() == report.encode()


def test_room_is_looked_for_before(tmp_path: Path) -> None:
    assert loss.predictions([[1, 2, 3], [4, 5]]) == 3
    assert loss.room([[1, 2, 3], [4, 5]], 100) == 600
    loss.check_room(tmp_path, [[1, 2]], 100)
    with pytest.raises(DiskFull, match="needed"):
        loss.check_room(tmp_path, [[1] * 1000], 1 << 50)


class Tokeniser:
    """A tokenizer of one token per character, with the limits of a scorer."""

    def __init__(self, context_length: int = 512, bos: tuple[int, ...] = ()) -> None:
        self.context_length, self.bos = context_length, bos

    async def tokens(self, text: str, *, special: bool = False) -> list[int]:
        return [ord(character) for character in text]


def cut(given_: Texts, measured: int, calibrated: int, tokeniser: Tokeniser | None = None) -> texts.Windows:
    return asyncio.run(
        texts.windows(given_, tokeniser or Tokeniser(), measured=measured, calibrated=calibrated)  # type: ignore[arg-type]
    )


@given(
    st.lists(st.text("abcdef", min_size=1, max_size=900), min_size=1, max_size=12),
    st.sampled_from([(0, 500), (500, 0), (300, 300), (4096, 16384)]),
    st.sampled_from([(), (1,)]),
    st.sampled_from([64, 512]),
)
def test_windows_fit_share_nothing_and_come_from_the_text(
    pieces: list[str], wanted: tuple[int, int], bos: tuple[int, ...], context: int
) -> None:
    total = sum(map(len, pieces))
    if total < 400 or max(map(len, pieces)) < 300:
        return
    found = cut(Texts(tuple(pieces)), *wanted, Tokeniser(context, bos))
    both = [*found.held_out, *found.calibration]
    for window in both:
        assert 2 + len(bos) <= len(window) <= context
        assert tuple(window[: len(bos)]) == bos
        assert any("".join(map(chr, window[len(bos) :])) in piece for piece in pieces)
    assert bool(found.held_out) == bool(wanted[0])
    assert bool(found.calibration) == bool(wanted[1])
    assert sum(len(window) - len(bos) for window in both) <= total


def test_held_out_text_is_no_part_of_the_calibration() -> None:
    numbered = "".join(chr(1000 + i) for i in range(5000))
    found = cut(Texts((numbered,)), 1000, 2000)
    held_out, calibration = ({token for window in side for token in window} for side in found)
    assert not held_out & calibration
    assert 300 < len(held_out) < 1024
    assert 1500 < len(calibration) < 2600
    assert max(held_out) - min(held_out) > 2500, "from all over the text"


def test_a_text_file_is_measured_on_the_same_windows_with_and_without_a_matrix() -> None:
    text = Texts(("".join(chr(1000 + i) for i in range(5000)),), split=True)
    both, alone, matrix = cut(text, 600, 2000), cut(text, 600, 0), cut(text, 0, 2000)
    assert both.held_out == alone.held_out != []
    assert both.calibration == matrix.calibration != []
    assert alone.calibration == matrix.held_out == []


def test_a_chat_that_begins_with_bos_gets_no_second(tmp_path: Path) -> None:
    found = cut(Texts(("\x01" + "abcdef" * 20,), chat=True), 100, 0, Tokeniser(512, (1,)))
    assert all(window[:2] != [1, 1] for window in found.held_out)


def test_short_text_is_refused() -> None:
    for text in ("a", "too short for both"):
        with pytest.raises(BadInput, match="tokens"):
            cut(Texts((text,)), 100, 100)


def test_text_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Grüße\n".encode() + b"\xff")
    assert texts.from_file(tmp_path / "a.txt") == Texts(("Grüße\n\ufffd",), split=True)
    (tmp_path / "long.txt").write_text("x" * (3 << 20))
    assert sum(map(len, texts.from_file(tmp_path / "long.txt").pieces)) == 3 << 20
    for name, data in (("empty", b" \n"), ("binary", b"GGUF\0\0\0")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadInput, match=name):
            texts.from_file(tmp_path / name)
    with pytest.raises(NotFound):
        texts.from_file(tmp_path / "none")
    with pytest.raises(BadInput):
        texts.from_file(tmp_path)


def test_rows_are_rendered_by_the_models_own_template(tmp_path: Path) -> None:
    row = Row((Message("user", "Hello"), Message("assistant", "Hi")))
    header = read_header(write_gguf(tmp_path / "tiny.gguf"))
    found = texts.from_rows([row], header)
    assert found == Texts(("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi<|im_end|>\n",), chat=True)
    named = read_header(write_gguf(tmp_path / "eos.gguf", template="{{ messages[0].content }}{{ eos_token }}"))
    assert texts.from_rows([row], named).pieces == ("Hello<|im_end|>",)
