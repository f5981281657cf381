"""What the peers' scripts share: their job and its rows, TRL's trainer, and what is told of it.

They speak as our trainer's process does: JSON lines on stdout, one as each step ends and one with the figures.
"""

import json
import os
import sys
import time


class Peer:
    """The job, and a way to tell of it. What libraries print is on stderr from here on."""

    def __init__(self):
        self.job = json.load(open(sys.argv[1]))
        self._reports = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def say(self, **report):
        self._reports.write(json.dumps(report) + "\n")

    def train(self, model, tokenizer, **options):
        """Train and tell of it. Unsloth changes torch and TRL, which are imported behind it for that reason."""
        import torch
        from datasets import Dataset
        from trl import SFTConfig

        job, clock = self.job, clock_of(self)
        cpu = job["device"] == "cpu"
        torch.set_num_threads(job["threads"])
        torch.manual_seed(1)
        trainer = sequential()(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list([json.loads(line) for line in open(job["rows"])]),
            callbacks=[clock],
            args=SFTConfig(
                output_dir=job["out"],
                per_device_train_batch_size=job["batch"],
                gradient_accumulation_steps=1,
                max_steps=job["steps"],
                learning_rate=job["learning_rate"],
                adam_beta2=0.95,
                weight_decay=0.0,
                max_grad_norm=1.0,
                optim="adamw_torch_fused",
                bf16=True,
                use_cpu=cpu,
                gradient_checkpointing=job["checkpointing"],
                max_length=None,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                dataloader_pin_memory=not cpu,
                **options,
            ),
        )
        trainer.train()
        peaks = {}
        if not cpu:
            peaks = {
                "peak_device": torch.cuda.max_memory_reserved(),
                "peak_allocated": torch.cuda.max_memory_allocated(),
            }
        self.say(type="result", seconds=clock.seconds, losses=clock.losses, **peaks)


def sequential():
    import torch
    from trl import SFTTrainer

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

    return Sequential


def clock_of(peer):
    from transformers import TrainerCallback

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
                self.losses.append(float(logs["loss"]))
                peer.say(type="progress", phase="training", step=state.global_step, loss=self.losses[-1])

    return Clock()
