"""What is measured inside a process: python -m benchmarks.inside WHAT NUMBER, which prints JSON.

A process of its own for each, so that none inherits the memory and the warmth of another.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import utilmeta

from .flow import REQUESTS, Service

BATCHES = 5
TRANSACTION_CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


def in_a_thread(measure: Callable[[int], Any]) -> Callable[[int], Any]:
    """Return a function that measures in a thread which borrows its connection, as those of a server do.

    The main thread keeps the connection with which the service looked for unapplied migrations.
    """

    def measured(number: int) -> Any:
        import server  # noqa: F401  (in the main thread, as a server does)

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(measure, number).result()

    return measured


def cpu(number: int, names: tuple[str, ...] = tuple(REQUESTS)) -> dict[str, list[float]]:
    """Return milliseconds of CPU, the best and the median batch, and of the clock, the median batch."""
    service, found = Service(), {}
    for name in names:
        request, size = REQUESTS[name], max(number // BATCHES, 1)
        times = []
        for _ in range(BATCHES + 1):
            service.prepare(request, size)
            cpu_start, start = time.process_time(), time.perf_counter()
            for _ in range(size):
                service.call(request)
            spent = (time.process_time() - cpu_start, time.perf_counter() - start)
            times.append([seconds / size * 1000 for seconds in spent])
        # The first batch only warms up.
        used, passed = zip(*times[1:], strict=True)
        found[name] = [min(used), statistics.median(used), statistics.median(passed)]
    return found


def growth(number: int) -> dict[str, list[float]]:
    """Return what `cpu` does, of what reads the tables."""
    return cpu(number, ("get", "login"))


def count(number: int) -> dict[str, list[int]]:
    """Return the statements of each request, and those of transaction control."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    service, found = Service(), {}
    for name, request in REQUESTS.items():
        service.prepare(request, 1)
        with CaptureQueriesContext(connection) as queries:
            service.call(request)
        control = sum(query["sql"].startswith(TRANSACTION_CONTROL) for query in queries)
        found[name] = [len(queries) - control, control]
    return found


def memory(number: int) -> list[list[float]]:
    """Return the resident memory in MB, eleven times over a number of requests of every kind."""
    service, process, found = Service(), psutil.Process(), []
    part = max(number // 10, 1)
    requests = list(REQUESTS.values())
    for point in range(11):
        found.append([point * part, process.memory_info().rss / 1e6])
        for turn in range(part if point < 10 else 0):
            request = requests[turn % len(requests)]
            service.prepare(request, 1)
            service.call(request)
    return found


def startup(number: int) -> list[float]:
    """Return the seconds that the import of the service takes, and the resident memory in MB after it."""
    start = time.perf_counter()
    import server  # noqa: F401

    return [time.perf_counter() - start, psutil.Process().memory_info().rss / 1e6]


def hash_seconds(number: int) -> float:
    """Return the seconds that a hash takes when nothing else runs, the median of some."""
    import server  # noqa: F401  (first, as a WSGI server does)
    from user.passwords import hash_password

    times = []
    for _ in range(number):
        start = time.perf_counter()
        hash_password("correct horse battery")
        times.append(time.perf_counter() - start)
    return statistics.median(times)


MEASURES: dict[str, Any] = {
    "cpu": in_a_thread(cpu),
    "growth": in_a_thread(growth),
    "hash": hash_seconds,
    "statements": count,
    "memory": in_a_thread(memory),
    "startup": startup,
}

if __name__ == "__main__":
    what, number = sys.argv[1], int(sys.argv[2])
    utilmeta._cmd_env = True  # as under `meta`: the tables are made already
    # The records of the requests are written, but nobody reads them; what goes wrong is said.
    errors, sys.stderr = sys.stderr, open(os.devnull, "w")  # noqa: SIM115
    logging.raiseExceptions = False
    try:
        print(json.dumps(MEASURES[what](number)))
    except Exception as error:  # noqa: BLE001  (whatever it is, the parent prints it)
        print(f"{type(error).__name__}: {error}", file=errors)
        sys.exit(1)
