"""Only what the assistant wrote is learned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from freehold.core.errors import BadData, BadModelFile
from freehold.core.request import Message, Tool, ToolCall
from freehold.data.rows import Row
from freehold.tuning.objectives.sft import Sft
from freehold.tuning.render import Renderer
from freehold.tuning.scratch import TEMPLATE
from tests import tiny
from tests.tiny import CORPUS, HERMES, SPECIAL


@pytest.fixture
def tokenizer(base: Path) -> Tokenizer:
    return Tokenizer.from_file(str(base / "tokenizer.json"))


def renderer(tokenizer: Tokenizer, **fields: object) -> Renderer:
    settings: dict[str, object] = {"max_length": 1000, "prompt_weight": 0.0} | fields
    return Renderer(tokenizer, TEMPLATE, **settings)  # type: ignore[arg-type]


CHAT = [
    Message("system", "Be brief."),
    Message("user", "Who has the key?"),
    Message("assistant", "Ann has it."),
    Message("user", "And the map?"),
    Message("assistant", "Ben."),
]


def test_the_supervised_tokens_spell_the_answers_and_their_ends(tokenizer: Tokenizer) -> None:
    [sample] = renderer(tokenizer).samples([CHAT])
    learned = [token for token, weight in zip(sample.ids, sample.weights, strict=True) if weight]
    assert tokenizer.decode(learned, skip_special_tokens=False) == "Ann has it.<|im_end|>Ben.<|im_end|>"


def test_no_token_of_a_prompt_is_supervised(tokenizer: Tokenizer) -> None:
    [sample] = renderer(tokenizer).samples([CHAT])
    context = [token for token, weight in zip(sample.ids, sample.weights, strict=True) if not weight]
    text = tokenizer.decode(context, skip_special_tokens=False)
    assert "Who has the key?" in text
    assert "Ann" not in text
    assert "Ben" not in text


def test_the_prompt_weighs_what_it_was_told_to(tokenizer: Tokenizer) -> None:
    [sample] = renderer(tokenizer, prompt_weight=0.25).samples([CHAT])
    assert set(sample.weights) == {0.25, 1.0}


@pytest.mark.parametrize("prompt_weight", [0.0, 0.5, 1.0])
def test_targets_are_of_answers_that_count_at_all(tokenizer: Tokenizer, prompt_weight: float) -> None:
    render = renderer(tokenizer, prompt_weight=prompt_weight)
    rows = [Row(tuple(CHAT), weights=(0.0, 0.0, first, 0.0, second)) for first, second in ((1, 1), (0.5, 0.1), (0, 1))]
    whole, little, last = (sample.targets for sample in render.samples(rows))
    assert whole == len(tokenizer.encode("Ann has it.<|im_end|>Ben.<|im_end|>").ids)
    assert little == whole
    assert last == len(tokenizer.encode("Ben.<|im_end|>").ids)
    [cut] = renderer(tokenizer, prompt_weight=prompt_weight, max_length=20).samples([CHAT])
    assert cut.targets == 0


def test_ids_are_those_of_the_whole_rendered_chat(tokenizer: Tokenizer) -> None:
    render = renderer(tokenizer)
    ((rendered,),) = render.rendered([CHAT])
    [sample] = render.samples([CHAT])
    assert list(sample.ids) == tokenizer.encode(rendered.text, add_special_tokens=False).ids


def test_a_long_row_loses_its_end_and_says_so(tokenizer: Tokenizer) -> None:
    [sample] = renderer(tokenizer, max_length=20).samples([CHAT])
    assert (len(sample.ids), len(sample.weights), sample.cut) == (20, 20, True)
    assert not sample.supervised


SPACED = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def metaspace() -> Tokenizer:
    """One as SentencePiece's, to which a space is the first sign of a word."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", *SPECIAL], show_progress=False)
    made.train_from_iterator([CORPUS, "user: assistant:"] * 8, trainer)
    return made


