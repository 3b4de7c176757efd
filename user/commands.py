"""What the commands in `user/management/commands` share."""

import json
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator
from getpass import getpass
from typing import Any

import utype
from django.core.management.base import BaseCommand, CommandError
from django.db import Error
from django.db.models import QuerySet
from utype.utils.exceptions import ParseError

from web.json_body import parse_fields
from web.problems import Problem
from web.startup import first_line

from .models import Session, User
from .schema import Username

BATCH_SIZE = 1000
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
        except Error as error:
            raise CommandError(f"The database cannot be used: {first_line(error)}") from None
        except (KeyboardInterrupt, EOFError):
            raise CommandError("Interrupted.", returncode=INTERRUPTED) from None


def parse(schema: type[utype.Schema], **fields: str) -> Any:
    """Return an instance of a schema, by the rules of a request's body; raise Problem `invalid_request`."""
    return parse_fields(json.dumps(fields).encode(), schema)


def find_user(username: str) -> User:
    """Return the user of a name, in any form that a login takes; raise CommandError without one."""
    try:
        return User.objects.get(username=Username(username))
    except (ParseError, User.DoesNotExist):
        raise CommandError(f"There is no user {username}.") from None


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


def in_batches(
    sessions: "QuerySet[Session]", column: str, size: int = BATCH_SIZE
) -> Iterator["QuerySet[Session]"]:
    """Yield some sessions, `size` at a time in the order of a column, each batch by primary key.

    The caller deletes or ends a batch, so that its rows are not found again, before it asks for the next:
    each is a transaction of its own, and nobody waits for the lock of more than one.
    """
    rest = sessions.order_by(column)
    while rows := list(rest.values_list("pk", column)[:size]):
        yield Session.objects.filter(pk__in=[pk for pk, _ in rows])
        # To start where the last batch ended spares each search the index entries of all before it.
        rest = sessions.order_by(column).filter(**{f"{column}__gte": rows[-1][1]})
