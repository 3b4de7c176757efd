"""Create accounts from a CSV file with the columns username, password (a hash) and perhaps signup_time."""

import csv
import os
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timezone
from typing import Any, BinaryIO

from django.contrib.auth import hashers
from django.core.management.base import CommandError, CommandParser
from django.utils.dateparse import parse_datetime
from tqdm import tqdm

from user.foreign_hashes import NO_PASSWORD, algorithm_of, in_django_form, is_installed
from user.management.base import OneLineErrorCommand, normalise
from user.models import User
from user.queries import add_users
from user.schema import Username

COLUMNS = {"username", "password", "signup_time"}
REQUIRED_COLUMNS = {"username", "password"}
# More than twice what the longest name, hash and time take together.
MAX_LINE_BYTES = 1000
# Accounts in one statement: others' writes wait for it, and SQLite takes 32,766 parameters, three of each.
BATCH_SIZE = 5000
MAX_HASH_LENGTH: int = User._meta.get_field("password").max_length


class RefusedLineError(Exception):
    """A line that makes no account; the text says why, and of what stands there, a valid username at most."""


class Command(OneLineErrorCommand):
    help = (
        f"{__doc__} A hash has Django's form, or that of the libraries of Argon2 and bcrypt; to an account "
        "without one, nobody can log in before setpassword. A signup_time is in ISO 8601 with a time zone; "
        "without one, it is now. An account that exists stays as it is, so that an import can be repeated."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="the file, in UTF-8, or - for standard input")

    def handle(self, *args: Any, file: str, **options: Any) -> None:
        self.imported = self.existing = self.refused = 0
        self.missing: set[str] = set()
        try:
            size = None if file == "-" else os.path.getsize(file)
            with open_file(file) as stream:
                columns = read_header(stream)
                try:
                    self.import_lines(stream, columns, size)
                finally:  # also of an import that was interrupted
                    self.stdout.write(
                        f"Imported: {self.imported}. Existing: {self.existing}. Refused: {self.refused}."
                    )
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {os.strerror(error.errno or 0)}.") from None
        for algorithm in sorted(self.missing):
            self.stderr.write(f"Accounts with a hash of {algorithm} can log in with the extra `hashes` only.")
        if self.refused:
            raise CommandError(f"Lines refused: {self.refused}.")

    def import_lines(self, stream: BinaryIO, columns: list[str], size: int | None) -> None:
        """Import the accounts of a file below its header, in batches; refuse the lines that make none."""
        usernames: set[str] = set()
        batch: list[tuple[str, str, datetime]] = []
        with tqdm(total=size or None, disable=not sys.stderr.isatty(), unit="B", unit_scale=True) as bar:
            for number, line in read_lines(stream):
                bar.update(len(line))
                try:
                    account = read_account(line, columns)
                    if account[0] in usernames:
                        raise RefusedLineError(f"A line above has the username {account[0]}, too.")
                except RefusedLineError as error:
                    self.refused += 1
                    with tqdm.external_write_mode():
                        self.stderr.write(f"Line {number} was refused. {error}")
                    continue
                usernames.add(account[0])
                batch.append(account)
                if len(batch) == BATCH_SIZE:
                    self.add(batch)
                    batch = []
            if batch:
                self.add(batch)

    def add(self, batch: list[tuple[str, str, datetime]]) -> None:
        """Import some accounts, those that exist excepted."""
        imported = add_users(batch)
        self.imported += imported
        self.existing += len(batch) - imported
        algorithms = {algorithm_of(encoded) for _, encoded, _ in batch}
        self.missing |= {name for name in algorithms if name and not is_installed(name)}


def open_file(file: str) -> AbstractContextManager[BinaryIO]:
    """Return a file to read bytes from; raise OSError or CommandError without one."""
    if file != "-":
        return open(file, "rb")
    if sys.stdin is None:
        raise CommandError("There is no standard input to read from.")
    return nullcontext(sys.stdin.buffer)


def read_header(stream: BinaryIO) -> list[str]:
    """Return the columns of a file; raise CommandError for others than there must and may be."""
    try:
        columns = split(stream.readline(MAX_LINE_BYTES + 1).removeprefix(BOM_UTF8))
    except RefusedLineError as error:
        raise CommandError(f"Line 1 cannot be read. {error}") from None
    if not REQUIRED_COLUMNS <= set(columns) <= COLUMNS or len(set(columns)) < len(columns):
        raise CommandError(
            "Line 1 must name the columns: username, password and, if there is one, signup_time; with commas."
        )
    return columns


def read_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the lines below the header that are not empty, with their numbers; long ones are cut."""
    number = 1
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if line.strip(b"\r\n"):
            yield number, line
        while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            line = stream.readline(MAX_LINE_BYTES + 1)


def read_account(line: bytes, columns: list[str]) -> tuple[str, str, datetime]:
    """Return the normalised username, the hash and the time of the signup; raise RefusedLineError."""
    values = split(line)
    if len(values) != len(columns):
        raise RefusedLineError(
            f"It has {len(values)} values for {len(columns)} columns. "
            "A hash of Argon2 takes quotes, for its commas."
        )
    row = dict(zip(columns, values, strict=True))
    username = normalise(row["username"])
    if not username:
        raise RefusedLineError(f"username: {Username.message}")
    encoded = read_hash(row["password"])
    if not encoded:
        raise RefusedLineError(f"The password of {username} is not a hash that is known here.")
    if len(encoded) > MAX_HASH_LENGTH:
        raise RefusedLineError(f"The hash of {username} is longer than {MAX_HASH_LENGTH} characters.")
    signup_time = read_time(row.get("signup_time", ""))
    if not signup_time:
        raise RefusedLineError(f"The signup_time of {username} is not one like 2024-01-29T12:29:33Z.")
    return username, encoded, signup_time


def read_hash(text: str) -> str | None:
    """Return a hash in Django's form, Django's mark of no password, or None for a text that is neither."""
    if not text or text.startswith(NO_PASSWORD):
        return hashers.make_password(None)
    encoded = in_django_form(text)
    return encoded if algorithm_of(encoded) else None


def read_time(text: str) -> datetime | None:
    """Return a time, now for an empty text, and None for one that is no time in ISO 8601 with a zone."""
    if not text:
        return datetime.now(timezone.utc)
    try:
        time = parse_datetime(text)
        return time.astimezone(timezone.utc) if time and time.tzinfo else None
    except (ValueError, OverflowError):
        return None


def split(line: bytes) -> list[str]:
    """Return the values of a line of CSV; raise RefusedLineError when it is none."""
    # A line by itself: in a file, a quote that is never closed takes all the lines below it.
    if len(line) > MAX_LINE_BYTES:
        raise RefusedLineError(f"It is longer than {MAX_LINE_BYTES} bytes.")
    try:
        text = line.decode().rstrip("\r\n")
        if "\0" in text:
            raise RefusedLineError("It has a NUL in it.")
        return next(csv.reader([text], strict=True))
    except UnicodeDecodeError:
        raise RefusedLineError("It is not a text in UTF-8.") from None
    except csv.Error:
        raise RefusedLineError(
            "It is not CSV: a quote is not closed, say, or a line end stands in it."
        ) from None
