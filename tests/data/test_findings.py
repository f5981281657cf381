"""What is wrong is said with its number, its lines and its reasons, and no more than the first few of those."""

import pytest

from freehold.data.findings import NAMED, Finding, Log, finding


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "1 row holds a name: it is masked"), (2, "2 rows hold a name: they are masked")],
)
def test_number_and_words_agree(count: int, text: str) -> None:
    words = "row{s} hold{v} a name: it is masked" if count == 1 else "row{s} hold{v} a name: they {are} masked"
    assert finding("x", "masked", words, list(range(count))).text == text


def test_the_first_few_are_named_and_the_rest_counted() -> None:
    found = finding("empty", "dropped", "row{s} {are} left out", list(range(1, 1001)))
    assert found.rows == 1000
    assert len(found.named) == NAMED
    assert found.said() == "1,000 rows are left out (line 1, 2, 3, 4, 5, …)"
    assert finding("empty", "dropped", "row{s} {have} none", [3], "page").said() == "1 row has none (page 3)"


def test_reasons_stand_beside_their_lines() -> None:
    found = finding("broken", "refused", "broken row{s}", [(3, "is no object"), (9, "has no end")], "item")
    assert found.said() == "2 broken rows (item 3: is no object; item 9: has no end)"
    more = finding("broken", "refused", "broken row{s}", [(n, "is no object") for n in range(9)])
    assert more.said().endswith("line 4: is no object; …)")


def test_a_reason_is_kept_short() -> None:
    assert len(finding("x", "kept", "row{s}", [(1, "y" * 9999)]).named[0].reason) == 400


def test_a_finding_without_places_says_its_text() -> None:
    assert Finding("few", "refused", 3, "3 usable rows").said() == "3 usable rows"


def test_a_log_makes_one_finding_of_each_thing() -> None:
    log = Log("row")
    for number in (2, 5):
        log.empty("row{s} without an answer", number)
    log.add("turns", "cut", "row{s} {are} cut", 3, "two turns")
    assert [each.said() for each in log.findings()] == [
        "2 rows without an answer are left out (row 2, 5)",
        "1 row is cut (row 3: two turns)",
    ]
    assert [(each.check, each.action) for each in log.findings()] == [("empty", "dropped"), ("turns", "cut")]
