"""A lock on the migrations of a database: processes that migrate it at the same time take turns.

Each of them finds the work of the one before done. Without the lock, two create the same table, and one of
them fails.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from .time_limits import lift_limits_of_transaction

try:
    import fcntl
except ImportError:  # pragma: no cover  (Windows, where only the development server runs)
    fcntl = None  # type: ignore[assignment]

POLL_SECONDS = 0.2
REMINDER_SECONDS = 60
# PostgreSQL's advisory locks are numbers of 64 bits, one set of them for each database.
LOCK_KEY = int.from_bytes(b"demouser", "big")


class AdvisoryLock:  # pragma: no cover  (PostgreSQL: the suite has one with TEST_DATABASE_URL alone)
    """An advisory lock of PostgreSQL, which frees it when the connection of its holder ends.

    The lock belongs to a transaction, since behind PgBouncer a session is not one client's. The transaction
    has a connection of its own: migrations begin and commit others.
    """

    def __init__(self, database: BaseDatabaseWrapper) -> None:
        """Prepare a second connection to a database."""
        self._connection = database.copy()

    def acquire(self) -> bool:
        """Take the lock if it is free, and return whether it was; raises OperationalError.

        No transaction waits for it: that would hold a server connection of PgBouncer, which the holder of the
        lock may need, and a snapshot, which CREATE INDEX CONCURRENTLY waits for.
        """
        with self._connection.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            lift_limits_of_transaction(cursor)  # which is idle for as long as the migrations take
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK_KEY])
            acquired: bool = cursor.fetchone()[0]
            if not acquired:
                cursor.execute("ROLLBACK")
        return acquired

    def close(self) -> None:
        """Free the lock."""
        with suppress(Error), self._connection.cursor() as cursor:
            cursor.execute("ROLLBACK")
        self._connection.close()


class FolderLock:
    """A lock on the folder of SQLite's file, which the system frees when its holder ends.

    A lock of SQLite itself would keep the migrations out, and a file for the lock alone would be left behind.
    Where the folder cannot be locked, the lock binds nobody.
    """

    def __init__(self, database: BaseDatabaseWrapper) -> None:
        """Open the folder; what is wrong with it, SQLite says itself."""
        self._folder: int | None = None
        if fcntl:
            with suppress(OSError):
                self._folder = os.open(Path(database.settings_dict["NAME"]).parent, os.O_RDONLY)

    def acquire(self) -> bool:
        """Take the lock if it is free, and return whether it was."""
        if self._folder is not None:
            try:
                fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:  # a network's file system without locks
                return True
        return True

    def close(self) -> None:
        """Free the lock."""
        if self._folder is not None:
            os.close(self._folder)


@contextmanager
def migration_lock(database: BaseDatabaseWrapper, say: Callable[[str], object]) -> Iterator[None]:
    """Hold the lock of a database; wait while another process has it, and say so now and each minute.

    Raises OperationalError when the database cannot be reached.
    """
    lock = AdvisoryLock(database) if database.vendor == "postgresql" else FolderLock(database)
    with closing(lock):
        start = time.monotonic()
        reminders = 0
        while not lock.acquire():
            waited = time.monotonic() - start
            if waited >= reminders * REMINDER_SECONDS:
                so_far = f" Minutes so far: {waited / 60:.0f}." if reminders else ""
                say(f"Another process is migrating the database: waiting for it to end.{so_far}")
                reminders += 1
            time.sleep(POLL_SECONDS)
        yield
