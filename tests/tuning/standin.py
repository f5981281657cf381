"""A package `unsloth` for machines without a GPU: the real one's interface, on transformers and PEFT.

`write` puts it into an interpreter of its own, since the trainer's process takes no paths from its parent.
"""

import sys
import venv
from pathlib import Path

import freehold

SOURCE = """
import json
import os
import sys
from pathlib import Path

BEFORE = [name for name in ("transformers", "peft") if name in sys.modules]

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

print("a banner on stdout")
ROOM = Path(os.environ["UNSLOTH_COMPILE_LOCATION"])
SEEN = ("UNSLOTH_DISABLE_STATISTICS", "UNSLOTH_AUTO_INSTALL", "HF_HUB_OFFLINE", "TRITON_CACHE_DIR", "HF_HOME")


def told(**facts):
    ROOM.mkdir(parents=True, exist_ok=True)
    path = ROOM / "told.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **facts}, default=str))


told(before=BEFORE, environment={name: os.environ.get(name, "") for name in SEEN})


class FastLanguageModel:
    @staticmethod
    def from_pretrained(
        model_name="unsloth/Llama-3.2-1B-Instruct", max_seq_length=2048, dtype=None, load_in_4bit=True,
        load_in_8bit=False, load_in_16bit=False, full_finetuning=False, token=None, device_map="sequential",
        rope_scaling=None, fix_tokenizer=True, trust_remote_code=False, use_gradient_checkpointing="unsloth",
        resize_model_vocab=None, revision=None, use_exact_model_name=False, random_state=3407, **kwargs,
    ):
        assert kwargs.pop("local_files_only") and not kwargs, kwargs
        if load_in_4bit:
            print("bitsandbytes is unavailable here - disabling 4bit")
        told(longest=max_seq_length, way=use_gradient_checkpointing)
        network = AutoModelForCausalLM.from_pretrained(model_name, dtype=dtype, local_files_only=True)
        # As it does where a tokenizer has no token for padding.
        network.resize_token_embeddings(network.config.vocab_size + 1, mean_resizing=False)
        if TELLS:
            plain = type(network).forward

            def forward(self, input_ids, **kwargs):
                if os.environ.get("UNSLOTH_RETURN_HIDDEN_STATES", "0") != "1":
                    return plain(self, input_ids=input_ids, **kwargs)
                found = self.model(input_ids=input_ids, **kwargs)
                return type("Output", (), {"loss": None, "logits": found.last_hidden_state})()

            type(network).forward = forward
        return network, AutoTokenizer.from_pretrained(model_name)

    @staticmethod
    def get_peft_model(
        model, r=16, target_modules=(), lora_alpha=16, lora_dropout=0.0, bias="none",
        use_gradient_checkpointing="unsloth", random_state=3407, use_rslora=False, **kwargs,
    ):
        torch.manual_seed(random_state)
        made = get_peft_model(
            model,
            LoraConfig(
                r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout, bias=bias, target_modules=target_modules,
                use_rslora=use_rslora, task_type="CAUSAL_LM", **kwargs,
            ),
        )
        if use_gradient_checkpointing:
            made.gradient_checkpointing_enable()
            made.enable_input_require_grads()
        return made

    @staticmethod
    def for_training(model, use_gradient_checkpointing=None):
        model.train()
"""
NO_GPU = 'raise NotImplementedError("Unsloth cannot find any torch accelerator? You need a GPU.\\nOr two.")\n'
LACKING = "import a_package_that_nobody_has\n"


def write(folder: Path, source: str = SOURCE, *, tells: bool = True) -> Path:
    """Make an interpreter that has all that this one has, and the package; the folder that the package lies in.

    Without `tells` its models give logits whatever they are asked for, as the real one's do for some families.
    """
    venv.create(folder, symlinks=True)
    [packages] = folder.glob("lib/python*/site-packages")
    known = [str(Path(freehold.__file__).parent.parent), *(path for path in sys.path if Path(path).is_dir())]
    (packages / "known.pth").write_text("\n".join(known) + "\n")
    (packages / "unsloth").mkdir()
    (packages / "unsloth" / "__init__.py").write_text(f"TELLS = {tells}\n{source}")
    about = packages / "unsloth-2026.10.9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: unsloth\nVersion: 2026.10.9\n")
    return packages
