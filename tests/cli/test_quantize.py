"""`freehold quantize`: one type or several, picked by size or by loss, with the report as evidence."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from freehold.cli.quantize import parsed_size
from freehold.convert import imatrix
from freehold.core.digest import Digest
from freehold.core.errors import BadInput
from freehold.core.manifest import Lineage, Manifest, Part
from freehold.core.name import Name
from freehold.core.request import Message
from freehold.core.settings import load
from freehold.data import Row, write_rows
from freehold.formats.gguf import read_header
from freehold.store import Store
from freehold.store.importing import import_folder, import_gguf
from tests.cli.conftest import Freehold, assert_refused, command
from tests.convert.folders import write_folder
from tests.tiny import CORPUS, write_gguf

WORDS = np.random.default_rng(0).permutation((CORPUS.split() * 40)[:1200])


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose rows every type can hold."""
    return write_gguf(tmp_path_factory.mktemp("wide") / "wide.gguf", hidden=256, layers=2)


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "text.txt").write_text(" ".join(WORDS))
    return "text.txt"


def listed(run: Freehold) -> dict[str, str]:
    entries = json.loads(run("list", "--json").stdout)
    return {entry["name"]: entry["quantization"] for entry in entries if entry["name"] != "starter"}


def leftovers(home: Path) -> list[Path]:
    return list((home / "work").iterdir())


def test_one_type(freehold: Freehold, home: Path, wide: Path) -> None:
    done = freehold("quantize", str(wide), "--to", "q4_k_m", "--as", "small")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("small: ")
    assert "Q4_K_M" in done.stdout
    assert listed(freehold) == {"small": "Q4_K_M"}
    assert leftovers(home) == []
    answer = freehold("run", "small", "Hello", "--max-tokens", "3", "--temperature", "0")
    assert answer.returncode == 0, answer.stderr


def test_the_loss_report(inside: Freehold, home: Path, wide: Path, text: str) -> None:
    done = inside("quantize", str(wide), "--to", "Q8_0,Q2_K", "--as", "small", "--text", text, "--report")
    assert done.returncode == 0, done.stderr
    head, base, worst, best, total, *_ = done.stdout.splitlines()
    assert head.split("  ")[0] == "MODEL"
    assert base.startswith("wide.gguf ")
    assert worst.startswith("Q2_K ")
    assert best.startswith("Q8_0 ")
    assert total.endswith("with an importance matrix")
    assert listed(inside) == {"small:q2_k": "Q2_K", "small:q8_0": "Q8_0"}
    shown = json.loads(inside("show", "small:q8_0", "--json").stdout)
    facts = {(fact["subject"]["text"], fact["name"]): fact for fact in shown["facts"]}
    own = shown["manifest"]["parts"][0]["digest"]
    own = own["text"] if isinstance(own, dict) else own
    divergence = facts[own, "quantization.kl_mean"]
    assert divergence["grade"] == "verified"
    assert 0 < divergence["value"] < 0.05
    assert facts[str(Digest.of_file(wide)), "quantization.perplexity"]["value"] > 1
    assert shown["manifest"]["lineage"]["source"] == "wide.gguf"
    assert inside("fsck", "--deep").returncode == 0
    assert leftovers(home) == []


def test_the_report_alone_keeps_nothing(inside: Freehold, wide: Path, text: str) -> None:
    done = inside("quantize", str(wide), "--to", "Q8_0,F32", "--text", text, "--no-imatrix", "--report", "--json")
    found = json.loads(done.stdout)
    assert done.stderr == ""
    assert listed(inside) == {}
    assert found["models"] == []
    assert found["imatrix"] is False
    assert found["predictions"] > 200
    small, same = found["candidates"]
    assert (small["type"], same["type"]) == ("Q8_0", "F32")
    assert small["loss"]["kl_mean"] > small["loss"]["kl_error"] > 0
    assert small["loss"]["kl_p99"] > small["loss"]["kl_mean"]
    assert 0.9 < small["loss"]["top1"] < 1
    assert same["loss"]["kl_mean"] < 1e-6
    assert same["loss"]["top1"] == 1
    assert same["loss"]["perplexity"] == pytest.approx(found["base"]["perplexity"], rel=1e-4)
    assert small["size"] < same["size"] == found["base"]["size"] + same["size"] - wide.stat().st_size


