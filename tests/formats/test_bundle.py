"""Bundles: one sequence of bytes for one content, resumed, split, and refused for whatever else a file may hold."""

import hashlib
import io
import random
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, BadModelFile, Conflict, Damaged, FreeholdError, NotFound, TooLarge
from freehold.core.manifest import Manifest, Part
from freehold.formats.bundle import index as indexes
from freehold.formats.bundle.index import Index, Item, Model, blob_item, make, wheel_item
from freehold.formats.bundle.layout import BLOCK, PIECE, header, layout, total
from freehold.formats.bundle.reading import Bundle
from freehold.formats.bundle.writing import stream, write

WHEEL = "freehold-0.1.0-py3-none-any.whl"


class Sample:
    """A bundle of one model with two parts of random bytes, and a wheel."""

    def __init__(self, size: int = 3000, seed: int = 0) -> None:
        draw = random.Random(seed)
        data = [draw.randbytes(size), draw.randbytes(700)]
        parts = [Part("gguf", Digest.of_bytes(d), len(d), f"part{i}.gguf") for i, d in enumerate(data)]
        manifest = Manifest(parts=tuple(parts)).encode()
        blobs = {Digest.of_bytes(d): d for d in (*data, manifest)}
        self.files = {blob_item(digest, len(d)).path: d for digest, d in blobs.items()}
        self.files["wheels/" + WHEEL] = b"wheel"
        items = [blob_item(digest, len(d)) for digest, d in blobs.items()]
        items.append(wheel_item(WHEEL, Digest.of_bytes(b"wheel"), 5))
        self.index = make([Model("org/tiny:v1", Digest.of_bytes(manifest).text)], items)

    def contents(self, item: Item) -> Iterator[bytes]:
        data = self.files[item.path]
        return (data[place : place + 1000] for place in range(0, len(data), 1000))

    def bytes(self) -> bytes:
        return b"".join(stream(layout(self.index), self.contents))

    def write(self, path: Path, split: int = 0) -> list[Path]:
        return write(self.index, self.contents, path, split=split)


@pytest.fixture
def sample() -> Sample:
    return Sample()


def check(path: Path) -> None:
    with Bundle.open(path) as bundle:
        bundle.verify()


def refused(path: Path, *said: str) -> str:
    """It is refused in one line that names the file and says why."""
    with pytest.raises(FreeholdError) as caught:
        check(path)
    line = caught.value.line()
    assert isinstance(caught.value, BadInput)
    assert path.name.split(".")[0] in line
    assert "\n" not in line
    for text in said:
        assert text in line
    return line


def test_a_bundle_is_whole_and_reads_back(sample: Sample, tmp_path: Path) -> None:
    assert sample.write(tmp_path / "x.fhb") == [tmp_path / "x.fhb"]
    with Bundle.open(tmp_path / "x.fhb") as bundle:
        seen: list[tuple[int, int]] = []
        bundle.verify(lambda done, size: seen.append((done, size)))
        assert seen[-1] == (bundle.size, bundle.size) == ((tmp_path / "x.fhb").stat().st_size,) * 2
        assert {item.path: b"".join(bundle.contents(item)) for item in bundle.index.items} == sample.files
        assert bundle.index.wheels == [WHEEL]
    assert list(tmp_path.iterdir()) == [tmp_path / "x.fhb"]


def test_equal_content_gives_equal_bytes(sample: Sample, tmp_path: Path) -> None:
    sample.write(tmp_path / "a.fhb")
    shuffled = Sample()
    shuffled.index = make(list(reversed(sample.index.models)), list(reversed(sample.index.items)))
    shuffled.write(tmp_path / "b.fhb")
    assert (tmp_path / "a.fhb").read_bytes() == (tmp_path / "b.fhb").read_bytes()


