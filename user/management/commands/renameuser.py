"""Give an account another username; its sessions stay."""

from contextlib import suppress
from typing import Any

from django.core.management.base import CommandError, CommandParser

from user.accounts import unique_username
from user.management.base import OneLineErrorCommand, find_user, parse
from user.models import User
from user.schema import UserUpdateSchema


class Command(OneLineErrorCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("old", metavar="OLD", help="the name, as it is stored or as a login takes it")
        parser.add_argument("new", metavar="NEW", help="the new name, by the rules of a signup")
        parser.add_argument("--id", action="store_true", help="OLD is the id of the account, not its name")

    def handle(self, *args: Any, old: str, new: str, id: bool, **options: Any) -> None:  # noqa: A002
        user = find_by_id(old) if id else find_user(old)
        data = parse(UserUpdateSchema, username=new)
        with unique_username():
            if not User.objects.filter(pk=user.pk).update(username=data.username):
                raise CommandError(f"The account {old} was deleted meanwhile.")
        self.stdout.write(f"Renamed {user.username!a} to {data.username}.")


def find_by_id(number: str) -> User:
    """Return the user with an id; raise CommandError without one."""
    with suppress(User.DoesNotExist, ValueError):
        return User.objects.get(pk=int(number))
    raise CommandError(f"There is no user with the id {number}.")
