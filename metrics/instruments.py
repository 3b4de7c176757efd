"""What is measured, and where: the observers of requests, of the queue for hashing, and of connections."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from framework.connections import pool
from framework.fair_queue import QueueFullError
from framework.private_folder import private_folder
from framework.startup import refuse_to_start
from user import passwords
from web import logs

if TYPE_CHECKING:
    from .worker_files import WorkerFiles

# What stands for every method and route that is not known, so that clients cannot make new time series.
OTHER = "other"
# Seconds. Most requests take milliseconds. A login waits for a core, at most 15 seconds, and then hashes.
REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30)
WAIT_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)
# All of them are shown from the start: an increase is only seen of what was there before.
EVENTS = (
    "signup",
    "login",
    "login_failure",
    "logout",
    "reauthentication",
    "reauthentication_failure",
    "password_change",
    "recovery_code_created",
    "recovery",
    "recovery_failure",
    "session_revoked",
    "sessions_revoked",
    "account_deleted",
    "passkey_created",
    "passkey_deleted",
    "passkey_failure",
    "throttled",
    "cross_site_request",
    "service_unavailable",
    "unhandled_error",
)


def is_worker() -> bool:
    """Tell whether this process is one of several of a server.

    A worker of granian is a child of multiprocessing; one of gunicorn comes from the arbiter's process.
    """
    return multiprocessing.parent_process() is not None or "gunicorn.arbiter" in sys.modules


worker_files: WorkerFiles | None = None
if is_worker():
    from .worker_files import WorkerFiles  # which needs a POSIX system

    try:
        worker_files = WorkerFiles(private_folder("demo-user-metrics"))
    except OSError as error:
        refuse_to_start(f"METRICS=on needs a folder for temporary files, as TMPDIR names it: {error}")
    values.ValueClass = values.MultiProcessValue(worker_files.name)

disable_created_metrics()  # since prometheus_client does not have them for several processes
registry = CollectorRegistry()


class WorkerCount(Collector):
    """How many worker processes there are."""

    def collect(self) -> Iterable[Metric]:
        """Return the number; those that are gone lose their gauges before the other metrics are collected."""
        count = worker_files.count_workers() if worker_files else 1
        yield GaugeMetricFamily("demo_user_workers", "Worker processes of the server.", count)


registry.register(WorkerCount())
requests = Counter(
    "demo_user_http_requests_total", "Requests.", ["route", "method", "status"], registry=registry
)
durations = Histogram(
    "demo_user_http_request_duration_seconds",
    "Time from a request to its response.",
    ["route", "method"],
    buckets=REQUEST_BUCKETS,
    registry=registry,
)
events = Counter(
    "demo_user_events_total", "Requests with an event, as the log names it.", ["event"], registry=registry
)
queue_length = Gauge(
    "demo_user_hash_queue_length",
    "Requests that wait to hash a password.",
    multiprocess_mode="livesum",
    registry=registry,
)
queue_waits = Histogram(
    "demo_user_hash_queue_wait_seconds",
    "Time that requests waited to hash a password.",
    buckets=WAIT_BUCKETS,
    registry=registry,
)
queue_refusals = Counter(
    "demo_user_hash_queue_refusals_total",
    "Requests that could not hash a password in time.",
    registry=registry,
)
connections_in_use = Gauge(
    "demo_user_database_connections_in_use",
    "Database connections that requests hold.",
    multiprocess_mode="livesum",
    registry=registry,
)
for event in EVENTS:
    events.labels(event)


@cache
def instruments_of(route: str, method: str, status: int) -> tuple[Counter, Histogram]:
    """Return what counts and what times the requests with these labels."""
    return requests.labels(route, method, status), durations.labels(route, method)


def observe_request(record: logs.Record, status: int, seconds: float) -> None:
    """Count a request, its duration, and its event if it has one."""
    method = record.method if record.method in logs.METHODS else OTHER
    counter, histogram = instruments_of(record.route or OTHER, method, status)
    counter.inc()
    histogram.observe(seconds)
    if record.event != "request":
        events.labels(record.event).inc()


@contextmanager
def observe_wait() -> Iterator[None]:
    """Count a request as waiting to hash; then observe how long it waited, or count that it was refused."""
    start = time.monotonic()
    queue_length.inc()
    try:
        yield
        queue_waits.observe(time.monotonic() - start)
    except QueueFullError:
        queue_refusals.inc()
        raise
    finally:
        queue_length.dec()


def install() -> None:
    """Begin to measure, unless that has been begun."""
    if observe_request not in logs.observers:
        logs.observers.append(observe_request)
        passwords.wait_observers.append(observe_wait)
        pool.observers.append(connections_in_use.inc)


def exposition() -> bytes:
    """Return all metrics in Prometheus's text format, version 0.0.4; those of all workers together."""
    if not worker_files:
        return generate_latest(registry)
    queue_length.inc(0)  # a process that was just forked gets files of its own by it
    everything = CollectorRegistry()
    everything.register(WorkerCount())
    MultiProcessCollector(everything, str(worker_files.folder))
    return generate_latest(everything)
