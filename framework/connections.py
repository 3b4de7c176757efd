"""A few database connections, shared by the many threads of a server process.

Django keeps a connection for each thread. Here threads are many, since most of them wait for a password to
be hashed, and a PostgreSQL server takes a hundred connections by default. So a request borrows a connection
when it first asks the database something, and gives it back when it waits for a hash and when it ends. To
swap a whole `DatabaseWrapper` costs a request next to nothing, where Django's own pool opens and resets the
wrapper each time.

Commands and other threads that serve no request keep a connection of their own, as in any Django project.
"""

from __future__ import annotations

import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import DEFAULT_DB_ALIAS, DatabaseError, OperationalError, close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from .fair_queue import FairQueue, QueueFullError

# As many as a process may hold; threads beyond that wait, the longest first.
POOL_SIZE = 8
# A request without a connection by then gets a 503.
POOL_SECONDS = 5


class ConnectionPool:
    """The connections of a process, and which thread has borrowed which."""

    def __init__(self, size: int = POOL_SIZE, seconds: float = POOL_SECONDS) -> None:
        """Make an empty pool of at most `size` connections, for which a thread waits at most `seconds`."""
        self.size = size
        self.connections: list[BaseDatabaseWrapper] = []
        # Called with 1 when a connection is lent, and with -1 when it is given back.
        self.observers: list[Callable[[int], None]] = []
        self._idle: list[BaseDatabaseWrapper] = []
        self._queue = FairQueue(size, sys.maxsize, seconds)
        self._local = threading.local()
        self._create_connection = connections.create_connection

    def install(self) -> None:
        """Have Django ask this pool whenever a thread needs a connection and has none."""
        connections.create_connection = self.create_connection  # type: ignore[method-assign]

    @contextmanager
    def request(self) -> Iterator[None]:
        """Lend connections to this thread until the block ends, which gives back what it holds.

        A thread that has connections of its own keeps them, unless they are broken or too old.
        """
        self._local.serving = True
        try:
            yield
        finally:
            self._local.serving = False
            self.give_back()
            if getattr(self._local, "has_own", False):
                close_old_connections()

    def create_connection(self, alias: str) -> BaseDatabaseWrapper:
        """Return a connection for this thread: a borrowed one while it serves a request.

        Raises OperationalError when all of them stay in use.
        """
        if alias != DEFAULT_DB_ALIAS or not getattr(self._local, "serving", False):
            self._local.has_own = True
            return self._create_connection(alias)
        borrowed = self._local.borrowed = self._borrow()
        if is_cut(borrowed):
            borrowed.close()  # the next statement opens it again
        return borrowed

    def give_back(self) -> None:
        """Give back the connection that this thread has borrowed, if any, unless a transaction needs it."""
        borrowed: BaseDatabaseWrapper | None = getattr(self._local, "borrowed", None)
        if borrowed is None or borrowed.in_atomic_block:
            return
        self._local.borrowed = None
        del connections[DEFAULT_DB_ALIAS]
        if borrowed.errors_occurred:
            borrowed.close()  # rather than asking it whether it still works, and which server it leads to
        self._idle.append(borrowed)
        for observe in self.observers:
            observe(-1)
        self._queue.release()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        for each in list(self._idle):
            each.close()

    def _borrow(self) -> BaseDatabaseWrapper:
        try:
            self._queue.acquire("")
        except QueueFullError:
            raise OperationalError("all database connections of this process stay in use") from None
        for observe in self.observers:
            observe(1)
        try:
            return self._idle.pop()  # the one used last, which is least likely to have been cut
        except IndexError:  # there are fewer than there may be
            connection = self._create_connection(DEFAULT_DB_ALIAS)
            connection.inc_thread_sharing()
            self.connections.append(connection)
            return connection


def is_cut(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether the server has ended a connection, without asking it anything; not whether it can be made.

    A PostgreSQL connection that nobody uses has nothing to read, unless it was ended: by a restart, a
    failover, an administrator, or whatever stands between and has an idle time-out.
    """
    raw: Any = connection.connection
    if connection.vendor != "postgresql" or raw is None:
        return False
    if raw.closed:
        return True
    poll = select.poll()
    poll.register(raw.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def is_end_of_session(error: DatabaseError) -> bool:
    """Tell whether an error of PostgreSQL ends the session, whose connection may still look open."""
    severity = getattr(getattr(error.__cause__, "diag", None), "severity_nonlocalized", None)
    return severity in ("FATAL", "PANIC")


pool = ConnectionPool()
give_connection_back = pool.give_back
