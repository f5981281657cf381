"""Text from a pipe."""

import os
import stat
import sys

from freehold.core.errors import BadInput, TooLarge
from freehold.core.request import MAX_TEXT


def piped() -> str | None:
    """All of stdin when it is a pipe or a file; None when it is anything else. Raises BadInput and TooLarge."""
    if sys.stdin is None or sys.stdin.closed:
        return None
    mode = os.fstat(sys.stdin.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
        return None
    data = sys.stdin.buffer.read(MAX_TEXT + 1)
    if len(data) > MAX_TEXT:
        raise TooLarge(f"the input is longer than {MAX_TEXT >> 20} MiB", "Give a shorter text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"the input is not UTF-8 (byte {error.start})", "Convert it, as with 'iconv -f latin1 -t utf-8'"
        ) from error
