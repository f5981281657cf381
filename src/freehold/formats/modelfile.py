"""Modelfiles: how a model is put together from another, in Ollama's syntax.

The syntax: https://github.com/ollama/ollama/blob/main/docs/modelfile.mdx
"""

import re
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from freehold.core.errors import BadInput, Unsupported
from freehold.core.parameters import Parameters
from freehold.core.request import Message
from freehold.formats.reading import regular_file, shown

MAX_FILE = 8 << 20
MAX_COMMANDS = 4096
COMMANDS = ("FROM", "PARAMETER", "TEMPLATE", "SYSTEM", "ADAPTER", "LICENSE", "MESSAGE")
_SAMPLING: dict[str, Callable[[str], Any]] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "repeat_penalty": float,
    "seed": int,
}
_OTHER: dict[str, Callable[[str], Any]] = {"stop": str, "num_predict": int, "num_ctx": int}
_MACHINE = {"num_gpu", "main_gpu", "num_thread", "num_batch", "num_gqa", "low_vram", "use_mmap", "use_mlock", "numa"}
"""About the machine, not the answers: Freehold decides these by what it runs on."""
_NOT_OURS = {"mirostat", "mirostat_eta", "mirostat_tau", "repeat_last_n", "tfs_z", "typical_p", "num_keep"}
_NOT_OURS |= {"penalize_newline", "draft_num_predict"}


class Command(NamedTuple):
    """One command: its line, keyword, and what follows."""

    line: int
    keyword: str
    value: str


class Modelfile(msgspec.Struct, frozen=True, kw_only=True):
    """What a Modelfile says."""

    base: str
    base_line: int = 1
    beside: str = ""
    """A second FROM: of the two one is a model, the other its projector."""
    beside_line: int = 0
    parameters: Parameters = Parameters()
    template: str | None = None
    template_line: int = 0
    system: str | None = None
    adapters: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    ignored: tuple[str, ...] = ()
    """Parameters about the machine, which are left out."""

    def text(self) -> str:
        """As a Modelfile."""
        lines = [f"FROM {self.base}", *([f"FROM {self.beside}"] if self.beside else [])]
        lines += [f"ADAPTER {quoted(path)}" for path in self.adapters]
        lines += [f"PARAMETER {name} {quoted(value)}" for name, value in listed(self.parameters)]
        lines += [] if self.template is None else [f"TEMPLATE {quoted(self.template)}"]
        lines += [] if self.system is None else [f"SYSTEM {quoted(self.system)}"]
        lines += [f"MESSAGE {message.role} {quoted(message.content)}" for message in self.messages]
        lines += [f"LICENSE {quoted(text)}" for text in self.licences]
        return "\n".join(lines) + "\n"


def listed(parameters: Parameters) -> Iterator[tuple[str, str]]:
    """The parameters that are said, by the names that Modelfiles give them."""
    for name in _SAMPLING:
        value = getattr(parameters.sampling, name)
        if value is not None:
            yield name, repr(value).removesuffix(".0")
    if parameters.max_tokens is not None:
        yield "num_predict", str(parameters.max_tokens)
    if parameters.context_length is not None:
        yield "num_ctx", str(parameters.context_length)
    yield from (("stop", text) for text in parameters.stop)


def quoted(text: str) -> str:
    """A value as a Modelfile writes it. Raises Unsupported for one that its syntax cannot hold."""
    if "\n" not in text and not text.startswith('""'):
        plain = text and text == text.strip() and not text.startswith('"')
        return text if plain else f'"{text}"'
    if '"""' in text or text.endswith('"'):
        raise Unsupported("a value with such quotes cannot be written in a Modelfile", "Show the model with --json")
    return f'"""{text}"""'


