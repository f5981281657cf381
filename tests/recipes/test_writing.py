import tomllib

from hypothesis import given
from hypothesis import strategies as st

from freehold.recipes.writing import toml

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES = st.one_of(
    TEXT, st.integers(-(1 << 63), (1 << 63) - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans(),
    st.lists(TEXT, max_size=3), st.dictionaries(TEXT, TEXT, max_size=3),
)  # fmt: skip
KEYS = st.from_regex(r"[a-z_]{1,9}", fullmatch=True)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=3))
def test_what_is_written_is_read_again(sections: dict[str, dict[str, object]]):
    assert tomllib.loads(toml(sections)) == sections
