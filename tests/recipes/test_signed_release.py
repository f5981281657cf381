"""Where the policy asks for signatures: what a recipe releases is signed, and an unsigned base is refused."""

from pathlib import Path

import msgspec
import pytest

from freehold.core.errors import Forbidden
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.proofs.sign import keys, models, trust
from freehold.recipes.runner import make
from freehold.store import Store
from freehold.store.importing import import_folder
from tests.recipes.kit import Fakes


@pytest.fixture
def strict(settings: Settings, workshop: Path, tmp_path: Path) -> Settings:
    """The policy on, with a key that is trusted for names without an org; the base is in the store, unsigned."""
    trust.add(settings, keys.make(tmp_path / "key"), trust.PLAIN)
    with Store.open(settings.store) as store:
        import_folder(store, workshop / "base", Name.parse("base"))
    return msgspec.structs.replace(settings, require_signature=True, signing_key=str(tmp_path / "key"))


def sign_base(strict: Settings, key: Path) -> None:
    with Store.open(strict.store) as store:
        models.sign_model(store, Name.parse("base"), keys.private(key))


def names(settings: Settings) -> list[str]:
    with Store.open(settings.store) as store:
        return [str(entry.name) for entry in store.list()]


def test_what_is_released_is_signed(strict: Settings, workshop: Path, fakes: Fakes, tmp_path: Path) -> None:
    sign_base(strict, tmp_path / "key")
    make(workshop / "recipe.toml", strict, tools=fakes.tools())
    with Store.open(strict.store) as store:
        models.require(strict, store, Name.parse("desk"))
        assert models.verify_model(store, Name.parse("desk"), [keys.public(tmp_path / "key.pub")])


def test_an_unsigned_base_is_refused_before_any_work(strict: Settings, workshop: Path, fakes: Fakes) -> None:
    with pytest.raises(Forbidden, match="model base is not signed"):
        make(workshop / "recipe.toml", strict, tools=fakes.tools())
    assert names(strict) == ["base"]


def test_a_base_that_is_not_in_the_store_is_refused(
    strict: Settings, settings: Settings, workshop: Path, fakes: Fakes
) -> None:
    with Store.open(settings.store) as store:
        store.remove(Name.parse("base"))
    with pytest.raises(Forbidden, match="base base is not in the store"):
        make(workshop / "recipe.toml", strict, tools=fakes.tools())


@pytest.mark.parametrize("wrong", ["", "stranger"])
def test_nothing_is_released_without_a_trusted_key(
    strict: Settings, workshop: Path, fakes: Fakes, tmp_path: Path, wrong: str
) -> None:
    sign_base(strict, tmp_path / "key")
    keys.make(tmp_path / "stranger")
    other = msgspec.structs.replace(strict, signing_key=str(tmp_path / wrong) if wrong else "")
    with pytest.raises(Forbidden, match="is not trusted to sign desk" if wrong else "there is no key"):
        make(workshop / "recipe.toml", other, tools=fakes.tools())
    assert names(strict) == ["base"]


def test_without_the_policy_nothing_is_signed(settings: Settings, workshop: Path, fakes: Fakes) -> None:
    make(workshop / "recipe.toml", settings, tools=fakes.tools())
    assert not (settings.store / "signatures").exists()
