"""Frames: what a stream of server-sent events says, however its bytes were cut on the way. Pure."""

_FIELDS = (b"data", b"error")
"""llama-server says in a field of its own what went wrong."""


class Frames:
    """Joins the pieces of a stream. A line feed alone ends a line: JSON may hold the other breaks of Unicode."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the lines that end in this piece, but for the mark that closes a stream."""
        *lines, self._held = (self._held + piece).split(b"\n")
        found = (line.removesuffix(b"\r").partition(b": ") for line in lines)
        return [data for field, _, data in found if field in _FIELDS and data not in (b"", b"[DONE]")]