def test_other_tools_open_it(sample: Sample, tmp_path: Path) -> None:
    sample.write(tmp_path / "x.fhb")
    with tarfile.open(tmp_path / "x.fhb") as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    listed = found.pop("pieces.sha256").decode().split()
    assert Index(**msgspec.json.decode(found.pop("freehold-bundle.json"))).kind == "freehold-bundle"
    assert found == sample.files
    first = (tmp_path / "x.fhb").read_bytes()
    end = total(layout(sample.index)) - 2 * BLOCK - BLOCK - BLOCK
    assert listed == [hashlib.sha256(first[:end]).hexdigest()]
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        ["tar", "-xf", "x.fhb", "-C", "out"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert (tmp_path / "out" / "wheels" / WHEEL).read_bytes() == b"wheel"


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 40 * 10**9])
def test_headers_of_large_files_are_those_of_other_tools(size: int) -> None:
    member = tarfile.TarInfo.frombuf(header("blobs/sha256/" + "a" * 64, size), "utf-8", "strict")
    assert (member.size, member.mode, member.mtime, member.isreg()) == (size, 0o644, 0, True)


def test_long_names_are_split_as_ustar_does() -> None:
    name = "wheels/" + "a" * 96 + ".whl"
    assert tarfile.TarInfo.frombuf(header(name, 1), "utf-8", "strict").name == name
    with pytest.raises(FreeholdError, match="too long"):
        header("wheels/" + "a" * 101, 1)


@pytest.mark.parametrize("split", [0, PIECE, 2 * PIECE + 5])
@pytest.mark.parametrize("left", [0, 1, 511, PIECE + 100, 10**9])
def test_an_interrupted_write_is_resumed(tmp_path: Path, split: int, left: int) -> None:
    sample = Sample(3 * PIECE)
    whole = sample.bytes()

    def broken(item: Item) -> Iterator[bytes]:
        for chunk in sample.contents(item):
            nonlocal left
            left -= len(chunk)
            if left < 0:
                raise KeyboardInterrupt
            yield chunk

    if left < 10**9:
        with pytest.raises(KeyboardInterrupt):
            write(sample.index, broken, tmp_path / "x.fhb", split=split)
        assert all(path.name.endswith(".partial") for path in tmp_path.iterdir())
    files = sample.write(tmp_path / "x.fhb", split)
    assert b"".join(file.read_bytes() for file in files) == whole
    assert sorted(tmp_path.iterdir()) == files


def test_what_is_left_of_another_bundle_is_overwritten(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "x.fhb.partial").write_bytes(b"z" * 100_000)
    sample.write(tmp_path / "x.fhb")
    assert (tmp_path / "x.fhb").read_bytes() == sample.bytes()


def test_a_source_that_changed_leaves_nothing(sample: Sample, tmp_path: Path) -> None:
    path = next(iter(sample.files))
    for changed in (b"x" + sample.files[path][1:], sample.files[path] + b"x", sample.files[path][:-1]):
        sample.files[path] = changed
        with pytest.raises(Damaged, match="is not what its digest says"):
            sample.write(tmp_path / "x.fhb")
        assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "x.fhb").write_bytes(b"mine")
    with pytest.raises(Conflict, match=r"x\.fhb exists"):
        sample.write(tmp_path / "x.fhb")
    assert (tmp_path / "x.fhb").read_bytes() == b"mine"
    with pytest.raises(BadInput, match="no folder"):
        sample.write(tmp_path / "none" / "x.fhb")
    (tmp_path / "y.fhb.partial").symlink_to(tmp_path / "x.fhb")
    with pytest.raises(BadInput, match="cannot write"):
        sample.write(tmp_path / "y.fhb")
    assert (tmp_path / "x.fhb").read_bytes() == b"mine"


def test_two_writers_do_not_meet(sample: Sample, tmp_path: Path) -> None:
    def meanwhile(item: Item) -> Iterator[bytes]:
        with pytest.raises(Conflict, match="is being written"):
            sample.write(tmp_path / "x.fhb")
        return sample.contents(item)

    write(sample.index, meanwhile, tmp_path / "x.fhb")
    check(tmp_path / "x.fhb")


# Parts


@pytest.fixture
def split(tmp_path: Path) -> list[Path]:
    return Sample(4 * PIECE + 300).write(tmp_path / "x.fhb", PIECE + 77)


@pytest.mark.parametrize("named", ["x.fhb", "x.fhb.001", "x.fhb.003"])
def test_parts_are_read_as_one(split: list[Path], tmp_path: Path, named: str) -> None:
    assert [path.name for path in split] == [f"x.fhb.00{n}" for n in range(1, 6)]
    assert {path.stat().st_size for path in split[:-1]} == {PIECE}
    check(tmp_path / named)
    (tmp_path / "joined").write_bytes(b"".join(path.read_bytes() for path in split))
    check(tmp_path / "joined")


