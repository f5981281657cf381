"""Rows of every kind, drawn at random."""

from hypothesis import strategies as st

from freehold.core.request import Message, Tool, ToolCall
from freehold.data import rows

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
SAID = st.text(st.sampled_from("ab ,;\"'\n\\é漢😀{}[]"), min_size=1, max_size=20).filter(str.strip).map(str.strip)
LABELS = st.text("ab-1", max_size=5)
CALLS = st.lists(st.builds(ToolCall, LABELS, LABELS, TEXT), max_size=2).map(tuple)
TOOLS = st.lists(
    st.builds(Tool, st.text("ab_1", min_size=1, max_size=4), TEXT, st.dictionaries(LABELS, LABELS, max_size=2)),
    max_size=2,
).map(tuple)
MARKS = st.sampled_from(["", "starter", "org/model (sha256:00)"])


@st.composite
def conversations(draw: st.DrawFn, *, waits: bool = False) -> tuple[Message, ...]:
    """Turns that a loader takes as they are: perhaps a system message, then user and assistant by turns."""
    system = [Message("system", text) for text in draw(st.lists(SAID, max_size=1))]
    turns: list[Message] = []
    for _ in range(draw(st.integers(1, 3))):
        turns += [
            Message("user", draw(SAID)),
            Message("assistant", draw(SAID), draw(CALLS), reasoning=draw(st.just("") | SAID)),
        ]
    return (*system, *(turns[:-1] if waits else turns))


ANSWERS = st.builds(Message, st.just("assistant"), SAID).map(lambda message: (message,))


@st.composite
def chats(draw: st.DrawFn) -> rows.Row:
    """Conversations, some with weights: the last answer always counts."""
    messages = draw(conversations())
    weights = [draw(st.sampled_from([0.0, 0.5, 1.0])) if each.role == "assistant" else 1.0 for each in messages]
    weights[-1] = 1.0
    given = tuple(weights) if draw(st.booleans()) and set(weights) - {1.0} else ()
    return rows.Row(messages, tools=draw(TOOLS), synthetic=draw(MARKS), weights=given)


def _preference(
    messages: tuple[Message, ...], sides: list[tuple[Message, ...]], tools: tuple[Tool, ...]
) -> rows.AnyRow:
    return rows.Preference(messages, tools=tools, chosen=sides[0], rejected=sides[1])


WAITING = conversations(waits=True)
EACH: dict[str, st.SearchStrategy[rows.AnyRow]] = {
    "chat": chats(),
    "preference": st.builds(_preference, WAITING, st.lists(ANSWERS, min_size=2, max_size=2, unique=True), TOOLS),
    "judged": st.builds(rows.Judged, conversations(), tools=TOOLS, synthetic=MARKS, label=st.booleans()),
    "prompt": st.builds(rows.Prompt, WAITING, tools=TOOLS, synthetic=MARKS, reference=st.one_of(st.just(""), SAID)),
    "text": st.builds(rows.Document, SAID, synthetic=MARKS),
    "labelled": st.builds(rows.Labelled, SAID, SAID, synthetic=MARKS),
    "pair": st.builds(
        rows.Pair, SAID, SAID, st.lists(SAID, max_size=2).map(tuple), st.none() | st.floats(-1, 1), synthetic=MARKS
    ).filter(lambda pair: pair.positive not in (pair.anchor, *pair.negatives)),
}
ANY = st.one_of(*EACH.values())
