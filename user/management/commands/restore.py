"""Put a backup in the place of SQLite's database, of which a copy is kept; stop the service first."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from user.management.base import (
    OneLineErrorCommand,
    check_is_whole,
    copied,
    open_locked,
    sqlite_file,
    sync_folder,
)
from web.health import known_migrations


class Command(OneLineErrorCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="the backup")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        path = sqlite_file()
        if not file.is_file():
            raise CommandError(f"There is no file {file}.")
        if path.exists() and file.samefile(path):
            raise CommandError(f"{file} is the database itself.")
        with closing(open_backup(file)) as backup:
            check_is_whole(backup, file)
            applied = set(backup.execute("SELECT app, name FROM django_migrations"))
            [(users,)] = backup.execute("SELECT count(*) FROM user_user")
            kept = replace(path, backup)
        self.stdout.write(f"Restored {file}. Users: {users}.")
        if kept:
            self.stdout.write(f"The replaced database is {kept}.")
        if not known_migrations() <= applied:
            self.stdout.write("The backup is of an older version. Run: meta migrate")
        self.stdout.write("Sessions that ended since the backup are live again. Run: meta endsessions --all")


def open_backup(path: Path) -> sqlite3.Connection:
    """Open a backup, of which nothing is changed."""
    beside = any(path.with_name(path.name + end).exists() for end in ("-wal", "-journal"))
    # Without this, SQLite may write files beside it, in a folder that may take none.
    immutable = "" if beside else "&immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{immutable}", uri=True)


def replace(path: Path, backup: sqlite3.Connection) -> Path | None:
    """Replace the contents of a database by those of a backup; return where the old ones are, if any.

    The file stays the same one, with its owner, and is locked meanwhile: a service that starts too early
    waits for the lock and finds the new contents. Raises CommandError when the database is in use.
    """
    if not path.exists() or not path.stat().st_size:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        with closing(open_locked(path)) as database:
            backup.backup(database)
        return None
    kept = path.with_name(f"{path.name}.replaced-{timezone.now():%Y-%m-%dT%H-%M-%SZ}")
    try:
        with closing(open_locked(path)) as database:
            with copied(database, kept):
                pass
            backup.backup(database)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:  # it is damaged, or none
        empty(path, kept)
        return replace(path, backup) or kept
    return kept


def empty(path: Path, kept: Path) -> None:
    """Keep the files of a database that SQLite cannot read as they are, and leave an empty one."""
    for end in ("", "-wal", "-journal"):
        old, copy = path.with_name(path.name + end), kept.with_name(kept.name + end)
        if old.exists():
            descriptor = os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with old.open("rb") as source, open(descriptor, "wb") as target:
                shutil.copyfileobj(source, target)
                target.flush()
                os.fsync(descriptor)
    sync_folder(kept.parent)
    for end in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    os.truncate(path, 0)
