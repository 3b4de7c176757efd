"""Writes that a response must not depend on: they wait neither for a lock nor for the disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction

# What SQLite is told for such a write, and told back after it: not to wait for a lock, nor for the disk.
SQLITE_PRAGMAS = {"busy_timeout": 0, "synchronous": 1}
# The shortest that PostgreSQL knows; 0 would mean no limit.
POSTGRESQL_LOCK_TIMEOUT = "1ms"


@contextmanager
def impatient() -> Iterator[None]:
    """Run the writes of a block without waiting for locks or for the disk.

    A power cut may undo them. Raises OperationalError when somebody else has locked what they write. Not
    for a block inside a transaction.
    """
    connection.ensure_connection()
    if connection.vendor == "sqlite":
        raw: Any = connection.connection
        before = {name: raw.execute(f"PRAGMA {name}").fetchone()[0] for name in SQLITE_PRAGMAS}
        try:
            set_pragmas(raw, SQLITE_PRAGMAS)
            yield
        finally:
            set_pragmas(raw, before)
    else:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{POSTGRESQL_LOCK_TIMEOUT}'")
            cursor.execute("SET LOCAL synchronous_commit = off")
            yield


def set_pragmas(raw: Any, pragmas: dict[str, int]) -> None:
    """Set some pragmas of a connection to SQLite."""
    for name, value in pragmas.items():
        raw.execute(f"PRAGMA {name} = {value}")
