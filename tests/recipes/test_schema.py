"""A recipe is read whole or refused with the section, the key and the nearest known one."""

import tomllib
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.errors import BadRecipe
from freehold.recipes.schema import SECTIONS, SWEPT, Recipe, TuneSection, parse, read
from freehold.tuning.job import Architecture, TrainJob

HERE = Path("r.toml")
GOOD: dict[str, Any] = {"model": {"name": "desk"}, "data": {"path": "a.csv"}}


def _with(section: str, **keys: object) -> dict[str, Any]:
    return {**GOOD, section: {**GOOD.get(section, {}), **keys}}


def _refusal(values: dict[str, Any]) -> BadRecipe:
    with pytest.raises(BadRecipe) as caught:
        parse(values, HERE)
    assert caught.value.exit_code == 2
    assert caught.value.remedy
    assert "r.toml" in caught.value.message
    return caught.value


def test_defaults() -> None:
    recipe = parse(GOOD, HERE)
    assert recipe.model.base == "starter"
    assert recipe.quantize.types == ("Q4_K_M",)
    assert recipe.released_type == "Q4_K_M"
    assert recipe.gate.max_quantized_drop == 0.03
    assert recipe.data.held_out == 0.1


@pytest.mark.parametrize(
    ("section", "key", "nearest"),
    [
        ("tune", "learning_rat", "learning_rate"),
        ("tune", "epoch", "epochs"),
        ("data", "collumns", "columns"),
        ("data", "heldout", "held_out"),
        ("quantize", "type", "types"),
        ("gate", "min_f1", "min_token_f1"),
        ("evaluate", "max_token", "max_tokens"),
        ("model", "nmae", "name"),
        ("release", "tag", "tags"),
    ],
)
def test_misspelt_key_names_section_and_nearest(section: str, key: str, nearest: str) -> None:
    error = _refusal(_with(section, **{key: 1}))
    assert f"unknown key {key!r} in [{section}]" in error.message
    assert f"did you mean {nearest!r}?" in error.message
    assert nearest in error.remedy


@given(st.sampled_from(sorted(SECTIONS)), st.data())
def test_any_letter_left_out_is_found(section: str, draw: st.DataObject) -> None:
    known = SECTIONS[section].__struct_fields__
    key = draw.draw(st.sampled_from([key for key in known if len(key) > 4]))
    place = draw.draw(st.integers(0, len(key) - 1))
    broken = key[:place] + key[place + 1 :]
    if broken not in known:
        assert repr(key) in _refusal(_with(section, **{broken: 1})).message


def test_misspelt_section() -> None:
    assert "did you mean 'quantize'?" in _refusal({**GOOD, "quantise": {}}).message


def test_key_outside_of_a_section() -> None:
    assert "outside of a section" in _refusal({**GOOD, "epochs": 3}).message
    assert "not a section" in _refusal({**GOOD, "tune": 3}).message


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("tune", "rank", 0),
        ("tune", "epochs", -1),
        ("tune", "learning_rate", 1.5),
        ("tune", "method", "magic"),
        ("tune", "seed", -1),
        ("tune", "seed", 1 << 70),
        ("tune", "prompt_weight", 1.1),
        ("tune", "epochs", "three"),
        ("data", "held_out", 0),
        ("data", "columns", ["a"]),
        ("evaluate", "rows", 0),
        ("gate", "min_token_f1", 1.2),
        ("gate", "max_quantized_drop", -0.1),
        ("quantize", "types", "Q4_K_M"),
        ("model", "name", ""),
    ],
)
def test_values_out_of_bounds_name_section_and_key(section: str, key: str, value: object) -> None:
    assert f"[{section}] {key}" in _refusal(_with(section, **{key: value})).message


def test_missing_parts_are_named() -> None:
    assert "section [data] is missing" in _refusal({"model": {"name": "a"}}).message
    assert "model" in _refusal({"data": {"path": "a.csv"}}).message
    assert "[model] key name is missing" in _refusal({"model": {}, "data": {"path": "a.csv"}}).message


@pytest.mark.parametrize(
    "values",
    [
        {"model": {"name": "desk"}, "data": {}},
        _with("data", generator="g.py"),
        _with("data", held_out=1.5),
        _with("model", name="a b"),
        _with("quantize", types=["Q4_K_X"]),
        _with("release", quantization="Q8_0"),
        _with("release", tags=["a b"]),
        {**_with("tune", method="scratch"), "gate": {"min_gain": 0.1}},
    ],
)
def test_what_makes_no_sense(values: dict[str, Any]) -> None:
    _refusal(values)


