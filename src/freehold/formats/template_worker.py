"""Renders chat templates in a process that can do nothing else: no environment, little memory, no files, little time.

Run as a script by formats.chat_template; it imports nothing of ours. Reads requests and writes replies, each a 4-byte
big-endian length and JSON: {"template", "variables", "seconds", "characters"} -> {"text"} or {"refused"} or {"broken"}.
"""

import json
import resource
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY = 768 << 20
# What a template's own expressions can raise, beside jinja2's errors.
_RAISED = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
    NotImplementedError,
)


class Refused(jinja2.TemplateError):
    """The template called raise_exception: these messages are not for it."""


class GenerationTag(jinja2.ext.Extension):
    """`{% generation %}` marks what the model writes; here its content is rendered as it is."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        """The block as a call that gives its content back."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

    def _content(self, caller: Macro) -> str:
        return str(caller())


def raise_exception(message: Any) -> None:
    """What templates call to refuse a conversation."""
    raise Refused(str(message))


def strftime_now(form: str) -> str:
    """The local date and time."""
    return datetime.now().strftime(str(form)[:256])


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as templates expect it: without the escapes for HTML that jinja2's own filter makes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment() -> ImmutableSandboxedEnvironment:
    """The environment that transformers renders chat templates in."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = to_json
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = strftime_now
    return made


@lru_cache(maxsize=8)
def compiled(template: str) -> jinja2.Template:  # noqa: TID251 - the type, not the unsafe constructor
    """The template, compiled in the sandbox."""
    return environment().from_string(template)


def rendered(template: str, variables: dict[str, Any], characters: int) -> str:
    """The template's text. Raises ValueError when it is longer than `characters`."""
    pieces, length = [], 0
    for piece in compiled(template).generate(**variables):
        length += len(piece)
        if length > characters:
            raise ValueError(f"it writes more than {characters} characters")
        pieces.append(piece)
    return "".join(pieces)


def reply(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request."""
    texts, length, most = [], 0, request["characters"]
    try:
        for wanted in request["wanted"]:
            texts.append(rendered(request["template"], {**request["variables"], **wanted}, most))
            length += len(texts[-1])
            if length > most:
                return {"broken": f"it writes more than {most} characters"}
    except Refused as error:
        return {"refused": str(error) or "without a reason"}
    except MemoryError:
        return {"broken": "it needs too much memory"}
    except _RAISED as error:
        line = f" (line {error.lineno})" if isinstance(error, jinja2.TemplateSyntaxError) else ""
        return {"broken": f"{error}{line}" or type(error).__name__}
    return {"texts": texts}


def answer(request: bytes) -> bytes:
    """The reply to a request, both JSON. The process ends by SIGALRM when the time is up, whatever it is doing."""
    fields = json.loads(request)
    signal.setitimer(signal.ITIMER_REAL, fields["seconds"])
    data = json.dumps(reply(fields), ensure_ascii=True).encode()
    signal.setitimer(signal.ITIMER_REAL, 0)
    return data


def serve(read: Callable[[int], bytes], write: Callable[[bytes], Any], flush: Callable[[], None]) -> None:
    """Answer requests until there are none."""
    while len(head := read(4)) == 4:
        data = answer(read(int.from_bytes(head, "big")))
        write(len(data).to_bytes(4, "big") + data)
        flush()


def confine() -> None:
    """Give up what rendering does not need. Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if sys.platform != "darwin":  # which knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


if __name__ == "__main__":
    confine()
    serve(sys.stdin.buffer.read, sys.stdout.buffer.write, sys.stdout.buffer.flush)
