"""`meta migrate` by several processes at once, and development servers, which migrate by themselves."""

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import httpx
import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models.signals import post_migrate

from config import BASE_DIR, settings
from framework import migration_lock as module
from framework.migration_lock import migration_lock

from .databases import SERVER, a_database, database_url
from .support import Process, run, until

WAITING = "Another process is migrating the database: waiting for it to end."
# Takes the lock, and keeps it until its standard input ends.
HOLDER = """
import sys, server
from django.db import connection
from framework.migration_lock import migration_lock
with migration_lock(connection, print):
    print("held", flush=True)
    sys.stdin.read()
"""
postgresql = pytest.mark.skipif(not SERVER, reason="TEST_DATABASE_URL names no PostgreSQL server")
sqlite = pytest.mark.skipif(bool(SERVER), reason="it is about SQLite's folder")


@pytest.fixture
def url(tmp_path) -> Iterator[str]:
    """The URL of an empty database."""
    name = f"demo_user_migrate_{os.getpid()}"
    with a_database(name):
        yield database_url(name, tmp_path)


def test_one_of_four_migrates_an_empty_database_and_one_that_is_a_migration_behind(url, in_threads):
    for first in ("user.0001_initial", "user.0005_recovery_code"):
        done = in_threads(4, lambda _: run("meta", "migrate", DATABASE_URL=url))

        assert [each.returncode for each in done] == [0] * 4, [each.stderr for each in done]
        assert sorted(f"Applying {first}... OK" in each.stdout for each in done) == [False] * 3 + [True]
        assert sum("No migrations to apply." in each.stdout for each in done) == 3
        assert {line for each in done for line in each.stderr.splitlines()} <= {WAITING}
        done = run("meta", "migrate", "user", "0004", DATABASE_URL=url)
        assert done.returncode == 0, done.stderr


def test_lock_of_a_killed_process_is_free_and_is_not_for_who_changes_nothing(url, start):
    mode = {"DATABASE_URL": url, "UTILMETA_PRODUCTION": "0"}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        cwd=BASE_DIR,
        env=os.environ | mode,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        waiting = start("meta", "migrate", cwd=BASE_DIR, **mode)
        until(lambda: WAITING in waiting.log)

        assert run("meta", "migrate", "--check", **mode).returncode == 1
        assert waiting.process.poll() is None

        holder.kill()

    assert waiting.exit_code() == 0
    assert waiting.log.count(WAITING) == 1
    assert "Applying user.0001_initial... OK" in waiting.log


def test_who_waits_says_so_again(monkeypatch):
    monkeypatch.setattr(module, "REMINDER_SECONDS", 0)
    monkeypatch.setattr(module, "POLL_SECONDS", 0)
    said = []

    with ExitStack() as holder:
        holder.enter_context(migration_lock(connection, pytest.fail))

        def say(text: str) -> None:
            said.append(text)
            if len(said) == 3:
                holder.close()

        with migration_lock(connection, say):
            pass

    assert said == [WAITING, f"{WAITING} Minutes so far: 0.", f"{WAITING} Minutes so far: 0."]


@postgresql
def test_lock_outlasts_the_limit_on_idle_transactions(monkeypatch):
    options = connection.settings_dict["OPTIONS"] | {"options": "-c idle_in_transaction_session_timeout=100"}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)

    with migration_lock(connection, pytest.fail):
        time.sleep(0.5)

        with closing(module.AdvisoryLock(connection)) as other:
            assert not other.acquire()


@postgresql
def test_migration_has_the_time_that_it_takes(monkeypatch):
    monkeypatch.setattr("framework.django_settings.POSTGRESQL_RESPONSE_SECONDS", 0.1)
    options = connection.settings_dict["OPTIONS"] | {"options": "-c statement_timeout=100"}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)

    def execute(statement: str) -> str:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0]

    def migrate_for_long(**kwargs: object) -> None:
        assert execute("SELECT pg_sleep(0.5)") == ""

    post_migrate.connect(migrate_for_long)
    try:
        call_command("migrate", verbosity=0)
    finally:
        post_migrate.disconnect(migrate_for_long)

    assert execute("SHOW statement_timeout") == "100ms"
    connection.close()  # the next test has other limits


@sqlite
@pytest.mark.parametrize("lacks", ["the system", "the file system"])
def test_database_is_migrated_where_no_folder_can_be_locked(monkeypatch, lacks):
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    if lacks == "the system":
        monkeypatch.setattr(module, "fcntl", None)

    with migration_lock(connection, pytest.fail), migration_lock(connection, pytest.fail):
        pass


@pytest.mark.parametrize(
    ("arguments", "url", "reason"),
    [
        ([], "sqlite:////nowhere/db.sqlite3", "unable to open database file"),
        ([], "postgresql://nobody@127.0.0.1:1/none", "connection failed: "),
        (["--plan"], "postgresql://nobody@127.0.0.1:1/none", "connection failed: "),
    ],
)
def test_database_that_cannot_be_reached_is_an_error_of_one_line(arguments, url, reason):
    done = run("meta", "migrate", *arguments, DATABASE_URL=url)

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"CommandError: The database cannot be used: {reason}")


@pytest.mark.skipif(settings.production, reason="the development server is for development")
def test_one_of_several_development_servers_migrates(start):
    def count(process: Process) -> int:
        return process.log.count("Brought the database up to date: ")

    servers = [start("python", "server.py", cwd=BASE_DIR) for _ in range(3)]
    for server in servers:
        assert httpx.get(f"{server.wait_until_it_serves().url}/api/health/ready").status_code == 200

    assert sorted(map(count, servers)) == [0, 0, 1]
