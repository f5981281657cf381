"""What models take, alone and together; a quota is kept before anything is written."""

from pathlib import Path

import pytest

from freehold.core.errors import NoRoom
from freehold.core.manifest import Manifest, Part
from freehold.store import Store
from freehold.store.check import prune
from freehold.store.importing import import_gguf
from freehold.store.usage import usage
from tests.store import models
from tests.store.models import blob_count, leftovers, name


def put(store: Store, model: str, *contents: bytes) -> int:
    """A model of these parts; the size of its manifest."""
    with store.lease():
        parts = tuple(Part("other", store.add_bytes(data), len(data), f"{i}") for i, data in enumerate(contents))
        return len(store.path(store.put(name(model), Manifest(parts=parts))).read_bytes())


def test_own_and_shared_bytes(store: Store):
    a = put(store, "a", b"x" * 1000, b"y" * 10)
    b = put(store, "b", b"x" * 1000, b"z" * 20)
    found = usage(store)
    assert [(each.name, each.own, each.shared) for each in found.models] == [("a", 10 + a, 1000), ("b", 20 + b, 1000)]
    assert found.total == 1030 + a + b
    assert (found.steps, found.unused, found.temporary, found.linked) == (0, 0, 0, 0)
    store.remove(name("a"))
    found = usage(store)
    assert found.models[0].own == 1020 + b, "now all of it would be freed"
    assert found.unused == 10 + a == prune(store).size


def test_steps_unfinished_files_and_links(store: Store, tmp_path: Path):
    store.runs.remember_step("key", b"", [store.add_bytes(b"s" * 30)])
    (store.blobs.incoming / "1-1-0123456789abcdef.part").write_bytes(b"t" * 7)
    source = models.gguf(tmp_path / "x.gguf")
    import_gguf(store, source, name("shared"), share=True)
    found = usage(store)
    assert (found.steps, found.temporary, found.linked) == (30, 7, source.stat().st_size)
    source.unlink()
    assert usage(store).linked == 0


def test_a_quota_is_kept_with_numbers(store: Store, tmp_path: Path):
    source = models.gguf(tmp_path / "x.gguf", size=1 << 20)
    quota = int(1.5 * source.stat().st_size)
    with Store.open(store.folder, quota=quota) as limited:
        import_gguf(limited, source, name("first"))
        other = models.gguf(tmp_path / "y.gguf", seed=1, size=1 << 20)
        with pytest.raises(
            NoRoom, match=r"the store holds 1\.0 MB of its quota of 1\.6 MB, and 1\.0 MB would be added"
        ):
            import_gguf(limited, other, name("second"))
        with pytest.raises(NoRoom):
            import_gguf(limited, other, name("second"), share=True)
        with pytest.raises(NoRoom):
            limited.add_bytes(bytes(1 << 20))
        assert (blob_count(limited), leftovers(limited)) == (2, [])
        assert other.stat().st_nlink == 1
        limited.remove(name("first"))
        prune(limited)
        import_gguf(limited, other, name("second"))


def test_without_a_quota_there_is_no_limit(store: Store, tmp_path: Path):
    import_gguf(store, models.gguf(tmp_path / "x.gguf", size=1 << 20), name("first"))
    assert store.blobs.quota == 0
    assert store.catalog.held() == usage(store).total
