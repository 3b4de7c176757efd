"""Copy all that a SQLite database of this service holds to PostgreSQL; stop the service first."""

import sqlite3
import sys
from collections.abc import Set
from contextlib import closing
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from tqdm import tqdm

from framework.sqlite_tables import CopyError, Table, broken_references, installed_tables, unknown_data
from framework.table_copy import TableCopy
from user.management.base import OneLineErrorCommand, check_is_whole, open_locked
from web.health import known_migrations


class Command(OneLineErrorCommand):
    help = (
        f"{__doc__} DATABASE_URL names the PostgreSQL database, which must be migrated and without accounts. "
        "Either everything is copied or nothing, so that the command can be interrupted and repeated."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="the SQLite database, which stays as it is")
        parser.add_argument(
            "--without",
            action="append",
            default=[],
            metavar="NAME",
            help="leave out a table, or a column as TABLE.COLUMN, that no installed app has",
        )

    def handle(self, *args: Any, file: Path, without: list[str], **options: Any) -> None:
        if connection.vendor != "postgresql":
            raise CommandError("DATABASE_URL names a SQLite database: set it to the PostgreSQL database.")
        if not file.is_file():
            raise CommandError(f"There is no file {file}.")
        check_migrations("The new database", set(MigrationRecorder(connection).applied_migrations()))
        with closing(open_locked(file)) as source:
            check_is_whole(source, file)
            check_migrations(str(file), set(source.execute("SELECT app, name FROM django_migrations")))
            tables = installed_tables()
            unknown = [name for name in unknown_data(source, tables) if name not in without]
            if unknown:
                raise CommandError(
                    f"No installed app has {', '.join(unknown)}. "
                    f"Install the app, or leave the data out: --without {unknown[0]}"
                )
            broken = broken_references(source)
            if broken:
                raise CommandError(f"{file} has rows that refer to missing ones: in {', '.join(broken)}.")
            self.copy(source, file, tables)  # pragma: no cover  (PostgreSQL)

    def copy(  # pragma: no cover  (PostgreSQL)
        self, source: sqlite3.Connection, file: Path, tables: list[Table]
    ) -> None:
        """Copy the rows of some tables, with a progress bar, and say how many there are."""
        total = sum(table.count(source) for table in tables)
        try:
            with tqdm(total=2 * total, disable=not sys.stderr.isatty(), unit=" rows") as bar:
                counts = TableCopy(source, connection, tables, bar).run()
        except CopyError as error:
            raise CommandError(f"Nothing was copied. {error}") from None
        rows = ", ".join(f"{name} {count}" for name, count in counts.items())
        self.stdout.write(f"Copied {file}, and compared each row with its original. Rows: {rows}.")


def check_migrations(database: str, applied: Set[tuple[str, str]]) -> None:
    """Raise CommandError unless a database has the migrations that this version of the service knows."""
    missing = sorted(known_migrations() - applied)
    if missing:
        raise CommandError(
            f"{database} lacks {'.'.join(missing[0])}: run meta migrate with its DATABASE_URL first."
        )
    apps = {app for app, _ in known_migrations()}
    unknown = sorted(each for each in applied - known_migrations() if each[0] in apps)
    if unknown:
        raise CommandError(f"{database} is of a newer version of the service: it has {'.'.join(unknown[0])}.")
