"""No near-duplicate question on both sides, whatever the order, and the size that was asked for."""

import time
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold import data
from freehold.core.errors import BadData
from freehold.core.request import Message
from freehold.data.grouping import group_texts
from freehold.data.normal import normal, pieces
from tests.data.conftest import PAIRS

WORDS = [f"w{chr(97 + i)}{chr(97 + j)}" for i in range(12) for j in range(12)]
QUESTIONS = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=3, max_size=9).map(" ".join), min_size=20, max_size=60, unique=True
)


def _rows(questions: list[str], answers: list[str] | None = None) -> list[data.Row]:
    replies = answers or [f"reply {number}" for number in range(len(questions))]
    return [
        data.Row((Message("user", question), Message("assistant", reply)), number)
        for number, (question, reply) in enumerate(zip(questions, replies, strict=True), 1)
    ]


def _similarity(one: str, other: str) -> float:
    a, b = set(normal(one).split()), set(normal(other).split())
    return len(a & b) / len(a | b)


def _noisy(question: str, draw: Random) -> str:
    """The same question with other case, punctuation, spacing or one more word."""
    words = question.split()
    if len(words) >= 4 and draw.random() < 0.5:
        words.insert(draw.randrange(len(words)), "zz")
    return "  ".join(word.upper() if draw.random() < 0.3 else word for word in words) + draw.choice(["?", "!", " ."])


@given(QUESTIONS, st.integers(0, 5), st.integers(0, 1000))
def test_near_duplicates_stay_together(questions: list[str], seed: int, noise: int) -> None:
    draw = Random(noise)
    rows = _rows([*questions, *(_noisy(question, draw) for question in questions)])
    try:
        parts = data.divide(rows, 0.25, seed)
    except BadData:
        assert group_texts([normal(row.question) for row in rows]).count == 1
        return
    assert sorted([*parts.train, *parts.held_out], key=lambda row: row.line) == rows
    assert not parts.exact
    for held in parts.held_out:
        for learned in parts.train:
            assert _similarity(held.question, learned.question) < parts.threshold


@given(QUESTIONS, st.randoms(use_true_random=False), st.integers(0, 3))
def test_order_and_line_numbers_play_no_part(questions: list[str], draw: Random, seed: int) -> None:
    rows = _rows(questions)
    shuffled = rows.copy()
    draw.shuffle(shuffled)
    assert data.split(rows, 0.2, seed) == data.split(shuffled, 0.2, seed)


@given(QUESTIONS, st.floats(0.1, 0.5))
def test_size_is_near_what_was_asked(questions: list[str], share: float) -> None:
    parts = data.divide(_rows(questions), share, 1)
    wanted = round(len(questions) * share)
    largest = len(questions) - parts.groups + 1
    assert max(1, wanted - largest) <= len(parts.held_out) <= wanted


def test_another_seed_holds_out_others() -> None:
    rows = _rows([question for question, _ in PAIRS])
    assert len({data.split(rows, 3, seed)[1] for seed in range(8)}) > 1


def test_a_number_of_rows() -> None:
    assert len(data.split(_rows([question for question, _ in PAIRS]), 5, 1)[1]) == 5


@pytest.mark.parametrize("held_out", [0, 0.001, 12, 500])
def test_impossible_sizes(held_out: float) -> None:
    with pytest.raises(BadData, match="cannot be held out"):
        data.split(_rows([question for question, _ in PAIRS]), held_out, 1)


def test_rows_that_all_ask_the_same() -> None:
    with pytest.raises(BadData, match="30 rows all ask the same"):
        data.split(_rows(["Where is it?", "  where IS it"] * 15), 0.1, 1)


@pytest.mark.parametrize(
    "questions",
    [
        [f"Where is order {number}?" for number in range(30)],
        [f"{number}*{number + 7}=" for number in range(15)] + [f"{number}-{number + 7}=" for number in range(15)],
        [chr(0x1F600 + number) for number in range(30)],
        [" ".join(Random(number).sample(WORDS[:16], 16)) for number in range(30)],
        [f"How do I renew the library book with the long name {word} today?" for word in WORDS[:18]],
    ],
    ids=["order numbers", "sums", "emoji", "word order", "one word"],
)
def test_rows_that_differ_in_little_are_divided_all_the_same(questions: list[str]) -> None:
    spoken = [*questions, questions[0].upper(), "Something else altogether"]
    parts = data.divide(_rows(spoken), 0.2, 1)
    assert len(parts.held_out) == round(0.2 * len(spoken))
    sides = [{row.line for row in side} for side in (parts.train, parts.held_out)]
    assert any({1, len(questions) + 1} <= side for side in sides), "the same question is on one side"


