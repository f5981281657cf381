"""What the gate wants of a model: each condition at its limit, on either side of it, and in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.digest import Digest
from freehold.proofs.facts import Fact
from freehold.recipes.schema import GateSection
from freehold.recipes.steps.gate import Condition, Report, Verdict, judge

SUBJECT = Digest.of_bytes(b"model")
UNIT = st.floats(0, 1)


def report(token_f1: float, exact_match: float = 0.0) -> Report:
    values = {"token_f1": token_f1, "exact_match": exact_match}
    return Report(tuple(Fact(SUBJECT, f"evaluation.{name}", value, "verified") for name, value in values.items()))


def judged(gate: GateSection, released: str = "Q8_0", **token_f1: float) -> dict[str, Condition]:
    reports = {kind: report(value, value / 2) for kind, value in token_f1.items()}
    return {f"{each.name} of {each.about}": each for each in judge(gate, reports, released)}


GAIN, LOST = "token F1 gained over the base of tuned", "token F1 lost in quantising of Q8_0"


def test_without_a_word_a_model_must_be_no_worse_than_its_base_and_lose_little() -> None:
    found = judged(GateSection(), base=0.3, tuned=0.6, Q8_0=0.58)
    assert {name: (each.limit, each.least, each.passed) for name, each in found.items()} == {
        GAIN: (0.0, True, True),
        LOST: (0.03, False, True),
    }
    assert found[GAIN].measured == pytest.approx(0.3)
    assert found[LOST].measured == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("base", "tuned", "gain", "passed"),
    [(0.5, 0.5, 0.0, True), (0.5, 0.4999, 0.0, False), (0.3, 0.5, 0.2, True), (0.3, 0.4, 0.2, False),
     (0.1, 0.4, 0.3, True), (0.5, 0.4, -0.1, True), (0.5, 0.3, -0.1, False)],
)  # fmt: skip
def test_what_must_be_gained(base: float, tuned: float, gain: float, passed: bool) -> None:
    assert judged(GateSection(min_gain=gain), base=base, tuned=tuned)[GAIN].passed == passed


@pytest.mark.parametrize(
    ("tuned", "quantised", "drop", "passed"),
    [(0.6, 0.57, 0.03, True), (0.6, 0.5699, 0.03, False), (0.9, 0.8, 0.1, True), (0.5, 0.6, 0.0, True),
     (0.5, 0.5, 0.0, True), (0.7, 0.1, 0.6, True)],
)  # fmt: skip
def test_what_may_be_lost(tuned: float, quantised: float, drop: float, passed: bool) -> None:
    found = judged(GateSection(max_quantized_drop=drop), base=0.0, tuned=tuned, Q8_0=quantised)
    assert found[LOST].passed == passed


def test_least_values_are_those_of_the_model_that_is_released() -> None:
    gate = GateSection(min_token_f1=0.5, min_exact_match=0.26)
    found = judged(gate, released="Q4_0", base=0.1, tuned=0.9, Q8_0=0.9, Q4_0=0.5)
    assert found["token f1 of Q4_0"].passed
    assert not found["exact match of Q4_0"].passed, "0.25 of it, where 0.26 is wanted"
    assert {name for name in found if name.startswith("token F1 lost")} == {
        LOST, "token F1 lost in quantising of Q4_0",
    }  # fmt: skip
    alone = judged(gate, released="tuned", base=0.1, tuned=0.9)
    assert set(alone) == {"token f1 of tuned", "exact match of tuned", GAIN}


def test_a_model_from_nothing_has_no_base_to_beat() -> None:
    assert set(judged(GateSection(), tuned=0.1, Q8_0=0.1)) == {LOST}


@given(UNIT, UNIT, st.floats(-1, 1), st.floats(0, 1))
def test_a_gate_is_passed_when_each_condition_holds(base: float, tuned: float, gain: float, drop: float) -> None:
    found = judged(GateSection(min_gain=gain, max_quantized_drop=drop), base=base, tuned=tuned, Q8_0=base)
    verdict = Verdict(tuple(found.values()))
    assert verdict.passed == all(each.passed for each in found.values())
    for each in found.values():
        assert each.passed == (each.missing <= 1e-9)
        assert each.line().endswith("passed") == each.passed


@given(UNIT, UNIT, st.booleans())
def test_nearer_to_the_limit_is_never_worse(measured: float, limit: float, least: bool) -> None:
    one = Condition("x", "tuned", measured, limit, least)
    better = Condition("x", "tuned", measured + (0.1 if least else -0.1), limit, least)
    assert better.missing < one.missing or one.missing == better.missing
    assert better.passed or not one.passed


def test_in_words() -> None:
    failed = Condition("token f1", "Q8_0", 0.25, 0.5, True)
    assert failed.line() == "token f1 of Q8_0: 0.250, at least 0.500 wanted: FAILED by 0.250"
    passed = Condition("token F1 lost in quantising", "Q4_0", 0.01, 0.03, False)
    assert passed.line() == "token F1 lost in quantising of Q4_0: 0.010, at most 0.030 wanted: passed"


def test_a_little_less_than_nothing_has_no_sign() -> None:
    condition = Condition("token F1 lost in quantising", "Q8_0", -0.0004, 0.03, False)
    assert condition.line() == "token F1 lost in quantising of Q8_0: 0.000, at most 0.030 wanted: passed"
