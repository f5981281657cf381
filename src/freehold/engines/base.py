"""The contract between Freehold and a program that runs models.

An engine: fits, start, check. Its workers: generate, embed, tokenize, score, stop.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from freehold.core.event import Embeddings, Event, Ranking, TokenLogprob
from freehold.core.request import EmbedRequest, Request, RerankRequest
from freehold.core.settings import Settings

Question = Literal[
    "properties", "slots", "save slot", "restore slot", "erase slot", "adapters", "set adapters", "metrics", "pieces"
]
"""What only some engines can tell or do beside their work."""


Told = Callable[[float], None]
"""Hears now and then what part of something is done, from 0 to 1."""


def nobody(part: float) -> None:
    """Hears it and does nothing."""


class Launch(msgspec.Struct, frozen=True):
    """How a worker is started where somebody says so, in place of what Freehold would choose."""

    parameters: Mapping[str, bool | int | float | str] = {}
    """llama.cpp's own, by the names of its `common_params`."""
    sampling: Mapping[str, bool | int | float | str] = {}
    """The same of its sampling, for requests that leave them open."""


class ModelFile(msgspec.Struct, frozen=True):
    """What a worker loads: a checked file, the label that messages call it by, and what for: text or embeddings."""

    path: Path
    label: str
    embedding: bool = False
    chat_template: str = ""
    """In Jinja, in place of the file's own."""
    adapters: tuple[Path, ...] = ()
    """GGUF adapters that are applied to it."""
    choices: Mapping[str, Path] = {}
    """GGUF adapters that are applied where a request names them, by what its `adapter` calls them."""
    context_length: int = 0
    """Tokens of context per slot, in place of the setting's."""
    ranking: bool = False
    """Whether it scores documents for a query; then `embedding` is set too."""
    launch: Launch | None = None
    projector: Path | None = None
    """A checked file with which it sees images."""


class Fit(msgspec.Struct, frozen=True):
    """What running a model takes here, in bytes."""

    weights: int
    cache: int
    scratch: int
    available: int
    context_length: int

    @property
    def needed(self) -> int:
        """Bytes in all."""
        return self.weights + self.cache + self.scratch

    @property
    def ok(self) -> bool:
        """Whether the machine has them free."""
        return self.needed <= self.available

    def shortage(self, label: str) -> str:
        """Why the model does not fit, in numbers."""
        parts = f"weights {self.weights >> 20}, cache {self.cache >> 20}, scratch {self.scratch >> 20}"
        return f"{label} needs {self.needed >> 20} MiB ({parts}) and {self.available >> 20} MiB are free"


class Worker(Protocol):
    """One process holding one model. It may die at any time; that costs the requests it holds, nothing more."""

    pid: int
    context_length: int

    @property
    def memory(self) -> int:
        """Resident bytes of the process."""
        ...

    def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """Events of all choices; a Failed ends the stream for all of them.

        Closing the iterator (`aclosing`) cancels this request and no other.
        """
        ...

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector per input."""
        ...

    async def prompt(self, request: Request) -> str:
        """The text that `generate` would have the model read."""
        ...

    async def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """The tokens of a text, with those that the model wants at its begin and end if `special`."""
        ...

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones as they are written."""
        ...

    async def count(self, request: Request) -> int:
        """The tokens of the request's prompt, those of its images among them."""
        ...

    async def score(self, tokens: Sequence[int], top: int = 0, *, adapter: str = "") -> tuple[TokenLogprob, ...]:
        """Each token, its natural-log probability given those before it (the first has 0), and the `top` likeliest.

        With one of the file's `choices` applied, if `adapter` names one.
        """
        ...

    async def rerank(self, request: RerankRequest) -> Ranking:
        """A score for each document. Raises Unsupported for a model that cannot."""
        ...

    async def ask(self, question: Question, body: Mapping[str, Any]) -> Any:
        """What this engine tells of itself, in its own words. Raises Unsupported."""
        ...

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        ...

    async def stop(self) -> None:
        """End the process. Returns when it is gone."""
        ...


class Engine(Protocol):
    """A kind of program that runs models."""

    name: str

    def fits(self, model: ModelFile, settings: Settings) -> Fit:
        """What this model takes, from its header alone. Raises BadModelFile."""
        ...

    async def start(self, model: ModelFile, settings: Settings, told: Told = nobody) -> Worker:
        """A ready worker. Raises BadModelFile, NotEnoughMemory, WorkerFailed. `told` hears how much of it is loaded."""
        ...

    async def check(self, request: Request, settings: Settings) -> None:
        """Compile and try, where it does no harm, what a worker would have to. Raises BadInput and Busy."""
        ...

    async def close(self) -> None:
        """End what runs beside the workers."""
        ...
