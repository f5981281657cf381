"""Recipes: a TOML file that says how a model is made, and the runner that makes it, each step once.

schema.read(path) -> RecipeFile              the file, every key checked
plan.plan(file, store, settings) -> Plan     each task, whether it will run, and why
runner.make(path, settings, on_event=…) -> Outcome
child.main()                                 the same in a process of its own, for servers
draft.draft(path) -> Draft                   a recipe for a data file, with what was assumed

A step is one file in steps/ and registers itself by being there. A task's key is the digest of its inputs, parameters
and code; the store remembers the result of each key.
"""
