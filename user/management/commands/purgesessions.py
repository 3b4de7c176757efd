"""Delete the rows of sessions that ended or expired some time ago, in short transactions."""

import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Q
from django.utils import timezone
from tqdm import tqdm

from user.management.base import OneLineErrorCommand
from user.models import Session
from user.queries import BATCH_SIZE, in_batches

KEEP_DAYS = 30
MAX_DAYS = 36_500
# A batch is what others wait for, and its primary keys are parameters, of which SQLite takes 32,766.
MAX_BATCH_SIZE = 10_000


class Command(OneLineErrorCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--days",
            type=whole_number(0, MAX_DAYS),
            default=KEEP_DAYS,
            metavar="N",
            help="keep those that ended or expired at most N days ago (default: %(default)s)",
        )
        parser.add_argument(
            "--batch-size",
            type=whole_number(1, MAX_BATCH_SIZE),
            default=BATCH_SIZE,
            metavar="N",
            help="delete N rows in a transaction (default: %(default)s)",
        )

    def handle(self, *args: Any, days: int, batch_size: int, **options: Any) -> None:
        # A search for both at once would read every row in PostgreSQL, and sort them, for each batch.
        over = over_before(timezone.now() - timedelta(days=days))
        terminal = sys.stderr.isatty()
        total = Session.objects.filter(Q(*over.values(), _connector=Q.OR)).count() if terminal else None
        deleted = 0
        with tqdm(total=total, disable=not terminal, unit=" sessions") as bar:
            for column, condition in over.items():
                for batch in in_batches(Session.objects.filter(condition), column, batch_size):
                    count, _ = batch.delete()
                    deleted += count
                    bar.update(count)
        self.stdout.write(f"Sessions deleted: {deleted}.")


def over_before(time: datetime) -> dict[str, Q]:
    """Return the conditions of a session that ended before a time, by the column of each."""
    return {column: Q(**{f"{column}__lt": time}) for column in ("expiry_time", "deleted_time")}


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return what reads a number from the command line; it raises ArgumentTypeError."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ArgumentTypeError(f"it takes a whole number, {low} to {high}")
        return int(text)

    return parse
