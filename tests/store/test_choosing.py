"""Which files of a repository are the model that was asked for, from the names alone."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.errors import BadInput, FreeholdError, NotFound, Unsupported
from freehold.store.sources import choosing
from freehold.store.sources.choosing import Model, choose, folder_files, models

SHARDS = [f"model-{n:05d}-of-00002.safetensors" for n in (1, 2)]
INDEX = "model.safetensors.index.json"


def parts(stem: str, count: int, *without: int) -> list[str]:
    return [f"{stem}-{n:05d}-of-{count:05d}.gguf" for n in range(1, count + 1) if n not in without]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], []),
        (["README.md", "m.gguf.txt", "gguf", "m.GGUFX"], []),
        (["m.gguf"], [Model("", ("m.gguf",))]),
        (["m-Q4_0.GGUF"], [Model("Q4_0", ("m-Q4_0.GGUF",))]),
        (["mmproj-F16.gguf", "m-mmproj.gguf", "x/MMPROJ.gguf", "imatrix.gguf", "m.imatrix.gguf"], []),
        (["mmproj/m-Q8_0.gguf"], [Model("Q8_0", ("mmproj/m-Q8_0.gguf",))]),
        (parts("m-Q8_0", 3), [Model("Q8_0", tuple(parts("m-Q8_0", 3)))]),
        (parts("Q8_0/m", 2), [Model("Q8_0", tuple(parts("Q8_0/m", 2)))]),
        (parts("m-Q8_0", 3, 2), [Model("Q8_0", tuple(parts("m-Q8_0", 3)), "m-Q8_0-00002-of-00003.gguf")]),
        (parts("m-Q8_0", 3, 1), []),
        (["m-00001-of-00001.gguf"], [Model("", ("m-00001-of-00001.gguf",))]),
        (["m-00003-of-00002.gguf"], [Model("", ("m-00003-of-00002.gguf",))]),
    ],
)
def test_the_models_of_a_repository(names: list[str], found: list[Model]):
    assert models(names) == found
    assert models(reversed(names)) == found


def test_parts_in_capitals_are_parts():
    """As some programs write them; all parts are looked for as the first is written."""
    names = [name.replace(".gguf", ".GGUF") for name in parts("m-Q8_0", 2)]
    assert models(names) == [Model("Q8_0", tuple(names))]


def test_a_part_that_is_missing_spoils_its_own_model_only():
    names = [*parts("m-Q4_K_M", 3, 2), "m-Q8_0.gguf"]
    model, why = choose(models(names), "", "org/m")
    assert model.files == ("m-Q8_0.gguf",)
    assert why == "it is the only model there"
    assert choose(models(names), "q8_0", "org/m")[0].files == ("m-Q8_0.gguf",)
    with pytest.raises(NotFound, match="lacks m-Q4_K_M-00002-of-00003"):
        choose(models(names), "Q4_K_M", "org/m")


def test_a_repository_of_halves_only_says_what_it_lacks():
    with pytest.raises(NotFound, match="lacks m-Q4_0-00002-of-00002"):
        choose(models([*parts("m-Q4_0", 2, 2), *parts("m-Q2_K", 2, 2)]), "", "org/m")


@pytest.mark.parametrize(
    ("names", "quant", "kind", "said"),
    [
        ([], "", NotFound, "has no GGUF model"),
        ([], "Q4_0", NotFound, "It has no GGUF file"),
        (["m-Q8_0.gguf"], "Q4_0", NotFound, "It has Q8_0"),
        (["m.gguf"], "Q4_0", NotFound, "It has m.gguf"),
        (["m-Q8_0.gguf"], "\x1b[2J", NotFound, "no \\x1b[2J"),
        (["a-Q4_0.gguf", "b-Q4_0.gguf"], "q4_0", BadInput, "Name one: hf://org/m//a-Q4_0.gguf"),
        (["a.gguf", "b.gguf"], "", BadInput, "2 models of that type: a.gguf, b.gguf"),
        ([f"{n}.gguf" for n in range(9)], "", BadInput, "9 models of that type: 0.gguf, 1.gguf, 2.gguf, 3.gguf"),
    ],
)
def test_what_cannot_be_chosen(names: list[str], quant: str, kind: type[FreeholdError], said: str):
    with pytest.raises(kind) as caught:
        choose(models(names), quant, "org/m")
    assert said in caught.value.line()
    assert caught.value.line().isprintable()


@given(st.permutations([*choosing.PREFERRED, "Q2_K", "UD-Q4_K_M", "UD-Q8_0"]), st.integers(1, 10))
def test_the_choice_does_not_depend_on_the_order(quants: list[str], count: int):
    names = [f"m-{quant}.gguf" for quant in quants[:count]]
    model, why = choose(models(names), "", "org/m")
    random.Random(1).shuffle(names)
    assert choose(models(names), "", "org/m") == (model, why)
    assert model.quant in quants[:count]
    for quant in quants[:count]:
        assert choose(models(names), quant.lower(), "org/m")[0].quant == quant


@given(st.lists(st.text(max_size=30).map(lambda text: f"{text}.gguf"), max_size=6), st.text(max_size=8))
def test_any_names_give_a_model_or_one_line(names: list[str], quant: str):
    try:
        model, _ = choose(models(names), quant, "org/m")
    except FreeholdError as error:
        assert error.line().isprintable()  # noqa: PT017
    else:
        assert set(model.files) <= set(names)


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["config.json", "model.safetensors"], ["config.json", "model.safetensors"]),
        (["config.json", "model.safetensors", "x.py", "a/model.safetensors", ".env", "README.md"],
         ["README.md", "config.json", "model.safetensors"]),
        (["config.json", INDEX, *SHARDS], ["config.json", INDEX, *SHARDS]),
        (["config.json", INDEX, *SHARDS, "model.safetensors"], ["config.json", INDEX, *SHARDS]),
        (["config.json", INDEX, "model.safetensors"], ["config.json", "model.safetensors"]),
        (["config.json", "model.safetensors", "adapter_config.json", "adapter_model.safetensors"],
         ["config.json", "model.safetensors"]),
        (["adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "adapter_model.bin"],
         ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"]),
        (["config.json", "model.safetensors", "modules.json", "1_Pooling/config.json", "2_Normalize/config.json"],
         ["config.json", "modules.json", "1_Pooling/config.json", "model.safetensors"]),
    ],
)  # fmt: skip
def test_the_files_of_a_folder(names: list[str], taken: list[str]):
    assert folder_files(names, "org/m") == taken


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ([], NotFound),
        (["config.json"], NotFound),
        (["model.safetensors"], NotFound),
        (["config.json", *SHARDS], NotFound),
        (["config.json", "model.safetensors.bak"], NotFound),
        (["config.json", "pytorch_model.bin"], Unsupported),
        (["config.json", "model.ckpt", INDEX], Unsupported),
        (["adapter_config.json"], NotFound),
        (["adapter_config.json", "adapter_model.bin"], Unsupported),
        (["config.json", "a/pytorch_model.bin"], NotFound),
    ],
)
def test_folders_without_a_model(names: list[str], kind: type[FreeholdError]):
    with pytest.raises(kind, match="org/m"):
        folder_files(names, "org/m")