def read(path: Path) -> Modelfile:
    """The Modelfile at `path`. Raises NotFound, and BadInput or Unsupported naming the line."""
    with regular_file(path) as (file, size):
        if size > MAX_FILE:
            raise BadInput(f"{shown(path, 400)}: {size} bytes are too many for a Modelfile", "Name a Modelfile")
        data = file.read(MAX_FILE + 1)
    try:
        return parse(data.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise BadInput(f"{shown(path, 400)}: not UTF-8 text", "Save the Modelfile as UTF-8") from error


def parse(text: str, label: str = "Modelfile") -> Modelfile:
    """What a Modelfile's text says. Raises BadInput or Unsupported naming the line."""
    commands = list(_commands(text.replace("\r\n", "\n"), label))
    found: dict[str, list[Command]] = {keyword: [] for keyword in COMMANDS}
    for command in commands:
        found[command.keyword].append(command)
    if not 1 <= len(found["FROM"]) <= 2:
        line = found["FROM"][2].line if found["FROM"] else max(1, text.count("\n"))
        reason = "a third FROM" if found["FROM"] else "no FROM: what the model is made from"
        raise BadInput(
            f"{label}:{line}: {reason}",
            "Give one FROM with a model's name, GGUF file or folder; a second may name its projector",
        )
    template, system = (_single(found[keyword], label) for keyword in ("TEMPLATE", "SYSTEM"))
    parameters, ignored = _parameters(found["PARAMETER"], label)
    return Modelfile(
        base=found["FROM"][0].value,
        base_line=found["FROM"][0].line,
        beside=found["FROM"][1].value if found["FROM"][1:] else "",
        beside_line=found["FROM"][1].line if found["FROM"][1:] else 0,
        parameters=parameters,
        template=template.value if template else None,
        template_line=template.line if template else 0,
        system=system.value if system else None,
        adapters=tuple(command.value for command in found["ADAPTER"]),
        licences=tuple(command.value for command in found["LICENSE"]),
        messages=tuple(_message(command, label) for command in found["MESSAGE"]),
        ignored=ignored,
    )


def _single(commands: list[Command], label: str) -> Command | None:
    if len(commands) > 1:
        raise _bad(label, commands[1].line, f"a second {commands[1].keyword}", "Give one")
    return commands[0] if commands else None


def _commands(text: str, label: str) -> Iterator[Command]:
    place, line = 0, 1
    count = 0
    while place < len(text):
        end = text.find("\n", place)
        end = len(text) if end < 0 else end
        row = text[place:end].strip()
        if not row or row.startswith("#"):
            place, line = end + 1, line + 1
            continue
        count += 1
        if count > MAX_COMMANDS:
            raise _bad(label, line, f"more than {MAX_COMMANDS} commands", "Name a Modelfile")
        keyword, value, after = _command(text, place, end, line, label)
        if not value and keyword in ("FROM", "PARAMETER", "ADAPTER", "MESSAGE"):
            raise _bad(label, line, f"{keyword} without a value", f"As in: {_EXAMPLES[keyword]}")
        yield Command(line, keyword, value)
        line += text.count("\n", place, after)
        place = after


_EXAMPLES = {
    "FROM": "FROM llama3.2",
    "PARAMETER": "PARAMETER temperature 0.7",
    "ADAPTER": "ADAPTER ./adapter.gguf",
    "MESSAGE": "MESSAGE user Hello",
}


def _command(text: str, place: int, end: int, line: int, label: str) -> tuple[str, str, int]:
    """Keyword, value, and where the next line begins."""
    match = re.compile(r"\s*(\S+)[ \t]*").match(text, place, end)
    word = match[1] if match else ""
    keyword = word.upper()
    if keyword not in COMMANDS:
        near = get_close_matches(keyword, COMMANDS, 1, 0.5)
        remedy = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(COMMANDS)}"
        raise _bad(label, line, f"unknown command {shown(word, 40)!r}", remedy)
    start = match.end() if match else end
    head = ""
    if keyword in ("PARAMETER", "MESSAGE"):
        inner = re.compile(r"(\S+)[ \t]*").match(text, start, end)
        head, start = (inner[1] + " ", inner.end()) if inner else ("", end)
    value, after = _value(text, start, end, line, label)
    return keyword, head + value, after


