"""SQLite's files, which only their owner may read: they hold password hashes."""

import os
import sqlite3
from contextlib import suppress
from typing import Any

OWNER_ONLY = 0o600


class PrivateConnection(sqlite3.Connection):
    """A connection that makes the database file with mode 0600, whatever the umask, if there is none.

    SQLite gives the files beside it (`-wal`, `-shm`, `-journal`) the mode of the database file. The mode of a
    file that exists is its owner's choice, and stays.
    """

    def __init__(self, database: Any, *args: Any, **kwargs: Any) -> None:
        # What is wrong with the path, SQLite says itself.
        with suppress(OSError):
            os.close(os.open(database, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY))
        super().__init__(database, *args, **kwargs)
