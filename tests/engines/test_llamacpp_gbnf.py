"""Short ways to what lies deep in a grammar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.engines.llamacpp.gbnf import rules, shortened
from tests.engines.grammars import GOOD

LONG = "qx" * 300


@pytest.mark.parametrize(
    ("text", "short"),
    [
        (f'root ::= "{LONG}" [a-z]* "end"', 'root ::= "q" "x" "q" "x" "x" [a-z]* "end"'),
        (f'root ::= "{LONG}"? "a"', f'root ::= "{LONG}"? "a"'),
        (r'root ::= "' + r"\n\"" * 9 + '" x', r'root ::= "\n" "\"" "\n" "\"" "\"" x'),
        ("root ::= " + "[a-z] " * 17 + "x+", "root ::= [a-z] [a-z] [a-z] [a-z] [a-z] x+"),
        ('root ::= [a-z]{600} "a"{3,9} "b"{5,} x', 'root ::= [a-z] [a-z] "a"{2,8} "b"{2,} x'),
        ('root ::= ("q" | "x"){300} x', 'root ::= "q" "q" x'),
        ('root ::= (("a" "b") | "c") "d"', 'root ::= "a" "b" "d"'),
        ('root ::= ("a" | "b")* ("c" | x) "{9}"', 'root ::= ("a" | "b")* ("c" | x) "{9}"'),
        ('root ::= (("a"?){50}){50}', 'root ::= (("a"?){50}){50}'),
    ],
)
def test_what_has_to_be_written_is_cut(text: str, short: str) -> None:
    assert shortened(text) == short


@pytest.mark.parametrize("name", [name for name in GOOD if not GOOD[name].startswith("%") and "#" not in GOOD[name]])
def test_rules_keep_their_names(name: str) -> None:
    named = [line.partition("::=")[0] for line in GOOD[name].splitlines()]
    assert [line.partition("::=")[0] for line in shortened(GOOD[name]).splitlines()] == named


@given(st.text('"[]\\\\(){}|*+? ,09ab\n', max_size=200))
def test_any_text_is_shortened(text: str) -> None:
    shortened(text)


@pytest.mark.parametrize("part", ["(", '("a" ', '"a" | ', '("a" | ', '"a"{2}', "[a] ", '"a"?'])
def test_hostile_texts_take_no_longer_for_their_form(part: str) -> None:
    shortened(part * 20_000)


def test_rules_and_what_they_leave_open() -> None:
    text = 'root ::= "a|*" b | c?\nb ::= [|?]\nc-1 ::= ("x" | "y"){2,} b+\nroot ::= "again"*'
    assert rules(text) == {"root": 3, "b": 0, "c-1": 3}
