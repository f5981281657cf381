from pathlib import Path

import pytest

from freehold.proofs.sign import keys
from freehold.proofs.sign.keys import PrivateKey


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The private key of a pair; the public one is beside it."""
    path = tmp_path_factory.mktemp("keys") / "ours"
    keys.make(path)
    return path


@pytest.fixture(scope="session")
def key(key_file: Path) -> PrivateKey:
    return keys.private(key_file)


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> PrivateKey:
    """Somebody else's key."""
    path = tmp_path_factory.mktemp("keys") / "theirs"
    keys.make(path)
    return keys.private(path)
