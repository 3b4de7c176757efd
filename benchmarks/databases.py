"""Databases for a benchmark alone: made, migrated, filled and removed."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from config import BASE_DIR


def environment(url: str, **settings: str) -> dict[str, str]:
    """Return the environment of a service in production mode on a database, whatever `.env` says."""
    return os.environ | {
        "UTILMETA_PRODUCTION": "true",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "ALLOWED_HOSTS": "127.0.0.1",
        "DATABASE_URL": url,
        "REDIS_URL": "",
        "THROTTLE": "off",
        "PYTHONPATH": str(BASE_DIR),
        **settings,
    }


@contextmanager
def a_database(server: str) -> Iterator[str]:
    """Have a migrated, empty database, a temporary file or one on a PostgreSQL server; give its URL.

    Raises RuntimeError when the server cannot be reached.
    """
    if not server:
        with tempfile.TemporaryDirectory() as folder:
            yield migrated(f"sqlite:///{folder}/db.sqlite3")
        return
    import psycopg

    name = f"demo_user_benchmark_{secrets.token_hex(4)}"
    try:
        connection = psycopg.connect(server, autocommit=True, connect_timeout=10)
    except psycopg.Error as error:
        raise RuntimeError(str(error).strip().partition("\n")[0]) from None
    with connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield migrated(f"{server.rpartition('/')[0]}/{name}")
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def migrated(url: str) -> str:
    """Make the tables; return the URL."""
    command = [sys.executable, "-m", "django", "migrate", "--verbosity", "0", "--settings", "server"]
    subprocess.run(command, cwd=BASE_DIR, env=environment(url), check=True)
    return url
