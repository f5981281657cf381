"""Each check finds what it is for, names the lines, counts the rest, and is quiet about rows that are well."""

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.request import Message, Tool, ToolCall
from freehold.data.checks import (
    Found,
    Material,
    balance,
    calls,
    checks,
    duplicates,
    encoding,
    examine,
    languages,
    leakage,
    origin,
    personal,
    sizes,
    turns,
)
from freehold.data.findings import Finding
from freehold.data.grouping import similar
from freehold.data.leaks import leaks
from freehold.data.rows import AnyRow, Document, Judged, Labelled, Preference, Row
from tests.data import strategies
from tests.data.conftest import PAIRS


def chat(question: str, answer: str, line: int = 0, **more: object) -> Row:
    return Row((Message("user", question), Message("assistant", answer)), line, **more)  # type: ignore[arg-type]


ROWS = tuple(chat(question, answer, line) for line, (question, answer) in enumerate(PAIRS, 2))


def said(found: Found) -> list[str]:
    return [finding.said() for finding in found.findings]


def test_every_module_of_the_folder_is_a_check() -> None:
    modules = {check.run.__module__.rpartition(".")[2] for check in checks()}
    assert modules == {
        "sizes", "origin", "duplicates", "leakage", "personal", "languages", "balance", "calls", "encoding", "turns"
    }  # fmt: skip
    assert [check.order for check in checks()] == sorted(check.order for check in checks())


def test_rows_that_are_well() -> None:
    known = Finding("empty", "dropped", 1, "1 row is left out")
    found = examine(Material(rows=ROWS), [known])
    assert found.findings == (known,)
    assert found.facts["rows"] == len(ROWS)
    assert found.facts["language"] == "en"
    assert examine(Material(rows=()), [known]) == Found((known,))


@given(st.lists(strategies.ANY, max_size=8), st.lists(strategies.ANY, max_size=4))
def test_any_rows_can_be_checked(rows: list[AnyRow], held_out: list[AnyRow]) -> None:
    found = examine(Material(rows=tuple(rows), held_out=tuple(held_out), lengths=(5,) * len(rows), max_length=3))
    assert all(finding.rows > 0 and "\n" not in finding.said() for finding in found.findings)
    assert json.loads(json.dumps(found.facts)) == found.facts
    assert all(count > 0 for table in found.tables.values() for _, count in table)


def test_sizes() -> None:
    rows = [Document("x" * length, line) for line, length in enumerate((1, 20, 20, 40, 70_000), 1)]
    found = sizes.run(Material(rows=tuple(rows)))
    assert found.facts["characters.median"] == 20
    assert found.facts["characters.longest"] == 70_000
    table = dict(found.tables["characters"])
    assert (table["0-15"], table["16-31"], table["32-63"], table["32,768 or more"]) == (1, 2, 1, 1)
    assert sum(table.values()) == 5
    long = sizes.run(Material(rows=tuple(rows), lengths=(1, 5, 0, 9, 30), max_length=8, unit="row"))
    assert said(long) == ["2 rows are longer than 8 tokens and lose the end (row 4: 9 tokens; row 5: 30 tokens)"]
    assert (long.facts["tokens.total"], long.facts["tokens.rows"]) == (45, 4)


def test_near_duplicates_ask_and_answer_the_same() -> None:
    twice = chat("When do you close on Sunday, please?", "We close at four on Sundays!", 90)
    other_answer = chat("When do you close on Sunday?", "We are open all night long in summer.", 91)
    found = duplicates.run(Material(rows=(*ROWS, twice, other_answer)))
    assert said(found) == ["1 row asks and answers nearly the same as another (line 90: like 3)"]
    assert found.facts["near_duplicates"] == 1


def test_sums_are_no_near_duplicates() -> None:
    rows = [chat(f"What is {number} + {number + 3}?", str(2 * number + 3), number) for number in range(20)]
    rows += [chat(chr(0x1F600 + number), "a face", 50 + number) for number in range(9)]
    assert said(duplicates.run(Material(rows=tuple(rows)))) == []
    held_out = (chat("What is 7 + 9?", "16", 90),)
    assert leakage.run(Material(rows=tuple(rows), held_out=held_out)) == Found(facts={"leaks": 0, "leaks.exact": True})


def test_leaks_are_exact_or_near() -> None:
    exact, near = chat("  WHEN do you close on sunday", "x", 50), chat("When do you close on a Sunday?", "y", 51)
    held_out = (ROWS[1],)
    found = leakage.run(Material(rows=(*ROWS[2:], exact, near), held_out=held_out))
    assert said(found) == [
        "2 rows to learn from ask what is held out too: the measure would be too good "
        "(line 50: the question of held-out row 3; line 51: nearly the question of held-out row 3)"
    ]
    assert found.facts == {"leaks": 2}
    assert leakage.run(Material(rows=ROWS)) == Found()
    strict = leakage.run(Material(rows=(near,), held_out=held_out, similarity=1.0))
    assert strict.facts == {"leaks": 0}


