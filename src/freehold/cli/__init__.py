"""The command line: one file per verb.

A verb is a module here whose name has no leading underscore. The first line of its docstring is what `freehold --help`
says about it; its function `command`, declared with Typer's annotations (common ones are in `_options`), parses, calls
one function and prints (through `_output`). A verb of several words declares a Typer `group` in its place. Nothing else
is edited to add one, and only the verb typed is imported. Errors are raised, never printed: `main` turns each into one
line on stderr and an exit code.
"""
