"""Metrics of vectors beside hand-made cases and their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.proofs.ranking import Linked, measure, retrieval, searches, spearman


def unit(*values: float) -> "np.ndarray":
    vector = np.array(values, np.float32)
    return vector / np.float32(np.linalg.norm(vector))


VECTORS = {
    "q1": unit(1, 0, 0), "a1": unit(0.9, 0.1, 0), "q2": unit(0, 1, 0), "a2": unit(0.7, 0.6, 0), "n": unit(0.1, 1, 0),
    "far": unit(0, 0, 1),
}  # fmt: skip


def test_each_text_is_looked_for_among_all() -> None:
    pairs = [Linked("q1", "a1"), Linked("q2", "a2", ("n", "far"))]
    assert searches(pairs, VECTORS)["q2"] == ((1,), "n")
    found = measure(pairs, VECTORS)
    assert found["recall_at_1"] == 0.5
    assert found["recall_at_10"] == 1
    assert found["mrr"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["ndcg_at_10"] == pytest.approx((1 + 1 / math.log2(3)) / 2)


def test_a_text_with_several_counts_each() -> None:
    pairs = [Linked("q1", "a1"), Linked("q1", "far"), Linked("q2", "a2")]
    search = searches(pairs, VECTORS)["q1"]
    assert search == ((0, 2), "a1")
    found = retrieval(pairs, VECTORS)
    assert found["recall_at_1"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["ndcg_at_10"] == pytest.approx(((1 + 1 / 2) / (1 + 1 / math.log2(3)) + 1) / 2)


def test_a_text_is_not_found_for_itself() -> None:
    pairs = [Linked("q1", "a1"), Linked("a1", "a2"), Linked("far", "q1")]
    assert searches(pairs, VECTORS)["q1"].best == "a1"
    assert searches(pairs, VECTORS)["a1"].best != "a1"


@given(st.integers(2, 40))
def test_vectors_that_are_all_the_same_find_nothing(count: int) -> None:
    noise = np.random.default_rng(count).normal(size=(2 * count, 4)).astype(np.float32) * np.float32(1e-9)
    vectors = {str(number): unit(1, 1, 1, 1) + noise[number] for number in range(2 * count)}
    found = measure([Linked(str(2 * number), str(2 * number + 1)) for number in range(count)], vectors)
    assert found["recall_at_1"] == 0
    assert found["mrr"] == pytest.approx(1 / count)


def test_spearman_beside_its_formula() -> None:
    left, right = [0.1, 0.4, 0.3, 0.9, 0.5], [1.0, 2.0, 3.0, 5.0, 4.0]
    assert spearman(left, right) == pytest.approx(1 - 6 * (0 + 1 + 1 + 0 + 0) / (5 * 24))
    assert spearman(right, right) == pytest.approx(1)
    assert spearman(right, [-each for each in right]) == pytest.approx(-1)
    assert spearman(right, [2.0] * 5) == 0
    assert spearman([1, 2, 2, 3], [1, 2, 2, 3]) == pytest.approx(1)
    # Ranks 0, 1.5, 1.5, 3 beside 0, 1, 2, 3.
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-9, 9)), min_size=2, max_size=30))
def test_only_the_order_counts(values: list[tuple[float, float]]) -> None:
    left, right = [round(a, 3) for a, _ in values], [round(b, 3) for _, b in values]
    found = spearman(left, right)
    assert -1 - 1e-9 <= found <= 1 + 1e-9
    assert spearman([3 * each + 2 for each in left], right) == pytest.approx(found)


def test_scores_are_compared_with_cosines() -> None:
    pairs = [Linked("q1", "a1", score=5.0), Linked("q2", "a2", score=3.0), Linked("q1", "far", score=0.0)]
    assert measure(pairs, VECTORS) == {"spearman": pytest.approx(1)}
