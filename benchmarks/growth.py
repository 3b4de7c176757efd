"""The benchmark of growth: what GET and login cost on tables with many rows, against empty ones."""

from __future__ import annotations

import argparse
import sqlite3
import statistics
from typing import Any

from .databases import a_database
from .processes import inside
from .tables import Table

SESSIONS_PER_USER = 5
KEY = {
    "sqlite": "substr(hex(randomblob(22)), 1, 43)",
    "postgresql": "substr(md5(random()::text) || md5(random()::text), 1, 43)",
}
NOW = {"sqlite": "datetime('now')", "postgresql": "now()"}
LATER = {"sqlite": "datetime('now', '+7 days')", "postgresql": "now() + interval '7 days'"}
# The salt and hash of a user, and the signed data of a session, are as long as these.
HASH, DATA = "pbkdf2_sha256$1000000$" + "x" * 67, "x" * 70


def connect(url: str) -> Any:
    """Return a connection to a database that this benchmark has made."""
    if url.startswith("sqlite:///"):
        return sqlite3.connect(url.removeprefix("sqlite:///"))
    import psycopg

    return psycopg.connect(url)


def fill(url: str, first: int, last: int) -> None:
    """Put users with these numbers, and their sessions, straight into the tables."""
    kind = url.partition(":")[0]
    numbers = "WITH RECURSIVE numbers(i) AS (SELECT {} UNION ALL SELECT i + 1 FROM numbers WHERE i < {})"
    connection = connect(url)
    [before] = connection.execute("SELECT coalesce(max(id), 0) FROM user_user").fetchone()
    connection.execute(
        f"{numbers.format(first, last)} INSERT INTO user_user (username, password, signup_time) "
        f"SELECT 'grown' || i, '{HASH}', {NOW[kind]} FROM numbers"
    )
    connection.execute(
        f"{numbers.format(1, SESSIONS_PER_USER)} INSERT INTO user_session "
        "(session_key, encoded_data, created_time, last_activity, expiry_time, user_id) "
        f"SELECT {KEY[kind]}, '{DATA}', {NOW[kind]}, {NOW[kind]}, {LATER[kind]}, id "
        f"FROM user_user CROSS JOIN numbers WHERE id > {before}"
    )
    connection.commit()
    if kind == "postgresql":
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE")
    connection.close()


def growth(options: argparse.Namespace) -> Table:
    """Return milliseconds of CPU of a GET and a login at each size, and their ratio to empty tables.

    The two databases are asked in turn, and the ratios are medians of rounds: the speed of a machine drifts.
    """
    rows: list[list[str | float]] = []
    with a_database(options.database_url) as empty, a_database(options.database_url) as grown:
        size = 0
        for users in sorted(options.users):
            if users > size:
                fill(grown, size + 1, users)
            size = users
            rounds = [
                (inside("growth", options.requests, empty), inside("growth", options.requests, grown))
                for _ in range(options.rounds)
            ]
            for name in ("get", "login"):
                pairs = [(few[name], many[name]) for few, many in rounds]
                rows.append(
                    [
                        f"{name}, {users:,} users",
                        statistics.median(many[1] / few[1] for few, many in pairs),
                        statistics.median(many[2] / few[2] for few, many in pairs),
                        statistics.median(many[1] for _, many in pairs),
                        statistics.median(many[2] for _, many in pairs),
                    ]
                )
    header = ["request", "CPU, full ÷ empty", "time, full ÷ empty", "ms of CPU", "ms passed"]
    return Table(f"Growth, {SESSIONS_PER_USER} sessions a user", header, rows)
