"""Many clients at one server: each has its share, and a refusal is in the words of its own API."""

import asyncio

import httpx
import pytest

from freehold.core.event import Text
from freehold.core.settings import Settings
from freehold.serving.app import create_app
from freehold.store import Store
from tests.serving.support import FakeEngine, add_model, in_loop, soon

MESSAGES = [{"role": "user", "content": "hi"}]
ROUTES = {
    "openai": ("/v1/chat/completions", {"model": "helpdesk", "messages": MESSAGES}),
    "responses": ("/v1/responses", {"model": "helpdesk", "input": "hi", "store": False}),
    "completions": ("/v1/completions", {"model": "helpdesk", "prompt": "hi"}),
    "anthropic": ("/v1/messages", {"model": "helpdesk", "max_tokens": 9, "messages": MESSAGES}),
    "ollama": ("/api/chat", {"model": "helpdesk", "messages": MESSAGES}),
    "llama-server": ("/completion", {"model": "helpdesk", "prompt": "hi"}),
}
KINDS = {
    "openai": lambda body: body["error"]["code"],
    "responses": lambda body: body["error"]["code"],
    "completions": lambda body: body["error"]["code"],
    "anthropic": lambda body: body["error"]["type"],
    "ollama": lambda body: type(body["error"]).__name__,
    "llama-server": lambda body: body["error"]["type"],
}
SAID = {
    429: {"anthropic": "rate_limit_error", "ollama": "str", "llama-server": "unavailable_error"},
    503: {"anthropic": "overloaded_error", "ollama": "str", "llama-server": "unavailable_error"},
}
CODES = {429: "rate_limit_exceeded", 503: "server_busy"}


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


class Scene:
    """A server with one place and room for four who wait, and clients of it."""

    def __init__(self, store: Store) -> None:
        add_model(store, "helpdesk")
        self.engine = FakeEngine()
        self.app = create_app(Settings(home=store.folder.parent, parallel=1, queue=4), store, engine=self.engine)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:6464", timeout=30)
        self.asked: list[asyncio.Task[httpx.Response]] = []

    @property
    def waiting(self) -> int:
        return self.app.state.desk.admission.waiting

    def ask(self, route: str, name: str, **more: object) -> asyncio.Task[httpx.Response]:
        path, body = ROUTES[route]
        asking = self.client.post(path, json={**body, **more}, headers=bearer(name))
        self.asked.append(asyncio.create_task(asking))
        return self.asked[-1]

    async def fill(self, name: str, count: int) -> None:
        """One that runs, and others that wait."""
        self.engine.hold.clear()
        for number in range(count + 1):
            self.ask("openai", name)
            await soon(lambda number=number: self.waiting == number and self.engine.workers)
            await soon(lambda: self.engine.workers[0].running == 1)

    async def end(self) -> None:
        self.engine.hold.set()
        await asyncio.gather(*self.asked)
        await self.client.aclose()
        await self.app.state.desk.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", ROUTES)
@in_loop
async def test_a_full_server_refuses_in_the_words_of_each_api(store: Store, route: str, stream: bool):
    scene = Scene(store)
    await scene.fill("one", 4)
    refused = await scene.ask(route, "one", stream=stream)
    check(refused, 503, route)
    await scene.end()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", ROUTES)
@in_loop
async def test_a_client_that_has_its_share_is_refused_and_others_are_not(store: Store, route: str, stream: bool):
    scene = Scene(store)
    await scene.fill("flood", 2)
    other = scene.ask("openai", "other")
    await soon(lambda: scene.waiting == 3)
    refused = await scene.ask(route, "flood", stream=stream)
    check(refused, 429, route)
    await scene.end()
    assert other.result().status_code == 200


def check(refused: httpx.Response, status: int, route: str) -> None:
    assert refused.status_code in (status, 529 if status == 503 and route == "anthropic" else status)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["content-type"].startswith("application/json")
    assert KINDS[route](refused.json()) == SAID[status].get(route, CODES[status])


@in_loop
async def test_a_newcomer_displaces_the_youngest_of_a_flood_before_its_first_byte(store: Store):
    scene = Scene(store)
    await scene.fill("flood", 4)
    youngest = scene.asked[-1]
    newcomer = scene.ask("openai", "newcomer", stream=True)
    refused = await youngest
    check(refused, 429, "openai")
    await scene.end()
    assert newcomer.result().status_code == 200
    assert newcomer.result().text.endswith("data: [DONE]\n\n")


@in_loop
async def test_a_lonely_request_goes_before_the_flood_that_waits(store: Store):
    scene = Scene(store)
    await scene.fill("flood", 2)
    lonely = scene.ask("openai", "lonely", messages=[{"role": "user", "content": "lonely"}])
    await soon(lambda: scene.waiting == 3)
    scene.engine.hold.set()
    await asyncio.gather(*scene.asked)
    assert lonely.result().status_code == 200
    seen = [request.messages[0].content for request in scene.engine.workers[0].seen]
    assert seen.index("lonely") <= 2
    await scene.end()


@in_loop
async def test_no_credential_is_kept_anywhere_in_clear(store: Store):
    import gc

    scene = Scene(store)
    await scene.fill("sk-very-s3cret", 2)
    queue = [each for each in gc.get_objects() if type(each).__name__ in ("Ticket", "_Line", "_Held", "Caller")]
    assert queue
    assert not any("s3cret" in repr(each) for each in queue)
    await scene.end()


@in_loop
async def test_a_client_that_waits_for_a_second_is_told_before_that(store: Store):
    scene = Scene(store)
    await scene.fill("one", 0)
    path, body = ROUTES["openai"]
    headers = {**bearer("two"), "x-stainless-read-timeout": "0.1"}
    answer = await scene.client.post(path, json=body, headers=headers)
    check(answer, 503, "openai")
    await scene.end()


@in_loop
async def test_a_client_that_leaves_the_queue_frees_its_place(store: Store):
    scene = Scene(store)
    scene.engine.script = [Text("x")]
    await scene.fill("one", 4)
    leaving = scene.asked.pop()
    leaving.cancel()
    await soon(lambda: scene.waiting == 3)
    staying = scene.ask("openai", "one")
    await soon(lambda: scene.waiting == 4)
    await scene.end()
    assert staying.result().status_code == 200
    assert len(scene.engine.workers[0].seen) == 5
