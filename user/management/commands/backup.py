"""Write a copy of SQLite's database to a file, whether the service runs or not."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from user.management.base import OneLineErrorCommand, check_is_whole, copied, sqlite_file


class Command(OneLineErrorCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="the copy, which only you can read")
        parser.add_argument("--force", action="store_true", help="replace a file of that name")

    def handle(self, *args: Any, file: Path, force: bool, **options: Any) -> None:
        path = sqlite_file()
        if file.resolve() in [path.resolve().with_name(path.name + end) for end in ("", "-wal", "-shm")]:
            raise CommandError(f"{file} is the database itself.")
        if not file.parent.is_dir():
            raise CommandError(f"There is no folder {file.parent}.")
        with (
            closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as database,
            copied(database, file, replace=force) as copy,
        ):
            check_is_whole(copy, path)
            [(users,)] = copy.execute("SELECT count(*) FROM user_user")
        self.stdout.write(f"Backed up to {file}. Users: {users}.")
