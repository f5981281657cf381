"""A base that is a GGUF file stays as it is: its adapter is released beside it, and nothing is merged or quantised."""

import asyncio
import shutil
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from freehold import convert
from freehold.convert import quantize, to_gguf
from freehold.core.digest import Digest
from freehold.core.errors import BadModelFile, BadRecipe, FreeholdError, Unsupported
from freehold.core.event import Text
from freehold.core.name import Name
from freehold.core.request import Message, Request, Sampling
from freehold.core.settings import Settings
from freehold.engines.base import ModelFile
from freehold.engines.llamacpp import LlamaCpp
from freehold.formats.modelfile import parse
from freehold.recipes.events import RunEvent, StepBegins
from freehold.recipes.plan import plan_of
from freehold.recipes.runner import make
from freehold.recipes.schema import read
from freehold.serving.desk import Desk
from freehold.serving.ready import Own, source
from freehold.store import Store, creating
from freehold.store.check import fsck, prune
from freehold.store.importing import import_folder, import_gguf
from tests.recipes.kit import Fakes, Reciter, ReciterWorker, write_adapter, write_base, write_csv

RECIPE = """
[model]
name = "desk"
base = "{base}"
[data]
path = "desk.csv"
held_out = 0.2
{more}
"""


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quantised base; tests copy it."""
    folder = tmp_path_factory.mktemp("quantised")
    to_gguf(write_base(folder / "base"), folder / "plain.gguf")
    quantize(folder / "plain.gguf", folder / "base.Q8_0.gguf", "Q8_0", threads=1)
    return folder / "base.Q8_0.gguf"


@pytest.fixture
def shop(tmp_path: Path, file: Path) -> Path:
    """A folder with data, and the base beside it."""
    folder = tmp_path / "shop"
    folder.mkdir()
    write_csv(folder / "desk.csv")
    shutil.copyfile(file, folder / "small.gguf")
    return folder


def recipe(folder: Path, base: str = "small.gguf", more: str = "") -> Path:
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(base=base, more=more))
    return path


def _begun(events: list[RunEvent]) -> list[str]:
    return [event.task for event in events if isinstance(event, StepBegins)]


def test_the_chain(shop: Path, settings: Settings, fakes: Fakes, file: Path) -> None:
    events: list[RunEvent] = []
    outcome = make(recipe(shop), settings, on_event=events.append, tools=fakes.tools())
    assert _begun(events) == [
        "data", "base", "convert base", "tune", "convert tuned", "evaluate base", "evaluate tuned",
        "compare tuned", "gate", "release",
    ]  # fmt: skip
    assert outcome.passed
    assert [line.model for line in outcome.measured] == ["base", "tuned"]
    assert outcome.measured[1].size > outcome.measured[0].size == file.stat().st_size
    assert list(outcome.names) == ["desk", "desk:adapter"]
    assert "merge" not in fakes.calls
    assert not any(call.startswith(("convert", "quantize")) for call in fakes.calls)


def test_what_is_released_is_the_base_with_its_adapter(
    shop: Path, settings: Settings, fakes: Fakes, file: Path
) -> None:
    make(recipe(shop), settings, tools=fakes.tools())
    with Store.open(settings.store) as store:
        manifest = store.get(Name.parse("desk"))
        assert [part.role for part in manifest.parts] == ["gguf", "adapter", "recipe"]
        gguf, adapter = manifest.part("gguf"), manifest.part("adapter")
        assert gguf is not None
        assert adapter is not None
        assert gguf.digest == Digest.of_file(file)
        assert manifest.details.quantization == "Q8_0"
        loaded = Own(store, Name.parse("desk")).file()
        assert loaded.path == store.path(gguf.digest)
        assert loaded.adapters == (store.path(adapter.digest),)
        alone = store.get(Name.parse("desk:adapter"))
        assert {part.role for part in alone.parts} == {"adapter", "adapter_config", "recipe"}
        # The same adapter, converted for the same base when it is asked for at run time.
        import_gguf(store, file, Name.parse("plain"))
        chosen = source(store, "plain+desk:adapter").adapter_file()
        assert Digest.of_file(chosen) == adapter.digest
        prune(store)
        assert fsck(store, deep=True) == []


def test_evaluations_are_about_what_was_run(shop: Path, settings: Settings) -> None:
    started: list[ModelFile] = []

    class Looking(Reciter):
        async def start(self, model: ModelFile, settings: Settings) -> ReciterWorker:
            started.append(model)
            return await super().start(model, settings)

    class Watched(Fakes):
        def _engine(self) -> Reciter:
            return Looking(self)

    outcome = make(recipe(shop), settings, tools=Watched().tools())
    base, tuned = started
    assert base.path == tuned.path
    assert (len(base.adapters), len(tuned.adapters)) == (0, 1)
    with Store.open(settings.store) as store:
        for task, path in (("evaluate base", base.path), ("evaluate tuned", tuned.adapters[0])):
            report = msgspec.json.decode(store.path(Digest.parse(outcome.evidence[task])).read_bytes())
            assert {fact["subject"]["text"] for fact in report["facts"]} == {Digest.of_file(path).text}


def test_a_base_of_the_store_keeps_its_template_and_not_its_system_message(
    shop: Path, settings: Settings, fakes: Fakes
) -> None:
    template = "{% for m in messages %}{{ m.content }}!{% endfor %}"
    text = f'FROM ./small.gguf\nTEMPLATE """{template}"""\nSYSTEM Be short.\nPARAMETER temperature 0.5\n'
    with Store.open(settings.store) as store:
        creating.create(store, Name.parse("dressed"), parse(text), shop, convert)
    seen: list[str] = []
    fakes.during_training = lambda job: seen.append((job.base / "chat_template.jinja").read_text())  # type: ignore[operator]
    make(recipe(shop, "dressed"), settings, tools=fakes.tools())
    assert seen == [template]
    with Store.open(settings.store) as store:
        manifest = store.get(Name.parse("desk"))
        assert [part.role for part in manifest.parts] == ["gguf", "chat_template", "parameters", "adapter", "recipe"]
        assert manifest.lineage.base == store.resolve(Name.parse("dressed"))


def test_nothing_runs_twice(shop: Path, settings: Settings, fakes: Fakes) -> None:
    first = make(recipe(shop), settings, tools=fakes.tools())
    events: list[RunEvent] = []
    again = make(recipe(shop), settings, on_event=events.append, tools=fakes.tools())
    assert _begun(events) == []
    assert again.names == first.names
    assert {entry.state for entry in plan_of(recipe(shop), settings).entries} == {"done"}


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ('[tune]\nmethod = "full"', Unsupported, 'method = "lora"'),
        ('[quantize]\ntypes = ["Q4_K_M"]', BadRecipe, "nothing can be quantised"),
        ('[release]\nquantization = "Q4_K_M"', BadRecipe, "nothing can be quantised"),
        ('[tune]\nbase_dtype = "nf4"', BadRecipe, "base_dtype"),
        ('[tune]\nbackend = "unsloth"', BadRecipe, "backend cannot be unsloth"),
        ('[tune]\nmethod = "dora"', BadRecipe, "lengths that llama.cpp does not know"),
    ],
)
def test_what_a_gguf_base_cannot_have_is_refused(
    more: str, error: type[FreeholdError], words: str, shop: Path, settings: Settings
) -> None:
    with pytest.raises(error) as caught:
        plan_of(recipe(shop, more=more), settings)
    assert words in caught.value.line()
    assert "\n" not in caught.value.line()


def test_types_that_are_none_are_no_mistake(shop: Path, settings: Settings) -> None:
    entries = plan_of(recipe(shop, more="[quantize]\ntypes = []"), settings).entries
    assert not any(entry.task.startswith("quantize") for entry in entries)


def test_nf4_is_for_adapters(shop: Path) -> None:
    with pytest.raises(BadRecipe, match="base_dtype is for methods lora, rslora and dora"):
        read(recipe(shop, more='[tune]\nmethod = "full"\nbase_dtype = "nf4"'))


def test_files_that_cannot_be_a_base_are_refused_before_any_work(
    shop: Path, settings: Settings, fakes: Fakes, file: Path
) -> None:
    raw = file.read_bytes()
    cases = {
        "short.gguf": raw[:-10_000],
        "header.gguf": raw[:300],
        "empty.gguf": b"",
        "text.gguf": b"question,answer\n" * 40,
        "renamed.gguf": raw.replace(b"blk.0.attn_q.weight", b"blk.0.attn_z.weight"),
        "other.gguf": raw.replace(b"\x05\x00\x00\x00\x00\x00\x00\x00llama", b"\x05\x00\x00\x00\x00\x00\x00\x00mamba"),
    }
    for name, data in cases.items():
        (shop / name).write_bytes(data)
        with pytest.raises((BadModelFile, Unsupported)) as caught:
            make(recipe(shop, name), settings, tools=fakes.tools())
        assert name in caught.value.line()
    assert fakes.calls == []


def test_adapters_and_models_with_one_are_no_base(shop: Path, settings: Settings, fakes: Fakes) -> None:
    make(recipe(shop), settings, tools=fakes.tools())
    other = recipe(shop, "desk")
    other.write_text(other.read_text().replace('name = "desk"', 'name = "other"'))
    with pytest.raises(Unsupported, match="with an adapter already"):
        plan_of(other, settings)
    with pytest.raises(Unsupported, match="is an adapter"):
        plan_of(recipe(shop, "desk:adapter"), settings)
    with Store.open(settings.store) as store:
        import_folder(store, write_adapter(shop / "peft", 1), Name.parse("peft"))
    with pytest.raises(Unsupported, match="is an adapter"):
        plan_of(recipe(shop, "peft"), settings)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_with_the_real_trainer_and_llama_cpp(shop: Path, settings: Settings) -> None:
    """What is released answers, and otherwise than its base; asked for at run time the adapter does the same."""
    more = """
        [tune]
        learning_rate = 3e-3
        epochs = 6
        batch_tokens = 256
        dtype = "f32"
        threads = 1
        [evaluate]
        rows = 4
        max_tokens = 16
        [gate]
        min_gain = -1.0
    """
    outcome = make(recipe(shop, more="\n".join(line.strip() for line in more.splitlines())), settings)
    assert outcome.passed
    assert outcome.training["last_loss"] < outcome.training["first_loss"]
    with Store.open(settings.store) as store:
        evidence = store.get(Name.parse("desk")).evidence
        documents = [msgspec.json.decode(store.path(digest).read_bytes()) for digest in evidence]
        [compared] = [document for document in documents if document["kind"] == "agreement"]
        assert [each["agreement"] for each in compared["answers"]].count("other") <= 1, compared
        import_gguf(store, shop / "small.gguf", Name.parse("plain"))
        desk = Desk(settings, store, LlamaCpp())
        said = asyncio.run(_answers(desk, "desk", "plain", "plain+desk:adapter"))
    assert said[0] == said[2] != said[1]


async def _answers(desk: Desk, *names: str) -> list[str]:
    found = []
    for name in names:
        asked = Request(model=name, messages=(Message("user", "Tell me about coat hooks"),), max_tokens=12)
        sampling = Sampling(temperature=0.0)
        async with aclosing(desk.generate(msgspec.structs.replace(asked, sampling=sampling))) as events:
            found.append("".join([event.text async for event in events if isinstance(event, Text)]))
    await desk.close()
    return found
