"""Fixtures of the store's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from freehold.core.manifest import Manifest
from freehold.core.reference import parse
from freehold.core.settings import Settings
from freehold.store import Store, pulling
from freehold.store.outbound import Outbound
from tests.store.servers import Site, serving


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_STORED_TOKENS_PATH", str(tmp_path / "no-tokens"))
    with serving() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def outbound(tmp_path: Path) -> Iterator[Outbound]:
    with Outbound(Settings(home=tmp_path), stall=5.0, patience=0.01) as client:
        yield client


@pytest.fixture
def pull(store: Store, outbound: Outbound) -> Callable[..., Manifest]:
    def pulled(source: str, wanted: str = "", **options: bool) -> Manifest:
        offer = pulling.look(parse(source), outbound)
        return pulling.take(store, outbound, offer, pulling.title(offer, wanted), **options)

    return pulled