def test_questions_without_words_leak_nothing() -> None:
    assert leaks([chat("?", "x")], [chat("!", "y")]) == []


@given(st.randoms(use_true_random=False), st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_similar_texts_are_found_as_by_comparing_all_with_all(draw: Random, threshold: float) -> None:
    words = [f"w{letter}" for letter in "abcdefghij"]
    own, others = ([" ".join(draw.choices(words, k=draw.randint(0, 6))) for _ in range(12)] for _ in range(2))
    found = similar(own, others, threshold)
    for number, text in enumerate(own):
        near = []
        for other, its in enumerate(others):
            both, either = set(text.split()) & set(its.split()), set(text.split()) | set(its.split())
            if both and len(both) >= threshold * len(either) - 1e-9:
                near.append(other)
        assert (found.get(number) in near) == bool(near)


def test_personal_data_is_counted_on_both_sides_and_named_on_one() -> None:
    rows = (*ROWS, chat("Whom do I ask?", "ann@example.org or bob@example.org", 40))
    found = personal.run(Material(rows=rows, held_out=(chat("And?", "eve@example.org"),)))
    assert said(found) == ["1 row holds e-mail addresses (line 40)"]
    assert found.facts["pii.email"] == 3
    assert found.facts["pii.card"] == 0


def test_languages() -> None:
    german = [chat("Wie kann ich das Buch verlängern?", "Das geht nicht mit der Karte.", n) for n in range(4)]
    found = languages.run(Material(rows=(*ROWS, *german)))
    assert found.tables["languages"] == (("en", 12), ("de", 4))
    assert found.facts == {"language": "en", "language.share": 0.75}


def test_classes_that_are_rare_and_one_that_is_nearly_all() -> None:
    rows = [Labelled(f"text {number}", "ham", number) for number in range(95)]
    rows += [Labelled(f"more {number}", "spam", number) for number in range(4)]
    found = balance.run(Material(rows=tuple(rows)))
    assert found.tables["classes"] == (("ham", 95), ("spam", 4))
    assert said(found) == ["1 of 2 classes have fewer than 5 rows", "96% of the rows are of one class"]
    judged = [Judged(ROWS[0].messages, number, label=number % 2 == 0) for number in range(10)]
    assert balance.run(Material(rows=tuple(judged))).tables["classes"] == (("not wanted", 5), ("wanted", 5))


def test_answers_count_as_classes_only_when_they_are_few_and_short() -> None:
    few = tuple(chat(f"Question {number}?", ("yes", "no")[number % 2], number) for number in range(20))
    assert balance.run(Material(rows=few)).tables["classes"] == (("no", 10), ("yes", 10))
    assert balance.run(Material(rows=ROWS)).tables == {}
    assert balance.run(Material(rows=ROWS)).facts == {"answers": len(ROWS)}
    long = tuple(chat(f"Question {number}?", ("yes " * 40, "no")[number % 2], number) for number in range(20))
    assert balance.run(Material(rows=long)).tables == {}


LOOK = Tool("look", "", {"type": "object", "required": ["who"]})


@pytest.mark.parametrize(
    ("call", "reasons"),
    [
        (ToolCall("c", "look", '{"who": "Ann"}'), []),
        (ToolCall("c", "lok", '{"who": "Ann"}'), ["1 row calls a tool that the row does not offer (line 7: lok)"]),
        (ToolCall("c", "look", "{}"), ["1 row leaves out an argument that the tool requires (line 7: look: who)"]),
        (ToolCall("c", "look", "[1]"), ["1 row has a call whose arguments are no JSON object (line 7: look)"]),
        (ToolCall("d", "look", '{"who": 1}'), ["1 row has a result that no call asked for (line 7: c)"]),
    ],
)
def test_calls(call: ToolCall, reasons: list[str]) -> None:
    turns = (Message("user", "x"), Message("assistant", "", (call,)), Message("tool", "1", (), "c"))
    row = Row((*turns, Message("assistant", "y")), 7, (LOOK,))
    found = calls.run(Material(rows=(row,)))
    assert said(found) == reasons
    assert found.facts == {"tools": 1, "tools.calls": 1}
    assert calls.run(Material(rows=ROWS)) == Found()


def test_results_without_an_id_follow_a_turn_of_the_assistant() -> None:
    spelt = (Message("user", "x"), Message("assistant", "<call>"), Message("tool", "1"), Message("tool", "2"))
    assert calls.run(Material(rows=(Row((*spelt, Message("assistant", "y"))),))) == Found()
    row = Row((Message("user", "x"), Message("tool", "5"), Message("assistant", "y")), 7)
    assert said(calls.run(Material(rows=(row,)))) == [
        "1 row has a result that no call asked for (line 7: after the turn of the user)"
    ]


def test_turns_of_one_role_on_end() -> None:
    user, answer, result = Message("user", "x"), Message("assistant", "y"), Message("tool", "1")
    well = Row((user, answer, result, result, answer, user, answer), 1)
    twice, asked = Row((user, answer, answer), 2), Row((user, user, answer), 3)
    chosen = Preference((user,), 4, chosen=(answer,), rejected=(answer, answer))
    assert said(turns.run(Material(rows=(*ROWS, well, Document("x", 9))))) == []
    assert said(turns.run(Material(rows=(well, twice, asked, chosen)))) == [
        "3 rows have two turns of one role on end, as if one were missing between them "
        "(line 2: turn 3, assistant; line 3: turn 2, user; line 4: turn 3, assistant)"
    ]


def test_calls_in_both_answers_of_a_preference() -> None:
    bad = Message("assistant", "", (ToolCall("c", "none", "{}"),))
    row = Preference((Message("user", "x"),), 7, (LOOK,), chosen=(Message("assistant", "y"),), rejected=(bad,))
    assert said(calls.run(Material(rows=(row,)))) == ["1 row calls a tool that the row does not offer (line 7: none)"]


def test_rows_that_a_model_wrote_are_counted_by_its_name() -> None:
    rows = (*ROWS, chat("x", "y", synthetic="starter"), chat("z", "y", synthetic="starter"))
    found = origin.run(Material(rows=rows, held_out=(chat("w", "y", synthetic="other"),)))
    assert found.facts == {"synthetic.rows": 3}
    assert found.tables == {"written by": (("other", 1), ("starter", 2))}
    assert origin.run(Material(rows=ROWS)).tables == {}


DAMAGED = "café Müller naïve ¿Qué? último óleo élève École île côté garçon £5 «oui» it’s “so” – … Łódź żółw český Øre"
DAMAGED += " 日本語テスト 한국어 привет καλημέρα שלום مرحبا 😀 ß straße maçã ÉTÉ Ürün ığşİ não"


@pytest.mark.parametrize("word", [*DAMAGED.split(), "20 °C", "Tiếng Việt", "mot\xa0:"])
def test_utf_8_that_was_read_as_another_encoding(word: str) -> None:
    bytes_ = word.encode()
    windows = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in bytes_)
    for wrong in (bytes_.decode("latin-1"), windows):
        found = encoding.run(Material(rows=(chat("How?", f"So: {wrong}", 7),), unit="row"))
        text = "1 row has text in UTF-8 that was read as another encoding, as é becomes Ã© (row 7)"
        assert said(found) == [text]


