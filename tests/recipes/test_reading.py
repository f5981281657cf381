"""A base reads rows through its own template and tokenizer, and what counts in the loss is shown before training."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold.core.errors import BadModelFile, UnknownModel
from freehold.core.name import Name
from freehold.core.request import Message, Tool
from freehold.core.settings import Settings
from freehold.data.rows import Document, Judged, Labelled, Pair, Preference, Prompt, Row
from freehold.recipes.reading import Reader, Reading, digest_of, reader
from freehold.recipes.sources import place_of
from freehold.store import Store
from freehold.store.importing import import_folder
from tests.recipes.kit import write_base

USER, ANSWER = Message("user", "Where is my order?"), Message("assistant", "In 30 days.")
CHAT = Row((USER, ANSWER), 1)
REFUSING = (
    "{% if messages[0].content == 'no' %}{{ raise_exception('not this') }}{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store.open(settings.store) as opened:
        yield opened


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


@pytest.fixture
def reads(base: Path, store: Store) -> Iterator[Reader]:
    with reader(base, "base", store) as found:
        yield found


def learned(reading: Reading) -> list[str]:
    return [piece.text for piece in reading.pieces if piece.state == "learned"]


def readings(reads: Reader, row: object, length: int = 1000) -> list[Reading]:
    return list(reads.readings(row, max_length=length, prompt_weight=0.0))  # type: ignore[arg-type]


def test_a_conversation_with_what_counts_marked(reads: Reader) -> None:
    [reading] = readings(reads, CHAT)
    assert learned(reading) == ["In 30 days.<|im_end|>"]
    whole = "".join(piece.text for piece in reading.pieces)
    assert whole == "<|im_start|>user\nWhere is my order?<|im_end|>\n<|im_start|>assistant\nIn 30 days.<|im_end|>\n"
    assert reading.tokens == len(reads.tokenizer.encode(whole, add_special_tokens=False).ids)
    assert 0 < reading.learned < reading.tokens


def test_a_weight_of_0_and_a_prompt_that_counts(reads: Reader) -> None:
    row = Row((USER, ANSWER, USER, Message("assistant", "Soon.")), weights=(1.0, 0.0, 1.0, 1.0))
    [reading] = readings(reads, row)
    assert learned(reading) == ["Soon.<|im_end|>"]
    [whole] = reads.readings(CHAT, max_length=1000, prompt_weight=0.5)
    assert [piece.state for piece in whole.pieces] == ["learned"]


def test_what_is_too_long_is_shown_cut(reads: Reader) -> None:
    [reading] = readings(reads, CHAT, length=16)
    assert reading.pieces[-1].state == "cut"
    assert "".join(piece.text for piece in reading.pieces) == "".join(
        piece.text for piece in readings(reads, CHAT)[0].pieces
    )


def test_every_kind_is_shown(reads: Reader) -> None:
    other = Message("assistant", "Never.")
    preferred = readings(reads, Preference((USER,), chosen=(ANSWER,), rejected=(other,)))
    assert [learned(each) for each in preferred] == [["In 30 days.<|im_end|>"], ["Never.<|im_end|>"]]
    [judged] = readings(reads, Judged((USER, ANSWER), label=False))
    assert judged.title == "an answer that is not wanted"
    prompt, reference = readings(reads, Prompt((USER,), reference="42"))
    assert prompt.pieces[0].text.endswith("<|im_start|>assistant\n")
    assert (prompt.learned, reference.pieces[0].text) == (0, "42")
    [text] = readings(reads, Document("Where is my order?"))
    assert text.learned == text.tokens > 0
    [labelled] = readings(reads, Labelled("Buy now", "spam"))
    assert (labelled.title, labelled.learned) == ("text of the class 'spam'", 0)
    pair = readings(reads, Pair("a", "b", ("c",), 0.5))
    assert [each.title for each in pair] == ["text", "belongs to it by 0.5", "does not"]


def test_lengths_are_those_of_what_is_read(reads: Reader) -> None:
    rows = [CHAT, Preference((USER,), chosen=(ANSWER,), rejected=(Message("assistant", "No. " * 30),)), Document("a b")]
    found = reads.lengths(rows * 300)
    assert found.refused == ()
    shown = [max(each.tokens for each in readings(reads, row)) for row in rows]
    assert list(found.tokens) == shown * 300


def test_rows_that_the_template_refuses_are_named(base: Path, store: Store) -> None:
    (base / "chat_template.jinja").write_text(REFUSING)
    bad = Row((Message("user", "no"), ANSWER), 9)
    with reader(base, "base", store) as reads:
        found = reads.lengths([CHAT, bad, CHAT])
    assert found.tokens[1] == 0
    assert found.tokens[0] == found.tokens[2] > 0
    [(row, reason)] = found.refused
    assert row is bad
    assert "not this" in reason


def test_a_base_without_a_template_reads_texts_alone(base: Path, store: Store) -> None:
    (base / "chat_template.jinja").unlink()
    with reader(base, "base", store) as reads:
        assert reads.lengths([Document("a b")]).tokens[0] > 0
        with pytest.raises(BadModelFile, match="base has no chat template"):
            reads.lengths([CHAT])


def test_a_base_without_a_tokenizer(base: Path, store: Store) -> None:
    (base / "tokenizer.json").write_text("{")
    with pytest.raises(BadModelFile, match="tokenizer of base"), reader(base, "base", store):
        pass


@pytest.mark.parametrize(
    ("template", "family"),
    [
        ("<|im_start|>", "ChatML"),
        ("<|start_header_id|>", "Llama 3"),
        ("<start_of_turn>", "Gemma"),
        ("[INST]", "Mistral"),
        ("{{ messages }}", "its own form"),
    ],
)
def test_templates_are_called_by_their_form(base: Path, store: Store, template: str, family: str) -> None:
    (base / "chat_template.jinja").write_text(template)
    with reader(base, "base", store) as reads:
        assert reads.family == family
        assert not reads.knows_tools


def test_a_model_of_the_store_reads_as_its_folder_does(base: Path, store: Store) -> None:
    import_folder(store, base, Name.parse("mine"))
    place = place_of("mine", base.parent / "mine", store)
    assert digest_of(place) == digest_of(base)
    with reader(place, "mine", store) as reads:
        assert learned(readings(reads, CHAT)[0]) == ["In 30 days.<|im_end|>"]


def test_how_a_base_reads_is_not_in_its_weights(base: Path) -> None:
    before = digest_of(base)
    (base / "model.safetensors").write_bytes(b"other")
    assert digest_of(base) == before
    (base / "chat_template.jinja").write_text("other")
    assert digest_of(base) != before


def test_places_that_hold_no_base(tmp_path: Path, store: Store) -> None:
    with pytest.raises(UnknownModel):
        place_of("nobody", tmp_path / "nobody", store)
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(BadModelFile, match=r"model\.gguf"), reader(place_of("./model.gguf", file, store), "it", store):
        pass


def test_the_starter_reads_without_being_in_the_store(tmp_path: Path, store: Store) -> None:
    with reader(place_of("starter", tmp_path / "starter", store), "starter", store) as reads:
        assert reads.family == "ChatML"
        assert learned(readings(reads, Row((USER, ANSWER), tools=(Tool("look"),)))[0]) == ["In 30 days.<|im_end|>"]


FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen 3's: only the last answer has thoughts before it, if only none."""


