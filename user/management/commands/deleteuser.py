"""Delete an account and its sessions, once that is confirmed."""

import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from user.management.base import OneLineErrorCommand, find_user
from user.models import User


class Command(OneLineErrorCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--yes", action="store_true", help="do not ask; needed without a terminal")

    def handle(self, *args: Any, username: str, yes: bool, **options: Any) -> None:
        user = find_user(username)
        if not yes:
            confirm(user)
        with transaction.atomic():
            # Locked, so that nobody logs in to it between the deletion of its sessions and its own.
            locked = User.objects.select_for_update().filter(pk=user.pk).first()
            if not locked:
                raise CommandError(f"There is no user {username}.")
            _, deleted = locked.delete()
        self.stdout.write(f"Deleted {user.username}. Sessions deleted: {deleted.get('user.Session', 0)}.")


def confirm(user: User) -> None:
    """Ask whether to delete an account; raise CommandError unless the answer is yes."""
    if not sys.stdin.isatty():
        raise CommandError("Without a terminal to ask at, it takes --yes.")
    if input(f"Delete {user.username} and all sessions of that account? [y/N] ").lower() not in ("y", "yes"):
        raise CommandError("Nothing was deleted.")
