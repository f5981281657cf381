"""Verbs about models and the store: list, show, pull, rm, fsck, prune. Each runs as a process of its own once."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from freehold.core.digest import Digest
from freehold.core.manifest import Lineage
from freehold.core.name import Name
from freehold.core.settings import load
from freehold.formats.locks import locked
from freehold.store import Store
from freehold.store.importing import import_gguf
from tests.cli.conftest import Freehold, assert_refused
from tests.tiny import write_gguf


def names(run: Freehold) -> list[str]:
    return [entry["name"] for entry in json.loads(run("list", "--json").stdout)]


def blobs(home: Path) -> list[Path]:
    return [path for path in (home / "store" / "blobs").rglob("*") if path.is_file()]


def test_list_is_a_plain_table(freehold: Freehold, tiny: str) -> None:
    done = freehold("list")
    assert done.returncode == 0
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["NAME", "SIZE", "TYPE", "PARAMS", "CONTEXT", "MODIFIED"]
    row = next(row for row in rows if row.startswith("tiny "))
    assert row.split()[1:] == ["496", "kB", "F32", "121.7K", "1024", "just", "now"]
    assert "\x1b" not in done.stdout


def test_list_as_json(inside: Freehold, tiny: str, gguf: Path) -> None:
    entries = json.loads(inside("list", "--json").stdout)
    entry = next(entry for entry in entries if entry["name"] == "tiny")
    assert entry["size"] == gguf.stat().st_size
    assert entry["quantization"] == "F32"
    assert entry["architecture"] == "llama"
    assert Digest.parse(entry["digest"])


def test_home_can_be_a_flag(inside: Freehold, tiny: str, tmp_path: Path) -> None:
    assert "tiny" in names(inside)
    assert "tiny" not in inside("list", "--home", str(tmp_path / "other")).stdout


def test_show(freehold: Freehold, tiny: str, gguf: Path) -> None:
    done = freehold("show", "tiny")
    assert done.returncode == 0
    for text in ("llama", "F32", "1024 tokens", "tiny.gguf", "memory to run", Digest.of_file(gguf).short):
        assert text in done.stdout
    shown = json.loads(freehold("show", "tiny", "--json").stdout)
    assert shown["manifest"]["parts"][0]["digest"] == str(Digest.of_file(gguf))
    assert shown["memory"]["needed"] > gguf.stat().st_size
    assert shown["facts"] == []
    assert [each["context_length"] for each in shown["outlook"]["contexts"]] == [1024]
    assert shown["outlook"]["contexts"][0]["fits"] is True
    assert "4 conversations at a time" in done.stdout
    assert done.stdout.count(" fits") == 1


@pytest.fixture
def proven(home: Path, gguf: Path, tmp_path: Path) -> str:
    """A model with a base, data and an evaluation, whose file name and evidence try to drive the terminal."""
    other = write_gguf(tmp_path / "base.gguf", seed=1)
    with Store.open(load({}).store) as store:
        base = import_gguf(store, other, Name.parse("base"))
        data = store.add_bytes(b"{}\n")
        facts = [
            {"subject": {"text": str(Digest.of_file(gguf))}, "name": "token_f1", "value": 0.75, "grade": "verified"},
            {"subject": {"text": str(Digest.of_file(other))}, "name": "token_f1", "value": 0.25, "grade": "verified"},
            {"subject": {"text": str(data)}, "name": "note", "value": "\x1b]0;owned\x07", "grade": "declared"},
        ]
        proof = store.add_bytes(msgspec.json.encode({"kind": "evaluation", "facts": facts}))
        foreign = store.add_bytes(b"\xff not JSON")
        lineage = Lineage(base=base.digest, data=(data,), source="a \x1b[31mplace")
        import_gguf(store, gguf, Name.parse("proven"), lineage=lineage, evidence=(proof, foreign), licence="MIT")
    return "proven"


def test_show_lineage_and_evidence(inside: Freehold, proven: str) -> None:
    done = inside("show", proven)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "\x07" not in done.stdout
    assert "made from" in done.stdout
    lines = done.stdout.splitlines()
    head = next(line for line in lines if line.startswith("FACT"))
    row = next(line for line in lines if line.startswith("token_f1"))
    assert row[head.index("tiny.gguf") :].startswith("0.75")
    assert row[head.index("base") :].startswith("0.25")
    assert any(line.split()[:1] == ["base"] and line.endswith("  base") for line in lines)


def test_show_evidence_as_json(inside: Freehold, proven: str) -> None:
    shown = json.loads(inside("show", proven, "--json").stdout)
    assert [fact["name"] for fact in shown["facts"]] == ["token_f1", "token_f1", "note"]
    assert shown["manifest"]["licence"] == "MIT"


FACT = {"subject": "sha256:x", "name": "loss", "value": 1.5, "grade": "verified"}
EVIDENCE = {
    "no list": {"facts": 7},
    "a text": {"facts": "loss"},
    "no facts": {"facts": [7, None, "loss", [], {}]},
    "a name that is none": {"facts": [{**FACT, "name": {"a": 1}}, {**FACT, "name": 7}, {**FACT, "name": ["x"]}]},
    "a value of many": {"facts": [{**FACT, "value": [1, [2]]}, {**FACT, "value": {"x": 1}}]},
    "a subject of many": {"facts": [{**FACT, "subject": [1]}, {**FACT, "subject": {"text": {}}}]},
    "no grade": {"facts": [{**FACT, "grade": {}}]},
}


@pytest.mark.parametrize("what", EVIDENCE)
def test_evidence_that_came_with_a_model_is_shown_or_left_out(
    inside: Freehold, home: Path, gguf: Path, what: str
) -> None:
    facts: Any = EVIDENCE[what]["facts"]
    mixed = {"facts": [*facts, {**FACT, "more": [[[]]]}] if isinstance(facts, list) else facts}
    with Store.open(load({}).store) as store:
        proof = store.add_bytes(msgspec.json.encode(mixed))
        import_gguf(store, gguf, Name.parse("told"), evidence=(proof,))
    done = inside("show", "told")
    assert done.returncode == 0, done.stderr
    assert ("loss" in done.stdout) == isinstance(facts, list)
    told = json.loads(inside("show", "told", "--json").stdout)["facts"]
    assert told == ([FACT] if isinstance(facts, list) else [])


def test_evidence_that_is_too_deep_is_left_out(inside: Freehold, home: Path, gguf: Path) -> None:
    with Store.open(load({}).store) as store:
        deep = [b"[" * depth + b"]" * depth for depth in (400, 900, 100_000)]
        text = b",".join(msgspec.json.encode({**FACT, "value": msgspec.Raw(each)}) for each in deep[:2])
        proofs = [store.add_bytes(b'{"facts":[' + each + b"]}") for each in (text, deep[2])]
        import_gguf(store, gguf, Name.parse("told"), evidence=tuple(proofs))
    for more in ((), ("--json",)):
        done = inside("show", "told", *more)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("verb", ["show", "rm", "run"])
@pytest.mark.parametrize(
    "name", ["nope", "../../etc/passwd", "a b", "", "\x1b[31m", "x" * 5000, "hf.co/a/b/c", "tiny:v9"]
)
def test_unknown_and_hostile_names(inside: Freehold, tiny: str, verb: str, name: str) -> None:
    more = ["hello"] if verb == "run" else []
    done = inside(verb, name, *more)
    assert_refused(done)
    assert "\x1b" not in done.stderr
    assert len(done.stderr) < 1500
    assert "tiny" in names(inside)


def test_a_near_name_is_suggested(inside: Freehold, tiny: str) -> None:
    assert_refused(inside("show", "tinny"), "tiny")


def test_pull_takes_the_name_from_the_file(inside: Freehold, gguf: Path) -> None:
    assert inside("pull", str(gguf)).returncode == 0
    assert "tiny" in names(inside)


def test_pull_leaves_the_source_alone(inside: Freehold, gguf: Path, tiny: str) -> None:
    before = gguf.read_bytes()
    inside("rm", "tiny")
    assert gguf.read_bytes() == before


def test_pull_again_changes_nothing_and_another_file_moves_the_name(
    inside: Freehold, gguf: Path, tiny: str, tmp_path: Path
) -> None:
    def digest() -> str:
        return str(json.loads(inside("show", "tiny", "--json").stdout)["digest"])

    first = digest()
    assert inside("pull", str(gguf), "--as", "tiny").returncode == 0
    assert digest() == first
    other = write_gguf(tmp_path / "other.gguf", seed=5)
    assert inside("pull", str(other), "--as", "tiny").returncode == 0
    assert digest() != first


def test_pull_as_json(freehold: Freehold, gguf: Path) -> None:
    done = freehold("pull", str(gguf), "--as", "org/tiny:v1", "--json")
    pulled = json.loads(done.stdout)
    assert pulled["name"] == "org/tiny:v1"
    assert pulled["size"] == gguf.stat().st_size
    assert done.stderr == ""


def test_pull_dry_run_changes_nothing(inside: Freehold, gguf: Path, home: Path) -> None:
    done = inside("pull", str(gguf), "--as", "x", "--dry-run")
    assert done.stdout.startswith(f"would pull {gguf} as x: llama F32\n  read as  path, because")
    assert not home.exists()


def test_pull_shows_progress_of_large_files_in_plain_lines(freehold: Freehold, tmp_path: Path) -> None:
    large = write_gguf(tmp_path / "large.gguf", hidden=256, layers=3)
    done = freehold("pull", str(large))
    assert done.returncode == 0
    assert "copying: 100 % of" in done.stderr
    assert "\r" not in done.stderr
    assert "\x1b" not in done.stderr
    assert freehold("pull", str(large), "-q").stderr == ""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("./missing.gguf", "no file"),
        ("/no/such/folder", "no file"),
        ("missing.gguf", "no file"),
        ("hf.co/org/repo:Q4_K_M", "offline"),
        ("ollama://llama3", "offline"),
        ("https://example.com/x.bin", "no GGUF file"),
        ("llama3", "offline"),
    ],
)
def test_pull_from_where_nothing_is(
    inside: Freehold, home: Path, source: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEHOLD_OFFLINE", "1")
    assert_refused(inside("pull", source, "--as", "x"), said)
    assert not home.exists()


@pytest.mark.parametrize(
    ("content", "filename"),
    [
        (b"", "empty.gguf"),
        (b"GGUF", "short.gguf"),
        (b"GGUF\x03\x00\x00\x00" + b"\xff" * 64, "hostile.gguf"),
        (b"<html>not found</html>" * 100, "page.gguf"),
        (b"\x80\x04\x95pickle", "model.bin"),
    ],
)
def test_pull_of_what_is_no_model(inside: Freehold, home: Path, tmp_path: Path, content: bytes, filename: str) -> None:
    (tmp_path / filename).write_bytes(content)
    assert_refused(inside("pull", f"./{filename}", "--as", "x"))
    assert blobs(home) == []
    assert "x" not in names(inside)


def test_pull_of_a_truncated_model(inside: Freehold, home: Path, gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(gguf.read_bytes()[:-1000])
    assert_refused(inside("pull", "cut.gguf"), "cut.gguf")
    assert blobs(home) == []


def test_pull_of_a_folder_without_a_model(inside: Freehold, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(inside("pull", "./empty"), "empty")


def test_pull_of_a_device_or_pipe(inside: Freehold, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    assert_refused(inside("pull", "./pipe.gguf"))
    assert_refused(inside("pull", "/dev/zero", "--as", "x"))


def test_a_file_name_that_is_no_model_name_asks_for_one(inside: Freehold, gguf: Path, tmp_path: Path) -> None:
    shutil.copy(gguf, tmp_path / "my model (1).gguf")
    assert_refused(inside("pull", "./my model (1).gguf"), "--as NAME")


def test_rm_frees_the_disk(freehold: Freehold, home: Path, tiny: str) -> None:
    done = freehold("rm", "tiny")
    assert done.stdout == "removed tiny\n"
    assert "freed 496 kB" in done.stderr
    assert "tiny" not in names(freehold)
    assert_refused(freehold("rm", "tiny"))


def test_rm_keeps_what_another_name_uses(inside: Freehold, gguf: Path, tiny: str) -> None:
    inside("pull", str(gguf), "--as", "twin")
    inside("rm", "tiny")
    assert inside("fsck", "--deep").returncode == 0
    assert "twin" in names(inside)


def test_rm_of_several_is_all_or_nothing(inside: Freehold, tiny: str) -> None:
    assert_refused(inside("rm", "tiny", "nope"), "nope")
    assert "tiny" in names(inside)


def test_rm_dry_run(inside: Freehold, tiny: str) -> None:
    assert inside("rm", "tiny", "--dry-run").stdout == "would remove tiny\n"
    assert json.loads(inside("rm", "tiny", "--dry-run", "--json").stdout)["removed"] == ["tiny"]
    assert "tiny" in names(inside)


def test_fsck_of_a_clean_store(inside: Freehold, tiny: str) -> None:
    done = inside("fsck")
    assert (done.returncode, done.stdout) == (0, "")
    assert "clean" in done.stderr
    assert json.loads(inside("fsck", "--deep", "--json").stdout) == {"clean": True, "findings": [], "repaired": []}


def test_fsck_of_no_store(inside: Freehold) -> None:
    assert inside("fsck").returncode == 0


def test_fsck_finds_damage(freehold: Freehold, home: Path, tiny: str) -> None:
    blob = max(blobs(home), key=lambda path: path.stat().st_size)
    status = blob.stat()
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.seek(1000)
        file.write(b"\x00\xff\x00\xff")
    os.utime(blob, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a failing disk would: nothing but the bytes
    done = freehold("fsck", "--deep")
    assert done.returncode == 1
    assert "damaged" in done.stdout
    assert "tiny" in done.stdout
    assert "freehold rm NAME" in done.stderr
    found = freehold("fsck", "--deep", "--json")
    assert found.returncode == 1
    assert any(finding["kind"] == "damaged" for finding in json.loads(found.stdout)["findings"])


def test_a_missing_blob_is_a_finding_and_rm_mends_it(inside: Freehold, home: Path, tiny: str) -> None:
    max(blobs(home), key=lambda path: path.stat().st_size).unlink()
    assert inside("fsck").returncode == 1
    assert inside("run", "tiny", "hello").returncode == 1
    assert inside("rm", "tiny").returncode == 0
    assert inside("fsck").returncode == 0


def test_prune(freehold: Freehold, home: Path, tiny: str) -> None:
    with Store.open(load({}).store) as store:
        store.add_bytes(b"x" * 5000)
    done = freehold("prune", "--dry-run")
    assert done.stdout.startswith("would free 5.0 kB: 1 blobs")
    assert json.loads(freehold("prune", "--json").stdout)["size"] == 5000
    assert freehold("prune").stdout.startswith("freed 0 B")
    assert "tiny" in names(freehold)


def test_prune_and_du_know_of_stopped_trainings(freehold: Freehold, home: Path) -> None:
    stopped, running = home / "runs" / "resumable" / "a1", home / "runs" / "resumable" / "b2"
    (stopped / "checkpoint").mkdir(parents=True)
    (stopped / "checkpoint" / "state.safetensors").write_bytes(bytes(70_000))
    with locked(running, "it"):
        (running / "half").write_bytes(bytes(30_000))
        told = json.loads(freehold("du", "--json").stdout)["trainings"]
        assert 100_000 <= told < 101_000
        assert "trainings to go on with" in freehold("du").stdout
        assert json.loads(freehold("prune", "--json").stdout)["trainings"] == 0
        planned = json.loads(freehold("prune", "--unfinished", "--dry-run", "--json").stdout)["trainings"]
        assert 70_000 <= planned < 71_000
        assert stopped.exists()
        assert "of stopped trainings" in freehold("prune", "--unfinished").stdout
        assert not stopped.exists()
        assert (running / "half").exists()


def test_fsck_mends_from_a_file(inside: Freehold, tiny: str, gguf: Path, home: Path, tmp_path: Path) -> None:
    blob = home / "store" / "blobs" / "sha256" / Digest.of_file(gguf).hex[:2] / Digest.of_file(gguf).hex
    blob.unlink()
    assert inside("fsck", "--repair").returncode == 1
    assert_refused(inside("fsck", "--from", str(gguf)), "Add --repair")
    assert_refused(inside("fsck", "--repair", "--from", str(tmp_path / "none")), "no such file or folder")
    done = inside("fsck", "--repair", "--from", str(gguf), "--json")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["repaired"][0]["model"] == "tiny"
    assert inside("fsck", "--deep").returncode == 0


def test_du(inside: Freehold, tiny: str, gguf: Path) -> None:
    done = inside("du")
    assert "tiny" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("in all: ")
    found = json.loads(inside("du", "--json").stdout)
    own = next(each["own"] for each in found["models"] if each["name"] == "tiny")
    assert own > gguf.stat().st_size
    assert found["total"] == sum(each["own"] for each in found["models"])


def test_a_quota_refuses_in_one_line(
    inside: Freehold, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_gguf(tmp_path / "more.gguf", seed=4)
    monkeypatch.setenv("FREEHOLD_QUOTA", "1000")
    assert_refused(inside("pull", str(source)), "of its quota of 1.0 kB", "FREEHOLD_QUOTA")
    assert "more" not in names(inside)
