"""The database: its migrations, and the example that can be copied."""

import sqlite3
import subprocess

import pytest
from django.core.management import call_command

from config import BASE_DIR

from .conftest import FOLDER
from .databases import SERVER

EXAMPLE = BASE_DIR / "db.sqlite3.example"
SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"


def rows(path, statement: str) -> list[tuple[object, ...]]:
    """Return what a statement finds in a database file, which is only read."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def test_no_migration_is_missing():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.skipif(bool(SERVER), reason="the example is for SQLite")
def test_example_has_the_schema_of_a_fresh_migration():
    assert rows(EXAMPLE, SCHEMA) == rows(f"{FOLDER.name}/db.sqlite3", SCHEMA)
    applied = "SELECT app, name FROM django_migrations ORDER BY id"
    assert rows(EXAMPLE, applied) == rows(f"{FOLDER.name}/db.sqlite3", applied)


def test_example_is_empty_and_whole():
    assert rows(EXAMPLE, "SELECT count(*) FROM user_user") == [(0,)]
    assert rows(EXAMPLE, "SELECT count(*) FROM user_session") == [(0,)]
    assert rows(EXAMPLE, "PRAGMA integrity_check") == [("ok",)]


def test_working_database_is_not_in_git():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=BASE_DIR, capture_output=True, text=True, check=True
    ).stdout.split()

    assert "db.sqlite3.example" in tracked
    assert not [name for name in tracked if name.endswith((".sqlite3", ".env", ".log"))]
