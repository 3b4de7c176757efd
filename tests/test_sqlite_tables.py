"""How the rows of SQLite are read for PostgreSQL; test_importsqlite.py has them copied to one."""

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest
from django.db import models

from framework.sqlite_tables import Column, CopyError, Table, installed_tables

TYPES = [
    "BigAutoField",
    "CharField",
    "DateTimeField",
    "DateField",
    "TimeField",
    "DurationField",
    "UUIDField",
    "DecimalField",
]
DIGITS = {"max_digits": 12, "decimal_places": 3}
FIELDS = [
    getattr(models, type_)(db_column=f"of {type_}", **DIGITS if type_ == "DecimalField" else {})
    for type_ in TYPES
]
for field in FIELDS:
    field.set_attributes_from_name("field")
COLUMNS = list(map(Column.of, FIELDS))
TABLE = Table('a "table"', COLUMNS, COLUMNS[:1])
ROWS = [
    (2, "ada", "2024-01-29 12:29:33.684594", "2024-02-29", "23:59:59.000001", -1, "f" * 32, 0.0625),
    (7, *[None] * 7),
]


@pytest.fixture
def source() -> Iterator[sqlite3.Connection]:
    """A database with the table and two rows."""
    with closing(sqlite3.connect(":memory:")) as source:
        columns = ", ".join(f'"{column.name}"' for column in COLUMNS[1:])
        source.execute(
            f'CREATE TABLE "a ""table""" ("of BigAutoField" integer PRIMARY KEY AUTOINCREMENT, {columns})'
        )
        source.executemany('INSERT INTO "a ""table""" VALUES (?, ?, ?, ?, ?, ?, ?, ?)', reversed(ROWS))
        yield source


def test_values_are_what_postgresql_takes_in_the_order_of_the_primary_key(source):
    assert list(TABLE.rows(source, COLUMNS)) == [
        (
            2,
            "ada",
            datetime(2024, 1, 29, 12, 29, 33, 684594, tzinfo=timezone.utc),
            date(2024, 2, 29),
            time(23, 59, 59, 1),
            timedelta(microseconds=-1),
            uuid.UUID("f" * 32),
            Decimal("0.062"),  # as Django rounds it when it reads it from SQLite
        ),
        (7, *[None] * 7),
    ]
    assert list(TABLE.rows(source, COLUMNS[:2])) == [(2, "ada"), (7, None)]
    assert TABLE.count(source) == 2


def test_time_keeps_the_zone_that_it_has(source):
    source.execute('UPDATE "a ""table""" SET "of DateTimeField" = ?', ["2024-01-29 12:00:00+02:00"])

    [(seen,), _] = TABLE.rows(source, COLUMNS[2:3])

    assert seen == datetime(2024, 1, 29, 10, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("number", "value"),
    [(number, value) for number in (2, 3, 4, 6, 7) for value in ("", "yesterday")]
    + [(2, 7), (5, ""), (7, 1e30)],
)
def test_value_of_another_type_is_named(source, number, value):
    column = COLUMNS[number]
    source.execute(f'UPDATE "a ""table""" SET "{column.name}" = ? WHERE "of BigAutoField" = 7', [value])

    with pytest.raises(CopyError) as caught:
        list(TABLE.rows(source, COLUMNS))

    row = 'The row of a "table" with of BigAutoField 7'
    assert str(caught.value) == f"{row} cannot be copied: {column.name} is no {column.type}."


def test_highest_number_is_that_of_a_row_that_was_deleted(source):
    [key] = TABLE.key
    assert TABLE.highest_number(source, key) == 7
    source.execute('UPDATE "a ""table""" SET "of BigAutoField" = 9 WHERE "of BigAutoField" = 7')
    assert TABLE.highest_number(source, key) == 9
    source.execute('DELETE FROM "a ""table"""')
    assert TABLE.highest_number(source, key) == 7
    source.execute("DELETE FROM sqlite_sequence")
    assert TABLE.highest_number(source, key) == 0


def test_row_with_a_primary_key_of_two_columns_is_named_by_both(source):
    table = Table(TABLE.name, COLUMNS, COLUMNS[:2])

    assert table.describe(source, 1) == 'The row of a "table" with of BigAutoField 7, of CharField None'


def test_tables_are_those_of_the_installed_apps():
    tables = {table.name: table for table in installed_tables()}

    assert tables.keys() == {
        "django_content_type",
        "user_user",
        "user_session",
        "user_recoverycode",
        "passkey_userhandle",
        "passkey_passkey",
        "passkey_usedchallenge",
    }
    assert [(column.name, column.type, column.is_text) for column in tables["user_user"].columns] == [
        ("id", "BigAutoField", False),
        ("username", "CharField", True),
        ("password", "CharField", True),
        ("signup_time", "DateTimeField", False),
    ]
    # The column of a foreign key has the type of what it refers to, but no numbers of its own.
    [key] = tables["user_recoverycode"].key
    assert key == Column("user_id", "BigAutoField")