def test_large_groups_that_leave_enough_beside_them_are_whole() -> None:
    questions = [f"Where is order {number}?" for number in range(80)] + [question for question, _ in PAIRS]
    parts = data.divide(_rows(questions), 0.1, 1)
    assert not parts.exact
    assert parts.groups == 1 + len(PAIRS)


def test_two_groups_of_which_each_is_larger_than_asked() -> None:
    questions = [f"Where is order {number}?" for number in range(30)] + [
        f"Cancel {number} please" for number in range(10)
    ]
    assert len(data.split(_rows(questions), 0.1, 1)[1]) == 10


def test_shared_answers_join_nothing() -> None:
    draw = Random(1)
    questions = list({" ".join(draw.sample(WORDS, 6)) for _ in range(2000)})
    parts = data.divide(_rows(questions, [f"answer {number % 27}" for number in range(len(questions))]), 0.1, 1)
    assert parts.groups > 0.95 * len(questions)
    assert len(parts.held_out) == round(0.1 * len(questions))


def test_a_chain_of_near_duplicates_does_not_swallow_the_data() -> None:
    words = [f"word{number}" for number in range(400)]
    chain = [" ".join(words[start : start + 12]) for start in range(380)]
    grouping = group_texts(chain)
    assert grouping.threshold == 0.9
    assert grouping.count == len(chain)


@given(st.lists(st.lists(st.sampled_from(WORDS[:12]), min_size=1, max_size=6), min_size=1, max_size=40))
def test_all_pairs_are_found(bags: list[list[str]]) -> None:
    """Against comparing everything with everything."""
    texts = [" ".join(bag) for bag in bags]
    grouping = group_texts(texts)
    groups = list(range(len(texts)))
    for i in range(len(texts)):
        for j in range(i):
            if _similarity(texts[i], texts[j]) >= grouping.threshold:
                groups = [groups[j] if group == groups[i] else group for group in groups]
    same = [
        (groups[i] == groups[j]) == (grouping.group[i] == grouping.group[j])
        for i in range(len(texts))
        for j in range(i)
    ]
    assert all(same)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Where is order 12345?", "where is  ORDER 7"),
        ("Ｃａｆé, please!", "café please"),
        ("re-open my_account", "Re open my account."),
    ],
)
def test_normal_form(one: str, other: str) -> None:
    assert normal(one) == normal(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("我想取消我的订单，请问应该怎么办呢", "我想取消我的订单，请问我应该怎么办呢？"),
        (
            "注文をキャンセルしたいのですが、どうすればいいですか",
            "注文をキャンセルしたいのですがどうすればいいですか？",
        ),
        ("ฉันต้องการยกเลิกคำสั่งซื้อของฉันต้องทำอย่างไร", "ฉันต้องการยกเลิกคำสั่งซื้อของฉันต้องทำอย่างไรบ้าง"),
    ],
    ids=["Chinese", "Japanese", "Thai"],
)
def test_near_duplicates_without_blanks_are_seen(one: str, other: str) -> None:
    assert group_texts([normal(one), normal(other), normal("你们星期天几点关门")]).group == (0, 0, 1)


def test_pieces_of_texts() -> None:
    assert pieces("where is my order") == ["where", "is", "my", "order"]
    assert pieces("iphone手机坏了 怎 café") == ["iphone", "手机", "机坏", "坏了", "怎", "café"]


def test_normal_form_keeps_words_apart() -> None:
    assert normal("cancel order") != normal("track order")


def test_a_passage_with_two_questions_stays_together() -> None:
    passage = " ".join(WORDS[:80])
    rows = _rows([f"{passage} Who?", f"{passage} When was it?", *(question for question, _ in PAIRS)])
    for seed in range(5):
        held = {row.line for row in data.split(rows, 4, seed)[1]}
        assert (1 in held) == (2 in held)


def test_thousands_of_rows_in_a_moment() -> None:
    draw = Random(2)
    questions = [" ".join(draw.choices(WORDS, k=draw.randint(4, 14))) for _ in range(10_000)]
    begin = time.process_time()
    data.divide(_rows(questions), 0.1, 1)
    assert time.process_time() - begin < 10


def test_real_questions_do_not_chain(test_data: object) -> None:
    from pathlib import Path

    path = next(Path(str(test_data)).glob("bitext_customer_support/*2023-08-07.csv"))
    dataset = data.load(path)
    assert dataset.columns == {"user": "instruction", "assistant": "response"}
    parts = data.divide(dataset.rows, 0.1, 1)
    assert len(parts.held_out) == round(0.1 * len(dataset.rows))
    assert parts.groups > 0.8 * len(dataset.rows)
