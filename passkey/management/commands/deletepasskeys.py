"""Delete the passkeys of a user, and end the user's sessions."""

from typing import Any

from django.core.management.base import CommandError
from django.db import transaction

from passkey.models import Passkey
from user.management.base import UserCommand, find_user
from user.models import User
from user.queries import end_in_batches, sessions_so_far


class Command(UserCommand):
    help = __doc__

    def handle(self, *args: Any, username: str, **options: Any) -> None:
        user = find_user(username)
        with transaction.atomic():
            # Nobody adds a passkey or logs in with one until they are gone.
            if not User.objects.select_for_update().filter(pk=user.pk).first():
                raise CommandError(f"The account {user.username} was deleted meanwhile.")
            deleted, _ = Passkey.objects.filter(user=user).delete()
            sessions = sessions_so_far(user)
        self.stdout.write(f"Passkeys deleted: {deleted}.", ending=" ")
        self.stdout.flush()
        ended = end_in_batches(sessions)
        self.stdout.write(f"Sessions ended: {ended}.")
