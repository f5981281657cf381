"""Every field that a client can send has a declared maximum, in every dialect."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from freehold import dialects

NEEDED = {
    "string": {"maxLength", "pattern", "enum"},
    "array": {"maxItems"},
    "number": {"maximum"},
    "integer": {"maximum", "exclusiveMaximum"},
}
"""What bounds a value of each kind in a JSON schema. Free-form objects are bounded by the body alone."""


def kinds() -> Iterator[type[msgspec.Struct]]:
    for found in pkgutil.walk_packages(dialects.__path__, "freehold.dialects."):
        if found.name.endswith("schema"):
            module = importlib.import_module(found.name)
            for name, kind in vars(module).items():
                if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and not name.startswith("_"):
                    yield kind


def test_every_dialect_has_a_schema():
    found = {kind.__module__.split(".")[2] for kind in kinds()}
    assert found == {package.name for package in pkgutil.iter_modules(dialects.__path__)}


def bounded(form: Any) -> bool:
    options = [option for option in form.get("anyOf", [form]) if option.get("type") in NEEDED]
    inner = [option["items"] for option in options if isinstance(option.get("items"), dict)]
    return all(NEEDED[option["type"]] & set(option) for option in options) and all(map(bounded, inner))


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: f"{kind.__module__.split('.')[2]}.{kind.__name__}")
def test_every_field_declares_a_bound(kind: type[msgspec.Struct]):
    for name, part in msgspec.json.schema(kind)["$defs"].items():
        for field, form in part.get("properties", {}).items():
            assert bounded(form), f"{name}.{field} has no bound"
