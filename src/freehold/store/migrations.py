"""How a catalog of an earlier version becomes one of this version: one step for each, in one transaction each.

The version is SQLite's user_version, which the same transaction sets: a kill leaves a catalog of the one version or of
the other, whole. A step that was released is never changed; a later one is added.
"""

from collections.abc import Callable

from sqlalchemy import Connection, Table

from freehold.store import tables

Step = Callable[[Connection], None]


def _create(*added: Table) -> Step:
    def step(connection: Connection) -> None:
        for table in added:
            table.create(connection)

    return step


STEPS: tuple[Step, ...] = (
    _create(tables.blobs, tables.manifests, tables.names, tables.leases, tables.steps, tables.step_digests),
    _create(tables.models, tables.scrubs),
)
SCHEMA = len(STEPS)
"""The version that this program writes."""


def version(connection: Connection) -> int:
    """The version of an open catalog; 0 for an empty one."""
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def upgrade(connection: Connection) -> bool:
    """Take the next step, in a transaction of the caller's; whether there was one left."""
    reached = version(connection)  # another process may have taken it meanwhile
    if reached >= SCHEMA:
        return False
    STEPS[reached](connection)
    connection.exec_driver_sql(f"PRAGMA user_version = {reached + 1}")
    return True
