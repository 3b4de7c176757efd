"""Normalise the usernames of accounts that came from elsewhere, so that a login finds them."""

import shlex
import sys
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError
from django.db import IntegrityError, transaction
from tqdm import tqdm

from user.management.base import USERNAME, OneLineErrorCommand, normalise
from user.models import User
from user.queries import rename_users

# Accounts that are read with one statement, and renamed in one transaction, which a signup may wait for.
BATCH_SIZE = 5000

# The primary key and the name of an account.
Account = tuple[int, str]


class Command(OneLineErrorCommand):
    help = (
        f"{__doc__} A name of which none can be made, or that is taken, stays as it is and is listed; of two "
        "accounts whose names become the same, the older one gets it. It can be interrupted and repeated."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        self.normalised = self.left = 0
        terminal = sys.stderr.isatty()
        total = User.objects.count() if terminal else None
        try:
            with tqdm(total=total, disable=not terminal, unit=" users") as bar:
                for accounts in batches_of_accounts():
                    self.normalise_all([each for each in accounts if not USERNAME.fullmatch(each[1])])
                    bar.update(len(accounts))
        finally:  # also when it was interrupted
            self.stdout.write(f"Normalised: {self.normalised}. Left: {self.left}.")
        if self.left:
            raise CommandError(f"Accounts that nobody can log in to: {self.left}.")

    def normalise_all(self, accounts: list[Account]) -> None:
        """Rename some accounts whose names are not normalised; list those that cannot be."""
        names = {account: normalise(account[1]) for account in accounts}
        taken = set(
            User.objects.filter(username__in=filter(None, names.values())).values_list("username", flat=True)
        )
        renames = []
        for account, name in names.items():
            if not name:
                self.leave(account, "No username can be made of it.")
            elif name in taken:
                self.leave(account, f"{name} is taken.")
            else:
                taken.add(name)
                renames.append((*account, name))
        if renames:
            self.rename(renames)

    def rename(self, renames: list[tuple[int, str, str]]) -> None:
        """Rename some accounts in one transaction, or in several when a new name is taken meanwhile."""
        try:
            with transaction.atomic():
                renamed = rename_users(renames)
        except IntegrityError:
            if len(renames) == 1:
                [(key, old, new)] = renames
                self.leave((key, old), f"{new} is taken.")
                return
            middle = len(renames) // 2
            self.rename(renames[:middle])
            self.rename(renames[middle:])
        else:
            self.normalised += renamed

    def leave(self, account: Account, reason: str) -> None:
        """List an account that stays as it is, and the command that renames it."""
        self.left += 1
        key, name = account
        # A shell may not be able to say another name, and an argument that begins with - is an option.
        sayable = name.isascii() and name.isprintable() and not name.startswith("-")
        old = shlex.quote(name) if sayable else f"--id {key}"
        with tqdm.external_write_mode():
            self.stderr.write(f"{name!r} was left. {reason} Run: meta renameuser {old} NEW")


def batches_of_accounts() -> Iterator[list[Account]]:
    """Yield the keys and names of all accounts, the older ones first."""
    accounts = User.objects.order_by("pk").values_list("pk", "username")
    batch = list(accounts[:BATCH_SIZE])
    while batch:
        yield batch
        batch = list(accounts.filter(pk__gt=batch[-1][0])[:BATCH_SIZE])
