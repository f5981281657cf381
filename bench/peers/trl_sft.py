"""TRL and PEFT on the rows and the adapter that bench.tune wrote: python trl_sft.py JOB.json, figures on stdout.

Runs in an environment of its own (pip install torch==2.13.0 trl peft bitsandbytes). On a GPU it takes FlashAttention,
without padding, and Liger's kernels where the environment has them.
"""

import os
from importlib.util import find_spec

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import PeftModel
from sft import Peer
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import is_flash_attn_2_available


def model(job, attention):
    options = {"attn_implementation": attention, "dtype": torch.bfloat16}
    if job["device"] == "cuda":
        options["device_map"] = {"": 0}
    if job["nf4"]:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    base = AutoModelForCausalLM.from_pretrained(job["base"], **options)
    return PeftModel.from_pretrained(base, job["adapter"], is_trainable=True)


def main():
    peer = Peer()
    job, attention, options = peer.job, peer.job["attention"], {}
    if attention == "auto":
        flash = job["device"] == "cuda" and is_flash_attn_2_available()
        attention, options = "flash_attention_2" if flash else "sdpa", {"padding_free": flash}
    if job["device"] == "cuda":
        options["use_liger_kernel"] = find_spec("liger_kernel") is not None
    peer.train(model(job, attention), AutoTokenizer.from_pretrained(job["base"]), **options)


main()
