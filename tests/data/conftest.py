"""Data files of each kind, written where a test wants them."""

from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[[str, str | bytes], Path]

PAIRS = [
    ("How do I renew a book?", "Open My Loans and press Renew."),
    ("When do you close on Sunday?", "We close at four on Sundays."),
    ("Where can I print a page?", "The printer is beside the front desk."),
    ("Can my dog come inside?", "Only assistance dogs may come in."),
    ("What does a lost card cost?", "A new card costs two pounds."),
    ("Is there parking nearby?", "Park behind the building for free."),
    ("Do you lend board games?", "Yes, for two weeks at a time."),
    ("May I eat at the desks?", "Please eat in the café only."),
    ("Who runs story time?", "Our children's librarian does."),
    ("How many items may I borrow?", "Twenty items at once."),
    ("Why was I charged a fine?", "Items were returned late."),
    ("Which room holds the archive?", "The archive is on floor three."),
]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file by name and give its path."""

    def put(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return put
