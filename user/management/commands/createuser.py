"""Create an account; the password is typed at the terminal, or is the first line of standard input."""

from typing import Any

from user.accounts import refuse_name_as_password, unique_username
from user.management.base import UserCommand, parse, read_password
from user.models import User
from user.passwords import hash_password
from user.schema import SignupSchema


class Command(UserCommand):
    help = __doc__

    def handle(self, *args: Any, username: str, **options: Any) -> None:
        data = parse(SignupSchema, username=username, password=read_password())
        refuse_name_as_password(data.password, data.username)
        user = User(username=data.username, password=hash_password(data.password))
        with unique_username():
            user.save(force_insert=True)
        self.stdout.write(f"Created {user.username}.")
