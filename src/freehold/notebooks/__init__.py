"""Notebooks written for Unsloth, run with Freehold's own trainer.

run.run(job) -> Ran            executes a notebook in a child process and writes it with its outputs
notebook.read(path)            an .ipynb file as cells; no Jupyter is needed
shim.install(session)          stands in for `unsloth`, `trl` and `datasets`, in the child alone

The stand-ins are never importable under those names outside of a notebook's process. They say on stderr what a notebook
asks for and does not get; what would change the result silently is refused.
"""
