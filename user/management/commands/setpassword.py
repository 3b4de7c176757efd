"""Set a user's password and end the user's sessions; the password is read as by createuser."""

from typing import Any

from django.core.management.base import CommandError
from django.db import transaction

from user.accounts import refuse_name_as_password
from user.management.base import UserCommand, find_user, parse, read_password
from user.models import RecoveryCode, User
from user.passwords import hash_password
from user.queries import end_in_batches, sessions_so_far
from user.schema import UserUpdateSchema


class Command(UserCommand):
    help = __doc__

    def handle(self, *args: Any, username: str, **options: Any) -> None:
        user = find_user(username)
        data = parse(UserUpdateSchema, password=read_password())
        refuse_name_as_password(data.password, user.username)
        # Hashed before the transaction, which must not hold its locks for that long.
        password = hash_password(data.password)
        with transaction.atomic():
            if not User.objects.filter(pk=user.pk).update(password=password):
                raise CommandError(f"The account {user.username} was deleted meanwhile.")
            sessions = sessions_so_far(user)
            # Whoever made it may be the reason for the new password.
            codes, _ = RecoveryCode.objects.filter(user=user).delete()
        # From here on none of them opens anything, whether or not its row can be ended.
        self.stdout.write(f"Set the password of {user.username}.", ending=" ")
        self.stdout.flush()
        ended = end_in_batches(sessions)
        self.stdout.write(f"Sessions ended: {ended}.", ending=" " if codes else "\n")
        if codes:
            self.stdout.write("The recovery code was deleted.")
