"""What a server does when it is treated badly: too many clients, slow ones, ones that leave, workers that die.

    python -m bench.overload [flood] [slow] [leave] [kill] [--seconds 300] [--times 50] [--hangs 10]

flood: 128 clients against 4 slots. Every answer is whole or a refusal with Retry-After, the tokens a second stay near
those of 4 clients, memory stays flat, and afterwards all is as before. slow: 500 connections that send a byte now and
then and 2,000 that send nothing are closed in time while a good client is answered. leave: 500 clients leave in the
middle; their slots are free at once and nobody else's answer suffers. kill: the worker gets SIGKILL, SIGSEGV, SIGABRT
and SIGSTOP while it streams; the client is told, and the next request is answered, all by one server. A hang is found
after FREEHOLD_STALL_SECONDS.

Ends with 1 when one of that is not so; a line then says WRONG, or SLOW where another load could be the reason.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
from bench.serve import Place, head, served
from tests.tiny import write_gguf

CLIENTS, SLOTS, SLOW, IDLE, LEAVERS = 128, 4, 500, 2000, 500
GOODPUT, MEMORY, LATENCY = 0.9, 64 << 20, 2.0
NORMAL, CLOSED, FREED = 5.0, 30.0, 1.0
"""Seconds."""
TOLD = {signal.SIGKILL: 2.0, signal.SIGSEGV: 2.0, signal.SIGABRT: 2.0, signal.SIGSTOP: 30.0}
"""Seconds after which a client must have been told."""


class Length(NamedTuple):
    """How long scenes are."""

    seconds: float
    """Of the flood."""
    times: int
    """Signals of each kind that end a worker."""
    hangs: int
    """Signals that stop one."""


class Done(NamedTuple):
    """How one request ended."""

    outcome: str
    """whole, refused, failed (the stream said so), or what is never right: cut, or no Retry-After."""
    tokens: int
    seconds: float
    wait: float = 0.0


async def ask(place: Place, tokens: int, *, leave_after: int | None = None) -> Done:
    """One stream of at most so many tokens; with `leave_after`, the client goes away after so many."""
    body = {"model": "bench", "messages": [{"role": "user", "content": f"{random.random()} Where is my order?"}]}
    body |= {"stream": True, "max_tokens": tokens, "logit_bias": {str(token): -100 for token in range(3)}}
    sent = json.dumps(body).encode()
    begin = time.perf_counter()
    reader, writer = await place.open()
    count, last, status, wait = 0, b"", b"", 0.0
    try:
        writer.write(head("POST", "/v1/chat/completions", len(sent), "connection: close\r\n") + sent)
        status = await reader.readline()
        async for line in reader:
            if line.lower().startswith(b"retry-after:"):
                wait = float(line.split(b":")[1])
            if line.startswith(b"data: "):
                count, last = count + 1, line
            if leave_after is not None and count > leave_after:
                return Done("left", count, time.perf_counter() - begin)
    except ConnectionError:
        return Done("cut", count, time.perf_counter() - begin)
    finally:
        writer.close()
    return Done(_outcome(status, last, wait), count, time.perf_counter() - begin, wait)


def _outcome(status: bytes, last: bytes, wait: float) -> str:
    code = int(status.split()[1]) if status else 0
    if code in (429, 503):
        return "refused" if wait else "refused without Retry-After"
    if code != 200:
        return f"status {code}"
    if b"[DONE]" in last:
        return "whole"
    return "failed" if b'"error"' in last else "cut"


async def get(place: Place, path: str) -> dict[str, object]:
    """What a GET of it says."""
    reader, writer = await place.open()
    writer.write(head("GET", path, more="connection: close\r\n"))
    content = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    found: dict[str, object] = json.loads(content)
    return found


async def workers(place: Place) -> list[dict[str, int]]:
    """The workers as `freehold ps` shows them."""
    return (await get(place, "/freehold/v1/workers"))["workers"]  # type: ignore[return-value]


async def memory(place: Place) -> int:
    """Bytes that the server and its workers hold."""
    pids = [int(str((await get(place, "/health"))["pid"])), *(each["pid"] for each in await workers(place))]
    return sum(psutil.Process(pid).memory_info().rss for pid in pids)


async def flooded(place: Place, clients: int, seconds: float) -> tuple[Counter[str], float]:
    """Clients that ask again and again: how their requests ended, and tokens a second of those that were whole."""
    counts: Counter[str] = Counter()
    end, tokens = time.perf_counter() + seconds, 0

    async def client() -> None:
        nonlocal tokens
        while time.perf_counter() < end:
            # Answers of one length would march in step, which is faster than what real clients ask for together.
            async with asyncio.timeout(120):
                done = await ask(place, random.randint(16, 48))
            counts[done.outcome] += 1
            tokens += done.tokens if done.outcome == "whole" else 0
            await asyncio.sleep(min(done.wait, max(0.0, end - time.perf_counter())) * random.uniform(0.5, 1))

    begin = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return counts, tokens / (time.perf_counter() - begin)


async def flood(place: Place, length: Length) -> list[str]:
    """128 clients against 4 slots."""
    seconds, alone = length.seconds, (await ask(place, 32)).seconds
    _, best = await flooded(place, SLOTS, min(20.0, seconds))
    await flooded(place, CLIENTS, min(10.0, seconds))
    before = await memory(place)
    counts, goodput = await flooded(place, CLIENTS, seconds)
    grown = await memory(place) - before
    begin, after = time.perf_counter(), 1e9
    while after > LATENCY * alone + 0.05 and time.perf_counter() < begin + NORMAL:
        after = (await ask(place, 32)).seconds
    _, again = await flooded(place, SLOTS, min(20.0, seconds))
    peak = (best + again) / 2  # a machine that others share is seldom as fast five minutes later
    print(f"flood: {dict(counts)}; {goodput:.0f} tokens/s of {peak:.0f} at best ({goodput / peak:.2f}); ", end="")
    print(f"memory {grown / 1e6:+.0f} MB; afterwards {1000 * after:.0f} ms, before {1000 * alone:.0f} ms")
    odd = [f"WRONG flood: {n} requests ended {how!r}" for how, n in counts.items() if how not in ("whole", "refused")]
    return [
        *odd,
        *([] if goodput >= GOODPUT * peak else ["SLOW flood: fewer tokens a second"]),
        *([] if abs(grown) <= MEMORY else ["WRONG flood: memory is not flat"]),
        *([] if after <= LATENCY * alone + 0.05 else ["SLOW flood: not as before afterwards"]),
    ]


async def slow(place: Place, length: Length) -> list[str]:
    """500 connections that send a byte now and then, 2,000 that send nothing, and a good client."""
    usual = await _p99(place, 100)
    held = [_held(place, b"POST /v1/models HTTP/1.1\r\nhost: localhost\r\n") for _ in range(SLOW)]
    held += [_held(place, b"") for _ in range(IDLE)]
    closing = asyncio.gather(*held)
    await asyncio.sleep(1)
    busy = await _p99(place, 100)
    closed = await closing
    print(f"slow: {len(closed)} connections closed, the last after {max(closed):.1f} s; ", end="")
    print(f"p99 of a good client {1000 * busy:.1f} ms, alone {1000 * usual:.1f} ms")
    return [
        *([] if max(closed) <= CLOSED else ["WRONG slow: a connection stayed open"]),
        *([] if busy <= LATENCY * usual + 0.01 else ["SLOW slow: a good client waits"]),
    ]


async def _held(place: Place, begin: bytes) -> float:
    """Seconds until the server closes a connection on which next to nothing is sent."""
    since = time.perf_counter()
    reader, writer = await place.open()
    writer.write(begin)
    try:
        while time.perf_counter() < since + 2 * CLOSED:
            try:
                async with asyncio.timeout(3):
                    if not await reader.read(1):
                        break
            except TimeoutError:
                if begin:
                    writer.write(b"x")
    except ConnectionError:
        pass
    finally:
        writer.close()
    return time.perf_counter() - since


async def _p99(place: Place, count: int) -> float:
    taken = []
    for _ in range(count):
        begin = time.perf_counter()
        await get(place, "/v1/models")
        taken.append(time.perf_counter() - begin)
    return sorted(taken)[int(count * 0.99) - 1]


async def leave(place: Place, length: Length) -> list[str]:
    """500 clients that leave at some moment, and one that stays."""
    staying = asyncio.create_task(ask(place, 800))
    await asyncio.sleep(0.3)
    outcomes: Counter[str] = Counter()
    for _ in range(LEAVERS // 10):
        left = [ask(place, 400, leave_after=random.randrange(30)) for _ in range(10)]
        outcomes.update(done.outcome for done in await asyncio.gather(*left))
        if staying.done():
            outcomes[f"stayed {staying.result().outcome}"] += 1
            staying = asyncio.create_task(ask(place, 800))
    begin = time.perf_counter()
    while sum(each["busy"] for each in await workers(place)) > 1 - staying.done() and time.perf_counter() < begin + 30:
        await asyncio.sleep(0.02)
    freed = time.perf_counter() - begin
    outcomes[f"stayed {(await staying).outcome}"] += 1
    print(f"leave: {dict(outcomes)}; the slots were free after {freed:.2f} s")
    odd = [
        f"WRONG leave: {n} ended {how!r}"
        for how, n in outcomes.items()
        if how not in ("left", "stayed whole", "refused")
    ]
    return [*odd, *([] if freed <= FREED else ["WRONG leave: a slot stayed taken"])]


async def kill(place: Place, length: Length) -> list[str]:
    """Signals for the worker while it streams."""
    wrong, server = [], (await get(place, "/health"))["pid"]
    for number, limit in TOLD.items():
        waits = []
        for _ in range(length.hangs if number == signal.SIGSTOP else length.times):
            streaming = asyncio.create_task(ask(place, 1800))
            while not any(each["busy"] for each in await workers(place)):
                await asyncio.sleep(0.01)
            await asyncio.sleep(random.uniform(0, 0.1))
            os.kill((await workers(place))[0]["pid"], number)
            begin = time.perf_counter()
            done = await streaming
            waits.append(time.perf_counter() - begin)
            again = await ask(place, 4)
            if done.outcome not in ("failed", "status 502", "status 500") or again.outcome != "whole":
                wrong.append(f"WRONG kill: {number.name}: {done.outcome}, then {again.outcome}")
        print(f"kill: {number.name} {len(waits)} times, the client was told after {max(waits):.2f} s at worst")
        wrong += [] if max(waits) <= limit else [f"WRONG kill: {number.name}: told late"]
    survived = (await get(place, "/health"))["pid"] == server
    return wrong if survived else [*wrong, "WRONG kill: the server is another"]


SCENES: dict[str, Callable[[Place, Length], Awaitable[list[str]]]] = {
    scene.__name__: scene for scene in (flood, slow, leave, kill)
}


@asynccontextmanager
async def served_slowly(folder: Path) -> AsyncIterator[Place]:
    """A server with a model that takes a moment for each token."""
    model = write_gguf(folder / "model.gguf", hidden=512, layers=6, context=2048)
    async with served(model, folder / "home") as (place, _):
        await ask(place, 4)
        yield place


async def run(names: list[str], length: Length) -> list[str]:
    """All scenes on one server; what went wrong."""
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        async with served_slowly(Path(folder)) as place:
            for name in names:
                wrong += await SCENES[name](place, length)
    return wrong


def main() -> int:
    """Print what happened; 1 when something went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scenes", nargs="*", default=list(SCENES), metavar="SCENE", help=", ".join(SCENES))
    parser.add_argument("--seconds", type=float, default=300, help="of the flood")
    parser.add_argument("--times", type=int, default=50, help="signals of each kind that end a worker")
    parser.add_argument("--hangs", type=int, default=10, help="signals that stop one")
    args = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, most), most))
    wrong = asyncio.run(run(args.scenes, Length(args.seconds, args.times, args.hangs)))
    for each in wrong:
        print(each)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
