"""Paths as people write them."""

from pathlib import Path

from freehold.core.errors import BadInput


def expanded(text: str | Path) -> Path:
    """The path with `~` and `~user` made folders. Raises BadInput for a user whose folder nobody knows."""
    if not str(text).startswith("~"):  # pathlib takes "./~name" for "~name"
        return Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise BadInput(f"{str(text)[:200]}: there is no such user", "Write the whole path, or ./~name") from error


def there(path: Path) -> bool:
    """Whether there is such a file or folder; none can have a name that is too long, or be under a file."""
    try:
        return path.exists()
    except OSError:
        return False
