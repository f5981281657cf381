"""Names: everything a person can type either parses into catalog keys or is refused; none becomes a path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.errors import BadName
from freehold.core.name import Name

HOSTILE = [
    "",
    ".",
    "..",
    "...",
    "/",
    "/etc/passwd",
    "../x",
    "x/..",
    "x/../y",
    "a/b/c",
    "a//b",
    "a/",
    "/a",
    "a:",
    ":a",
    "a:b:c",
    "a:../b",
    "a..b",
    "a b",
    " a",
    "a ",
    "a\n",
    "\na",
    "a\x00b",
    "a\\b",
    "a\\..\\b",
    "C:\\x",
    "~",
    "~/x",
    "$HOME",
    "$(id)",
    "`id`",
    "a;b",
    "a|b",
    "a&b",
    "-rf",
    "--help",
    ".hidden",
    "trailing.",
    "trailing-",
    "%2e%2e%2f",
    "a%00b",
    "а",  # Cyrillic
    "ａ",  # full-width
    "a\u202eb",
    "a\u200bb",
    "\x1b[31mred",
    "a" * 97,
    "a" * 100_000,
    "file:///etc/passwd",
    "http://x/y",
    "sha256:" + "/" * 64,
]

GOOD = {
    "helpdesk": Name("", "helpdesk", "latest"),
    "helpdesk:v2": Name("", "helpdesk", "v2"),
    "org/model": Name("org", "model", "latest"),
    "org/model:Q4_K_M": Name("org", "model", "Q4_K_M"),
    "Qwen2.5-0.5B": Name("", "Qwen2.5-0.5B", "latest"),
    "a": Name("", "a", "latest"),
    "a_": Name("", "a_", "latest"),
    "0/1:2": Name("0", "1", "2"),
}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_refused(text: str) -> None:
    with pytest.raises(BadName) as caught:
        Name.parse(text)
    assert len(caught.value.line()) < 1000
    assert "\n" not in caught.value.line()
    assert "\x1b" not in caught.value.line()


@pytest.mark.parametrize(("text", "name"), GOOD.items())
def test_good_names_parse(text: str, name: Name) -> None:
    assert Name.parse(text) == name
    assert str(name) == text


@given(st.text() | st.from_regex(r"[A-Za-z0-9._/:-]{1,40}", fullmatch=True))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        name = Name.parse(text)
    except BadName:
        return
    for part in (name.org, name.model, name.tag):
        assert "/" not in part
        assert "\\" not in part
        assert ".." not in part
        assert not part.startswith((".", "-"))
        assert part.isascii()
        assert part.isprintable()
    assert Name.parse(str(name)) == name


def test_the_tag_latest_goes_without_saying() -> None:
    assert Name.parse("a:latest") == Name.parse("a")
    assert str(Name.parse("a:latest")) == "a"


def test_case_is_kept() -> None:
    assert Name.parse("A") != Name.parse("a")


@pytest.mark.parametrize("parts", [("..", "a"), ("", ".."), ("", "a", ".."), ("a/b", "c"), ("", "a", "")])
def test_made_directly_it_is_checked_too(parts: tuple[str, ...]) -> None:
    with pytest.raises(BadName):
        Name(*parts)
