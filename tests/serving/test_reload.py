import asyncio
import logging
from functools import partial
from pathlib import Path

import httpx
import pytest

from freehold.core.event import Text
from freehold.core.settings import Settings, load
from freehold.serving.app import create_app
from freehold.serving.desk import Desk
from freehold.serving.reload import Reload
from freehold.store import Store
from tests.serving.support import FakeEngine, add_model, in_loop, soon


@pytest.fixture
def read(tmp_path: Path) -> partial:
    return partial(load, {"home": tmp_path / "home", "port": 7000}, {"FREEHOLD_THREADS": "3"})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir(exist_ok=True)
    return tmp_path / "home" / "config.toml"


@pytest.fixture
def desk(read: partial, store: Store) -> Desk:
    return Desk(read(), store, FakeEngine())


async def reloaded(desk: Desk, read: partial, caplog: pytest.LogCaptureFixture) -> str:
    """What is said of it."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        await Reload(desk, read).now()
    return "\n".join(caplog.messages)


@in_loop
async def test_what_is_live_takes_effect_and_is_said_in_one_line(desk: Desk, read: partial, config: Path, caplog):
    config.write_text('queue = 3\nkeep_alive = 7.5\nmemory = 99\nallowed_hosts = ["box.lan"]\nscrub_rate = 0\n')
    said = await reloaded(desk, read, caplog)
    assert said.count("\n") == 0
    assert "queue = 3" in said
    assert 'allowed_hosts = ["box.lan"]' in said
    assert (desk.settings.queue, desk.settings.keep_alive, desk.settings.memory) == (3, 7.5, 99)
    assert desk.admission._settings is desk.pool._settings is desk.settings
    assert await reloaded(desk, read, caplog) == "", "nothing changed"


@in_loop
async def test_what_is_fixed_stays_and_is_named(desk: Desk, read: partial, config: Path, caplog):
    config.write_text('host = "::1"\nalso = ["ollama"]\nqueue = 5\n')
    said = await reloaded(desk, read, caplog)
    first, second = said.split("\n")
    assert first == "host, also: takes effect when the server is started again"
    assert second == "settings in force: queue = 5"
    assert (desk.settings.host, desk.settings.also, desk.settings.queue) == ("127.0.0.1", (), 5)


@in_loop
async def test_flags_and_variables_stay_above_the_file(desk: Desk, read: partial, config: Path, caplog):
    config.write_text("port = 1\nthreads = 9\n")
    assert await reloaded(desk, read, caplog) == ""
    assert (desk.settings.port, desk.settings.threads) == (7000, 3)


@pytest.mark.parametrize("text", ["queue = ", "queue = 0", "quue = 5", 'queue = "many"', "\x00"])
@in_loop
async def test_a_bad_file_changes_nothing_and_says_why_in_one_line(desk: Desk, read, config: Path, caplog, text: str):
    config.write_text("keep_alive = 1.0\n" + text)
    before = desk.settings
    said = await reloaded(desk, read, caplog)
    assert said.startswith("the settings stay as they were: ")
    assert said.count("\n") == 0
    assert desk.settings is before


@in_loop
async def test_a_changed_file_is_noticed_and_a_removed_one(desk: Desk, read: partial, config: Path, monkeypatch):
    monkeypatch.setattr("freehold.serving.reload._LOOK", 0.02)
    reload = Reload(desk, read)
    reload.start()
    config.write_text("queue = 9\n")
    await soon(lambda: desk.settings.queue == 9)
    config.unlink()
    await soon(lambda: desk.settings.queue == Settings(home=Path("/x")).queue)
    await reload.stop()


@in_loop
async def test_a_signal_has_them_read_although_the_file_is_the_same(desk: Desk, config: Path):
    times = []

    def read() -> Settings:
        times.append(True)
        return desk.settings

    reload = Reload(desk, read)
    reload.start()
    for count in (1, 2):
        reload.wake()
        await soon(lambda count=count: len(times) == count)
    await reload.stop()


@in_loop
async def test_new_requests_go_by_new_settings_and_running_ones_go_on(
    store: Store, read: partial, config: Path, caplog
):
    add_model(store, "helpdesk")
    engine = FakeEngine()
    app = create_app(read(), store, engine=engine)
    desk = app.state.desk
    engine.script = [Text("x")] * 3
    engine.hold.clear()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:6464") as client:
        body = {"model": "helpdesk", "messages": [{"role": "user", "content": "hi" * 600}]}
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        await soon(lambda: engine.workers and engine.workers[0].running)
        config.write_text('max_body = 1024\nallowed_hosts = ["box.lan"]\n')
        await reloaded(desk, read, caplog)
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 413
        assert (await client.get("/health", headers={"host": "box.lan"})).status_code == 200
        engine.hold.set()
        answer = await asking
        assert answer.json()["choices"][0]["message"]["content"] == "xxx"
    await desk.close()
