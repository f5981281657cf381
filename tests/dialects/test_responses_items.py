import time

import msgspec
import pytest

from freehold.core.errors import BadInput, Unsupported
from freehold.core.request import Message, ToolCall
from freehold.dialects.openai.responses import schema as wire
from freehold.dialects.openai.responses.compaction import LEAD, compacted, opened, sealed
from freehold.dialects.openai.responses.items import Ids, messages, response_of, said, stored
from tests.pictures import picture, url_of


def kept(*given: dict) -> list[dict]:
    ids = Ids()
    return [stored(msgspec.convert(each, wire.Item), ids) for each in given]


def read(*given: dict, instructions: str | None = None) -> tuple[Message, ...]:
    return messages(instructions, kept(*given))


CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"x":1}'}
ANSWER = {"type": "function_call_output", "call_id": "c1", "output": "42"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}


def test_ids_tell_the_response_that_they_belong_to():
    ids = Ids()
    first, second = ids.new("msg"), ids.new("fc")
    assert len({first, second, ids.response}) == 3
    assert response_of(first) == response_of(second) == response_of(ids.response) == ids.response
    assert Ids().response != ids.response
    for foreign in ("", "msg_1", "item/../x", ids.response + "0", "rs_" + "g" * 48):
        assert response_of(foreign) is None


def test_a_message_is_kept_whole():
    (item,) = kept({"role": "user", "content": "hi"})
    assert item.pop("id").startswith("msg_")
    content = [{"type": "input_text", "text": "hi"}]
    assert item == {"type": "message", "role": "user", "status": "completed", "content": content}
    assert said("hi", Ids())["content"] == content


def test_an_assistants_message_is_kept_as_it_was_answered():
    parts = [{"type": "output_text", "text": "a", "annotations": []}, {"type": "refusal", "refusal": "no"}]
    (item,) = kept({"id": "msg_7", "type": "message", "role": "assistant", "content": parts, "phase": "final_answer"})
    assert item["id"] == "msg_7"
    assert item["phase"] == "final_answer"
    assert item["content"] == [
        {"type": "output_text", "text": "a", "annotations": [], "logprobs": []},
        {"type": "refusal", "refusal": "no"},
    ]
    assert messages(None, [item]) == (Message("assistant", "ano"),)


SHORT = {"type": "compaction", "encrypted_content": sealed("They want tea.")}


def test_a_compaction_is_read_as_what_was_said_before():
    user = [{"role": "user", "content": text} for text in ("a", "b")]
    (item,) = kept({**SHORT, "id": "cmp_1"})
    assert item == {"id": "cmp_1", "type": "compaction", "encrypted_content": SHORT["encrypted_content"]}
    before, summary, now = read(*user, SHORT, user[0])
    assert (before, now) == (Message("user", "a\n\nb"), Message("user", "a"))
    assert (summary.role, summary.content) == ("assistant", LEAD + "They want tea.")
    alone = read(SHORT, user[0], instructions="Be kind.")
    assert alone == (Message("system", f"Be kind.\n\n{LEAD}They want tea."), Message("user", "a"))
    nothing = {"type": "compaction", "encrypted_content": sealed("")}
    assert read(user[0], nothing, user[1]) == (Message("user", "a"), Message("user", "b"))


@pytest.mark.parametrize("content", ["gAAAAB", "fh1.", "fh1.e30=", "fh1.%%%", "fh1.ÿ", sealed("x")[4:], "fh1.W10="])
def test_a_compaction_of_somebody_else_is_refused(content: str):
    with pytest.raises(BadInput, match="not made by this server"):
        kept({"type": "compaction", "encrypted_content": content})


def test_a_conversation_is_made_short():
    given = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, CALL, ANSWER, THOUGHT, SHORT]
    first, last = compacted(kept(*given), "S", "cmp_2")
    assert (first["content"][0]["text"], last["id"]) == ("u", "cmp_2")
    assert opened(last["encrypted_content"]) == "S"


def test_calls_and_their_answers_are_kept():
    call, answer, parts = kept(
        {**CALL, "status": None, "namespace": "desk"},
        ANSWER,
        {**ANSWER, "output": [{"type": "input_text", "text": "4"}, {"type": "input_text", "text": "2"}]},
    )
    assert (call["namespace"], call["status"], call["arguments"]) == ("desk", "completed", '{"x":1}')
    assert call["id"].startswith("fc_")
    assert (answer["output"], answer["id"][:4]) == ("42", "fco_")
    assert [part["text"] for part in parts["output"]] == ["4", "2"]


