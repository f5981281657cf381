import os
import signal
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.core.errors import BadInput, BadModelFile, FreeholdError
from freehold.formats import chat_template
from freehold.formats.chat_template import render

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TALK = [{"role": "user", "content": "Hello\u00a0<é>"}, {"role": "assistant", "content": "Hi"}]


def text(template, **more):
    return render(template, more.pop("messages", TALK), add_generation_prompt=False, **more)


def test_chatml():
    assert render(CHATML, TALK[:1], add_generation_prompt=True) == (
        "<|im_start|>user\nHello\u00a0<é><|im_end|>\n<|im_start|>assistant\n"
    )
    assert text(CHATML, messages=[]) == ""


def test_the_same_as_transformers():
    transformers = pytest.importorskip("transformers.utils.chat_template_utils")
    template = """{%- set ns = namespace(found=false) %}
{% for message in messages %}
    {% if message.role == 'user' and not ns.found %}
        {% set ns.found = true %}
<s>{{ bos_token }}{{ message.content | trim }} {{ tools | tojson(indent=2) if tools else '' }}
    {% elif loop.last %}
        {% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}
    {% else %}
        {% continue %}
    {% endif %}
{% endfor %}
{{ messages[-1] | tojson }} {{ documents is none }} {{ undefined_thing }}"""
    tools = [{"name": "f", "parameters": {"type": "object", "x": "<é>"}}]
    theirs, _ = transformers.render_jinja_template(
        [TALK], tools=tools, chat_template=template, bos_token="<b>", eos_token="<e>"
    )
    assert text(template, tools=tools, bos_token="<b>", eos_token="<e>") == theirs[0]


def test_what_a_template_refuses_is_the_fault_of_the_messages():
    with pytest.raises(BadInput, match="roles must alternate") as caught:
        text("{{ raise_exception('roles must alternate\n') }}")
    assert not isinstance(caught.value, BadModelFile)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% if %}", "line 1"),
        ("{{ messages.x.y }}", "no attribute 'x'"),
        ("{{ 1 / 0 }}", "division"),
        ("{{ messages[0].content + 1 }}", "str"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe|not safely"),
        ("{{ cycler.__init__.__globals__.os.popen('id') }}", "unsafe"),
        ("{{ self.__init__.__globals__ }}", "unsafe"),
        ("{{ range(1000000000) }}", "[Rr]ange"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{{ nothing.at.all }}", "undefined"),
        ("{% include '/etc/passwd' %}", "loader"),
        ("{% import 'os' as os %}", "loader"),
        ("{{ 'a' * 10**10 }}", "memory"),
        ("{% for i in range(99999) %}{{ 'aaaaaaaaaa' * 100 }}{% endfor %}", "more than"),
        ("{{ '\ud800' }}", "not text"),
    ],
)
def test_templates_that_do_not_work(template, reason):
    escaped = template.replace("\ud800", "\\ud800")
    with pytest.raises(BadModelFile, match=reason) as caught:
        text(escaped)
    assert caught.value.message.isprintable()
    assert text("{{ 'still' }}") == "still"


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set x = ('a' * 3000) %}{{ (9 ** (9 ** 9)) }}",
    ],
)
def test_templates_that_do_not_end(template):
    started = time.monotonic()
    with pytest.raises(BadModelFile, match=r"longer than 0\.5 s"):
        text(template, seconds=0.5)
    assert time.monotonic() - started < 5
    assert text("{{ 'still' }}") == "still"


def test_doubling_text_ends_soon():
    with pytest.raises(BadModelFile):
        text("{% set n = namespace(x='a') %}{% for i in range(90) %}{% set n.x = n.x ~ n.x %}{% endfor %}", seconds=2)


