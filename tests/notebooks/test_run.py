"""Whole notebooks, as a user runs them: a process of their own, no Jupyter, outputs in the file that is written."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from freehold.cli import notebook as verb
from freehold.core.errors import BadInput, NotEnoughMemory
from freehold.notebooks.job import NotebookJob
from freehold.notebooks.run import run as execute
from tests.recipes.kit import write_base

SFT = [
    "%%capture\n!pip install unsloth",
    "from unsloth import FastLanguageModel\nimport torch\nmax_seq_length = 512\n"
    "model, tokenizer = FastLanguageModel.from_pretrained(\n"
    '    model_name = "unsloth/Some-3B", max_seq_length = max_seq_length, dtype = None, load_in_4bit = True)',
    'model = FastLanguageModel.get_peft_model(model, r = 4, target_modules = ["q_proj", "k_proj", "v_proj", "o_proj",\n'
    '    "gate_proj", "up_proj", "down_proj"], lora_alpha = 8, lora_dropout = 0, bias = "none",\n'
    '    use_gradient_checkpointing = "unsloth", random_state = 3407)',
    "from unsloth.chat_templates import get_chat_template, standardize_sharegpt\n"
    "from datasets import load_dataset\n"
    'tokenizer = get_chat_template(tokenizer, chat_template = "chatml")\n'
    "def render(examples):\n"
    "    return {'text': [tokenizer.apply_chat_template(c, tokenize = False) for c in examples['conversations']]}\n"
    'dataset = standardize_sharegpt(load_dataset("org/chats", split = "train")).map(render, batched = True)\n'
    'dataset[0]["text"]',
    "from trl import SFTConfig, SFTTrainer\nfrom transformers import TrainingArguments\n"
    "trainer = SFTTrainer(model = model, tokenizer = tokenizer, train_dataset = dataset,\n"
    '    dataset_text_field = "text", max_seq_length = max_seq_length, args = SFTConfig(\n'
    "        per_device_train_batch_size = 2, gradient_accumulation_steps = 2, warmup_steps = 1, max_steps = 60,\n"
    '        learning_rate = 5e-3, logging_steps = 1, optim = "adamw_8bit", lr_scheduler_type = "linear"))\n'
    "from unsloth.chat_templates import train_on_responses_only\n"
    "trainer = train_on_responses_only(trainer)",
    "stats = torch.cuda.get_device_properties(0)\nprint(stats.name, stats.total_memory > 0)",
    "trained = trainer.train()\nprint(trained.global_step, trained.metrics['train_runtime'] > 0)",
    "FastLanguageModel.for_inference(model)\n"
    'inputs = tokenizer.apply_chat_template([{"role": "user", "content": "Who?"}], tokenize = True,\n'
    '    add_generation_prompt = True, return_tensors = "pt").to("cuda")\n'
    "from transformers import TextStreamer\n"
    "_ = model.generate(input_ids = inputs, streamer = TextStreamer(tokenizer, skip_prompt = True),\n"
    "    max_new_tokens = 4, use_cache = True)\n"
    "tokenizer.batch_decode(model.generate(input_ids = inputs, max_new_tokens = 2))",
    'inputs = tokenizer(["Who?"], return_tensors = "pt").to("cuda")\n'
    "model.generate(**inputs, max_new_tokens = 2).shape",
    'model.save_pretrained("lora")\ntokenizer.save_pretrained("lora")\n'
    'model.save_pretrained_merged("merged", tokenizer, save_method = "merged_16bit")\n'
    'model.save_pretrained_gguf("gguf", tokenizer, quantization_method = ["q8_0", "f16"])',
    'again, _ = FastLanguageModel.from_pretrained("lora")\n'
    "torch.equal(again.live().get_input_embeddings().weight, model.live().get_input_embeddings().weight)",
    'if False: model.push_to_hub("me/model", token = "t")',
]


def write(path: Path, sources: list[str]) -> Path:
    cells = [{"cell_type": "code", "source": source, "metadata": {}, "outputs": []} for source in sources]
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))
    return path


def run(path: Path, *args: str) -> "tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]":
    """The command's end, and the code cells of what it wrote."""
    out = path.with_name("out.ipynb")
    done = subprocess.run(
        [sys.executable, "-m", "freehold", "notebook", "run", str(path), "--out", str(out), *args],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_TOKEN": "hf_secret"},
        timeout=600,
    )
    return done, json.loads(out.read_text())["cells"] if out.exists() else []


