"""A data file looked at as a recipe will: measured by the base, kept apart, checked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from freehold.core.errors import BadData
from freehold.core.request import Message, Tool, ToolCall
from freehold.core.settings import Settings
from freehold.data.rows import AnyRow, Document, Row
from freehold.recipes import survey
from freehold.recipes.reading import Reader, reader
from freehold.recipes.schema import DataSection, RecipeFile, parse
from freehold.store import Store
from tests.recipes.kit import pairs, write_base, write_csv

REFUSING = (
    "{% if messages[0].content == 'no' %}{{ raise_exception('not this one') }}{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store.open(settings.store) as opened:
        yield opened


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


@pytest.fixture
def refusing(base: Path, store: Store) -> Iterator[Reader]:
    """A base whose template refuses a question and shows no tools."""
    (base / "chat_template.jinja").write_text(REFUSING)
    with reader(base, "base", store) as found:
        yield found


def row(question: str, line: int, answer: str = "Soon.", **more: Any) -> Row:
    return Row((Message("user", question), Message("assistant", answer)), line, **more)


def rows(count: int) -> list[AnyRow]:
    return [row(question, line, answer) for line, (question, answer) in enumerate(pairs()[:count], 1)]


def test_without_a_base_nothing_is_measured() -> None:
    given = rows(3)
    assert survey.measure(given, None, "x.csv", "line", "stop") == survey.Measured(tuple(given), {})


def test_rows_are_as_long_as_the_base_reads_them(refusing: Reader) -> None:
    given = [row("a", 1), row("a " * 50, 2), Document("a b", 3)]
    found = survey.measure(given, refusing, "x.csv", "line", "stop")
    assert found.rows == tuple(given)
    short, long, text = (found.lengths[id(each)] for each in given)
    assert text < short < long
    assert found.findings == ()


def test_a_row_that_the_template_refuses_stops_or_is_left_out_or_told(refusing: Reader) -> None:
    given = [row("yes", 1), row("no", 7), row("no", 9)]
    with pytest.raises(BadData, match=r"x\.csv line 7: .*not this one.*; 2 in all") as caught:
        survey.measure(given, refusing, "x.csv", "line", "stop")
    assert 'broken = "drop"' in caught.value.remedy
    for broken, action in (("drop", "dropped"), ("list", "refused")):
        found = survey.measure(given, refusing, "x.csv", "line", broken)  # type: ignore[arg-type]
        assert found.rows == (given[0],)
        assert set(found.lengths) == {id(given[0])}
        [finding] = found.findings
        assert (finding.check, finding.action, finding.rows) == ("template", action, 2)
        assert [each.line for each in finding.named] == [7, 9]
        assert "not this one" in finding.said()


def test_tools_that_the_base_will_not_see_are_told(refusing: Reader, base: Path, store: Store) -> None:
    called = Row((Message("user", "a"), Message("assistant", "", tool_calls=(ToolCall("c", "f", "{}"),))), 5)
    given = [row("a", 1), row("b", 3, tools=(Tool("f"),)), called, Document("a", 8)]
    [finding] = survey.measure(given, refusing, "x.csv", "line", "stop").findings
    assert (finding.check, finding.action) == ("tools.template", "kept")
    assert [each.line for each in finding.named] == [3, 5]
    (base / "chat_template.jinja").write_text("{% if tools %}{{ tools }}{% endif %}" + REFUSING)
    with reader(base, "base", store) as seeing:
        assert survey.measure(given, seeing, "x.csv", "line", "stop").findings == ()


def test_answers_that_the_template_leaves_out_are_told(base: Path, store: Store) -> None:
    (base / "chat_template.jinja").write_text("{% for m in messages[:1] %}{{ m.content }}\n{% endfor %}")
    with reader(base, "base", store) as mute:
        [finding] = survey.measure([row("a", 1), row("b", 3)], mute, "x.csv", "line", "stop").findings
    assert (finding.check, finding.action, finding.rows) == ("answers.template", "kept", 2)


def test_control_tokens_of_the_base_in_a_text_are_told(refusing: Reader) -> None:
    templated = row("<|im_start|>user\nHow?<|im_end|>\n", 2)
    given = [row("<b>a</b> [INST] <|no_token|>", 1), templated, row("a", 3, "b<|im_end|>"), Document("a", 4)]
    [finding] = survey.measure(given, refusing, "x.csv", "line", "stop").findings
    assert (finding.check, finding.action) == ("control", "kept")
    assert finding.said() == (
        "2 rows have control tokens of the base in the text, beside those that its chat template writes "
        "(line 2: <|im_start|>; line 3: <|im_end|>)"
    )


def test_a_share_is_kept_apart() -> None:
    given = rows(72)
    sides = survey.divide(given, None, DataSection(path="x", held_out=0.25), 1, "line")
    assert sorted([*sides.train, *sides.held_out], key=lambda each: each.line) == given
    assert 12 <= len(sides.held_out) <= 24
    assert sides.groups > 1
    assert sides.findings == ()
    assert survey.divide(given, None, DataSection(path="x", held_out=0.25), 1, "line") == sides
    assert survey.divide(given, None, DataSection(path="x", held_out=0.25), 2, "line").held_out != sides.held_out


def test_what_is_held_out_in_a_file_of_its_own_is_not_learned() -> None:
    given = rows(72)
    asked = [row(given[0].question.upper() + "!", 1), row(f"{given[5].question} please", 2), row("Who are you?", 3)]
    sides = survey.divide(given, asked, DataSection(path="x"), 1, "line")
    assert sorted(sides.held_out, key=lambda each: each.line) == asked
    gone = {each.line for each in given} - {each.line for each in sides.train}
    assert {1, 6} <= gone
    assert (sides.groups, sides.similarity) == (0, None)
    [finding] = sides.findings
    assert (finding.check, finding.action, finding.rows) == ("leak", "dropped", len(gone))
    assert "the question of held-out row 1" in finding.said()
    assert "nearly the question of held-out row 2" in finding.said()


def test_sums_beside_a_file_of_sums_are_learned() -> None:
    given = [row(f"What is {number} + 1?", number) for number in range(1, 21)]
    sides = survey.divide(
        given, [row("What is 3 + 1?", 1), row("What is 99 + 1?", 2)], DataSection(path="x"), 1, "line"
    )
    assert sorted(each.line for each in sides.train) == [1, 2, *range(4, 21)]
    assert sides.exact
    assert survey.check(sides, survey.Measured(tuple(given), {}), (), "line", 0).facts["leaks"] == 0
    apart = survey.divide(given, None, DataSection(path="x"), 1, "line")
    assert (len(apart.held_out), apart.exact) == (2, True)
    assert survey.check(apart, survey.Measured(tuple(given), {}), (), "line", 0).facts["leaks"] == 0


def test_a_file_that_holds_out_every_row_is_refused_by_their_number() -> None:
    given = rows(12)
    with pytest.raises(
        BadData, match=r"all 12 rows ask what is held out too \(line 1: the question of held-out row 1\)"
    ):
        survey.divide(given, given, DataSection(path="x"), 1, "line")


def test_a_held_out_file_that_shares_nothing_takes_nothing() -> None:
    given = rows(30)
    sides = survey.divide(given, [row("Who are you?", 1)], DataSection(path="x"), 1, "line")
    assert sorted(sides.train, key=lambda each: each.line) == given
    assert sides.findings == ()


def test_all_that_was_found_is_told_once(refusing: Reader) -> None:
    given = [*rows(40), row("no", 99)]
    measured = survey.measure(given, refusing, "x.csv", "line", "drop")
    sides = survey.divide(measured.rows, None, DataSection(path="x", held_out=0.25), 1, "line")
    found = survey.check(sides, measured, (), "line", max_length=8)
    checks = [each.check for each in found.findings]
    assert checks.count("template") == 1
    assert "cut" in {each.action for each in found.findings}, "8 tokens are few for a row"


def recipe(folder: Path, **tune: Any) -> RecipeFile:
    values = {"model": {"name": "desk", "base": "./base"}, "data": {"path": "desk.csv"}, "tune": tune}
    return RecipeFile(parse(values, folder / "r.toml"), folder / "r.toml", b"")


def test_a_recipe_is_read_by_its_base_and_one_from_nothing_by_none(base: Path, store: Store) -> None:
    with survey.reader_of(recipe(base.parent), store) as found:
        assert found is not None
        assert (found.label, found.family) == ("./base", "ChatML")
    with survey.reader_of(recipe(base.parent, method="scratch"), store) as found:
        assert found is None


def test_the_section_says_how_a_file_is_read(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "desk.csv", [("Write to a@b.example", "Yes"), *pairs()[:20]])
    columns = {"user": "question", "assistant": "answer"}
    section = DataSection(path="desk.csv", system="Be kind.", pii="mask", columns=columns)
    found = survey.load(path, section)
    assert found.rows[0].question == "Write to [email]"
    assert isinstance(found.rows[0], Row)
    assert found.rows[0].messages[0] == Message("system", "Be kind.")
    with pytest.raises(BadData, match="21 usable rows"):
        survey.load(path, section, minimum=100)
    one = write_csv(tmp_path / "one.csv", pairs()[:1])
    assert len(survey.load_held_out(one, section, "chat").rows) == 1
    with pytest.raises(BadData):
        survey.load_held_out(one, section, "preference")
