"""Long work that reports as it goes: in a thread of its own, and stopped at its next report when nobody listens."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from typing import TypeVar

from freehold.core.errors import Interrupted

T = TypeVar("T")


async def reports(executor: Executor, work: Callable[[Callable[[T], None]], object]) -> AsyncGenerator[T, None]:
    """What `work` reports through the function it is given. Raises what it raises."""
    loop = asyncio.get_running_loop()
    said: asyncio.Queue[T | None] = asyncio.Queue()
    left = threading.Event()

    def tell(report: T) -> None:
        if left.is_set():
            raise Interrupted("nobody waits for it any more", "Ask again: what was done is kept")
        loop.call_soon_threadsafe(said.put_nowait, report)

    done = loop.run_in_executor(executor, work, tell)
    done.add_done_callback(lambda future: said.put_nowait(None))
    try:
        while (report := await said.get()) is not None:
            yield report
        await done
    finally:
        left.set()
        done.add_done_callback(lambda future: future.cancelled() or future.exception())
