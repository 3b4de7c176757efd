"""The command line: python -m benchmarks --help."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from . import growth, loads, passkeys, processes, rush
from .tables import Table

# name: (what it does, what is run, the options that it takes)
BENCHMARKS: dict[str, tuple[str, Callable[[argparse.Namespace], Table], tuple[str, ...]]] = {
    "rush": (
        "many users who log in at once, at the real cost of a hash",
        rush.rush,
        ("server", "workers", "clients"),
    ),
    "passkeys": (
        "logins with a passkey, beside logins with a password",
        passkeys.passkeys,
        ("server", "workers", "clients"),
    ),
    "cpu": ("CPU of each request, in a process without a socket", processes.cpu, ("requests",)),
    "statements": ("SQL statements of each request", processes.statements, ()),
    "load": (
        "requests a second under a real server, by wrk",
        loads.load,
        ("server", "workers", "connections", "seconds"),
    ),
    "storm": ("GETs while others guess passwords, by wrk", loads.storm, ("server", "workers", "seconds")),
    "growth": ("CPU of GET and login as the tables grow", growth.growth, ("requests", "users", "rounds")),
    "memory": ("memory of a process over many requests", processes.memory, ("requests",)),
    "startup": ("time and memory of the start", processes.startup, ("rounds", "imports")),
}
DEFAULT_REQUESTS = {"cpu": 2000, "growth": 1000, "memory": 50_000}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure what the service costs, on a database made for it."
    )
    commands = top.add_subparsers(dest="name", required=True, metavar="BENCHMARK")
    for name, (text, _, options) in BENCHMARKS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--database-url",
            default="",
            metavar="URL",
            help="postgresql://… of a server where a database can be made; else SQLite, in a temporary file",
        )
        command.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
        command.add_argument("--plot", type=Path, metavar="FILE", help="also draw the first figures, as SVG")
        if "requests" in options:
            command.add_argument("--requests", type=positive, default=DEFAULT_REQUESTS[name], metavar="N")
        if "server" in options:
            command.add_argument("--server", choices=("granian", "gunicorn"), default="granian")
        if "workers" in options:
            command.add_argument("--workers", type=positive, default=1 if name == "load" else 2, metavar="N")
        if "connections" in options:
            command.add_argument("--connections", type=positive, default=8, metavar="N")
        if "seconds" in options:
            command.add_argument("--seconds", type=positive, default=5, metavar="N", help="of each run")
        if "users" in options:
            command.add_argument(
                "--users", type=whole_number, nargs="+", default=[0, 100_000, 1_000_000], metavar="N"
            )
        if "rounds" in options:
            command.add_argument("--rounds", type=positive, default=5, metavar="N")
        add_crowd_option(command, options)
        if "imports" in options:
            command.add_argument("--imports", action="store_true", help="list the modules that take longest")
    return top


def add_crowd_option(command: argparse.ArgumentParser, options: tuple[str, ...]) -> None:
    """Add the option of a rush."""
    if "clients" in options:
        command.add_argument("--clients", type=positive, nargs="+", default=[48, 200], metavar="N")


def whole_number(text: str, least: int = 0) -> int:
    """Return a whole number, 0 or more."""
    number = int(text)
    if number < least:
        raise ValueError
    return number


def positive(text: str) -> int:
    """Return a whole number above 0."""
    return whole_number(text, 1)


def stop(number: int, _frame: object) -> None:
    """Exit as a signal asks, but through every `finally`, so that nothing keeps running."""
    sys.exit(128 + number)


def main() -> None:
    """Run a benchmark; print its table. Exits with one line when it cannot be done."""
    options = parser().parse_args()
    signal.signal(signal.SIGTERM, stop)
    try:
        table = BENCHMARKS[options.name][1](options)
        print(table.markdown())
        if options.json:
            options.json.write_text(json.dumps(table._asdict(), indent=1) + "\n")
        if options.plot:
            options.plot.write_text(table.svg())
    except (RuntimeError, OSError, ImportError, subprocess.CalledProcessError) as error:
        sys.exit(f"benchmarks: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        stop_what_was_started()


def stop_what_was_started() -> None:
    """Stop the processes that are left, as when a signal came before the block that would stop one began."""
    left = psutil.Process().children(recursive=True)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=10)


if __name__ == "__main__":
    main()