@pytest.mark.parametrize("said", ["Q4_KM", "q4_k_m"])
def test_unknown_type_names_the_nearest(said: str) -> None:
    assert "did you mean 'Q4_K_M'" in _refusal(_with("quantize", types=[said])).message


@pytest.mark.parametrize(
    ("section", "key", "meant"),
    [
        ("tune", "lr", "learning_rate"),
        ("tune", "max_seq_length", "max_length"),
        ("tune", "batch_size", "batch"),
        ("tune", "LORA_R", "rank"),
        ("tune", "Epochs", "epochs"),
        ("model", "license", "licence"),
    ],
)
def test_what_others_call_a_key_is_known(section: str, key: str, meant: str) -> None:
    assert f"did you mean {meant!r}?" in _refusal(_with(section, **{key: 1})).message


def test_a_word_that_is_none_of_those_known() -> None:
    error = _refusal(_with("tune", method="LORA"))
    assert error.message.endswith("r.toml: [tune] method: 'LORA' is unknown (did you mean 'lora'?)")
    assert error.remedy == "Known: lora, rslora, dora, full, scratch"
    assert "[tune] method[1]: 'qlora' is unknown" in _refusal(_with("tune", method=["lora", "qlora"])).message
    assert _refusal(_with("tune", method="qlora")).remedy == 'It is method = "lora" with base_dtype = "nf4"'
    assert _refusal(_with("tune", log="paper")).remedy == "Known: tensorboard, wandb, trackio"


@pytest.mark.parametrize(
    "more", [{"steps": 3, "epochs": 2.0}, {"time": "5m", "epochs": 2.0}, {"steps": 3, "time": "5m"}]
)
def test_one_key_says_how_long_to_tune(more: dict[str, Any]) -> None:
    error = _refusal(_with("tune", **more))
    assert " and ".join(f"[tune] {key}" for key in ("steps", "epochs", "time") if key in more) in error.message
    assert parse(_with("tune", steps=0, epochs=2.0), HERE).tune.epochs == 2


def test_files(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="no such recipe"):
        read(tmp_path / "none.toml")
    with pytest.raises(BadRecipe, match="cannot read"):
        read(tmp_path)
    path = tmp_path / "r.toml"
    for content in (b"[model\n", b"\xff\xfe", b"a = " + b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(BadRecipe, match="is not TOML"):
            read(path)
    path.write_bytes(b"#" * (1 << 21))
    with pytest.raises(BadRecipe, match="larger"):
        read(path)


def test_a_recipe_that_notepad_saved(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(b'\xef\xbb\xbf[model]\r\nname = "a"\r\n[data]\r\npath = "x.csv"\r\n')
    file = read(path)
    assert file.recipe.model.name == "a"
    assert file.says("data", "path")


def test_paths_start_at_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('[model]\nname = "a"\n[data]\npath = "d/x.csv"\n')
    assert read(path).resolve("d/x.csv") == tmp_path / "d/x.csv"
    assert read(path).resolve("/x.csv") == Path("/x.csv")


def test_every_key_of_the_trainer_can_be_said() -> None:
    """A bound that the trainer has and the recipe lacks would be an error too late."""
    ours = {field.name: field for field in msgspec.structs.fields(TuneSection)}
    own = {"out", "train", "held_out", "base", "architecture", "seconds", "probe", "judge", "request"}
    # Rows that are tokens already come from callers, never from a recipe.
    own.add("objective")
    assert ours["objective"].default == TrainJob(out=Path(), train=Path()).objective
    for theirs in (*msgspec.structs.fields(TrainJob), *msgspec.structs.fields(Architecture)):
        if theirs.name not in own:
            kind = ours[theirs.name].type
            assert (get_args(kind)[0] if theirs.name in SWEPT else kind) == theirs.type
            assert ours[theirs.name].default == theirs.default


def test_job_carries_every_key() -> None:
    section = TuneSection(method="scratch", hidden=128, rank=3, epochs=7.0, seed=9)
    job = section.job(out=Path("o"), train=Path("t"), held_out=None, base=None)
    assert (job.method, job.architecture.hidden, job.rank, job.epochs, job.seed) == ("scratch", 128, 3, 7.0, 9)


def test_the_demo_recipe_is_one() -> None:
    from importlib import resources

    source = resources.files("freehold.assets").joinpath("demo", "recipe.toml").read_text("utf-8")
    assert isinstance(parse(tomllib.loads(source), HERE), Recipe)