def test_a_template_cannot_write_or_see_the_environment(monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    pid = _worker_pid()
    assert b"SECRET" not in Path(f"/proc/{pid}/environ").read_bytes()
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert [line.split()[3:5] for line in limits.splitlines() if line.startswith("Max file size")] == [["0", "0"]]


def _worker_pid():
    text("{{ 1 }}")
    return chat_template._process._child.pid


def test_a_killed_process_is_replaced():
    pid = _worker_pid()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(BadModelFile, match="ended its process"):
        text("{{ 1 }}")
    assert text("{{ 1 }}") == "1"
    assert _worker_pid() != pid


def test_an_interrupted_exchange_leaves_no_stale_answer(monkeypatch):
    def interrupted(child, request):
        raise KeyboardInterrupt

    text("{{ 1 }}")
    with monkeypatch.context() as patch:
        patch.setattr(chat_template, "_exchange", interrupted)
        with pytest.raises(KeyboardInterrupt):
            text("{{ 'first' }}")
    assert text("{{ 'second' }}") == "second"


def test_many_threads_get_their_own_answers():
    found = {}

    def ask(number):
        found[number] = [text("{{ n }}", n=number) for _ in range(20)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [str(number)] * 20 for number in range(4)}


def test_a_forked_child_has_its_own_process():
    text("{{ 1 }}")
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if text("{{ 'child' }}") == "child" else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert text("{{ 'parent' }}") == "parent"


@pytest.mark.parametrize("messages", [[{"role": "user", "content": "\ud800"}], [{"role": object()}]])
def test_messages_that_are_not_text(messages):
    with pytest.raises(FreeholdError) as caught:
        text(CHATML, messages=messages)
    assert caught.value.exit_code == 2


def test_a_huge_template():
    with pytest.raises(BadModelFile, match="longer"):
        text("a" * (chat_template.MAX_TEMPLATE + 1))


def test_the_clock():
    assert text("{{ strftime_now('%Y') }}") == time.strftime("%Y")


def test_many_at_once_are_what_each_is_alone():
    wanted = [
        chat_template.Wanted([{"role": "user", "content": text}], generate)
        for text in ("a", "", "ü" * 2000)
        for generate in (False, True)
    ]
    together = chat_template.render_many(CHATML, wanted)
    alone = [chat_template.render(CHATML, each.messages, add_generation_prompt=each.generate) for each in wanted]
    assert together == alone
    assert chat_template.render_many(CHATML, []) == []


def test_one_bad_conversation_refuses_them_all_and_the_limit_is_for_all_together():
    wanted = [chat_template.Wanted([{"role": "user", "content": text}], False) for text in ("a", "b")]
    with pytest.raises(BadInput, match="not b"):
        chat_template.render_many(
            "{% if messages[0].content == 'b' %}{{ raise_exception('not b') }}{% endif %}", wanted
        )
    with pytest.raises(BadModelFile, match="more than 9 characters"):
        chat_template.render_many("{{ 'x' * 5 }}", wanted, characters=9)


LOOPS = 30
PIECES = [
    "{%",
    "{{",
    "%}",
    "}}",
    "for",
    "in",
    "if",
    "end",
    "endfor",
    "set",
    "messages",
    "[0]",
    ".x",
    "|",
    "'",
    "\n",
    "1",
    "(",
]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for x in [1] %}" * LOOPS + "{% endfor %}" * LOOPS, "too many statically nested blocks"),
        ("{% if 1 %}" * 150 + "{% endif %}" * 150, "too many levels of indentation"),
        ("{% macro m(a, a) %}{% endmacro %}", "duplicate argument"),
        ("{{ dict(a=1, a=2) }}", "keyword argument repeated"),
        ("{% break %}", "outside loop"),
        ("{% continue %}", "not properly in loop"),
    ],
)
def test_what_jinja_takes_and_python_does_not(template, reason, capfd):
    """Jinja makes Python of a template, which has limits and rules of its own."""
    pid = _worker_pid()
    with pytest.raises(BadModelFile, match=reason):
        text(template)
    assert _worker_pid() == pid, "the process lives on"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% generation %}x", "endgeneration"),
        ("{% block a %}{% endblock %}{% block a %}{% endblock %}", "twice"),
        ("{% extends messages %}", "loader"),
        ("{{ [1, 'a'] | sort }}", "not supported between"),
        ("{{ [1] | map('nothing') | list }}", "No filter"),
        ("{{ nothing | tojson }}", "not JSON serializable"),
        ("{{ 'a' | wordwrap(0) }}", "width"),
        ("{{ [1] | slice(0) | list }}", "zero"),
        ("{{ {'a b': 1} | xmlattr }}", "Invalid character"),
        ("{{ '%d' | format('a') }}", "format"),
        ("{{ 'a' | center(10 ** 12) }}", "memory"),
        ("{% set x.y = 1 %}", "undefined|namespace"),
    ],
)
def test_filters_and_tags_that_are_used_wrongly(template, reason):
    pid = _worker_pid()
    with pytest.raises(BadModelFile, match=reason) as caught:
        text(template)
    assert caught.value.message.isprintable()
    assert _worker_pid() == pid


@pytest.mark.parametrize(
    "inside",
    ["lipsum.__globals__", "''['__class__']", "'{0.__class__}'.format(1)", "''|attr('__class__')", "cycler.__init__"],
)
def test_the_insides_of_python_are_not_there(inside):
    assert text("{{ " + inside + " }}") == ""


def test_what_is_nested_without_end_is_no_message():
    nested = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(BadInput, match="cannot be rendered"):
        text(CHATML, tools=nested)
    with pytest.raises(BadInput, match="cannot be rendered"):
        text(CHATML, messages=[{"role": "user", "content": nested}])
    assert text("{{ 'still' }}") == "still"


def test_the_last_character_that_is_allowed():
    assert text("{{ 'x' * 9 }}", characters=9) == "x" * 9
    with pytest.raises(BadModelFile, match="more than 8 characters"):
        text("{{ 'x' * 9 }}", characters=8)


@settings(max_examples=150)
@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_any_text_is_a_template_or_a_bad_one(pieces):
    try:
        found = text(" ".join(pieces))
    except BadModelFile as error:
        assert "ended its process" not in error.message  # noqa: PT017
    else:
        assert isinstance(found, str)
