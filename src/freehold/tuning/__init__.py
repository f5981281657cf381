"""The trainer: rows of messages and a base model in, an adapter or a new model out.

launch.train(job, on_progress) -> TrainResult   runs the trainer in a child process; resumes where it stopped
                                                a checkpoint stays in job.out, which the caller removes
merge.merge(base, adapter, out)                 base + adapter as one model folder
device.find() -> Device                         what computes, and all in which its kind makes a difference
plot.draw(losses, path)                         the loss curve as PNG

Only the child imports torch. A run is a function of its job: same job, same kind of machine, same bytes.
"""
