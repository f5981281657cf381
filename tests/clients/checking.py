"""Run by a client's own interpreter, beside its checks: what each of them found. It needs nothing but Python."""

import asyncio
import inspect
import json
import traceback


def raises(kind, call):
    """The error of this kind that a call ends with."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def run(scope, failures, before=lambda: None):
    """Run what is called `check_…`, and print one JSON object: of each check nothing, or a traceback.

    `failures` are the errors that a check may fail with; any other ends the whole.
    """
    outcomes = {}
    for name, check in sorted(scope.items()):
        if not name.startswith("check_"):
            continue
        before()
        try:
            if inspect.iscoroutinefunction(check):
                asyncio.run(check())
            else:
                check()
            outcomes[name] = ""
        except failures:
            outcomes[name] = traceback.format_exc()[-3000:]
    print()  # some packages print on their own
    print(json.dumps(outcomes))
