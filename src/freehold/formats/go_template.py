"""Ollama's Go templates, translated where they have the shape of a chat format, never executed.

Two shapes are known. The older one is one turn, with .System, .Prompt and .Response; the newer one is
a loop over .Messages, with .Role and .Content. Whatever else a template does (tools, thinking, conditions, calls) is
refused: half a translation would put wrong text before a model.
"""

import json
import re
from itertools import takewhile
from typing import NamedTuple

from freehold.core.errors import Unsupported

MAX_TEMPLATE = 1 << 16
_ACTION = re.compile(r"\{\{(-?)(.*?)(-?)\}\}", re.DOTALL)
_ENDS = re.compile(r"(end|else)\b")
_ROLES = ("system", "user", "assistant")
_REMEDY = "Leave TEMPLATE out to use the model's own chat template, or give a Jinja one"


class Token(NamedTuple):
    """Literal text, or an action without its braces."""

    action: bool
    text: str


class Insertion(NamedTuple):
    """How a template shows the place where text is to be written: literal text, and the two fields amid it."""

    pieces: tuple[Token, ...]

    def text(self, prompt: str, suffix: str) -> str:
        """The prompt for what stands before the place and after it."""
        fields = {".Prompt": prompt, ".Suffix": suffix}
        return "".join(fields[piece.text] if piece.action else piece.text for piece in self.pieces)


def is_go(template: str) -> bool:
    """Whether a template is one of Go's: its actions name fields or begin with Go's keywords."""
    return bool(re.search(r"\{\{-?\s*(\.[A-Z]|if\b|range\b|end\b|else\b|with\b|template\b|/\*)", template)) or (
        "{%" not in template and "{{" in template and "messages" not in template
    )


def to_jinja(template: str) -> str:
    """The Jinja template that says the same. Raises Unsupported for one that is not of a known shape."""
    if len(template) > MAX_TEMPLATE:
        raise Unsupported(f"a TEMPLATE of {len(template)} characters is too long to translate", _REMEDY)
    tokens = _tokens(template)
    parser = _Parser(tokens)
    made = parser.loop() if any(token.action and token.text.startswith("range") for token in tokens) else parser.turn()
    if not parser.ended:
        raise parser.refused()
    return made


def insertion(template: str) -> Insertion | None:
    """What a template says of .Suffix, if it says it plainly: alone, or in `{{ if .Suffix }}`; else None."""
    if len(template) > MAX_TEMPLATE or ".Suffix" not in template:
        return None
    tokens = _tokens(template)
    guard = Token(True, "if .Suffix")
    if guard in tokens:
        place = tokens.index(guard)
        inside = list(takewhile(lambda token: not (token.action and _ENDS.match(token.text)), tokens[place + 1 :]))
        tokens = [*tokens[:place], *inside]
    pieces = tuple(token for token in tokens if token != Token(True, ".Response"))
    fields = sorted(piece.text for piece in pieces if piece.action)
    return Insertion(pieces) if fields == [".Prompt", ".Suffix"] else None


def _tokens(template: str) -> list[Token]:
    """The template in pieces, with the blanks gone that Go's trim marks remove."""
    tokens: list[Token] = []
    place, trim = 0, False
    for match in _ACTION.finditer(template):
        text = template[place : match.start()]
        text = text.lstrip() if trim else text
        text = text.rstrip() if match[1] else text
        action = " ".join(match[2].split())
        tokens += [Token(False, text)] if text else []
        if not action.startswith("/*"):
            tokens.append(Token(True, action))
        place, trim = match.end(), bool(match[3])
    rest = template[place:].lstrip() if trim else template[place:]
    return _joined([*tokens, Token(False, rest)] if rest else tokens)


def _joined(tokens: list[Token]) -> list[Token]:
    joined: list[Token] = []
    for token in tokens:
        if joined and not token.action and not joined[-1].action:
            token = Token(False, joined.pop().text + token.text)
        joined.append(token)
    return joined


