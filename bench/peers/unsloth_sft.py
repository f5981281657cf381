"""Unsloth on the rows and the adapter that bench.tune wrote: python unsloth_sft.py JOB.json, figures on stdout.

Runs in an environment of its own (pip install unsloth). What it compiles stays in the folder it is started in.
"""

import os

os.environ["HF_HUB_OFFLINE"] = os.environ["UNSLOTH_DISABLE_STATISTICS"] = "1"

from sft import Peer

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def load(job):
    import torch
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file
    from unsloth import FastLanguageModel

    checkpointing = "unsloth" if job["checkpointing"] else False
    base, tokenizer = FastLanguageModel.from_pretrained(
        model_name=job["base"],
        max_seq_length=4096,
        dtype=torch.bfloat16,
        load_in_4bit=job["nf4"],
        use_gradient_checkpointing=checkpointing,
        use_exact_model_name=True,
        local_files_only=True,
    )
    model = FastLanguageModel.get_peft_model(
        base,
        r=16,
        lora_alpha=32,
        lora_dropout=0,
        bias="none",
        target_modules=PROJECTIONS,
        use_gradient_checkpointing=checkpointing,
    )
    start = load_file(job["adapter"] + "/adapter_model.safetensors")
    found = set_peft_model_state_dict(model, start)
    if found.unexpected_keys or any("lora_" in name for name in found.missing_keys):
        raise SystemExit(f"the adapter does not fit: {found.unexpected_keys[:3]}")
    return model, tokenizer


def main():
    peer = Peer()
    import unsloth  # noqa: F401

    peer.train(*load(peer.job))


main()
