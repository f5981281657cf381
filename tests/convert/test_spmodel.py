"""tokenizer.model: read as SentencePiece reads it, and whatever is wrong with it is refused."""

import random
from pathlib import Path

import pytest

from freehold.convert.spmodel import read_model
from freehold.core.errors import BadModelFile, FreeholdError, Unsupported
from tests.convert import spm

pytest.importorskip("sentencepiece")


def written(folder: Path, data: bytes) -> Path:
    path = folder / "tokenizer.model"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("gemma", [False, True])
def test_pieces_and_settings_are_those_of_sentencepiece(gemma: bool, tmp_path: Path) -> None:
    model, reference = read_model(written(tmp_path, spm.trained(gemma))), spm.processor(gemma)
    assert len(model.pieces) == reference.get_piece_size()
    for id_, piece in enumerate(model.pieces):
        assert (piece.text, piece.score) == (reference.id_to_piece(id_), reference.get_score(id_))
        assert (piece.kind == 3) == reference.is_control(id_)
        assert (piece.kind == 6) == reference.is_byte(id_)
    assert model.special == {"unk": 0, "bos": 1, "eos": 2, "pad": -1}
    assert model.prefix is not gemma


def field(number: int, value: int | bytes) -> bytes:
    """A field with a small number, or a short one with bytes."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


TRAINER = field(3, 2) + field(35, 1)
NORMALIZER = field(4, 0)


def made(trainer: bytes = TRAINER, normalizer: bytes = NORMALIZER, piece: bytes = field(1, b"a")) -> bytes:
    return field(1, piece) + field(2, trainer) + field(3, normalizer)


def test_the_smallest_model(tmp_path: Path) -> None:
    assert [piece.text for piece in read_model(written(tmp_path, made())).pieces] == ["a"]


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (made(trainer=field(3, 1) + field(35, 1)), Unsupported, "byte-pair"),
        (made(trainer=field(3, 2)), Unsupported, "fallback"),
        (made(trainer=TRAINER + field(24, 1)), Unsupported, "after words"),
        (made(normalizer=b""), Unsupported, "removes spaces"),
        (made(normalizer=NORMALIZER + field(5, 0)), Unsupported, "mark spaces"),
        (made(normalizer=NORMALIZER + field(2, b"charsmap")), Unsupported, "normalises"),
        (made(piece=field(1, b"\xff")), BadModelFile, "UTF-8"),
        (made(piece=field(1, b"a") + field(3, 9)), BadModelFile, "kind 9"),
        (made(piece=field(1, 7)), BadModelFile, "field 1"),
        (made(piece=field(1, b"a") + b"\x15\x00\x00\xc0\x7f"), BadModelFile, "score"),
        (field(2, TRAINER) + field(3, NORMALIZER), BadModelFile, "0 pieces"),
        (field(2, 5), BadModelFile, "field 2"),
        (b"\x0a\xff\xff\xff\xff\x0f", BadModelFile, "cut off"),
        (b"\xff" * 20, BadModelFile, "cut off"),
        (b"\x0b", BadModelFile, "cut off"),
        (b"", FreeholdError, "tokenizer.model"),
    ],
)
def test_broken_and_foreign_models_are_refused(
    data: bytes, error: type[FreeholdError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        read_model(written(tmp_path, data))
    assert words in caught.value.line()


def readable(path: Path) -> bool:
    """Whether the file has pieces; what is wrong with it comes as the product's own error."""
    try:
        return bool(read_model(path).pieces)
    except FreeholdError as error:
        return not error.remedy


def test_a_cut_or_changed_model_ends_in_one_error(tmp_path: Path) -> None:
    data, rng = spm.trained(False), random.Random(7)
    cut = [readable(written(tmp_path, data[: rng.randrange(len(data))])) for _ in range(50)]
    assert not any(cut), "trainer and normalizer come last: without them a model is refused"
    for _ in range(50):
        at = rng.randrange(len(data))
        assert readable(written(tmp_path, data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :])) in (True, False)
