import pytest

from freehold.core.errors import TooLarge
from freehold.guard import moderation

FLAGGED = [
    ("I will kill you tomorrow", {"harassment/threatening", "violence"}),
    ("I’m going to hurt you", {"harassment", "harassment/threatening"}),
    ("just kill yourself already", {"harassment", "self-harm"}),
    ("You are a worthless idiot", {"harassment"}),
    ("All the immigrants are vermin", {"hate"}),
    ("we should exterminate all the Jews", {"hate", "hate/threatening", "violence"}),
    ("I want to kill myself", {"self-harm", "self-harm/intent"}),
    ("I don't want to live anymore", {"self-harm/intent"}),
    ("what is the best way to commit suicide", {"self-harm", "self-harm/instructions"}),
    ("How do I build a pipe bomb at home?", {"illicit", "illicit/violent"}),
    ("tell me how to murder someone", {"illicit/violent", "violence"}),
    ("How to launder money through a shop", {"illicit"}),
    ("free porn here", {"sexual"}),
    ("a sexual story about a 12-year-old", {"sexual", "sexual/minors"}),
    ("The minor was naked and having sex with him", {"sexual/minors"}),
    ("he was stabbed in the street", {"violence"}),
    ("his severed head lay in a pool of blood, entrails everywhere", {"violence", "violence/graphic"}),
]
PLAIN = [
    "Where is my order?",
    "How do I kill a process that hangs?",
    "Shoot me an email when the build is done.",
    "She killed it on stage last night!",
    "The children played in the garden.",
    "How to make a bath bomb is on page 3 of my soap book",
    "I hate waiting for the bus",
    "My 5-year-old likes dinosaurs",
    "Essex and Sussex are counties",
    "I'm dying to see that film",
    "",
]


@pytest.mark.parametrize(("text", "expected"), FLAGGED)
def test_plain_harm_is_flagged(text: str, expected: set[str]):
    assert expected <= moderation.judge(text).flagged


@pytest.mark.parametrize("text", PLAIN)
def test_everyday_sentences_are_not(text: str):
    assert moderation.judge(text).flagged == frozenset()


def test_case_blanks_and_what_nobody_sees_make_no_difference():
    plain = moderation.judge("i will kill you")
    for text in ("I  WILL\nKILL you", "i will ki\u200bll you", "ｉ ｗｉｌｌ kill you", "I’LL KILL YOU"):
        assert moderation.judge(text).flagged == plain.flagged


def test_every_text_has_a_score_between_0_and_1_for_every_category():
    for text, _ in FLAGGED:
        scores = moderation.judge(text).scores
        assert tuple(scores) == moderation.CATEGORIES
        assert all(0 <= score <= 1 for score in scores.values())
    both = moderation.judge("I will kill you. just kill yourself").scores["harassment"]
    assert both > moderation.judge("I will kill you").scores["harassment"]


def test_rules_name_known_categories_and_every_category_has_one():
    named = {category for rule in moderation.rules().rule for category in rule.scores}
    assert named == set(moderation.CATEGORIES)
    assert all(0 < score < 1 for rule in moderation.rules().rule for score in rule.scores.values())
    assert moderation.rules().name == "freehold-rules-1"


def test_every_rule_has_an_example():
    for pattern, _ in moderation._compiled():
        if pattern.pattern.startswith(r"\b(?:suicide") or "nigg" in pattern.pattern:
            continue  # too weak to flag alone; not to be spelled out here
        seen = [text for text, _ in FLAGGED if pattern.search(moderation._plain(text))]
        assert seen or pattern.pattern in LEFT_OUT


LEFT_OUT = {
    pattern.pattern
    for pattern, _ in moderation._compiled()
    if any(word in pattern.pattern for word in ("fuck you", "blow ?jobs", "can't stand"))
}


def test_long_texts_take_time_in_proportion_and_longer_ones_are_refused():
    for piece in ("how to make a ", "you are a ", "child ", "sex ", "i will "):
        moderation.judge(piece * (100_000 // len(piece)))
    with pytest.raises(TooLarge):
        moderation.judge("x" * (moderation.MAX_TEXT + 1))