def test_split_sizes(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="too small"):
        Sample().write(tmp_path / "x.fhb", 1000)
    huge = make([], [blob_item(Digest.of_bytes(b""), 1 << 45)])
    with pytest.raises(TooLarge, match="more than 9999"):
        write(huge, lambda item: iter(()), tmp_path / "x.fhb", split=PIECE)


@pytest.mark.parametrize("number", range(5))
def test_a_missing_part_is_named(split: list[Path], tmp_path: Path, number: int) -> None:
    split[number].unlink()
    refused(tmp_path / "x.fhb", f"x.fhb.00{number + 1}: this part is missing")


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 2), (0, 3), (2, 3)])
def test_swapped_parts_are_named(split: list[Path], tmp_path: Path, first: int, second: int) -> None:
    split[first].rename(tmp_path / "other")
    split[second].rename(split[first])
    (tmp_path / "other").rename(split[second])
    refused(tmp_path / "x.fhb", f"{split[first].name}: this part holds what belongs in {split[second].name}")


def test_damaged_short_long_and_extra_parts_are_named(split: list[Path], tmp_path: Path) -> None:
    whole = split[2].read_bytes()
    split[2].write_bytes(whole[:5000] + b"\0\1\2" + whole[5003:])
    refused(tmp_path / "x.fhb", "x.fhb.003: this part is damaged in its mebibyte 1")
    split[2].write_bytes(whole[:-1])
    refused(tmp_path / "x.fhb", "x.fhb.003: truncated: 1048575 of 1048576")
    split[2].write_bytes(whole + b"x")
    refused(tmp_path / "x.fhb", "x.fhb.003: 1 bytes after its end")
    split[2].write_bytes(whole)
    (tmp_path / "x.fhb.006").write_bytes(b"more")
    refused(tmp_path / "x.fhb", "x.fhb.006: this part is beyond")


def test_no_such_bundle(tmp_path: Path) -> None:
    for name in ("x.fhb", "x.fhb.001", "none/x.fhb"):
        with pytest.raises(NotFound, match="no such file"):
            Bundle.open(tmp_path / name)
    with pytest.raises(BadInput, match="not a regular file"):
        Bundle.open(tmp_path)


# Hostile files