@pytest.mark.parametrize(("made", "space"), [(tiny.tokenizer, "Ġ"), (metaspace, "▁")])
def test_the_first_word_of_an_answer_is_learned_with_the_space_before_it(
    made: Callable[[], Tokenizer], space: str
) -> None:
    tokenizer = made()
    render = Renderer(tokenizer, SPACED, max_length=1000, prompt_weight=0.0)
    turns = [Message("user", "Where is my order?"), Message("assistant", "the lazy dog")]
    [sample] = render.samples([[*turns, *turns]])
    learned = [token for token, weight in zip(sample.ids, sample.weights, strict=True) if weight]
    assert tokenizer.id_to_token(learned[0]) == f"{space}the"
    said = tokenizer.decode(learned, skip_special_tokens=False)
    assert [answer.strip() for answer in said.split("<|im_end|>")] == ["the lazy dog", "the lazy dog", ""]
    assert render.joined == 2
    # The server's prompt ends in the space, as a token of its own: what is learned here is not what it begins with.
    prompt = tokenizer.encode("user: Where is my order?<|im_end|>\nassistant: ")
    assert prompt.tokens[-1] == space
    assert prompt.ids[:-1] == list(sample.ids[: len(prompt.ids) - 1])


def test_a_token_that_begins_with_a_word_of_the_prompt_is_no_answer() -> None:
    half = SPACED.replace("assistant: ", "assistant: lazy do").replace("{{ m.role }}: ", "{{ m.role }}: lazy do")
    tokenizer = tiny.tokenizer()
    render = Renderer(tokenizer, half, max_length=1000, prompt_weight=0.0)
    [sample] = render.samples([[Message("user", "g"), Message("assistant", "g")]])
    learned = [token for token, weight in zip(sample.ids, sample.weights, strict=True) if weight]
    assert tokenizer.decode(learned, skip_special_tokens=False) == "<|im_end|>"
    assert render.joined == 0


def test_a_row_without_an_answer_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(BadData, match="no assistant message"):
        list(renderer(tokenizer).samples([CHAT[:2]]))


def test_a_template_that_rewrites_what_it_said_is_refused(tokenizer: Tokenizer) -> None:
    shifty = "{{ messages|length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(BadModelFile, match="renders a finished answer differently"):
        list(Renderer(tokenizer, shifty, max_length=10, prompt_weight=0.0).samples([CHAT]))


def test_rows_come_in_their_order_however_they_are_bundled(tokenizer: Tokenizer, monkeypatch) -> None:
    rows = [[Message("user", f"{n} " * (n % 7 * 40)), Message("assistant", f"{n}")] for n in range(60)]
    rows.insert(30, CHAT)
    whole = list(renderer(tokenizer).samples(rows))
    monkeypatch.setattr("freehold.tuning.render._CHARACTERS", 500)
    monkeypatch.setattr("freehold.tuning.render._CHUNK", 8)
    assert list(renderer(tokenizer).samples(rows)) == whole
    alone = [sample for row in rows for sample in renderer(tokenizer).samples([row])]
    assert alone == whole
    assert list(renderer(tokenizer).samples([])) == []


def test_answers_count_as_much_as_their_weights_say(tokenizer: Tokenizer) -> None:
    row = Row(tuple(CHAT), weights=(1.0, 1.0, 0.0, 1.0, 0.5))
    [sample] = renderer(tokenizer, prompt_weight=0.25).samples([row])
    by_weight = {
        weight: tokenizer.decode(
            [token for token, each in zip(sample.ids, sample.weights, strict=True) if each == weight],
            skip_special_tokens=False,
        )
        for weight in sorted(set(sample.weights))
    }
    assert by_weight[0.0] == "Ann has it.<|im_end|>"
    assert by_weight[0.5] == "Ben.<|im_end|>"
    assert "Who has the key?" in by_weight[0.25]


def test_a_row_whose_answers_all_count_reads_as_its_messages(tokenizer: Tokenizer) -> None:
    assert list(renderer(tokenizer).samples([Row(tuple(CHAT))])) == list(renderer(tokenizer).samples([CHAT]))


def test_tools_and_calls_are_shown_and_the_calls_learned(tokenizer: Tokenizer) -> None:
    look = Tool("look", "Looks.", {"type": "object"})
    call = Message("assistant", "", (ToolCall("c", "look", '{"who": "Ann"}'),))
    turns = (Message("user", "Where?"), call, Message("tool", "Here.", (), "c"), Message("assistant", "Here."))
    hermes = Renderer(tokenizer, HERMES, max_length=1000, prompt_weight=0.0)
    (offered,), (bare,) = hermes.rendered([Row(turns, tools=(look,)), Row(turns)])
    assert '"name": "look", "description": "Looks."' in offered.text
    assert "# Tools" not in bare.text
    text, answers = offered
    first, last = (text[begin:end] for begin, end, _ in answers)
    assert first.strip().startswith("<tool_call>")
    assert '"arguments": {"who": "Ann"}' in first
    assert last.startswith("Here.")
    assert "<tool_response>\nHere." in text


