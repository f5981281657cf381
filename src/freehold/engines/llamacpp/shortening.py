"""A grammar in GBNF with short ways to what lies deep in it, so that few tokens are enough to come there. Pure.

What has to be written before a choice is cut: long words to a few characters, repetitions to two and what may come
besides, words of which one is chosen to the first. What is left is no harder to apply than the grammar, and as hard
where that is hard.
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
