"""Delete an account and its sessions, once that is confirmed."""

import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import IntegrityError

from user.management.base import UserCommand, find_user
from user.models import User
from user.queries import delete_user


class Command(UserCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--yes", action="store_true", help="do not ask; needed without a terminal")

    def handle(self, *args: Any, username: str, yes: bool, **options: Any) -> None:
        user = find_user(username)
        if not yes:
            confirm(user)
        try:
            sessions = delete_user(user)
        except IntegrityError:  # also Django's, for on_delete=PROTECT and RESTRICT
            raise CommandError(f"{user.username} cannot be deleted: other data need the account.") from None
        if sessions is None:
            raise CommandError(f"There is no user {username}.")
        self.stdout.write(f"Deleted {user.username}. Sessions deleted: {sessions}.")


def confirm(user: User) -> None:
    """Ask whether to delete an account; raise CommandError unless the answer is yes."""
    if not sys.stdin.isatty():
        raise CommandError("Without a terminal to ask at, it takes --yes.")
    if input(f"Delete {user.username} and all sessions of that account? [y/N] ").lower() not in ("y", "yes"):
        raise CommandError("Nothing was deleted.")