def _value(text: str, start: int, end: int, line: int, label: str) -> tuple[str, int]:
    """The value that begins at `start`: in three quotes over any number of lines, in one pair, or to the line's end."""
    if text.startswith('"""', start):
        close = text.find('"""', start + 3)
        if close < 0:
            raise _bad(label, line, "three quotes that are never closed", 'End the value with """')
        rest = text.find("\n", close)
        rest = len(text) if rest < 0 else rest
        if text[close + 3 : rest].strip():
            raise _bad(label, line, 'text after the closing """', "Put it on a line of its own")
        return text[start + 3 : close], rest + 1
    row = text[start:end].strip()
    if row.startswith('"'):
        if len(row) < 2 or not row.endswith('"'):
            raise _bad(label, line, "a quote that is never closed", 'Use """ for a value of several lines')
        row = row[1:-1]
    return row, end + 1


def parameters(pairs: Iterable[tuple[str, str]]) -> tuple[Parameters, tuple[str, ...]]:
    """What names and values say that some other file gives, and the names of those that say nothing here."""
    taken: list[Command] = []
    left: list[str] = []
    for name, value in pairs:
        command = Command(0, "PARAMETER", f"{name} {value}")
        try:
            _, ignored = _parameters([*taken, command], "")
        except (BadInput, Unsupported):
            left.append(name)
        else:
            left += ignored
            taken += [] if ignored else [command]
    return _parameters(taken, "")[0], tuple(dict.fromkeys(left))


def _parameters(commands: list[Command], label: str) -> tuple[Parameters, tuple[str, ...]]:
    sampling: dict[str, Any] = {}
    other: dict[str, Any] = {}
    stop: list[str] = []
    ignored: list[str] = []
    for command in commands:
        name, _, value = command.value.partition(" ")
        name = name.lower()
        if name in _MACHINE:
            ignored.append(name)
            continue
        given = _converted(command, name, value, label)
        if name == "stop":
            stop.append(given)
        elif name in _SAMPLING:
            sampling[name] = given
        elif name == "num_ctx":
            other["context_length"] = given
        elif given >= 1:  # -1 and -2 stand for no limit of their own
            other["max_tokens"] = given
        _validated(command, {"sampling": sampling, "stop": stop, **other}, label)
    return msgspec.convert({"sampling": sampling, "stop": stop, **other}, Parameters), tuple(ignored)


def _converted(command: Command, name: str, value: str, label: str) -> Any:
    known = {**_SAMPLING, **_OTHER}
    if name in _NOT_OURS:
        raise Unsupported(f"{label}:{command.line}: the parameter {name} has no counterpart here", "Remove the line")
    if name not in known:
        near = get_close_matches(name, known, 1, 0.5)
        remedy = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}"
        raise _bad(label, command.line, f"unknown parameter {shown(name, 40)!r}", remedy)
    try:
        return known[name](value)
    except ValueError as error:
        kind = "a number" if known[name] is float else "a whole number"
        raise _bad(label, command.line, f"{name} is {shown(value, 40)!r}, not {kind}", "Correct the value") from error


def _validated(command: Command, values: dict[str, Any], label: str) -> None:
    try:
        msgspec.convert(values, Parameters)
    except msgspec.ValidationError as error:
        reason = str(error).replace("`$.sampling.", "`").replace("`$.", "`")
        raise _bad(label, command.line, shown(reason), "Choose a value in that range") from error


def _message(command: Command, label: str) -> Message:
    role, _, content = command.value.partition(" ")
    role = role.lower()
    if role not in ("system", "user", "assistant"):
        near = get_close_matches(role, ("system", "user", "assistant"), 1, 0.5)
        remedy = f"Did you mean {near[0]}?" if near else "It is system, user or assistant"
        raise _bad(label, command.line, f"unknown role {shown(role, 40)!r}", remedy)
    return msgspec.convert({"role": role, "content": content}, Message)


def _bad(label: str, line: int, reason: str, remedy: str) -> BadInput:
    return BadInput(f"{shown(label, 400)}:{line}: {reason}", remedy)
