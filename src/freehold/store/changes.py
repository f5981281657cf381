"""Changes: whether anything was written to a catalog since one looked, for less than reading it costs."""

import sqlite3
from pathlib import Path

Mark = tuple[int, int]


class Changes:
    """Watches one catalog through a connection of its own, which never writes. Not for several threads at once.

    SQLite counts the commits that other connections make: https://www.sqlite.org/pragma.html#pragma_data_version
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def mark(self) -> Mark | None:
        """The same as before if nothing was written meanwhile; None when that cannot be told without waiting."""
        try:
            inode = self._path.stat().st_ino
            if self._connection is None or inode != self._inode:  # a copy was put in its place
                self.close()
                # Another thread than the one that looks may be the last to know of this.
                self._connection = sqlite3.connect(
                    f"{self._path.as_uri()}?mode=ro", uri=True, timeout=0, check_same_thread=False
                )
                self._inode = inode
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except (OSError, sqlite3.Error):
            return None
        return inode, int(version)

    def close(self) -> None:
        """Look no more."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        self.close()
