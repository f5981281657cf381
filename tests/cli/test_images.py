"""A model that sees, from its two files to an answer about an image, as a person types it."""

import json
from pathlib import Path

import pytest

from freehold.cli import _llama_server
from freehold.cli._llama_arguments import parse
from freehold.core.errors import NotFound, Unsupported
from freehold.core.name import Name
from freehold.core.settings import load
from freehold.store import Store
from tests.cli.conftest import Freehold, assert_refused
from tests.pictures import picture
from tests.tinyvision import TOKENS, write_projector

SHORT = ("--max-tokens", "8", "--seed", "1", "--temperature", "0")


@pytest.fixture
def mmproj(tmp_path: Path) -> Path:
    return write_projector(tmp_path / "mmproj-tiny.gguf")


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    for color in ("red", "blue"):
        (tmp_path / f"{color}.png").write_bytes(picture(color))
    return ["red.png", "blue.png"]


@pytest.fixture
def eye(inside: Freehold, gguf: Path, mmproj: Path) -> str:
    done = inside("pull", str(gguf), "--mmproj", "./mmproj-tiny.gguf", "--as", "eye")
    assert done.returncode == 0, done.stderr
    return "eye"


def test_a_pair_of_files_becomes_one_model(inside: Freehold, eye: str, tmp_path: Path, mmproj: Path) -> None:
    shown = json.loads(inside("show", eye, "--json").stdout)
    assert [(part["role"], part["filename"]) for part in shown["manifest"]["parts"]] == [
        ("gguf", "tiny.gguf"),
        ("projector", "mmproj-tiny.gguf"),
    ]
    assert shown["projector"]["kind"] == "mlp"
    assert TOKENS <= shown["projector"]["tokens"] <= 100
    told = inside("show", eye).stdout
    assert "a projector of kind mlp, at most" in told
    assert "FROM ./mmproj-tiny.gguf" in inside("show", eye, "--modelfile").stdout
    blind = json.loads(inside("show", "starter", "--json").stdout)
    assert blind["projector"] is None
    assert inside("cp", eye, "./out").returncode == 0
    assert (tmp_path / "out" / "mmproj-tiny.gguf").read_bytes() == mmproj.read_bytes()
    assert inside("fsck", "--deep").returncode == 0


def test_the_plan_counts_the_projector(inside: Freehold, gguf: Path, mmproj: Path) -> None:
    plans = [
        json.loads(inside("pull", str(gguf), *more, "--dry-run", "--json").stdout)
        for more in ((), ("--mmproj", str(mmproj)), ("--mmproj", "none"))
    ]
    needs = [plan["outlook"]["contexts"][0]["needed"] for plan in plans]
    assert needs[1] > needs[0] + mmproj.stat().st_size
    assert needs[2] == needs[0]
    assert plans[1]["size"] == plans[0]["size"] + mmproj.stat().st_size
    assert f"with the projector {mmproj}" in plans[1]["choice"]


def test_wrong_pairs(inside: Freehold, gguf: Path, mmproj: Path, tmp_path: Path) -> None:
    assert_refused(inside("pull", str(gguf), "--mmproj", str(gguf)), "no projector")
    assert_refused(inside("pull", str(gguf), "--mmproj", "gone.gguf"), "gone.gguf")
    assert_refused(inside("pull", str(mmproj)), "not a model")
    (tmp_path / "cut.gguf").write_bytes(mmproj.read_bytes()[:500])
    assert_refused(inside("pull", str(gguf), "--mmproj", "cut.gguf"), "cut.gguf")


def test_a_question_about_an_image(freehold: Freehold, eye: str, photos: list[str]) -> None:
    answers = {}
    for photo in photos:
        done = freehold("run", eye, "What is this?", "--image", photo, *SHORT, "--json")
        assert done.returncode == 0, done.stderr
        answers[photo] = json.loads(done.stdout)
    assert answers["red.png"]["text"] != answers["blue.png"]["text"]
    plain = json.loads(freehold("run", eye, "What is this?", *SHORT, "--json").stdout)
    both = json.loads(
        freehold("run", eye, "What is this?", "--image", photos[0], "--image", photos[1], *SHORT, "--json").stdout
    )
    tokens = [told["usage"]["prompt_tokens"] for told in (plain, answers["red.png"], both)]
    assert tokens == [tokens[0], tokens[0] + TOKENS, tokens[0] + 2 * TOKENS]


def test_the_server_sees_the_same(freehold: Freehold, eye: str, photos: list[str], server: str) -> None:
    said = [freehold("run", eye, "What?", "--image", photo, *SHORT).stdout for photo in (*photos, photos[0])]
    assert said[0] == said[2] != said[1]
    assert_refused(freehold("run", "tiny", "What?", "--image", photos[0]), "tiny does not see images")


def test_images_that_cannot_be_shown(inside: Freehold, eye: str, tiny: str, photos: list[str], tmp_path: Path) -> None:
    (tmp_path / "text.png").write_bytes(b"hello")
    (tmp_path / "half.png").write_bytes(picture(size=(200, 200))[:200])
    for file, said in (("gone.png", "gone.png"), ("text.png", "text.png: an image is no PNG"), (".", "regular file")):
        assert_refused(inside("run", eye, "What?", "--image", file), said)
    assert_refused(inside("run", eye, "What?", "--image", "half.png", *SHORT), "cannot be read")
    assert_refused(inside("run", tiny, "What?", "--image", photos[0]), "tiny does not see images")
    assert_refused(inside("run", eye, "--image", photos[0]), "no prompt")


def test_a_quantised_model_still_sees(inside: Freehold, eye: str) -> None:
    done = inside("quantize", eye, "--to", "Q8_0", "--as", "small")
    assert done.returncode == 0, done.stderr
    parts = json.loads(inside("show", "small", "--json").stdout)["manifest"]["parts"]
    whole = json.loads(inside("show", eye, "--json").stdout)["manifest"]["parts"]
    assert parts[1] == whole[1]
    assert parts[1]["role"] == "projector"


def test_llama_servers_own_arguments(eye: str, home: Path, gguf: Path, mmproj: Path, tmp_path: Path) -> None:
    settings = load({})
    with Store.open(settings.store) as store:

        def eye_of(line: str) -> bool:
            sole = _llama_server._sole(parse(line.split(), {}), settings, store)
            assert sole is not None
            assert (sole.file().projector is None) == (sole.eye() is None)
            return sole.eye() is not None

        assert eye_of(f"-m {gguf} --mmproj {mmproj}")
        assert eye_of(f"-m {gguf} -mm {mmproj} --image-max-tokens 64 --no-mmproj-offload")
        assert not eye_of(f"-m {gguf}")
        assert eye_of("-m eye")
        assert not eye_of("-m eye --no-mmproj")
        assert store.get(Name.parse("eye")).part("projector") is not None
        with pytest.raises(NotFound, match="there is no projector"):
            eye_of(f"-m {gguf} --mmproj {tmp_path}/gone.gguf")
        with pytest.raises(Unsupported, match="no projector"):
            eye_of(f"-m {gguf} --mmproj {gguf}")
