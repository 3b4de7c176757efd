"""The database: its migrations, and the example that can be copied."""

import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.db.utils import ConnectionHandler

from config import BASE_DIR, Settings

from .conftest import FOLDER
from .databases import SERVER
from .support import run

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
    applied = "SELECT id, app, app, name FROM django_migrations ORDER BY id"

    for statement in (SCHEMA, applied):
        found = rows(f"{FOLDER.name}/db.sqlite3", statement)
        # The example is for the default settings, where passkeys are off.
        by_default = [row for row in found if not str(row[2]).startswith("passkey")]
        assert [row[1:] for row in rows(EXAMPLE, statement)] == [row[1:] for row in by_default]


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


# PostgreSQL's greeting: that no password is needed, what it is, and that it waits for a statement.
GREETING = (
    b"R\0\0\0\x08\0\0\0\0"
    b"S\0\0\0\x18server_version\x0017.0\0"
    b"S\0\0\0\x19client_encoding\0UTF8\0"
    b"S\0\0\0\x11TimeZone\0UTC\0"
    b"Z\0\0\0\x05I"
)


@pytest.fixture
def port_of_the_mute() -> Iterator[int]:
    """Listen like a PostgreSQL that greets, and then freezes; test_postgresql.py freezes a real one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(GREETING)
                while connection.recv(1024):
                    pass

        thread = threading.Thread(target=greet)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_postgresql_that_says_nothing_is_given_up_in_bounded_time(port_of_the_mute, monkeypatch):
    monkeypatch.setattr("framework.django_settings.POSTGRESQL_RESPONSE_SECONDS", 0.2)
    url = f"postgresql://nobody@127.0.0.1:{port_of_the_mute}/none?sslmode=disable&gssencmode=disable"
    database = ConnectionHandler({"default": Settings.load({"DATABASE_URL": url}).database_url})["default"]
    start = time.monotonic()

    with closing(database), pytest.raises(OperationalError), database.cursor() as cursor:
        cursor.execute("SELECT 1")

    assert time.monotonic() - start < 5


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_database_and_the_files_beside_it_are_the_owners_alone(tmp_path, umask):
    code = (
        "import os, server\n"
        "from django.core.management import call_command\nfrom django.db import connection\n"
        "call_command('migrate', verbosity=0); connection.cursor()\n"
        "print(*(f'{file.name} {file.stat().st_mode & 0o777:o}' for file in os.scandir('.')), sep='\\n')"
    )
    settings = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
        "PYTHONPATH": str(BASE_DIR),
        "UTILMETA_PRODUCTION": "0",
    }

    done = run("python", "-c", f"import os; os.umask({umask})\n{code}", cwd=tmp_path, **settings)

    assert sorted(done.stdout.split("\n")) == [
        "",
        "db.sqlite3 600",
        "db.sqlite3-shm 600",
        "db.sqlite3-wal 600",
    ], done.stderr


def test_mode_of_a_database_file_that_exists_is_kept(tmp_path):
    (tmp_path / "db.sqlite3").touch(0o640)
    (tmp_path / "db.sqlite3").chmod(0o640)

    done = run("meta", "migrate", DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "db.sqlite3").stat().st_mode & 0o777 == 0o640
