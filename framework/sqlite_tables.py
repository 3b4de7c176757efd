"""The rows of a SQLite database, table by table, as PostgreSQL takes them.

Values stay what SQLite holds. Django's models would replace some of them: the time of a signup, or the
hash of a password.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Context, Decimal
from typing import Any

from django.apps import apps
from django.db.models import AutoField, CharField, Field, Model, TextField
from django.utils.dateparse import parse_datetime

# What makes a value of SQLite one that PostgreSQL takes.
Reader = Callable[[Any], Any]
# Those of a decimal number that a float is sure to keep, as Django reads them from SQLite.
FLOAT_DIGITS = 15


class CopyError(Exception):
    """Why nothing was copied: a sentence for operators."""


def as_datetime(value: str) -> datetime:
    """Return a time that Django has stored in SQLite: one without a zone is in UTC."""
    parsed = parse_datetime(value)
    if not parsed:
        raise ValueError
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)


def as_duration(value: int) -> timedelta:
    """Return a duration that Django has stored in SQLite: a number of microseconds."""
    return timedelta(microseconds=value)


def decimal_reader(field: Any) -> Reader:
    """Return what reads the numbers of a DecimalField, which SQLite has as floats, not rounded."""
    as_decimal = Context(prec=FLOAT_DIGITS).create_decimal_from_float
    last_digit = Decimal(1).scaleb(-field.decimal_places)
    return lambda value: as_decimal(value).quantize(last_digit, context=field.context)


# By Django's types of fields: what returns what makes a value of SQLite one that PostgreSQL takes.
READERS: dict[str, Callable[[Any], Reader]] = {
    "DateField": lambda field: date.fromisoformat,
    "DateTimeField": lambda field: as_datetime,
    "DecimalField": decimal_reader,
    "DurationField": lambda field: as_duration,
    "TimeField": lambda field: time.fromisoformat,
    "UUIDField": lambda field: uuid.UUID,
}
# Types whose values PostgreSQL gives back as it took them. JSON, IP addresses and the types of other
# libraries may come back in another form.
EXACT_TYPES = {
    *READERS,
    *("AutoField", "BigAutoField", "SmallAutoField", "IntegerField", "BigIntegerField", "SmallIntegerField"),
    *("PositiveIntegerField", "PositiveBigIntegerField", "PositiveSmallIntegerField", "BooleanField"),
    *("CharField", "TextField", "SlugField", "FileField", "FilePathField", "BinaryField", "FloatField"),
}


@dataclass
class Column:
    """A column: its name, Django's type of its values, and whether these are text, or numbers in a series.

    Where `read` is None, PostgreSQL takes the values as SQLite has them.
    """

    name: str
    type: str
    read: Reader | None = None
    is_text: bool = False
    is_serial: bool = False

    @classmethod
    def of(cls, field: Field[Any, Any]) -> Column:
        """Return the column of a field; that of a foreign key has the type of what it refers to."""
        values: Any = field
        while values.is_relation:
            values = values.target_field
        type_ = values.get_internal_type()
        return cls(
            name=str(field.column),
            type=type_,
            read=READERS[type_](values) if type_ in READERS else None,
            is_text=isinstance(values, (CharField, TextField)),
            is_serial=isinstance(field, AutoField),
        )


@dataclass
class Table:
    """A table, its columns, and those of its primary key, in whose order rows are read."""

    name: str
    columns: list[Column]
    key: list[Column]

    @classmethod
    def of(cls, model: type[Model]) -> Table:
        """Return the table of a model, without the columns that the database computes."""
        meta: Any = model._meta
        fields = [field for field in meta.local_concrete_fields if not getattr(field, "generated", False)]
        return cls(
            meta.db_table, *([Column.of(field) for field in each] for each in (fields, meta.pk_fields))
        )

    @property
    def quoted(self) -> str:
        """The name in a statement."""
        return quoted(self.name)

    def count(self, database: sqlite3.Connection) -> int:
        """Return the number of rows."""
        [(count,)] = database.execute(f"SELECT count(*) FROM {self.quoted}")  # noqa: S608
        return int(count)

    def highest_number(self, database: sqlite3.Connection, column: Column) -> int:
        """Return the highest number that a column of a series has or had: those of deleted rows count."""
        statement = f"SELECT max({quoted(column.name)}) FROM {self.quoted}"  # noqa: S608
        [(now,)] = database.execute(statement)
        ever = database.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", [self.name]).fetchone()
        return max(now or 0, ever[0] if ever else 0)

    def rows(self, database: sqlite3.Connection, columns: Sequence[Column]) -> Iterator[tuple[Any, ...]]:
        """Yield some columns of all rows; raise CopyError for a value that is none of its type."""
        readers = [(index, each.read) for index, each in enumerate(columns) if each.read]
        statement = f"SELECT {names(columns)} FROM {self.quoted} ORDER BY {names(self.key)}"  # noqa: S608
        for number, row in enumerate(database.execute(statement)):
            values = list(row)
            for index, read in readers:
                if values[index] is not None:
                    try:
                        values[index] = read(values[index])
                    except (ValueError, TypeError, AttributeError, ArithmeticError):
                        reason = f"{columns[index].name} is no {columns[index].type}."
                        raise CopyError(
                            f"{self.describe(database, number)} cannot be copied: {reason}"
                        ) from None
            yield tuple(values)

    def describe(self, database: sqlite3.Connection, number: int) -> str:
        """Return how to find the row that comes after a number of others."""
        key = names(self.key)
        statement = f"SELECT {key} FROM {self.quoted} ORDER BY {key} LIMIT 1 OFFSET ?"  # noqa: S608
        [values] = database.execute(statement, [number])
        found = ", ".join(f"{column.name} {value}" for column, value in zip(self.key, values, strict=True))
        return f"The row of {self.name} with {found}"


def quoted(name: str) -> str:
    """Return the name of a table or a column as both databases take it."""
    return '"{}"'.format(name.replace('"', '""'))


def names(columns: Sequence[Column]) -> str:
    """Return the names of columns as both databases take them."""
    return ", ".join(quoted(column.name) for column in columns)


def installed_tables() -> list[Table]:
    """Return the tables of all installed apps."""
    models = apps.get_models(include_auto_created=True)
    return [Table.of(model) for model in models if model._meta.managed and not model._meta.proxy]


def unknown_data(database: sqlite3.Connection, tables: Sequence[Table]) -> list[str]:
    """Return the tables that hold rows, and the columns (`table.column`) that do, of no installed app."""
    unknown = []
    known = {table.name: {column.name for column in table.columns} for table in tables}
    for (name,) in database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
    ).fetchall():
        columns = {row[1] for row in database.execute(f"PRAGMA table_info({quoted(name)})")}
        if name in known:
            searches = {f"{name}.{each}": f"{quoted(each)} IS NOT NULL" for each in columns - known[name]}
        elif name == "django_migrations" or name.startswith("sqlite_"):
            continue
        else:
            searches = {name: "true"}
        for what, condition in sorted(searches.items()):
            if database.execute(f"SELECT 1 FROM {quoted(name)} WHERE {condition} LIMIT 1").fetchone():  # noqa: S608
                unknown.append(what)
    return unknown


def broken_references(database: sqlite3.Connection) -> list[str]:
    """Return the tables that have rows which refer to missing ones."""
    return sorted({table for table, *_ in database.execute("PRAGMA foreign_key_check")})
