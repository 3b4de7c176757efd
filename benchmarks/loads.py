"""Benchmarks of a real server: requests a second, and a storm of logins."""

from __future__ import annotations

import argparse
import secrets
from typing import Any

from .databases import a_database
from .flow import PASSWORD, REQUESTS, Request
from .servers import a_server, ask
from .tables import Table
from .wrk import Load, need_wrk

STORM_CLIENTS = 16
READERS = 2
LOGIN_USERS = 200
NOBODY: dict[str, Any] = {"answers": {}, "socket_errors": 0}


def sign_up(port: int) -> dict[str, str]:
    """Make a user; return the name, the cookie and a prefix for names that nobody has."""
    prefix = f"b{secrets.token_hex(4)}"
    signup = Request("POST", "/api/user/signup", {"username": "NAME", "password": PASSWORD})
    status, cookie = ask(port, signup, prefix)
    if status != 200:
        raise RuntimeError(f"a signup was answered {status}")
    return {"name": prefix, "cookie": cookie, "prefix": f"{prefix}-"}


def sorted_out(found: dict[str, Any], *expected: str) -> tuple[int, int]:
    """Return how many requests were answered with an expected status, and how many were not."""
    good = sum(found["answers"].get(status, 0) for status in expected)
    return good, sum(found["answers"].values()) - good + found["socket_errors"]


def load(options: argparse.Namespace) -> Table:
    """Return requests a second and latencies of each request."""
    need_wrk()
    rows: list[list[str | float]] = []
    with (
        a_database(options.database_url) as url,
        a_server(options.server, url, options.workers, iterations=1) as port,
    ):
        for name, request in REQUESTS.items():
            if request.fresh:
                continue
            # With one user, almost every login would revoke the oldest of a hundred sessions.
            users = [sign_up(port) for _ in range(LOGIN_USERS if name == "login" else 1)]
            with Load(port, request, options.connections, options.seconds, *users) as requests:
                found = requests.result()
            good, bad = sorted_out(found, "401" if name == "401" else "200")
            rows.append([name, good / found["seconds"], found["p50"], found["p99"], bad])
    title = f"{options.server}, {options.workers} worker(s), {options.connections} connections, hashing once"
    return Table(title, ["request", "a second", "ms, median", "ms, 99 %", "errors"], rows)


def storm(options: argparse.Namespace) -> Table:
    """Return latencies of users who are logged in, while nobody and while many guess passwords."""
    need_wrk()
    guess = Request("POST", "/api/user/login", {"username": "NAME", "password": "a wrong guess of it"})
    get = REQUESTS["get"]
    with (
        a_database(options.database_url) as url,
        a_server(options.server, url, options.workers, iterations=0) as port,
    ):
        user = sign_up(port)
        with Load(port, get, READERS, options.seconds, user) as gets:
            rows = [storm_row("idle", gets.result(), NOBODY)]
        with (
            Load(port, guess, STORM_CLIENTS, options.seconds + 1, user) as guesses,
            Load(port, get, READERS, options.seconds, user) as gets,
        ):
            rows.append(storm_row("storm", gets.result(), guesses.result()))
    header = ["", "GET, ms, median", "ms, 95 %", "a second", "errors", "guesses hashed", "guesses refused"]
    return Table(f"{options.server}, {options.workers} workers, {STORM_CLIENTS} guessing", header, rows)


def storm_row(title: str, gets: dict[str, Any], guesses: dict[str, Any]) -> list[str | float]:
    """Return what became of users who are logged in, and of guesses."""
    good, bad = sorted_out(gets, "200")
    hashed, _ = sorted_out(guesses, "403")
    refused, _ = sorted_out(guesses, "503")  # too many hashes wait already
    _, unexpected = sorted_out(guesses, "403", "503")
    return [title, gets["p50"], gets["p95"], good / gets["seconds"], bad + unexpected, hashed, refused]