def test_reasoning_is_kept_with_what_another_server_sealed():
    (item,) = kept({**THOUGHT, "encrypted_content": "gAAA", "content": None})
    assert item == {"id": "rs_1", "type": "reasoning", "summary": [], "content": [], "encrypted_content": "gAAA"}
    assert "encrypted_content" not in kept(THOUGHT)[0]


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"type": "computer_call"}, Unsupported, "'computer_call'"),
        ({"type": "item_reference", "id": "x"}, Unsupported, "'item_reference'"),
        ({"role": "user"}, BadInput, "role and content"),
        ({"content": "x"}, BadInput, "role and content"),
        ({"type": "function_call", "name": "f"}, BadInput, "call_id"),
        ({"type": "function_call", "call_id": "c"}, BadInput, "name"),
        ({"type": "function_call_output", "call_id": "c"}, BadInput, "output"),
        ({"type": "function_call_output", "output": "c"}, BadInput, "call_id"),
        ({"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}, BadInput, "not fetched"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, BadInput, "not taken from files"),
        ({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}, Unsupported, "'input_file'"),
        ({"role": "user", "content": [{"type": "input_text"}]}, Unsupported, "'input_text'"),
        ({"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}, Unsupported, "'refusal'"),
    ],
)
def test_what_is_not_understood_is_named(given: dict, error: type[Exception], said: str):
    with pytest.raises(error, match=said) as caught:
        kept(given)
    assert caught.value.param == "input"


def test_what_opens_the_conversation_becomes_one_system_message():
    found = read(
        {"role": "developer", "content": "b"},
        {"role": "system", "content": "c"},
        {"role": "user", "content": "hi"},
        {"role": "developer", "content": "d"},
        instructions="a",
    )
    assert found == (Message("system", "a\n\nb\n\nc"), Message("user", "hi"), Message("system", "d"))
    assert read({"role": "developer", "content": "b"}) == (Message("system", "b"),)


def test_a_turn_of_the_assistant_is_one_message():
    found = read(
        {"role": "user", "content": "hi"},
        THOUGHT,
        {"role": "assistant", "content": "Let me look."},
        CALL,
        {**CALL, "call_id": "c2", "namespace": "desk"},
        ANSWER,
        {**ANSWER, "call_id": "c2", "output": ""},
        {"role": "assistant", "content": "Done."},
    )
    calls = (ToolCall("c1", "f", '{"x":1}'), ToolCall("c2", "desk__f", '{"x":1}'))
    assert found == (
        Message("user", "hi"),
        Message("assistant", "Let me look.", calls, reasoning="hm"),
        Message("tool", "42", tool_call_id="c1"),
        Message("tool", "", tool_call_id="c2"),
        Message("assistant", "Done."),
    )


def test_thoughts_before_a_call_go_with_it_and_others_go_nowhere():
    assert read(THOUGHT, CALL) == (Message("assistant", "", (ToolCall("c1", "f", '{"x":1}'),), reasoning="hm"),)
    assert read({"role": "user", "content": "a"}, THOUGHT) == (Message("user", "a"),)
    again = read(THOUGHT, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
    assert again == (Message("user", "a"), Message("assistant", "b"))


def test_an_answer_needs_its_call_before_it():
    with pytest.raises(BadInput, match="no tool call found for function call output with call_id c1"):
        read(ANSWER, CALL)


@pytest.mark.parametrize("instructions", [None, "", "be kind"])
def test_an_empty_conversation_is_refused(instructions: str | None):
    with pytest.raises(BadInput, match="no input"):
        messages(instructions, [])


def test_thoughts_alone_are_no_conversation():
    with pytest.raises(BadInput, match="no input"):
        read(THOUGHT)


def test_conversations_are_bounded():
    with pytest.raises(BadInput, match="4097 messages"):
        read(*[{"role": "user", "content": "x"}] * 4097)


@pytest.mark.parametrize(
    "item",
    [{"role": "developer", "content": "x" * 8000}, {**THOUGHT, "content": [{"type": "text", "text": "x" * 8000}]}],
)
def test_many_pieces_of_one_message_are_gathered_in_no_time(item: dict):
    given = kept(*[item] * 4000, CALL)
    began = time.process_time()
    messages(None, given)
    assert time.process_time() - began < 1


def test_images_in_messages_and_answers_of_tools():
    image = {"type": "input_image", "image_url": url_of(picture()), "detail": "low"}
    said = {"role": "user", "content": [{"type": "input_text", "text": "ab"}, image]}
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    answer = {"type": "function_call_output", "call_id": "c", "output": [image]}
    first, _, last = read(said, call, answer)
    assert (first.content, first.images[0].place, first.images[0].coarse) == ("ab", 2, True)
    assert (last.role, last.images[0].data) == ("tool", picture())
    assert kept(said)[0]["content"][1] == image
    with pytest.raises(Unsupported, match="images"):
        read({"role": "system", "content": [image]})
