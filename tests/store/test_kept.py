import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from freehold.core.errors import BadInput, Damaged, NotFound, TooLarge
from freehold.store.kept import Kept


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "answers"


def random_text(size: int) -> bytes:
    return os.urandom(size)  # it does not get smaller


def test_what_is_kept_is_there_for_the_next_server(folder: Path) -> None:
    assert Kept(folder, 10_000).put("resp_1", b"hello" * 100)
    assert Kept(folder, 10_000).get("resp_1") == b"hello" * 100
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_folder_that_others_could_open_is_closed(folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o755)
    folder.chmod(0o755)
    Kept(folder, 10_000).put("a", b"x")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_nothing_is_made_before_the_first_text(folder: Path) -> None:
    kept = Kept(folder, 10_000)
    with pytest.raises(NotFound):
        kept.get("a")
    assert not folder.exists()


def test_what_is_removed_is_gone(folder: Path) -> None:
    kept = Kept(folder, 10_000)
    kept.put("a", b"x")
    kept.remove("a")
    for ask in (kept.get, kept.remove):
        with pytest.raises(NotFound, match="nothing is kept as 'a'"):
            ask("a")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("key", ["", "../a", "a/b", "A", "a.z", "\0", "x" * 101, ".", "a\n"])
def test_no_key_leads_out_of_the_folder(folder: Path, key: str) -> None:
    kept = Kept(folder, 10_000)
    kept.put("a", b"x")
    for ask in (kept.get, kept.remove, lambda wrong: kept.put(wrong, b"x")):
        with pytest.raises(NotFound):
            ask(key)
    assert [path.name for path in folder.iterdir()] == ["a.z"]


def test_the_oldest_make_room(folder: Path) -> None:
    kept = Kept(folder, 5000)
    for number in range(6):
        assert kept.put(f"k{number}", random_text(1000))
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 5000
    with pytest.raises(NotFound):
        kept.get("k0")
    assert [len(kept.get(f"k{number}")) for number in range(2, 6)] == [1000] * 4


def test_the_number_is_bounded_too(folder: Path) -> None:
    kept = Kept(folder, 10_000, most=3)
    for number in range(5):
        kept.put(f"k{number}", b"")
    assert sorted(path.name for path in folder.iterdir()) == ["k2.z", "k3.z", "k4.z"]


def test_age_outlives_the_server(folder: Path) -> None:
    kept = Kept(folder, 10_000)
    for number, key in enumerate(("new", "old", "older")):
        kept.put(key, b"")
        os.utime(folder / f"{key}.z", (1000 - number, 1000 - number))
    Kept(folder, 10_000, most=2).put("newest", b"")
    assert sorted(path.name for path in folder.iterdir()) == ["new.z", "newest.z"]


def test_a_text_may_be_kept_again(folder: Path) -> None:
    kept = Kept(folder, 10_000, most=2)
    for text in (b"1", b"2", b"3"):
        kept.put("a", text)
    kept.put("b", b"")
    assert kept.get("a") == b"3"


def test_what_is_larger_than_all_that_may_be_kept_is_not(folder: Path) -> None:
    kept = Kept(folder, 5000)
    kept.put("a", random_text(1000))
    assert not kept.put("b", random_text(6000))
    assert len(kept.get("a")) == 1000, "nothing had to go for it"
    assert not Kept(folder, 0).put("c", b"")


def test_what_a_kill_left_half_written_goes(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / ".a.z.0123.tmp").write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    Kept(folder, 10_000).put("b", b"")
    assert sorted(path.name for path in folder.iterdir()) == ["b.z", "notes.txt"]


def test_a_spoiled_file_says_so(folder: Path) -> None:
    kept = Kept(folder, 10_000)
    kept.put("a", b"x" * 100)
    (folder / "a.z").write_bytes(b"spoiled")
    with pytest.raises(Damaged, match="kept as a"):
        kept.get("a")


def test_the_folder_may_be_removed_to_have_all_forgotten(folder: Path) -> None:
    kept = Kept(folder, 10_000)
    kept.put("a", b"x")
    shutil.rmtree(folder)
    for ask in (kept.get, kept.remove):
        with pytest.raises(NotFound):
            ask("a")
    kept.put("b", b"y")
    assert kept.get("b") == b"y"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_file_in_the_folders_place_is_named(folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("mine")
    with pytest.raises(BadInput, match="File exists"):
        Kept(folder, 10_000).put("a", b"")
    assert folder.read_text() == "mine"


def test_a_text_that_cannot_be_written_takes_no_room(folder: Path) -> None:
    kept = Kept(folder, 5000)
    kept.put("a", random_text(1000))
    (folder / "b.z").mkdir()  # in the way
    with pytest.raises(BadInput, match=r"b\.z"):
        kept.put("b", random_text(3900))
    kept.put("c", random_text(3900))
    assert len(kept.get("a")) == 1000


def test_threads_may_use_it_at_once(folder: Path) -> None:
    kept = Kept(folder, 20_000)

    def work(number: int) -> None:
        for each in range(10):
            kept.put(f"k{number}_{each}", random_text(1000))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sizes = [path.stat().st_size for path in folder.iterdir()]
    assert sum(sizes) <= 20_000
    assert len(sizes) >= 10
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_keys_are_told_by_age_also_to_the_next_server(folder: Path) -> None:
    kept = Kept(folder, 10_000)
    for key in ("b_2", "a_1", "b_1"):
        kept.put(key, b"x")
    kept.put("b_2", b"y")
    for server in (kept, Kept(folder, 10_000)):
        assert server.keys("b_") == ["b_1", "b_2"]
        assert server.keys("") == ["a_1", "b_1", "b_2"]
        assert server.keys("c") == []


def test_a_change_makes_a_text_new_or_leaves_its_age(folder: Path) -> None:
    kept = Kept(folder, 10_000)
    for key in ("a", "b", "c"):
        kept.put(key, key.encode())
    kept.change("a", lambda text: text + b"!")
    kept.change("b", lambda text: text + b"?", renewed=False)
    assert (kept.get("a"), kept.get("b")) == (b"a!", b"b?")
    for server in (kept, Kept(folder, 10_000)):
        assert server.keys("") == ["b", "c", "a"]


def test_changes_that_cannot_be(folder: Path) -> None:
    kept = Kept(folder, 1000)
    with pytest.raises(NotFound):
        kept.change("a", lambda text: text)
    kept.put("a", b"x")
    with pytest.raises(TooLarge):
        kept.change("a", lambda text: random_text(2000))
    assert kept.get("a") == b"x"


def test_changes_at_once_lose_nothing(folder: Path) -> None:
    kept = Kept(folder, 100_000)
    kept.put("a", b"")
    threads = [threading.Thread(target=kept.change, args=("a", lambda text: text + b"x")) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept.get("a") == b"x" * 20
