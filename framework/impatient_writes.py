"""Writes that a response must not depend on: they wait neither for a lock nor for the disk."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from django.db import connection, transaction

# What each database is told before such a write. PostgreSQL forgets it at the end of the transaction.
BEFORE = {
    "sqlite": ("PRAGMA busy_timeout = 0", "PRAGMA synchronous = NORMAL"),
    # The shortest limit that there is; 0 would mean none.
    "postgresql": ("SET LOCAL lock_timeout = '1ms'", "SET LOCAL synchronous_commit = off"),
}


@contextmanager
def impatient() -> Iterator[None]:
    """Run the writes of a block without waiting for locks or for the disk.

    A power cut may undo them. Raises OperationalError when somebody else has locked what they write. Not
    for a block inside a transaction.
    """
    milliseconds = int(connection.settings_dict["OPTIONS"].get("timeout", 0) * 1000)
    after = {"sqlite": (f"PRAGMA busy_timeout = {milliseconds}", "PRAGMA synchronous = FULL")}
    # SQLite takes these statements only outside of a transaction.
    block = transaction.atomic() if connection.vendor == "postgresql" else nullcontext()
    with block, connection.cursor() as cursor:
        try:
            for statement in BEFORE[connection.vendor]:
                cursor.execute(statement)
            yield
        finally:
            for statement in after.get(connection.vendor, ()):
                cursor.execute(statement)