def spoilt(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def rebuilt(members: list[tarfile.TarInfo | tuple[str, bytes]]) -> bytes:
    """A tar file of these members, as anybody can write one."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def info(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    return found


HOSTILE = [
    (info("x", tarfile.SYMTYPE, "/etc/passwd"), "a symbolic link 'x' to '/etc/passwd' where blobs/"),
    (info("x", tarfile.LNKTYPE, "../../x"), "a hard link 'x' to '../../x' where"),
    (info("x", tarfile.CHRTYPE), "a device 'x' where"),
    (info("x", tarfile.BLKTYPE), "a device 'x' where"),
    (info("x", tarfile.FIFOTYPE), "a pipe 'x' where"),
    (info("blobs", tarfile.DIRTYPE), "a folder 'blobs/' where"),
    (info("x", tarfile.GNUTYPE_SPARSE), "a sparse file 'x' where"),
    (info("x", tarfile.XHDTYPE), "an extended header 'x' where"),
    (info("../../etc/cron.d/x", tarfile.REGTYPE), "'../../etc/cron.d/x', a name that leaves the folder, where"),
    (info("/etc/passwd", tarfile.REGTYPE), "'/etc/passwd', an absolute name, where"),
    (info("..\\..\\x", tarfile.REGTYPE), "a name that leaves the folder"),
    (info("C:\\x", tarfile.REGTYPE), "an absolute name"),
    (info("\\\\host\\share", tarfile.REGTYPE), "an absolute name"),
    (info("a/nul.txt", tarfile.REGTYPE), "a name that means something else on Windows"),
    (info("a/x. ", tarfile.REGTYPE), "a name that means something else on Windows"),
    (info("freehold-bundle.json", tarfile.REGTYPE), "the file 'freehold-bundle.json' appears twice"),
]


@pytest.mark.parametrize(("member", "said"), HOSTILE, ids=[said[:40] for _, said in HOSTILE])
def test_hostile_members(sample: Sample, tmp_path: Path, member: tarfile.TarInfo, said: str) -> None:
    data, bad = sample.bytes(), rebuilt([member])[:BLOCK]
    second = next(region for region in layout(sample.index)[1:] if region.is_header)
    (tmp_path / "x.fhb").write_bytes(spoilt(data, second.offset, bad))
    refused(tmp_path / "x.fhb", said)
    (tmp_path / "x.fhb").write_bytes(spoilt(data, 0, bad))
    refused(tmp_path / "x.fhb")


def test_what_another_program_packs_is_refused(sample: Sample, tmp_path: Path) -> None:
    data = sample.index.encode()
    members = [("freehold-bundle.json", data), *sample.files.items()]
    (tmp_path / "x.fhb").write_bytes(rebuilt(members))  # type: ignore[arg-type]
    refused(tmp_path / "x.fhb", "not a bundle")
    for junk in (b"", b"x", bytes(512), bytes(5000), b"PK\x03\x04" + bytes(600), b"\x1f\x8b" + bytes(600)):
        (tmp_path / "x.fhb").write_bytes(junk)
        refused(tmp_path / "x.fhb")


def with_index(data: bytes) -> bytes:
    """A bundle that begins with this index, true or not."""
    return header("freehold-bundle.json", len(data)) + data + bytes(-len(data) % BLOCK + 4096)


def edited(sample: Sample, **changes: object) -> Index:
    return msgspec.structs.replace(sample.index, **changes)


def bad_indexes() -> Iterator[tuple[str, bytes, str]]:
    sample = Sample()
    items, models = sample.index.items, sample.index.models
    digest = Digest.of_bytes(b"").text
    yield "junk", b"{]", "not valid"
    yield "deep", b"[" * 100_000, "not valid"
    yield "unknown key", sample.index.encode().replace(b'"schema"', b'"schemb"'), "not valid"
    yield "key twice", sample.index.encode().replace(b"{", b'{"schema":1,', 1), "canonical"
    yield "newer", edited(sample, schema=2).encode(), "Upgrade"
    yield "other kind", edited(sample, kind="zip").encode(), "Upgrade"
    yield "order", edited(sample, items=items[::-1]).encode(), "in order"
    yield "twice", edited(sample, items=(items[0], *items)).encode(), "twice"
    yield "size", sample.index.encode().replace(b'"size": 700', b'"size": -700'), "not valid"
    yield "size", sample.index.encode().replace(b'"size": 700', b'"size": 18446744073709551615'), "not valid"
    yield "sum", edited(sample, items=tuple(msgspec.structs.replace(i, size=1 << 52) for i in items)).encode(), "claims"
    yield "no model", edited(sample, models=(Model("m", digest),)).encode(), "not in the bundle"
    yield "no signature", edited(sample, models=(Model("m", models[0].manifest, (digest,)),)).encode(), "not in the"
    yield "digest", edited(sample, items=(msgspec.structs.replace(items[0], digest="sha256:00"),)).encode(), "is none"
    yield "blob name", edited(sample, items=(msgspec.structs.replace(items[0], digest=digest),)).encode(), "its digest"
    for name in ("../m", "m:latest", "", "a/b/c", "m\n", "x" * 300):
        yield f"model {name[:9]!r}", edited(sample, models=(Model(name, models[0].manifest),)).encode(), "x.fhb"
    for name in ("../a.whl", "/a.whl", "x.txt", "con.a-1-py3-none-any.whl", "a\\b-1-py3-none-any.whl", "\u202ea.whl"):
        odd = Item("wheels/" + name, digest, 0)
        yield f"wheel {name!r}", edited(sample, items=(*items[:-1], odd)).encode(), "names the file"
    case = (Item("wheels/A-1-py3-none-any.whl", digest, 0), Item("wheels/a-1-py3-none-any.whl", digest, 0))
    yield "case", edited(sample, items=(*items[:-1], *case)).encode(), "case only"


@pytest.mark.parametrize(("data", "said"), [(d, s) for _, d, s in bad_indexes()], ids=[n for n, _, _ in bad_indexes()])
def test_a_bad_index_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "x.fhb").write_bytes(with_index(data))
    refused(tmp_path / "x.fhb", said)


def test_an_index_that_claims_much_is_not_read(tmp_path: Path) -> None:
    for size in (indexes.MAX_INDEX + 1, 8**11 - 1, 1 << 40):
        (tmp_path / "x.fhb").write_bytes(header("freehold-bundle.json", size) + bytes(4096))
        refused(tmp_path / "x.fhb")


def test_a_model_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    sample = Sample()
    manifest = Manifest(parts=(Part("gguf", Digest.of_bytes(b"missing"), 7, "m.gguf"),)).encode()
    odd = Manifest(parts=(Part("gguf", Digest.of_bytes(b"wheel"), 5, "../m.gguf"),)).encode()
    wrong = Manifest(parts=(Part("gguf", Digest.of_bytes(b"wheel"), 6, "m.gguf"),)).encode()
    for data, said in [(manifest, "not in the bundle"), (odd, "leaves"), (wrong, "5 bytes"), (b"{}", "unreadable")]:
        digest = Digest.of_bytes(data)
        files = {blob_item(Digest.of_bytes(d), len(d)).path: d for d in (data, b"wheel")}
        items = [blob_item(Digest.of_bytes(d), len(d)) for d in (data, b"wheel")]
        sample.files, sample.index = files, make([Model("m", digest.text)], items)
        sample.write(tmp_path / "x.fhb")
        refused(tmp_path / "x.fhb", said)
        (tmp_path / "x.fhb").unlink()


def test_truncated_anywhere(tmp_path: Path) -> None:
    sample = Sample(600)
    data = sample.bytes()
    for end in [*range(0, len(data), 97), len(data) - 1]:
        (tmp_path / "x.fhb").write_bytes(data[:end])
        refused(tmp_path / "x.fhb")
    (tmp_path / "x.fhb").write_bytes(data + b"\0")
    refused(tmp_path / "x.fhb", "belong to nothing")


@settings(max_examples=300)
@given(st.data())
def test_every_changed_byte_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = WHOLE
    place = data.draw(st.integers(0, len(whole) - 1))
    new = data.draw(st.integers(0, 255).filter(lambda value: value != whole[place]))
    path = tmp_path_factory.getbasetemp() / "changed.fhb"
    path.write_bytes(spoilt(whole, place, bytes([new])))
    refused(path)


WHOLE = Sample(600).bytes()


@settings(max_examples=100)
@given(st.text(max_size=40))
def test_no_odd_name_is_a_wheel(name: str) -> None:
    if indexes.wheel_name(name):
        assert indexes.why_odd("wheels/" + name) == ""
        assert "/" not in name
        assert name.endswith(".whl")


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=2000), max_size=6))
def test_whatever_goes_in_comes_out(tmp_path_factory: pytest.TempPathFactory, blobs: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("round") / "x.fhb"
    files = {Digest.of_bytes(blob).text: blob for blob in blobs}
    index = make([], [blob_item(Digest(digest), len(blob)) for digest, blob in files.items()])
    write(index, lambda item: iter((files[item.digest],)), path)
    with Bundle.open(path) as bundle:
        bundle.verify()
        assert {item.digest: b"".join(bundle.contents(item)) for item in bundle.index.items} == files


def test_a_file_that_shrinks_is_noticed(sample: Sample, tmp_path: Path) -> None:
    sample.write(tmp_path / "x.fhb")
    with Bundle.open(tmp_path / "x.fhb") as bundle:
        with (tmp_path / "x.fhb").open("r+b") as file:
            file.truncate(3000)
        with pytest.raises(BadModelFile):
            bundle.verify()


@pytest.mark.parametrize("odd", ["x.fhb.000", "x.fhb.5", "x.fhb.00001", "x.fhb.٠٠١", "x.fhb.001.bak", "y.fhb.002"])
def test_files_that_only_look_like_parts_do_no_harm(split: list[Path], tmp_path: Path, odd: str) -> None:
    (tmp_path / odd).write_bytes(b"something else")
    check(tmp_path / "x.fhb")


def test_folders_beside_the_parts_do_no_harm_and_links_that_lead_nowhere_are_named(
    split: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "x.fhb.009").mkdir()
    check(tmp_path / "x.fhb")
    split[1].rename(tmp_path / "elsewhere")
    split[1].symlink_to(tmp_path / "elsewhere")
    check(tmp_path / "x.fhb")
    (tmp_path / "elsewhere").unlink()
    with pytest.raises(NotFound, match=r"x\.fhb\.002"):
        check(tmp_path / "x.fhb")
