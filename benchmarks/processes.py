"""Benchmarks of one process: CPU, statements, memory and start."""

from __future__ import annotations

import argparse
import json
import statistics as stats
import subprocess
import sys
from typing import Any

from config import BASE_DIR

from .databases import a_database, environment
from .tables import Table


def inside(what: str, number: int, url: str) -> Any:
    """Return what a process of its own measures on a database; raise RuntimeError when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.inside", what, str(number)],
        cwd=BASE_DIR,
        env=environment(url),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{what} failed: {(done.stderr.strip() or 'no word').splitlines()[-1]}")
    return json.loads(done.stdout)


def cpu(options: argparse.Namespace) -> Table:
    """Return the CPU of each request."""
    with a_database(options.database_url) as url:
        found = inside("cpu", options.requests, url)
    header = ["request", "ms of CPU, best batch", "median batch", "ms passed, median batch"]
    return Table("CPU of a request, hashing once", header, [[name, *row] for name, row in found.items()])


def statements(options: argparse.Namespace) -> Table:
    """Return the statements of each request."""
    with a_database(options.database_url) as url:
        found = inside("statements", 1, url)
    header = ["request", "statements", "transaction control"]
    return Table("SQL statements of a request", header, [[name, *row] for name, row in found.items()])


def memory(options: argparse.Namespace) -> Table:
    """Return the memory of a process over many requests."""
    with a_database(options.database_url) as url:
        found = inside("memory", options.requests, url)
    rows: list[list[str | float]] = [[f"{number:,}", size] for number, size in found]
    return Table("Memory after many requests of every kind", ["requests", "MB resident"], rows)


def startup(options: argparse.Namespace) -> Table:
    """Return the time and memory of the start, or the modules that take longest."""
    with a_database(options.database_url) as url:
        if options.imports:
            return imports(url)
        seconds, size = zip(*(inside("startup", 1, url) for _ in range(options.rounds)), strict=True)
    header = ["", "median", "least", "most"]
    rows: list[list[str | float]] = [
        ["ms to import server:app", *(1000 * f(seconds) for f in (stats.median, min, max))],
        ["MB resident", *(f(size) for f in (stats.median, min, max))],
    ]
    return Table("Start of a worker", header, rows)


def imports(url: str) -> Table:
    """Return the twenty modules whose own import takes longest."""
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "importtime",
            "-c",
            "import utilmeta; utilmeta._cmd_env = True; import server",
        ],
        cwd=BASE_DIR,
        env=environment(url),
        capture_output=True,
        text=True,
        check=True,
    )
    times: list[list[str | float]] = []
    for line in done.stderr.splitlines():
        own, _, rest = line.removeprefix("import time:").partition("|")
        if own.strip().isdigit():
            times.append([rest.rpartition("|")[2].strip(), int(own) / 1000])
    return Table("Imports", ["module", "ms of its own"], sorted(times, key=lambda row: -float(row[1]))[:20])
