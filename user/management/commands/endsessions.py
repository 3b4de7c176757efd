"""End the live sessions of a user, or of everybody."""

from typing import Any

from django.core.management.base import CommandParser

from user.management.base import OneLineErrorCommand, find_user
from user.queries import end_in_batches, live_sessions


class Command(OneLineErrorCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        whose = parser.add_mutually_exclusive_group(required=True)
        whose.add_argument("username", nargs="?")
        whose.add_argument("--all", action="store_true", help="the sessions of all users")

    def handle(self, *args: Any, username: str | None, **options: Any) -> None:
        sessions = live_sessions()
        if username is not None:
            sessions = sessions.filter(user=find_user(username))
        ended = end_in_batches(sessions)
        self.stdout.write(f"Sessions ended: {ended}.")
