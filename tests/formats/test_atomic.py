import errno
import os

import pytest

from freehold.core.errors import BadInput, DiskFull
from freehold.formats.atomic import disk_errors, replacing, size_text


def test_a_file_takes_its_place_whole(tmp_path):
    path = tmp_path / "out.gguf"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_after_an_error_everything_is_as_it_was(tmp_path, error):
    path = tmp_path / "out.gguf"
    path.write_text("old")

    def half():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        with replacing(tmp_path / "out"):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_was_needed(tmp_path, number):
    with pytest.raises(DiskFull, match=r"5\.0 GB needed, .* free") as caught:
        with disk_errors(tmp_path, 5_000_000_000):
            raise OSError(number, os.strerror(number))
    assert caught.value.remedy


def test_a_disk_that_takes_no_file_so_large(tmp_path):
    with pytest.raises(DiskFull, match="no file may be so large") as caught:
        with disk_errors(tmp_path):
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    assert "FAT32" in caught.value.remedy


def test_a_full_disk_under_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DiskFull):
        with disk_errors(tmp_path / "a" / "b", 1):
            raise OSError(errno.ENOSPC, "full")


def test_other_disk_errors(tmp_path):
    with pytest.raises(BadInput, match="cannot write"):
        with disk_errors(tmp_path):
            raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(ProcessLookupError):
        with disk_errors(tmp_path):
            raise ProcessLookupError(errno.ESRCH, "other")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (3_200_000_000, "3.2 GB"), (10**15, "1000.0 TB")],
)
def test_sizes_for_people(count, text):
    assert size_text(count) == text


@pytest.mark.parametrize("number", [errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP])
def test_places_where_nothing_can_be_written(tmp_path, number):
    with pytest.raises(BadInput, match=rf"cannot write .*: {os.strerror(number)}") as caught:
        with disk_errors(tmp_path):
            raise OSError(number, os.strerror(number))
    assert caught.value.remedy == "Choose another place"


def test_a_file_where_a_folder_is_or_under_a_file(tmp_path):
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    (tmp_path / "file").touch()
    for place in ("folder", "file/out"):
        with pytest.raises(BadInput, match="cannot write"):
            with replacing(tmp_path / place) as temporary:
                temporary.write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, "模" * 85, "a" + "😀" * 63, "\udcff" * 255])
def test_a_name_as_long_as_the_file_system_takes(tmp_path, name):
    """File systems count bytes, and a temporary name must not be longer than the name itself."""
    with replacing(tmp_path / name) as temporary:
        temporary.write_text("new")
    assert (tmp_path / name).read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(BadInput, match="too long"):
        with replacing(tmp_path / ("é" * 128)) as temporary:
            temporary.write_text("new")
    assert list(tmp_path.iterdir()) == []