def test_max_kl_picks_the_smallest_type_that_satisfies(inside: Freehold, wide: Path, text: str) -> None:
    args = ("quantize", str(wide), "--text", text, "--no-imatrix", "--max-kl")
    done = inside(*args, "0.3", "--to", "Q8_0,Q6_K,Q2_K", "--as", "picked", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    tried = {each["type"]: each["loss"]["kl_mean"] for each in found["candidates"]}
    assert list(tried) == ["Q2_K", "Q6_K"]
    assert tried["Q2_K"] > 0.3 >= tried["Q6_K"]
    assert found["picked"] == "Q6_K"
    assert listed(inside) == {"picked": "Q6_K"}
    refused = inside(*args, "0.000001", "--to", "Q8_0,Q6_K", "--as", "never", "-q")
    assert_refused(refused, "Q8_0 comes nearest", "--max-kl", code=1)
    assert listed(inside) == {"picked": "Q6_K"}


def test_target_picks_the_largest_that_fits(inside: Freehold, wide: Path) -> None:
    sizes = json.loads(inside("quantize", str(wide), "--target", "1GB", "--dry-run", "--json").stdout)["candidates"]
    by_type = {each["type"]: each["size"] for each in sizes}
    assert list(by_type.values()) == sorted(by_type.values())
    assert {"Q2_K", "Q4_K_M", "Q8_0"} <= by_type.keys()
    assert not {"F32", "F16", "BF16"} & by_type.keys()
    done = inside("quantize", str(wide), "--target", str(by_type["Q6_K"]), "--to", "Q2_K,Q6_K,Q8_0", "--as", "fits")
    assert done.returncode == 0, done.stderr
    assert listed(inside) == {"fits": "Q6_K"}
    refused = inside("quantize", str(wide), "--target", "10kB", "--as", "never")
    assert_refused(refused, "comes nearest with", "10.0 kB", code=1)


def test_target_with_a_report_picks_what_loses_least(inside: Freehold, home: Path, wide: Path, text: str) -> None:
    args = ("--target", "1GB", "--to", "Q4_0,Q5_K_M", "--as", "best", "--text", text, "--report", "--json")
    done = inside("quantize", str(wide), *args)
    found = json.loads(done.stdout)
    losses = {each["type"]: each["loss"]["kl_mean"] for each in found["candidates"]}
    assert found["picked"] == min(losses, key=lambda kind: losses[kind])
    assert listed(inside) == {"best": found["picked"]}
    assert leftovers(home) == []


def test_dry_run_changes_nothing(inside: Freehold, wide: Path, home: Path) -> None:
    done = inside("quantize", str(wide), "--to", "Q4_0,Q8_0", "--as", "x", "--dry-run")
    assert [row.split()[0] for row in done.stdout.splitlines()] == ["TYPE", "Q4_0", "Q8_0"]
    assert listed(inside) == {}
    assert leftovers(home) == []


def test_an_importance_matrix_is_saved_and_used_again(inside: Freehold, wide: Path, text: str, tmp_path: Path) -> None:
    first = inside("quantize", str(wide), "--to", "Q4_K_M", "--as", "a", "--text", text, "--save-imatrix", "m.gguf")
    assert first.returncode == 0, first.stderr
    assert len(imatrix.read(tmp_path / "m.gguf").entries) == 14
    second = inside("quantize", str(wide), "--to", "Q4_K_M", "--as", "b", "--imatrix", "m.gguf")
    plain = inside("quantize", str(wide), "--to", "Q4_K_M", "--as", "c")
    files = [done.stdout.split()[-1] for done in (first, second, plain)]
    with Store.open(load({}).store) as store:
        parts = [store.get(Name.parse(name)).parts[0].digest for name in "abc"]
    assert len(set(files)) >= 2
    assert parts[0] == parts[1] != parts[2]


def test_a_model_of_the_store_keeps_its_origin(inside: Freehold, wide: Path) -> None:
    with Store.open(load({}).store) as store:
        source = import_gguf(store, wide, Name.parse("whole"), licence="MIT")
    assert inside("quantize", "whole", "--to", "Q8_0", "--as", "small").returncode == 0
    with Store.open(load({}).store) as store:
        made = store.get(Name.parse("small"))
    assert made.lineage == Lineage(base=source.digest)
    assert made.licence == "MIT"
    assert made.parts[0].filename == "small.Q8_0.gguf"


def test_safetensors_are_converted_first(inside: Freehold, home: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "folder")
    with Store.open(load({}).store) as store:
        import_folder(store, tmp_path / "folder", Name.parse("org/whole"))
    done = inside("quantize", "org/whole", "--to", "Q8_0", "--as", "org/small")
    assert done.returncode == 0, done.stderr
    assert listed(inside)["org/small"] == "Q8_0"
    assert leftovers(home) == []


def test_the_rows_that_a_recipe_held_out_are_read(inside: Freehold, wide: Path, tmp_path: Path) -> None:
    rows = [
        Row((Message("user", " ".join(WORDS[i : i + 20])), Message("assistant", " ".join(WORDS[i + 20 : i + 30]))))
        for i in range(0, 900, 30)
    ]
    write_rows(tmp_path / "held_out.jsonl", rows)
    with Store.open(load({}).store) as store, store.lease():
        held_out, _ = store.add_file(tmp_path / "held_out.jsonl")
        recipe, train = store.add_bytes(b"[model]\n"), store.add_bytes(b"{}\n")
        digest, size = store.add_file(wide)
        parts = [Part("gguf", digest, size, "m.gguf"), Part("other", held_out, 1, "h"), Part("other", train, 1, "t")]
        parts.append(Part("recipe", recipe, 8, "recipe.toml"))
        lineage = Lineage(recipe=recipe, data=(train, held_out))
        store.put(Name.parse("made"), Manifest(parts=tuple(parts), lineage=lineage))
    done = inside("quantize", "made", "--to", "Q8_0", "--report", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predictions"] > 500
    again = inside("quantize", "made", "--to", "Q8_0", "--as", "small", "-q")
    assert again.returncode == 0, again.stderr
    with Store.open(load({}).store) as store:
        assert store.get(Name.parse("small")).lineage.data == (train, held_out)


def test_what_cannot_be_quantised(inside: Freehold, home: Path, wide: Path, text: str, tmp_path: Path) -> None:
    inside("quantize", str(wide), "--to", "Q8_0", "--as", "model", "-q")
    (tmp_path / "cut.gguf").write_bytes(wide.read_bytes()[:-100])
    (tmp_path / "short.txt").write_text("Hi")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 40)
    as_x = ("--as", "x")
    cases: list[tuple[tuple[str, ...], str]] = [
        (("model", "--to", "Q4_0", *as_x), "already quantised (Q8_0)"),
        ((str(wide), "--to", "Q9_X", *as_x), "Q9_X"),
        ((str(wide), *as_x), "--to"),
        ((str(wide), "--to", "Q4_0"), "--as NAME"),
        ((str(wide), "--to", "Q4_0,Q8_0", "--as", "x:v1"), "tag"),
        ((str(wide), "--to", "Q4_0", "--as", "../x"), "not a model name"),
        (("./none.gguf", "--to", "Q4_0", *as_x), "none.gguf"),
        (("nobody", "--to", "Q4_0", *as_x), "nobody"),
        (("cut.gguf", "--to", "Q4_0", *as_x), "truncated"),
        ((str(wide), "--to", "Q4_0", *as_x, "--report"), "--text FILE"),
        ((str(wide), "--to", "Q4_0", *as_x, "--text", "short.txt"), "tokens"),
        ((str(wide), "--to", "Q4_0", *as_x, "--text", "none.txt"), "none.txt"),
        ((str(wide), "--to", "Q4_0", *as_x, "--imatrix", "bad.gguf"), "bad.gguf"),
        ((str(wide), "--to", "Q4_0", *as_x, "--imatrix", str(wide)), "not an importance matrix"),
        ((str(wide), "--to", "Q4_0", *as_x, "--save-imatrix", "m.gguf"), "--text FILE"),
        ((str(wide), "--target", "large", *as_x), "not a size"),
    ]
    for args, said in cases:
        assert_refused(inside("quantize", *args, "-q"), said)
    assert listed(inside) == {"model": "Q8_0"}
    assert leftovers(home) == []


@pytest.mark.parametrize(
    ("text", "size"), [("1.2GB", 1_200_000_000), ("900 MB", 900_000_000), ("4GiB", 4 << 30), ("12", 12), ("3k", 3000)]
)
def test_sizes(text: str, size: int) -> None:
    assert parsed_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1GB", "1e9", "GB", "1..2GB", "1 PB", "9" * 50])
def test_no_sizes(text: str) -> None:
    with pytest.raises(BadInput, match="size"):
        parsed_size(text)


@pytest.mark.slow
def test_a_kill_leaves_what_the_next_run_clears(freehold: Freehold, home: Path, tmp_path: Path, text: str) -> None:
    big = write_gguf(tmp_path / "big.gguf", hidden=512, layers=2)
    line = command("quantize", str(big), "--to", "Q2_K,Q3_K_M,Q4_K_M", "--as", "x", "--text", text, "--report")
    env = {**os.environ, "FREEHOLD_THREADS": "1"}
    with subprocess.Popen(line, stderr=subprocess.PIPE, env=env, cwd=tmp_path) as child:
        assert child.stderr is not None
        while b"quantising" not in child.stderr.readline():
            pass
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
    assert len(leftovers(home)) == 1
    assert listed(freehold) == {}
    assert freehold("quantize", str(big), "--to", "Q8_0", "--as", "x", "-q").returncode == 0
    assert leftovers(home) == []
    assert freehold("fsck", "--deep").returncode == 0


def test_ctrl_c_leaves_nothing(freehold: Freehold, home: Path, tmp_path: Path, text: str) -> None:
    big = write_gguf(tmp_path / "big.gguf", hidden=512, layers=2)
    line = command("quantize", str(big), "--to", "Q8_0", "--as", "x", "--text", text, "--report")
    env = {**os.environ, "FREEHOLD_THREADS": "1"}
    with subprocess.Popen(line, stderr=subprocess.PIPE, env=env, cwd=tmp_path) as child:
        while not list((home / "work").glob("*/distributions")):
            assert child.poll() is None
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
    assert leftovers(home) == []
    assert listed(freehold) == {}


def test_quantised_files_are_what_llama_cpp_calls_them(inside: Freehold, wide: Path) -> None:
    inside("quantize", str(wide), "--to", "Q3_K_L", "--as", "small", "-q")
    with Store.open(load({}).store) as store:
        path = store.path(store.get(Name.parse("small")).parts[0].digest)
    assert read_header(path).quantization == "Q3_K_L"