class _Parser:
    """Reads tokens from left to right; whatever is not expected is refused."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens, self._place = tokens, 0

    @property
    def ended(self) -> bool:
        """Whether all is read."""
        return self._place == len(self._tokens)

    def refused(self) -> Unsupported:
        """The error for what comes next."""
        what = "its end" if self.ended else f"{self._tokens[self._place].text[:60]!r}"
        return Unsupported(f"the TEMPLATE is not of a chat format that is known here, at {what}", _REMEDY)

    def _text(self) -> str:
        if not self.ended and not self._tokens[self._place].action:
            self._place += 1
            return self._tokens[self._place - 1].text
        return ""

    def _take(self, *actions: str) -> bool:
        if not self.ended and self._tokens[self._place] in [Token(True, action) for action in actions]:
            self._place += 1
            return True
        return False

    def _need(self, *actions: str) -> None:
        if not self._take(*actions):
            raise self.refused()

    def _block(self, field: str) -> tuple[str, str] | None:
        """`{{ if field }}before{{ field }}after{{ end }}`: what is around it; None when there is none."""
        if not self._take(f"if {field}"):
            return None
        before = self._text()
        self._need(field)
        after = self._text()
        self._need("end")
        return before, after

    def turn(self) -> str:
        """The older shape: one turn, which a conversation repeats."""
        start, system, between = self._text(), self._block(".System"), self._text()
        if self._take("if .Prompt"):
            return self._guarded(start, system, between)
        self._need(".Prompt")
        # Nothing divides the user's turn from the answer's: all up to the answer belongs before it.
        lead = self._text()
        tail = self._text() if self._take(".Response") else ""
        if start and system:
            return _within(start, system, between, lead, tail)
        turns = {"system": system or ("", "\n"), "user": (start + between, ""), "assistant": (lead, tail)}
        return _turns("", turns, lead)

    def _guarded(self, start: str, system: tuple[str, str] | None, between: str) -> str:
        if between and system:
            raise self.refused()
        before, inner, rest = self._text(), None if system else self._block(".System"), self._text()
        self._need(".Prompt")
        after = self._text()
        self._need("end")
        lead = self._text()
        tail = self._text() if self._take(".Response") else ""
        if inner is not None:
            return _within(start + between + before, inner, rest, after + lead, tail)
        turns = {"system": system or ("", "\n"), "user": (before + rest, after), "assistant": (lead, tail)}
        return _turns(start + between, turns, lead)

    def loop(self) -> str:
        """The newer shape: a loop over the messages, each written alike or by its role."""
        start = self._text()
        system = self._block(".System")
        between = self._text()
        if system and between:
            raise self.refused()
        self._need("range .Messages")
        made = self._by_role() or self._alike()
        self._need("end")
        tail = self._text()
        body = start + between
        if self._take(".Response"):
            self._text()
        return _turns(body, made, tail)

    def _by_role(self) -> dict[str, tuple[str, str]] | None:
        opened = [f'if eq .Role "{role}"' for role in _ROLES]
        found: dict[str, tuple[str, str]] = {}
        place = self._place
        for prefix in ("", *(["else "] * 2)):
            for role, action in zip(_ROLES, opened, strict=True):
                if self._take(prefix + action):
                    before = self._text()
                    self._need(".Content")
                    found[role] = (before, self._text())
        if not found:
            self._place = place
            return None
        self._need("end")
        return found

    def _alike(self) -> dict[str, tuple[str, str]]:
        before = self._text()
        self._need(".Role")
        between = self._text()
        self._need(".Content")
        after = self._text()
        return {role: (f"{before}{role}{between}", after) for role in _ROLES}


def _turns(start: str, turns: dict[str, tuple[str, str]], lead: str) -> str:
    """Jinja for messages that are each written as their role has it, and `lead` before an answer."""
    pieces = [_say(start), "{% for message in messages %}"]
    for number, (role, (before, after)) in enumerate(turns.items()):
        pieces.append(f"{{% {'elif' if number else 'if'} message['role'] == '{role}' %}}")
        pieces.append(_around(before, after))
    pieces.append("{% endif %}{% endfor %}{% if add_generation_prompt %}" + _say(lead) + "{% endif %}")
    return "".join(pieces)


def _within(before: str, system: tuple[str, str], rest: str, after: str, tail: str) -> str:
    """Jinja for formats that put the system message inside the user's first turn."""
    held = f"{_say(system[0])}{{{{ held.system }}}}{_say(system[1])}"
    return (
        "{% set held = namespace(system='') %}{% for message in messages %}"
        "{% if message['role'] == 'system' %}{% set held.system = message['content'] %}"
        "{% elif message['role'] == 'user' %}"
        + _say(before)
        + "{% if held.system %}"
        + held
        + "{% set held.system = '' %}{% endif %}"
        + _around(rest, after)
        + "{% elif message['role'] == 'assistant' %}"
        + _around("", tail)
        + "{% endif %}{% endfor %}"
    )


def _around(before: str, after: str) -> str:
    return f"{_say(before)}{{{{ message['content'] }}}}{_say(after)}"


def _say(text: str) -> str:
    """Literal text, as a string, since Jinja drops a newline after a block. Braces in it cannot end it."""
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""
