"""Grammars in GBNF as text: their rules, and a shorter form with short ways to what lies deep in them. Pure.

In the shorter form few tokens are enough to come there. What has to be written before a choice is cut: long words to a
few characters, repetitions to two and what may come besides, words of which one is chosen to the first. What is left is
no harder to apply than the grammar, and as hard where that is hard.
"""

import re

KEPT = 4
"""Characters at the beginning of a long word, by which it differs from others; and its last."""
_LONG = 16
_PASSES = 8
"""Groups in groups that are looked into."""
_ITEM = r'(?:"(?:[^"\\]|\\.)*+"|\[(?:[^\]\\]|\\.)*+\])'
_FIXED = rf"{_ITEM}(?!\s*+[*+?{{])"
_RUN = rf"{_FIXED}(?:\s*+{_FIXED})*+"
_CHOICE = rf"\(\s*+{_RUN}\s*+(?:\|\s*+{_RUN}\s*+)*+\)"
_PART = re.compile(
    rf"(?P<again>{_ITEM}|{_CHOICE})\s*+\{{\s*+(?P<low>\d++)\s*+(?P<more>,\s*+(?P<high>\d*+)\s*+)?\}}"
    rf"|\(\s*+(?P<first>{_RUN})\s*+(?:\|\s*+{_RUN}\s*+)*+\)(?!\s*+[*+?{{])|(?P<run>{_RUN})|{_ITEM}",
    re.DOTALL,
)
_ATOM = re.compile(
    r"\[(?:[^\]\\]|\\.)*+\]|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\.|[^\"\\]", re.DOTALL
)
_WORD = re.compile(_ITEM, re.DOTALL)
_QUOTED = r'"(?:[^"\\\n]|\\.)*"|\[(?:[^\]\\]|\\.)*\]'
_TOKEN = re.compile(rf"(?P<kept>{_QUOTED})|#[^\n]*|!?<[^>\n]*>", re.DOTALL)
"""What stands for a token of the model's, and what only looks so: in a literal, or in a comment."""
_RULE = re.compile(rf"{_QUOTED}|(?P<name>[A-Za-z0-9_-]+)\s*::=|(?P<choice>[*+?{{|])", re.DOTALL)
"""Where a rule begins, and what leaves a choice in it."""


def without_tokens(text: str) -> str:
    """The grammar without its comments, and with a letter in the place of each token of a vocabulary not known here."""
    return _TOKEN.sub(lambda found: found["kept"] or ("" if found[0].startswith("#") else '"<"'), text)


def rules(text: str) -> dict[str, int]:
    """The rules of a grammar, and how many choices each leaves: many are what makes one hard to apply."""
    found: dict[str, int] = {}
    name = ""
    for part in _RULE.finditer(text):
        if part["name"]:
            name = part["name"]
            found.setdefault(name, 0)
        elif part["choice"] and name:
            found[name] += 1
    return found


def shortened(text: str) -> str:
    """The same text if nothing in it is long. It has no comments, and every quote and bracket is closed."""
    for _ in range(_PASSES):
        before, text = text, _PART.sub(_shorter, text)
        if text == before:
            break
    return text


def _shorter(found: re.Match[str]) -> str:
    if found["again"] is not None:
        return _fewer(found["again"], int(found["low"]), found["more"], found["high"])
    run = found["first"] or found["run"]
    if run is None:
        return found[0]
    atoms = [atom for word in _WORD.findall(run) for atom in _atoms(word)]
    return run if len(atoms) <= _LONG else " ".join([*atoms[:KEPT], atoms[-1]])


def _atoms(word: str) -> list[str]:
    """Each character as a word of its own; a class is one."""
    return [word] if word.startswith("[") else [f'"{atom}"' for atom in _ATOM.findall(word[1:-1])]


def _fewer(what: str, low: int, more: str | None, high: str | None) -> str:
    least = min(low, 2)
    if more is None:
        return " ".join([what] * least) or '""'
    return f"{what}{{{least},{int(high) - low + least if high else ''}}}"
