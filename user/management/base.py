"""What the commands in `user/management/commands` share."""

import json
import os
import re
import sqlite3
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from getpass import getpass
from pathlib import Path
from tempfile import mkstemp
from typing import Any

import utype
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connection

from framework.startup import first_line
from user.models import User
from user.schema import Username
from web.json_body import parse_fields
from web.problems import Problem

# Every text of this form is normalised already.
USERNAME = re.compile(Username.regex)
# What a shell says of a program that Ctrl-C ended.
INTERRUPTED = 130


class OneLineErrorCommand(BaseCommand):
    """A command that says in one line what went wrong, and exits with a code other than 0."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command; raises CommandError for whatever the person at the terminal can put right."""
        try:
            return super().execute(*args, **options)
        except Problem as problem:
            faults = [f"{fault['field']}: {fault['message']}" for fault in problem.errors or []]
            raise CommandError(" ".join(faults) or problem.message) from None
        except (Error, sqlite3.Error) as error:
            raise CommandError(f"The database cannot be used: {first_line(error)}") from None
        except OSError as error:
            raise CommandError(f"{error.filename2 or error.filename}: {error.strerror}") from None
        except (KeyboardInterrupt, EOFError):
            raise CommandError("Interrupted.", returncode=INTERRUPTED) from None


class UserCommand(OneLineErrorCommand):
    """A command about the account that its first argument names."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the argument."""
        parser.add_argument("username")


def parse(schema: type[utype.Schema], **fields: str) -> Any:
    """Return an instance of a schema, by the rules of a request's body; raise Problem `invalid_request`."""
    return parse_fields(json.dumps(fields).encode(), schema)


def normalise(username: str) -> str | None:
    """Return the normalised form of a username, or None for a text that has none."""
    normalised: str = Username.pre_validate(username)
    return normalised if USERNAME.fullmatch(normalised) else None


def find_user(username: str) -> User:
    """Return the user of a name, as it is stored or in any form that a login takes.

    The stored name comes first: an account from elsewhere may have one that is not normalised. Raises
    CommandError without such a user.
    """
    for name in (username, normalise(username)):
        # What the command line says in something other than UTF-8 cannot be sent to a database.
        with suppress(User.DoesNotExist, UnicodeEncodeError):
            return User.objects.get(username=name)
    raise CommandError(f"There is no user {username}.")


def read_password() -> str:
    """Return a password: typed twice at a terminal, the first line of standard input, in UTF-8, otherwise.

    Raises CommandError when the two differ, or are no text, or cannot be read.
    """
    if sys.stdin is None:
        raise CommandError("There is no standard input to read a password from.")
    try:
        if not sys.stdin.isatty():
            # UTF-8 whatever the locale says, as a client sends it, and without the mark that some editors put
            # before it: nobody could type the password that they would make of it.
            line = sys.stdin.buffer.readline().removeprefix(BOM_UTF8)
            return line.decode().removesuffix("\n").removesuffix("\r")
        password = getpass("Password: ")
        if getpass("Password (again): ") != password:
            raise CommandError("The two passwords differ.")
    except UnicodeDecodeError:
        raise CommandError("The password is not a text in UTF-8.") from None
    return password


def sqlite_file() -> Path:
    """Return the file of SQLite's database; raise CommandError when the database is PostgreSQL."""
    if connection.vendor != "sqlite":
        raise CommandError(
            "PostgreSQL is backed up with pg_dump and restored with pg_restore: see docs/operations.md."
        )
    return Path(connection.settings_dict["NAME"])


def check_is_whole(database: sqlite3.Connection, path: Path) -> None:
    """Raise CommandError unless a database is undamaged, and one of this service; `path` names it."""
    try:
        [(result,)] = database.execute("PRAGMA integrity_check(1)").fetchall()
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    except sqlite3.DatabaseError as error:
        raise CommandError(f"{path} cannot be read: {first_line(error)}.") from None
    if result != "ok":
        raise CommandError(f"{path} is damaged: {' '.join(result.split())}.")
    missing = [table for table in ("django_migrations", "user_user") if table not in tables]
    if missing:
        raise CommandError(f"{path} is not a database of this service: it has no table {missing[0]}.")


def open_locked(path: Path) -> sqlite3.Connection:
    """Open a database that nobody else has open, for this process alone, with no log beside it.

    Raises CommandError when somebody has: in WAL mode, a connection that has read keeps a shared lock.
    """
    database = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        database.execute("COMMIT")
        database.execute("PRAGMA journal_mode = DELETE")
        # The log is gone by now; its index is not, as a connection that has a database for itself uses none.
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    except sqlite3.Error as error:
        database.close()
        if "locked" in str(error):
            raise CommandError("The database is in use: stop the service first.") from None
        raise
    return database


@contextmanager
def copied(
    database: sqlite3.Connection, path: Path, *, replace: bool = False
) -> Iterator[sqlite3.Connection]:
    """Copy a database that may be in use to one file; yield a connection to the copy.

    The file has its name, and is on the disk, once the caller has nothing against it; nobody else can read
    it. Raises CommandError when there is a file of that name, unless it is to be replaced, and OSError.
    """
    if not replace and path.exists():
        raise CommandError(f"{path} exists already.")
    descriptor, name = mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with closing(sqlite3.connect(name)) as copy:
            database.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # as one file, which needs none beside it
            yield copy
        os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Write the names of the files in a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
