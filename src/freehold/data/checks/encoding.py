"""Texts that another program decoded wrongly: UTF-8 read as Latin-1 or Windows-1252, and characters that it lost."""

import re

from freehold.data.checks import Check, Found, Material
from freehold.data.findings import Log
from freehold.data.rows import texts

_LOST = "\ufffd"
_SMALL = "a-zß-öø-ÿ"
_ANY = "[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
"""What the bytes of a character become, but for its first."""
_ODD = "\x80-\x9f¡-©¬¯±´-¶¸¼-¿€ƒ†‡ˆ‰Š‹ŒŽ˜šœžŸ"
"""Those that stand behind no word: no quotes, dashes, dots, blanks, ordinals or marks of trade."""
_LETTER = r"[^\W\d_]"
_FORMS = (
    f"(?<=[{_SMALL}])[ÂÃÄÅ]{_ANY}",  # inside a word that is not in capitals
    f"Ã[{_ODD}]",
    f"(?<!{_LETTER})Ã[\xad²³¹º°®·»‘’“”](?=[{_SMALL}])",  # where a word begins
    "(?<=[^A-ZÀ-Þ«»“‘„\"'(\\s])Â[\xa0-\xbf]",
    r"(?<=\s)Â[¡-º¼-¿]",
    "â[€\x80]",  # quotes and dashes
    "ð[Ÿ\x9f]",  # emoji
    f"á[º»][{_ODD}]",  # Vietnamese
    f"(?:[ÂÃÄÅÎÏÐÑ×ØÙÚÛ]{_ANY}){{3}}",  # Greek, Cyrillic, Hebrew, Arabic
    f"(?:[à-ï]{_ANY}{{2}}){{2}}",  # scripts of three bytes a character
)
_MAYBE = re.compile(f"[ÂÃÄÅÎÏÐÑ×ØÙÚÛß-ð]{_ANY}")
"""What all of them have, and is looked for far faster."""
_TWICE = re.compile("|".join(_FORMS))
"""What UTF-8 looks like, decoded so. Capitals before closing quotes, as in Portuguese, do not."""


def run(material: Material) -> Found:
    """Rows with damaged texts."""
    log = Log(material.unit)
    for row in material.rows:
        said = [text for text in texts(row) if not text.isascii()]
        if any(_LOST in text for text in said):
            log.add("encoding.lost", "kept", "row{s} {have} U+FFFD where a character was lost", row.line)
        if any(_MAYBE.search(text) and _TWICE.search(text) for text in said):
            text = "row{s} {have} text in UTF-8 that was read as another encoding, as é becomes Ã©"
            log.add("encoding.wrong", "kept", text, row.line)
    return Found(tuple(log.findings()))


CHECK = Check(45, run)
