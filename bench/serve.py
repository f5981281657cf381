"""What the server costs on top of the worker that computes: speed of a stream, first token, requests a second, health.

    python -m bench.serve [--size 768x12] [--rounds 9] [--tokens 256] [--json]

A stream through the server and one straight from the worker's own socket take turns, on the same worker with the same
request; the figures are medians over the pairs. Ends with 1 when a limit below is missed.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.tiny import SPECIAL, tokenizer, write_gguf

from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.store import Store
from freehold.store.importing import import_gguf

SPEED, FIRST, REQUESTS, HEALTH = 0.97, 0.010, 2000, 0.100
"""Share of the worker's tokens a second; seconds to the first token on top; requests a second; seconds."""
CONNECTIONS, SECONDS = 32, 4.0


class Streamed(NamedTuple):
    """What one stream took."""

    first: float
    """Seconds from the request to its first token."""
    rate: float
    """Tokens a second from there on."""


class Place(NamedTuple):
    """A server: a port of this machine, or a socket's path."""

    port: int = 0
    path: str = ""

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection."""
        if self.path:
            return await asyncio.open_unix_connection(self.path)
        return await asyncio.open_connection("127.0.0.1", self.port)


def head(method: str, path: str, length: int = 0, more: str = "") -> bytes:
    """The head of a request."""
    lines = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{lines}content-length: {length}\r\n{more}\r\n".encode()


def banned() -> list[int]:
    """Tokens of the random model that end its answer, or are a part of a character and would come with the next."""
    known = tokenizer().get_vocab()
    return [number for token, number in known.items() if token in SPECIAL or not token.replace("Ġ", "").isascii()]


async def stream(place: Place, number: int, tokens: int) -> Streamed:
    """One stream of so many tokens. `number` makes its prompt one that nothing has cached."""
    bias = dict.fromkeys(banned(), -100)
    words = f"{number} is the number of my order. " + "Where is my order? Please help me, thank you. " * 8
    body = {
        "model": "bench",
        "messages": [{"role": "user", "content": words}],
        "stream": True,
        "max_tokens": tokens,
        "temperature": 0,
        "logit_bias": list(bias.items()) if place.path else bias,
    }
    sent = json.dumps(body).encode()
    reader, writer = await place.open()
    begin = time.perf_counter()
    writer.write(head("POST", "/v1/chat/completions", len(sent), "connection: close\r\n") + sent)
    times = []
    async for line in reader:
        if b'"content":"' in line and b'"content":""' not in line:
            times.append(time.perf_counter())
    writer.close()
    if len(times) < tokens * 0.9:
        raise SystemExit(f"only {len(times)} of {tokens} tokens came")
    return Streamed(times[0] - begin, (len(times) - 1) / (times[-1] - times[0]))


async def answers(place: Place, path: str, until: float) -> int:
    """How many requests one connection has answered by then."""
    reader, writer = await place.open()
    count, asked = 0, head("GET", path)
    while time.perf_counter() < until:
        writer.write(asked)
        begin = await reader.readuntil(b"\r\n\r\n")
        length = int(begin.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        if not begin.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{path}: {begin[:80]!r}")
        count += 1
    writer.close()
    return count


async def requests(place: Place, path: str) -> float:
    """Requests a second over CONNECTIONS connections."""
    begin = time.perf_counter()
    counts = await asyncio.gather(*(answers(place, path, begin + SECONDS) for _ in range(CONNECTIONS)))
    return sum(counts) / (time.perf_counter() - begin)


async def health(place: Place, tokens: int) -> list[float]:
    """Seconds that each of many requests for /health takes while four streams run."""
    streams = [asyncio.create_task(stream(place, 10**6 + n, tokens)) for n in range(4)]
    taken = []
    while not all(task.done() for task in streams):
        begin = time.perf_counter()
        await answers(place, "/health", begin + 1e-9)
        taken.append(time.perf_counter() - begin)
        await asyncio.sleep(0.02)
    await asyncio.gather(*streams)
    return taken


@asynccontextmanager
async def served(model: Path, home: Path) -> AsyncIterator[tuple[Place, Settings]]:
    """A server with that model as `bench`."""
    settings = Settings(home=home)
    with Store.open(settings.store) as store:
        import_gguf(store, model, Name.parse("bench"), share=True)
    command = [sys.executable, "-m", "freehold", "serve", "--port", "0", "--home", str(home)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        while not (home / "server.json").exists():
            await asyncio.sleep(0.05)
        yield Place(json.loads((home / "server.json").read_text())["port"]), settings
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


async def measure(model: Path, home: Path, rounds: int, tokens: int) -> dict[str, float]:
    """All figures."""
    async with served(model, home) as (server, settings):
        await stream(server, 0, tokens)
        worker = Place(path=str(next(settings.sockets.iterdir())))
        pairs = []
        for number in range(1, rounds + 1):
            places = (server, worker) if number % 2 else (worker, server)
            found = {place: await stream(place, 100 * number + i, tokens) for i, place in enumerate(places)}
            pairs.append((found[server], found[worker]))
        waits = await health(server, tokens)
        return {
            "worker_tokens_per_second": statistics.median(bare.rate for _, bare in pairs),
            "speed_ratio": statistics.median(ours.rate / bare.rate for ours, bare in pairs),
            "first_token_seconds": statistics.median(ours.first for ours, _ in pairs),
            "first_token_added": statistics.median(ours.first - bare.first for ours, bare in pairs),
            "health_worst": max(waits),
            "models_per_second": await requests(server, "/v1/models"),
            "health_per_second": await requests(server, "/health"),
        }


def main() -> int:
    """Print the figures; 1 when one misses its limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", default="768x12", help="width and layers of the model, whose weights are random")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        hidden, layers = map(int, args.size.split("x"))
        model = write_gguf(Path(text, "model.gguf"), hidden=hidden, layers=layers)
        found = asyncio.run(measure(model, Path(text, "home"), args.rounds, args.tokens))
    print(json.dumps(found | {"cores": len(os.sched_getaffinity(0))}, indent=2) if args.json else shown(found))
    good = (
        found["speed_ratio"] >= SPEED,
        found["first_token_added"] <= FIRST,
        found["models_per_second"] >= REQUESTS,
        found["health_worst"] <= HEALTH,
    )
    return int(not all(good))


def shown(found: dict[str, float]) -> str:
    """The figures as lines of text."""
    return (
        f"one stream: {found['speed_ratio']:.3f} times the worker's {found['worker_tokens_per_second']:.0f} tokens/s\n"
        f"first token: {1000 * found['first_token_seconds']:.1f} ms, {1000 * found['first_token_added']:+.1f} ms "
        f"on top of the worker's\n"
        f"/v1/models: {found['models_per_second']:.0f} requests/s; /health: {found['health_per_second']:.0f}\n"
        f"/health while four streams run: {1000 * found['health_worst']:.0f} ms at worst"
    )


if __name__ == "__main__":
    sys.exit(main())
