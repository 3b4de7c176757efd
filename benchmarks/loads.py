"""Benchmarks of a real server: requests a second, and a storm of logins."""

from __future__ import annotations

import argparse
import secrets

from .databases import a_database
from .flow import PASSWORD, REQUESTS, Request
from .servers import Load, a_server, ask, need_wrk
from .tables import Table

STORM_CLIENTS = 16
READERS = 2


def sign_up(port: int) -> dict[str, str]:
    """Make a user; return the name, the cookie and a prefix for names that nobody has."""
    prefix = f"b{secrets.token_hex(4)}"
    signup = Request("POST", "/api/user/signup", {"username": "NAME", "password": PASSWORD})
    status, cookie = ask(port, signup, prefix)
    if status != 200:
        raise RuntimeError(f"a signup was answered {status}")
    return {"name": prefix, "cookie": cookie, "prefix": f"{prefix}-"}


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
            found = Load(port, request, options.connections, options.seconds, **sign_up(port)).result()
            good = found["answers"].pop("401" if name == "401" else "200", 0)
            bad = sum(found["answers"].values()) + found["socket_errors"]
            rows.append([name, good / found["seconds"], found["p50"], found["p99"], bad])
    title = f"{options.server}, {options.workers} worker(s), {options.connections} connections, hashing once"
    return Table(title, ["request", "a second", "ms, median", "ms, 99 %", "errors"], rows)


def storm(options: argparse.Namespace) -> Table:
    """Return latencies of users who are logged in, while nobody and while many guess passwords."""
    need_wrk()
    guess = Request("POST", "/api/user/login", {"username": "NAME", "password": "a wrong guess of it"})
    rows: list[list[str | float]] = []
    with (
        a_database(options.database_url) as url,
        a_server(options.server, url, options.workers, iterations=0) as port,
    ):
        user = sign_up(port)
        for title in ("idle", "storm"):
            guesses = (
                Load(port, guess, STORM_CLIENTS, options.seconds + 1, **user) if title == "storm" else None
            )
            found = Load(port, REQUESTS["get"], READERS, options.seconds, **user).result()
            answers = guesses.result()["answers"] if guesses else {}
            rows.append(
                [
                    title,
                    found["p50"],
                    found["p95"],
                    found["answers"].get("200", 0) / found["seconds"],
                    answers.get("403", 0),
                    answers.get("503", 0),
                ]
            )
    header = ["", "GET, ms, median", "ms, 95 %", "a second", "guesses hashed", "guesses refused"]
    return Table(f"{options.server}, {options.workers} workers, {STORM_CLIENTS} guessing", header, rows)
