import pytest

from freehold.core.spans import seconds


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("45s", 45), ("30m", 1800), ("1h30m", 5400), ("90", 90), ("1.5h", 5400), (" 2m ", 120), (".5s", 0.5),
        ("-5m", -300), ("+1s", 1), ("250ms", 0.25), ("1h2m3s", 3723), ("0", 0),
    ],
)  # fmt: skip
def test_spans(text: str, wanted: float):
    assert seconds(text) == pytest.approx(wanted)


@pytest.mark.parametrize("text", ["", "m", "5 m", "1d", "1h-2m", "--1", "\u0665s", "1e3", "nan", "9" * 13, "5m!"])
def test_what_is_none(text: str):
    with pytest.raises(ValueError, match="no span of time"):
        seconds(text)