@pytest.mark.parametrize(
    "text",
    [
        f"{DAMAGED} Tiếng Việt",
        "NÃO SÃO MAÇÃ» «MAÇû IRMÔ “AMANHÔ MANHÃ… AMANHÃ – a MANHÖA IRMÃ’ LÃ! LÃ? MAÇÃ™ LÃ\xa0É AMANHÃ: ROMÃ, LÃ.",
        "a letra “Ô a letra «û ‘Ã’ (Ã) Ã, «\xa0Ã\xa0» la lettre «Â» «\xa0Â\xa0» “” Âge ÂGE PÂTE CÂMARA À Ê Â",
        "ÅRHUS PÅ” SMÅ… Å… groß“ „GROẞ“ „Ä“ „Ö“ ÅÄÖ naïve… café» été” «está»… «está» é… é—é “ç” à» nº 1ª 20\xa0°C ²³",
        "Ñ… ESPAÑA” ÑANDÚ CHÂN» LÂ” TÂY… cân… bâ” là… à … ã” â… pâ’ Ðà É» «é» Ó… 3×… Ø”",
    ],
)
def test_letters_before_quotes_and_dots_are_well(text: str) -> None:
    rows = [chat(text, "So."), *(chat("How?", word) for word in text.split(" ")), Document(text.replace(" ", "\n"))]
    assert encoding.run(Material(rows=tuple(rows))).findings == ()


def test_characters_that_were_lost() -> None:
    rows = (chat("How?", "So.", 1), chat("How\ufffd?", "Th\ufffd\ufffds.", 2), Labelled("caf\ufffd", "place", 3))
    assert said(encoding.run(Material(rows=rows))) == ["2 rows have U+FFFD where a character was lost (line 2, 3)"]
