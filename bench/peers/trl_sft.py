"""TRL and PEFT on the rows and the adapter that bench.tune wrote: python trl_sft.py JOB.json, figures on stdout.

Runs in an environment of its own (pip install torch==2.13.0 trl peft bitsandbytes).
"""

import json
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Sequential(SFTTrainer):
    """Rows in the order in which they are given."""

    def _get_train_sampler(self, *args, **kwargs):
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def create_scheduler(self, num_training_steps, optimizer=None):
        """The full rate in the first step, then a straight fall; TRL's own begins with nothing."""
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer or self.optimizer,
            lambda step: 1.0 if step == 0 else max(0, num_training_steps - step) / max(1, num_training_steps - 1),
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler


class Clock(TrainerCallback):
    """When training begins and ends, and the loss of each step."""

    def __init__(self):
        self.losses = []

    def on_train_begin(self, *args, **kwargs):
        self.begin = time.monotonic()

    def on_train_end(self, *args, **kwargs):
        self.seconds = time.monotonic() - self.begin

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in (logs or {}):
            self.losses.append(logs["loss"])


def model(job):
    options = {"attn_implementation": job["attention"], "dtype": torch.bfloat16}
    if job["nf4"]:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    base = AutoModelForCausalLM.from_pretrained(job["base"], **options)
    return PeftModel.from_pretrained(base, job["adapter"], is_trainable=True)


def main():
    job = json.load(open(sys.argv[1]))
    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    rows = [json.loads(line) for line in open(job["rows"])]
    clock = Clock()
    trainer = Sequential(
        model=model(job),
        processing_class=AutoTokenizer.from_pretrained(job["base"]),
        train_dataset=Dataset.from_list(rows),
        callbacks=[clock],
        args=SFTConfig(
            output_dir=job["out"],
            assistant_only_loss=True,
            per_device_train_batch_size=job["batch"],
            max_steps=job["steps"],
            learning_rate=job["learning_rate"],
            adam_beta2=0.95,
            weight_decay=0.0,
            max_grad_norm=1.0,
            optim="adamw_torch_fused",
            bf16=True,
            use_cpu=True,
            gradient_checkpointing=job["checkpointing"],
            max_length=4096,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
    )
    trainer.train()
    tokens = sum(len(row["input_ids"]) for row in trainer.train_dataset)
    print(json.dumps({"tokens": tokens, "seconds": clock.seconds, "losses": clock.losses}))


main()
