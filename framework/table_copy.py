"""A copy of all tables from SQLite to PostgreSQL, in one transaction.

The transaction is what makes it safe to interrupt: until it is committed, PostgreSQL is as it was before.
"""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from django.db.backends.base.base import BaseDatabaseWrapper

from .sqlite_tables import EXACT_TYPES, CopyError, Table, names, quoted
from .time_limits import lift_limits_of_transaction, wait_for_responses

if TYPE_CHECKING:
    from psycopg import Cursor
    from tqdm import tqdm

# What `migrate` itself puts into a new database: the rows of SQLite come in its place.
FILLED_BY_MIGRATE = ("django_content_type", "auth_permission")
# Rows that are read back from PostgreSQL at a time.
FETCHED_ROWS = 5000
LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL's manual, appendix A


class TableCopy:  # pragma: no cover  (PostgreSQL: the suite has one with TEST_DATABASE_URL alone)
    """A copy of some tables."""

    def __init__(
        self,
        source: sqlite3.Connection,
        target: BaseDatabaseWrapper,
        tables: Sequence[Table],
        bar: tqdm[Any],
    ) -> None:
        """Prepare to copy; the progress bar is told of each row twice: when it was copied, and compared."""
        self.source, self.tables, self.bar = source, tables, bar
        self.target: Any = target.copy()
        self.all = ", ".join(table.quoted for table in tables)

    def run(self) -> dict[str, int]:
        """Copy all rows and compare them with their originals; return the number of rows of each table.

        Raises CopyError and, for what is wrong with PostgreSQL itself, Django's database errors.
        """
        with self._transaction() as cursor:
            self._empty(cursor)
            counts = {table.name: self._copy(cursor, table) for table in self.tables}
            for table in self.tables:
                self._set_sequences(cursor, table)
            self.bar.set_description("Checking references")
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            for table in self.tables:
                self._compare(cursor, table)
            # PostgreSQL would plan statements for empty tables until it counts the rows by itself.
            cursor.execute(f"ANALYZE {self.all}")
        return counts

    @contextmanager
    def _transaction(self) -> Iterator[Cursor[Any]]:
        """Open a transaction without limits on time; an error closes the connection, which undoes it.

        psycopg would end it with a statement, and warn when one that was interrupted is in the way.
        """
        logging.getLogger("psycopg").setLevel(logging.ERROR)
        with closing(self.target), self.target.wrap_database_errors:
            self.target.connect()
            wait_for_responses(self.target)
            with self.target.connection.cursor() as cursor:
                cursor.execute("BEGIN")
                lift_limits_of_transaction(cursor)
                yield cursor
                cursor.execute("COMMIT")

    def _empty(self, cursor: Cursor[Any]) -> None:
        """Keep everybody else out of the tables; raise CopyError if one of them has rows."""
        try:
            cursor.execute(f"LOCK TABLE {self.all} IN ACCESS EXCLUSIVE MODE")
        except self.target.Database.OperationalError as error:
            if error.sqlstate != LOCK_NOT_AVAILABLE:
                raise
            raise CopyError("The new database is in use: stop the service first.") from None
        for table in self.tables:
            if table.name not in FILLED_BY_MIGRATE:
                cursor.execute(f"SELECT 1 FROM {table.quoted} LIMIT 1")  # noqa: S608
                if cursor.fetchone():
                    raise CopyError(
                        f"The new database has rows in {table.name}. It must be empty, but migrated."
                    )
        # Also of what interrupted copies have left on the disk.
        try:
            cursor.execute(f"TRUNCATE {self.all}")
        except self.target.Database.NotSupportedError:  # another table refers to one of them
            raise CopyError(
                "The new database has tables of an app that is not installed: run this with the settings "
                "with which it was migrated."
            ) from None

    def _copy(self, cursor: Cursor[Any], table: Table) -> int:
        """Copy the rows of a table; return how many there are."""
        count = 0
        self.bar.set_description(f"Copying {table.name}")
        try:
            with cursor.copy(f"COPY {table.quoted} ({names(table.columns)}) FROM STDIN") as copy:
                for row in table.rows(self.source, table.columns):
                    copy.write_row(row)
                    count += 1
                    self.bar.update()
        except (self.target.Database.DataError, self.target.Database.IntegrityError) as error:
            # "COPY user_user, line 3, column username", in whatever language. What psycopg refuses has none.
            line = re.search("[0-9]+", (error.diag.context or "").partition(f"{table.name},")[2])
            row_ = table.describe(self.source, int(line[0]) - 1 if line else count)
            raise CopyError(f"{row_} cannot be copied: {str(error).partition(chr(10))[0]}.") from None
        return count

    def _set_sequences(self, cursor: Cursor[Any], table: Table) -> None:
        """Let the numbers of new rows begin above all that there have been."""
        for column in table.columns:
            highest = table.highest_number(self.source, column) if column.is_serial else 0
            if highest:
                sequence = "pg_get_serial_sequence(%s, %s)"
                cursor.execute(f"SELECT setval({sequence}, %s)", [table.quoted, column.name, highest])

    def _compare(self, cursor: Cursor[Any], table: Table) -> None:
        """Raise CopyError for a row that is not as in SQLite."""
        self.bar.set_description(f"Comparing {table.name}")
        columns = [column for column in table.columns if column.type in EXACT_TYPES]
        order = ", ".join(
            quoted(column.name) + (' COLLATE "C"' if column.is_text else "")  # as SQLite sorts
            for column in table.key
        )
        with cursor.connection.cursor(name="copied") as copied:
            copied.itersize = FETCHED_ROWS
            copied.execute(f"SELECT {names(columns)} FROM {table.quoted} ORDER BY {order}")  # noqa: S608
            pairs = zip_longest(table.rows(self.source, columns), copied)
            for number, (original, copy) in enumerate(pairs):
                if original != copy:
                    row = table.describe(self.source, number) if original else f"A row of {table.name}"
                    raise CopyError(f"{row} was changed by the new database. Does it have triggers?")
                self.bar.update()