FORGETFUL = (
    "{% set asked = namespace(last=-1) %}{% for m in messages %}"
    "{% if m.role == 'user' %}{% set asked.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.index0 > asked.last %}"
    "<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen 3's: thoughts are shown from the last question on, and those before it are left out."""


def forgetful(tokenizer: Tokenizer, row: Row, **fields: float) -> list[tuple[str, str]]:
    """What is read and what is learned, of each text that is made of a row."""
    settings: dict[str, Any] = {"max_length": 1000, "prompt_weight": 0.0} | fields
    [samples] = Renderer(tokenizer, FORGETFUL, **settings).chats([row])
    return [
        (
            tokenizer.decode(list(sample.ids), skip_special_tokens=False),
            tokenizer.decode(
                [token for token, weight in zip(sample.ids, sample.weights, strict=True) if weight],
                skip_special_tokens=False,
            ),
        )
        for sample in samples
    ]


def thinking(content: str, thought: str, *calls: ToolCall) -> Message:
    return Message("assistant", content, calls, reasoning=thought)


def test_answers_whose_thoughts_are_left_out_later_are_learned_from_texts_of_their_own(tokenizer: Tokenizer) -> None:
    turns = (CHAT[1], thinking("Ann has it.", "Who? Ann."), CHAT[3], thinking("Ben.", "The map: Ben."))
    (first, learned), (second, learned_then) = forgetful(tokenizer, Row(turns))
    assert learned == "<think>\nWho? Ann.\n</think>\n\nAnn has it.<|im_end|>"
    assert learned_then == "<think>\nThe map: Ben.\n</think>\n\nBen.<|im_end|>"
    assert "And the map?" not in first
    assert "Who? Ann." not in second
    assert "Ann has it.<|im_end|>" in second


def test_answers_that_are_shown_together_are_learned_together(tokenizer: Tokenizer) -> None:
    call = thinking("", "I must look.", ToolCall("c", "look", "{}"))
    turns = (CHAT[1], call, Message("tool", "Ann.", (), "c"), thinking("Ann has it.", "So Ann."))
    [(_, learned)] = forgetful(tokenizer, Row(turns))
    assert "I must look." in learned
    assert "So Ann." in learned
    assert "Who has the key?" not in learned


def test_no_text_is_made_for_answers_that_do_not_count(tokenizer: Tokenizer) -> None:
    turns = (CHAT[1], thinking("Ann has it.", "Who?"), CHAT[3], thinking("Ben.", "The map."))
    row = Row(turns, weights=(1.0, 0.0, 1.0, 1.0))
    assert [learned for _, learned in forgetful(tokenizer, row)] == ["<think>\nThe map.\n</think>\n\nBen.<|im_end|>"]
    [(_, weighed)] = forgetful(tokenizer, row, prompt_weight=0.5)
    assert "Who has the key?" in weighed
    assert "Ann has it." not in weighed


def test_a_chat_that_ends_with_a_question_is_learned_up_to_its_last_answer(tokenizer: Tokenizer) -> None:
    turns = (CHAT[1], thinking("Ann has it.", "Who?"), CHAT[3])
    [(text, learned)] = forgetful(tokenizer, Row(turns))
    assert learned == "<think>\nWho?\n</think>\n\nAnn has it.<|im_end|>"
    assert "And the map?" not in text


def test_where_the_last_answer_alone_is_learned_the_whole_chat_is_its_text(tokenizer: Tokenizer) -> None:
    turns = (CHAT[1], thinking("Ann has it.", "Who?"), CHAT[3], thinking("Ben.", "The map."))
    render = Renderer(tokenizer, FORGETFUL, max_length=1000, prompt_weight=0.0)
    [sample] = render.samples([Row(turns)])
    assert "Ann has it." in tokenizer.decode(list(sample.ids))
    assert render.apart == 1


def test_an_answer_that_is_cut_off_leaves_the_earlier_ones(tokenizer: Tokenizer) -> None:
    turns = (CHAT[1], thinking("Ann.", "Who?"), Message("user", "word " * 200), thinking("Ben.", "The map."))
    render = Renderer(tokenizer, FORGETFUL, max_length=100, prompt_weight=0.0)
    [example] = Sft().examples([Row(turns)], render)
    assert (len(example.samples), example.supervised, example.samples[0].cut) == (1, True, True)
