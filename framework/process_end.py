"""The end of a process: its connections are closed, and SQLite's file holds all that was written."""

import atexit
import sqlite3
from contextlib import closing, suppress
from multiprocessing.util import Finalize
from pathlib import Path

from django.db import connection, connections

from .connections import pool


def close_connections() -> None:
    """Close the connections of this process, and empty SQLite's write-ahead log into its file.

    SQLite does that itself when the last connection is closed, but a server's threads keep theirs until
    the process is gone. A log that outlives its service becomes part of whatever file is put in the place
    of the old one: accounts come back, or the file is damaged.
    """
    pool.close()
    connections.close_all()
    if connection.vendor != "sqlite":
        return
    path = Path(connection.settings_dict["NAME"])
    log = path.with_name(f"{path.name}-wal")
    # A process that cannot empty it leaves that to the next one: nothing is lost.
    with suppress(sqlite3.Error, OSError):
        if log.stat().st_size:
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def close_connections_at_exit() -> None:
    """Have `close_connections` called when this process ends, under every server."""
    atexit.register(close_connections)
    # A worker of granian is a child of multiprocessing, which ends without what atexit knows.
    Finalize(None, close_connections, exitpriority=0)
