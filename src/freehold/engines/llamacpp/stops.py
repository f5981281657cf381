"""Stop sequences, found on this side: llama-server stops at them too, but does not say at which. Pure."""

from collections.abc import Iterator, Sequence

from freehold.core.event import Event, Text


class Stops:
    """Cuts one choice's text before the first of `words`; what could be the beginning of one is held back."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._held = ""
        self.found = ""
        """The word that ended the text; after it nothing more is let through."""

    def feed(self, event: Event) -> Iterator[Event]:
        """The events that stand for `event`."""
        if self.found:
            return
        if isinstance(event, Text) and self._words:
            yield from self._text(event)
            return
        if self._held:  # text is over, or goes on after a call: what was held back begins no stop sequence
            yield Text(self._held, event.index)
            self._held = ""
        yield event

    def _text(self, event: Text) -> Iterator[Event]:
        text = self._held + event.text
        places = [(at, word) for word in self._words if (at := text.find(word)) >= 0]
        if places:
            at, self.found = min(places, key=lambda place: (place[0], -len(place[1])))
            ready, self._held = text[:at], ""
        else:
            held = max((_overlap(text, word) for word in self._words), default=0)
            ready, self._held = text[: len(text) - held], text[len(text) - held :]
        if ready:
            yield Text(ready, event.index)


def _overlap(text: str, word: str) -> int:
    """How many characters at the end of `text` begin `word`."""
    longest = min(len(text), len(word) - 1)
    return next((count for count in range(longest, 0, -1) if text.endswith(word[:count])), 0)
