"""Conversations made short: what the user said as it was, and one item that holds what a model made of the rest. Pure.

To OpenAI's clients the item is closed. It is not encrypted here: it holds the summary, for a server of one's own.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import msgspec

from freehold.core.errors import BadInput

_MOST = 1024
ASK = (
    "Our conversation has become long and will go on from a summary. Write that summary for yourself: what I want, "
    "what was decided and why, what is done, what is open, and every name, number, path and quotation that will be "
    "needed. Answer with the summary alone."
)
LEAD = "Summary of our conversation so far:\n\n"
_MARK = "fh1."


class _Sealed(msgspec.Struct):
    summary: str


def longest(context: int) -> int:
    """Tokens of a summary that leaves most of the context to what comes after it."""
    return min(_MOST, max(1, context // 4))


def sealed(summary: str) -> str:
    """What a compaction item holds."""
    return _MARK + base64.urlsafe_b64encode(msgspec.json.encode(_Sealed(summary))).decode("ascii")


def opened(content: str) -> str:
    """The summary in a compaction item. Raises BadInput for one that was made elsewhere."""
    try:
        data = base64.b64decode(content.removeprefix(_MARK), altchars=b"-_", validate=True)
        if content.startswith(_MARK):
            return msgspec.json.decode(data, type=_Sealed).summary
    except (ValueError, binascii.Error, msgspec.DecodeError):
        pass
    raise BadInput("the compaction was not made by this server", "Send the conversation itself", param="input")


def compacted(items: Sequence[dict[str, Any]], summary: str, identifier: str) -> list[dict[str, Any]]:
    """The items that stand for a conversation from now on."""
    kept = [item for item in items if item["type"] == "message" and item["role"] == "user"]
    return [*kept, {"id": identifier, "type": "compaction", "encrypted_content": sealed(summary)}]
