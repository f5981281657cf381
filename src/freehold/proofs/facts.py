"""Fact: one recorded observation."""

from typing import Literal

import msgspec

from freehold.core.digest import Digest

Grade = Literal["verified", "declared", "inferred", "unknown"]


class Fact(msgspec.Struct, frozen=True):
    """What was seen of the bytes that `subject` names.

    Verified: this program saw it. Declared: somebody says so. Inferred: follows from other facts. Unknown: nobody says.
    """

    subject: Digest
    name: str
    value: str | int | float | bool | None
    grade: Grade