def printed(cell: dict[str, Any]) -> str:
    return "".join(output["text"] for output in cell["outputs"] if output["output_type"] == "stream")


def shown(cell: dict[str, Any]) -> str:
    return str(cell["outputs"][-1]["data"]["text/plain"])


def test_cells_run_in_order_up_to_an_error(home: Path, tmp_path: Path) -> None:
    sources = [
        "!pip install x",
        "count = 3\nprint(count)\ncount * 2",
        "import os, unsloth, trl\nos.environ.get('HF_TOKEN'), os.environ['HF_HUB_OFFLINE'], os.path.exists('n.ipynb')",
        "def f():\n    return count\n\n\n[f(),\n 1]",
        "'push this'",
        "f();",
        "x = 1\n\nraise ValueError(f'{x} is wrong')",
        "print('never')",
    ]
    path = write(tmp_path / "n.ipynb", sources)
    done, cells = run(path, "--set", "count=5", "--set", "other=1", "--skip", "push this")
    assert done.returncode == 1, done.stderr
    assert "error: cell 7 of n.ipynb: ValueError: 1 is wrong" in done.stderr
    assert "cell 1 is skipped: it installs or downloads" in done.stderr
    assert "cell 5 is skipped: --skip push this" in done.stderr
    assert "--set other changed nothing" in done.stderr
    assert [cell["execution_count"] for cell in cells] == [None, 2, 3, 4, None, 6, 7, None]
    assert (printed(cells[1]), shown(cells[1])) == ("5\n", "10")
    assert shown(cells[2]) == "(None, '1', True)"
    assert shown(cells[3]) == "[5, 1]"
    assert cells[5]["outputs"] == []
    error = cells[6]["outputs"][-1]
    assert (error["ename"], error["evalue"]) == ("ValueError", "1 is wrong")
    assert 'File "<cell 7>", line 3' in "".join(error["traceback"])
    assert "never" not in done.stdout
    assert json.loads(path.read_text())["cells"][1]["outputs"] == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--set", "max_steps"], "--set 'max_steps' sets nothing"),
        (["--skip", "("], "is no regular expression"),
        (["--model", "nothing-here"], "nothing-here"),
        (["--data", "nothing.jsonl"], "no such data file: nothing.jsonl"),
    ],
)
def test_what_cannot_be_is_refused_at_once(home: Path, tmp_path: Path, args: list[str], said: str) -> None:
    done, cells = run(write(tmp_path / "n.ipynb", ["1"]), *args)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert cells == []


ODD = [
    "import logging, os, sys, helper\nlogging.basicConfig(stream=sys.stderr, format='%(message)s')\nhelper.x",
    "%%capture\nlogging.warning('second')\nclass A:\n    pass",
    "import pickle\n\ntype(pickle.loads(pickle.dumps(A()))) is A",
    "%time lines = open('helper.py').read()\n!ls \\\n   -l\nlines",
    "print('x' * 3000000)\nprint('more')",
    "sys.stderr.write('\\udcff\\n');",
    "sorted(name for name in os.environ if name.startswith('T_'))",
    "betas = 0\nbetas",
    "try:\n    input('Your key: ')\nexcept EOFError as error:\n    print(error)\nsys.stdout.close()",
    "import torch, threading, time\nthreading.Thread(target=time.sleep, args=(3600,)).start()\n"
    "made = torch.zeros(2, device='cuda:0'), torch.tensor([1]).to(0), torch.ones(1).cuda().to(device='cuda')\n"
    "print({str(each.to(torch.float64, non_blocking=True).device) for each in made}, flush=True)",
    "raise ValueError('one\\ntwo \\udcff')",
]
DOORS = (
    "T_TOKEN", "t_api_key", "T_AWS_ACCESS_KEY_ID", "T_CREDENTIALS", "T_MYSQL_PWD", "T_PASSPHRASE", "T_SSH_AUTH_SOCK",
    "T_SECRET", "T_PASSWD",
)  # fmt: skip


