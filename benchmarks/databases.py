"""Databases for a benchmark alone: made, migrated, filled and removed."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from urllib.parse import urlsplit

from dotenv import dotenv_values

from config import BASE_DIR


def environment(url: str, **settings: str) -> dict[str, str]:
    """Return the environment of a service in production mode on a database, whatever `.env` says."""
    defaults = {name: value or "" for name, value in dotenv_values(BASE_DIR / ".env.example").items()}
    return (
        defaults
        | os.environ
        | {
            "UTILMETA_PRODUCTION": "true",
            "SECRET_KEY": secrets.token_urlsafe(50),
            "ALLOWED_HOSTS": "127.0.0.1",
            "DATABASE_URL": url,
            "REDIS_URL": "",
            "THROTTLE": "on",
            # Each user comes from an address of its own, as through a proxy, and so reaches no limit.
            "TRUSTED_PROXIES": "1",
            "PASSKEYS": "off",
            "METRICS": "off",
            "PYTHONPATH": str(BASE_DIR),
            **settings,
        }
    )


@contextmanager
def a_database(server: str) -> Iterator[str]:
    """Have a migrated, empty database, a temporary file or one on a PostgreSQL server; give its URL.

    Raises RuntimeError when the server cannot be reached, or the tables cannot be made.
    """
    if not server:
        with tempfile.TemporaryDirectory() as folder:
            yield migrated(f"sqlite:///{folder}/db.sqlite3")
        return
    parts = urlsplit(server)
    if parts.scheme not in ("postgresql", "postgres") or not parts.netloc:
        raise RuntimeError("--database-url takes postgresql://USER:PASSWORD@HOST:PORT/NAME")
    if not find_spec("psycopg"):
        raise RuntimeError("psycopg is not installed (the extra `postgres` brings it)")
    import psycopg

    name = f"demo_user_benchmark_{secrets.token_hex(4)}"
    # Only the name is replaced: a slash may stand in the query as well.
    query = f"?{parts.query}" if parts.query else ""
    try:
        connection = psycopg.connect(server, autocommit=True, connect_timeout=10)
    except psycopg.Error as error:
        raise RuntimeError(str(error).strip().partition("\n")[0]) from None
    with connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield migrated(f"postgresql://{parts.netloc}/{name}{query}")
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def migrated(url: str, **settings: str) -> str:
    """Make the tables; return the URL. Raises RuntimeError when that fails."""
    command = [sys.executable, "-m", "django", "migrate", "--verbosity", "0", "--settings", "server"]
    done = subprocess.run(
        command, cwd=BASE_DIR, env=environment(url, **settings), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the tables were not made: {(done.stderr.strip() or 'no word').splitlines()[-1]}")
    return url