def templated(base: Path, store: Store, template: str) -> Reader:
    (base / "chat_template.jinja").write_text(template)
    with reader(base, "base", store) as found:
        return found


def test_a_conversation_that_is_learned_as_several_texts_shows_each(base: Path, store: Store) -> None:
    chat = Row((USER, ANSWER, USER, Message("assistant", "No.")), 1)
    first, second = readings(templated(base, store, FORGETFUL), chat)
    assert [first.title, second.title] == ["conversation, text 1 of 2", "conversation, text 2 of 2"]
    assert learned(first) == ["<think>\n\n</think>\n\nIn 30 days.<|im_end|>"]
    assert learned(second) == ["<think>\n\n</think>\n\nNo.<|im_end|>"]


def test_only_the_answers_that_are_judged_are_learned(reads: Reader) -> None:
    before = (USER, Message("assistant", "Which?"), USER)
    judged = Judged((*before, ANSWER), 1, label=True)
    assert [learned(each) for each in readings(reads, judged)] == [["In 30 days.<|im_end|>"]]
    preferred = Preference(before, 1, chosen=(ANSWER,), rejected=(Message("assistant", "No."),))
    assert [learned(each) for each in readings(reads, preferred)] == [["In 30 days.<|im_end|>"], ["No.<|im_end|>"]]


def test_rows_whose_answers_the_template_leaves_out_are_found(base: Path, store: Store) -> None:
    mute = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}\n{% endif %}{% endfor %}"
    assert templated(base, store, mute).lengths([CHAT, Document("a", 2)]).silent == (CHAT,)


def test_a_template_that_shows_a_finished_answer_otherwise_is_found_before_training(base: Path, store: Store) -> None:
    shifty = FORGETFUL.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>{% endif %}")
    with pytest.raises(BadModelFile, match="renders a finished answer differently"):
        templated(base, store, shifty.replace("<think>\n\n", "")).lengths([CHAT])