def test_an_odd_notebook_beside_odd_files(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of Python's own names lie in its folder, as they do in people's folders."""
    for name in ("code.py", "random.py", "msgspec.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong module')")
    (tmp_path / "helper.py").write_text("x = 5")
    (tmp_path / "out.ipynb").write_text("of a run before")
    for name in (*DOORS, "T_LANG", "T_PWD", "T_MODEL"):
        monkeypatch.setenv(name, "1")
    done, cells = run(write(tmp_path / "n.ipynb", ODD), "--set", "betas=(0.9,{1:2})")
    assert done.returncode == 1
    assert r"error: cell 11 of n.ipynb: ValueError: one two \udcff. What was done is in" in done.stderr
    assert done.stderr.count("error: ") == 1
    assert (shown(cells[0]), shown(cells[2]), shown(cells[3])) == ("5", "True", "'x = 5'")
    assert printed(cells[1]) == "second\n"
    assert "cell 4: not run: !ls" in done.stderr
    assert printed(cells[4]).endswith("x\n(what it printed further is not kept)\n")
    assert done.stdout.count("x") > 3_000_000, "and all of it is shown"
    assert printed(cells[5]) == "\\udcff\n"
    assert shown(cells[6]) == "['T_LANG', 'T_MODEL']"
    assert shown(cells[7]) == "(0.9, {1: 2})"
    assert printed(cells[8]) == "Your key: EOF when reading a line\n"
    assert printed(cells[9]) == "{'cpu'}\n"
    assert cells[10]["outputs"][-1]["evalue"] == "one\ntwo \\udcff"


def job(path: Path, out: Path) -> NotebookJob:
    return NotebookJob(notebook=path, out=out, home=path.parent / "home", work=path.parent / "work")


@pytest.mark.slow
def test_what_was_done_before_its_process_was_killed_is_kept(home: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "n.ipynb", ["print('done')", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"])
    out = tmp_path / "out.ipynb"
    out.write_text("of a run before")
    with pytest.raises(NotEnoughMemory, match="was killed, most likely because memory ran out"):
        execute(job(path, out))
    first, second = json.loads(out.read_text())["cells"]
    assert (printed(first), second["outputs"], second["execution_count"]) == ("done\n", [], None)


@pytest.mark.parametrize(
    ("out", "said"), [("none/out.ipynb", r"no such folder: .*none"), (".", "is a folder"), ("file/x", "no such folder")]
)
def test_a_place_where_nothing_can_be_written_is_refused_before_hours_of_work(
    tmp_path: Path, out: str, said: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=said):
        execute(job(write(tmp_path / "n.ipynb", ["open('ran', 'w')"]), tmp_path / out))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("out", ["n.ipynb", "sub/../n.ipynb", "link.ipynb"])
def test_no_notebook_is_written_over_itself(home: Path, tmp_path: Path, out: str) -> None:
    path = write(tmp_path / "n.ipynb", ["1"])
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.ipynb").symlink_to(path)
    before = path.read_bytes()
    with pytest.raises(BadInput, match="--out is the notebook itself"):
        verb.run(path, out=tmp_path / out)
    assert path.read_bytes() == before


@pytest.mark.slow
def test_an_interrupt_at_a_terminal_keeps_what_was_done(home: Path, tmp_path: Path) -> None:
    """There both processes get the signal, and the second gets it from the first again."""
    sources = ["print('done')", "open('ran', 'w').close()\nimport time\ntime.sleep(600)", "print('never')"]
    path, out = write(tmp_path / "n.ipynb", sources), tmp_path / "out.ipynb"
    command = [sys.executable, "-m", "freehold", "notebook", "run", str(path), "--out", str(out)]
    child = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "ran").exists():
        assert child.poll() is None
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "the notebook was interrupted" in said
    first, second, third = json.loads(out.read_text())["cells"]
    assert printed(first) == "done\n"
    assert second["outputs"][-1]["ename"] == "KeyboardInterrupt"
    assert third["outputs"] == []


@pytest.mark.slow
def test_a_notebook_tunes_a_local_model(home: Path, tmp_path: Path) -> None:
    write_base(tmp_path / "base")
    rows = [
        {"conversations": [{"from": "human", "value": f"Who is {n}?"}, {"from": "gpt", "value": f"{n} is Ann."}]}
        for n in range(12)
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = write(tmp_path / "n.ipynb", SFT)
    model, data = str(tmp_path / "base"), str(tmp_path / "chats.jsonl")
    done, cells = run(path, "--model", model, "--data", data, "--set", "max_steps=3")
    assert done.returncode == 0, done.stderr
    assert f"unsloth/Some-3B is {model} here" in done.stderr
    assert "Who is 0?" in shown(cells[3])
    assert "True" in printed(cells[5])
    assert "step 3/3  loss" in printed(cells[6])
    assert printed(cells[6]).endswith("3 True\n")
    assert "<|im_start|>" in shown(cells[7])
    assert shown(cells[8]).startswith("torch.Size([1, ")
    assert shown(cells[10]) == "True"
    assert json.loads((tmp_path / "lora" / "adapter_config.json").read_text())["r"] == 4
    assert (tmp_path / "merged" / "model.safetensors").exists()
    assert {each.name for each in (tmp_path / "gguf").iterdir()} == {"model.Q8_0.gguf", "model.F16.gguf"}
    assert not (home / "store" / "rooms").exists() or list((home / "store" / "rooms").iterdir()) == []


def test_a_device_context_holds_for_what_a_notebook_makes(home: Path, tmp_path: Path) -> None:
    """Libraries load models in "meta" and ask whether they are in it."""
    made = "torch.tensor([]), torch.zeros(2), torch.zeros(2, device='cuda'), torch.arange(2)"
    source = f"import torch\nwith torch.device('meta'):\n    made = {made}\n[each.device.type for each in made]"
    done, cells = run(write(tmp_path / "n.ipynb", [source]))
    assert done.returncode == 0, done.stderr
    elsewhere = "cuda" if torch.cuda.is_available() else "cpu"
    assert shown(cells[0]) == f"['meta', 'meta', '{elsewhere}', 'meta']"


GREEDY = [
    "from unsloth import FastLanguageModel\n"
    'model, tokenizer = FastLanguageModel.from_pretrained("starter")\n'
    'chat = [{"role": "user", "content": "Ann has the key. Who has the key?"}]\n'
    "inputs = tokenizer.apply_chat_template(chat, add_generation_prompt = True, return_tensors = 'pt')\n"
    "def answer(model):\n"
    "    return model.generate(input_ids = inputs, max_new_tokens = 12, do_sample = False)[0].tolist()\n"
    "answer(model)",
    "from datasets import Dataset\nfrom trl import SFTConfig, SFTTrainer\n"
    'texts = Dataset.from_list([{"text": "Ann has the key. Who has the key? Bea."}] * 4)\n'
    "model = FastLanguageModel.get_peft_model(model, r = 4)\n"
    "SFTTrainer(model = model, tokenizer = tokenizer, train_dataset = texts, args = SFTConfig(\n"
    "    max_steps = 3, learning_rate = 1e-3)).train()\n"
    'model.save_pretrained("lora")\nmodel.save_pretrained_merged("merged", tokenizer)\nanswer(model)',
    'answer(FastLanguageModel.from_pretrained("lora")[0])',
]


@pytest.mark.slow
def test_a_notebooks_model_answers_as_transformers_has_it(home: Path, tmp_path: Path) -> None:
    done, cells = run(write(tmp_path / "n.ipynb", GREEDY))
    assert done.returncode == 0, done.stderr
    with resources.as_file(resources.files("freehold.assets").joinpath("starter")) as shipped:
        expected = [greedy(folder) for folder in (shipped, tmp_path / "merged", tmp_path / "merged")]
    assert [ast.literal_eval(shown(cell)) for cell in cells] == expected


def greedy(folder: Path) -> list[int]:
    """What transformers alone makes of the same question."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": "Ann has the key. Who has the key?"}]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return list(model.generate(**inputs, max_new_tokens=12, do_sample=False)[0].tolist())
