"""Which rule of the database a statement broke: Django has one exception for all of them."""

import re

from django.db import IntegrityError

# PostgreSQL's codes (its manual, appendix A).
UNIQUE, FOREIGN_KEY = "23505", "23503"
SQLITE_UNIQUE = re.compile("UNIQUE constraint failed: (.+)")
SQLITE_FOREIGN_KEY = "FOREIGN KEY constraint failed"
# "Key (owner_id, title)=(1, x) already exists.", in whatever language.
POSTGRESQL_COLUMNS = re.compile(r"\(([^()]+)\)=\(")


def taken_columns(error: IntegrityError) -> list[str] | None:
    """Return the columns whose values another row has already.

    Returns an empty list when a row is missing or still referred to, and None for every other rule, which
    only a defect breaks.
    """
    text = str(error)
    if found := SQLITE_UNIQUE.match(text):
        return [column.rpartition(".")[2] for column in found[1].split(", ") if "." in column]
    code = getattr(error.__cause__, "sqlstate", None)
    if code == UNIQUE:
        columns = POSTGRESQL_COLUMNS.search(text)
        return columns[1].split(", ") if columns else []
    return [] if code == FOREIGN_KEY or text == SQLITE_FOREIGN_KEY else None
