"""Works that go on without their client: told from any place, cancelled, and ended with the server."""

import asyncio

import pytest

from freehold.core.errors import Busy
from freehold.serving import background
from freehold.serving.background import Background, Work
from tests.serving.support import in_loop, soon


class Doing:
    """A work that tells what it is told to, until None comes."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[str | None] = asyncio.Queue()
        self.cancelled = 0
        self.work = Work("subject", self._cancelled)

    async def _cancelled(self) -> None:
        self.cancelled += 1

    async def run(self) -> None:
        while (said := await self.said.get()) is not None:
            self.work.tell(said)


async def heard(work: Work, begin: int = 0) -> list[str]:
    return [said async for said in work.listen(begin)]


@in_loop
async def test_whoever_listens_hears_all_from_his_place_on():
    doing, works = Doing(), Background()
    works.begin("a", doing.work, doing.run())
    early = asyncio.create_task(heard(doing.work))
    for said in "abc":
        doing.said.put_nowait(said)
    await soon(lambda: len(doing.work.told) == 3)
    late = asyncio.create_task(heard(doing.work, 2))
    doing.said.put_nowait("d")
    doing.said.put_nowait(None)
    assert await early == ["a", "b", "c", "d"]
    assert await late == ["c", "d"]
    assert await heard(doing.work, 9) == []
    assert works.get("a") is doing.work
    works.forget("a")
    assert works.get("a") is None


@in_loop
async def test_a_listener_that_leaves_ends_nothing():
    doing, works = Doing(), Background()
    works.begin("a", doing.work, doing.run())
    listener = asyncio.create_task(heard(doing.work))
    await asyncio.sleep(0)
    listener.cancel()
    doing.said.put_nowait("a")
    doing.said.put_nowait(None)
    await soon(lambda: doing.work.ended)
    assert doing.work.told == ["a"]


@in_loop
async def test_what_is_cancelled_is_done_with_once():
    doing, works = Doing(), Background()
    works.begin("a", doing.work, doing.run())
    doing.said.put_nowait("a")
    await soon(lambda: doing.work.told)
    listener = asyncio.create_task(heard(doing.work))
    for _ in range(2):
        await doing.work.cancel()
    assert (await listener, doing.cancelled, doing.work.ended) == (["a"], 1, True)


@in_loop
async def test_what_is_past_that_is_not_cancelled():
    doing, works = Doing(), Background()
    works.begin("a", doing.work, doing.run())
    doing.work.closing = True
    cancelling = asyncio.create_task(doing.work.cancel())
    await asyncio.sleep(0)
    doing.said.put_nowait("last")
    doing.said.put_nowait(None)
    await cancelling
    assert (doing.work.told, doing.cancelled) == (["last"], 0)


@in_loop
async def test_the_servers_end_is_theirs():
    doing, works = Doing(), Background()
    works.begin("a", doing.work, doing.run())
    await asyncio.sleep(0)
    await works.close()
    assert (doing.work.ended, doing.cancelled) == (True, 0)


@in_loop
async def test_there_are_not_too_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(background, "MOST", 2)
    monkeypatch.setattr(background, "_ENDED", 2)
    works, all_of_them = Background(), [Doing() for _ in range(5)]
    for number, doing in enumerate(all_of_them[:2]):
        works.begin(str(number), doing.work, doing.run())
    with pytest.raises(Busy):
        works.begin("2", all_of_them[2].work, all_of_them[2].run())
    for number in range(2, 5):
        all_of_them[number - 2].said.put_nowait(None)
        await soon(lambda: all_of_them[number - 2].work.ended)  # noqa: B023
        works.begin(str(number), all_of_them[number].work, all_of_them[number].run())
    assert [name for name in "01234" if works.get(name)] == ["2", "3", "4"]
    await works.close()
