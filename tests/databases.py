"""The databases of the tests: files, or databases on the server that TEST_DATABASE_URL names."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

SERVER = os.environ.get("TEST_DATABASE_URL", "")


def database_url(name: str, folder: object) -> str:
    """Return the DATABASE_URL of a database on the server, or of a file in a folder."""
    return f"{SERVER.rpartition('/')[0]}/{name}" if SERVER else f"sqlite:///{folder}/db.sqlite3"


@contextmanager
def a_database(name: str) -> Iterator[None]:
    """Have a database: SQLite makes its file by itself, a server is told to."""
    if not SERVER:
        yield
        return
    with psycopg.connect(SERVER, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        try:
            yield
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")
