"""Django's `migrate`; of several that run at the same time, one migrates, and the others wait for it."""

from contextlib import ExitStack
from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import Error, connections

from framework.migration_lock import migration_lock
from framework.startup import first_line
from framework.time_limits import limits_lifted


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        database = connections[options["database"]]
        with ExitStack() as stack:
            try:
                if not (options["plan"] or options["check_unapplied"]):  # which change nothing
                    stack.enter_context(migration_lock(database, self.stderr.write))
                stack.enter_context(limits_lifted(database))
                database.ensure_connection()
            except Error as error:
                raise CommandError(f"The database cannot be used: {first_line(error)}") from None
            super().handle(*args, **options)
