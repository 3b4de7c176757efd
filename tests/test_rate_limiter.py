"""Counting in a real Redis, and without one."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import httpx
import pytest
import redis
from limits import parse

from config import BASE_DIR
from framework.rate_limiter import RETRY_SECONDS, Limiter

from .databases import a_database, database_url
from .support import Process, assert_problem, credentials, free_port, login, run

LIMIT = parse("2/hour")
REDIS_URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/15")


def redis_answers() -> bool:
    """Tell whether there is a Redis to test with."""
    try:
        return bool(redis.Redis.from_url(REDIS_URL, socket_timeout=1).ping())
    except redis.RedisError:
        return False


needs_redis = pytest.mark.skipif(not redis_answers(), reason=f"no Redis answers at {REDIS_URL}")


@pytest.fixture
def key():
    """A key that no other run uses."""
    return f"test-{uuid.uuid4().hex}"


def test_without_redis_it_counts_here(key):
    limiter = Limiter()

    assert [limiter.hit(LIMIT, key) for _ in range(3)] == [True, True, False]
    assert not limiter.test(LIMIT, key)
    assert 3500 < limiter.seconds_left(LIMIT, key) <= 3600


@pytest.fixture
def clock(monkeypatch):
    """What the limiter reads the time from; `now` is in seconds."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("framework.rate_limiter.time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_each_count_expires_after_the_window(key, clock):
    limiter = Limiter()
    assert limiter.hit(LIMIT, key)
    clock.now += 1800
    assert limiter.hit(LIMIT, key)
    assert limiter.seconds_left(LIMIT, key) == 1800

    clock.now += 1799
    assert (limiter.hit(LIMIT, key), limiter.test(LIMIT, key)) == (False, False)
    clock.now += 1
    assert (limiter.test(LIMIT, key), limiter.hit(LIMIT, key), limiter.hit(LIMIT, key)) == (True, True, False)
    assert limiter.seconds_left(LIMIT, key) == 1800

    clock.now += 3600
    assert limiter.seconds_left(LIMIT, key) == 0


def test_keys_without_a_live_count_take_no_memory(clock):
    limiter = Limiter()
    per_minute = parse("2/minute")
    for number in range(100):
        limiter.hit(LIMIT, f"old {number}")
        limiter.hit(per_minute, f"old {number}")
    clock.now += 3599
    limiter.hit(LIMIT, "old 0")  # which lives on
    for number in range(20):
        assert limiter.test(per_minute, f"old {number}")
        limiter.hit(per_minute, f"new {number}")
    clock.now += 1
    for number in range(20):
        limiter.hit(LIMIT, f"new {number}")

    assert len(limiter.local) == 41
    assert limiter.hit(LIMIT, "old 0")
    assert not limiter.hit(LIMIT, "old 0")


def test_threads_count_together_and_start_none(in_threads):
    limiter, threads, interval = Limiter(), threading.active_count(), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that they meet within each call
    try:
        counted = in_threads(8, lambda _: [limiter.hit(LIMIT, f"key {number}") for number in range(2000)])
    finally:
        sys.setswitchinterval(interval)

    assert [sum(results) for results in zip(*counted, strict=True)] == [2] * 2000
    assert threading.active_count() == threads


@needs_redis
def test_two_processes_count_together(key):
    one, other = Limiter(REDIS_URL), Limiter(REDIS_URL)

    assert one.hit(LIMIT, key)
    assert other.hit(LIMIT, key)
    assert not one.test(LIMIT, key)
    assert not other.hit(LIMIT, key)
    assert 3500 < other.seconds_left(LIMIT, key) <= 3600


def test_count_can_be_taken_back_here(key):
    limiter = Limiter()
    limiter.give_back(LIMIT, key)
    limiter.hit(LIMIT, key)
    limiter.hit(LIMIT, key)

    limiter.give_back(LIMIT, key)

    assert [limiter.hit(LIMIT, key) for _ in range(2)] == [True, False]

    limiter.give_back(LIMIT, key)
    assert len(limiter.local) == 1
    limiter.give_back(LIMIT, key)
    assert len(limiter.local) == 0  # a key without a count takes no memory


@needs_redis
def test_count_can_be_taken_back_by_another_process(key):
    one, other = Limiter(REDIS_URL), Limiter(REDIS_URL)
    one.give_back(LIMIT, key)
    one.hit(LIMIT, key)
    one.hit(LIMIT, key)

    other.give_back(LIMIT, key)

    assert [one.hit(LIMIT, key) for _ in range(2)] == [True, False]


def test_count_is_taken_back_here_while_redis_is_away(key):
    limiter = Limiter(f"redis://127.0.0.1:{free_port()}/0")

    limiter.give_back(LIMIT, key)

    assert limiter.away_until > 0


@contextmanager
def a_redis(port, folder):
    """Have a Redis of one's own at a port."""
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder), "--logfile", "redis"]
    server, log = subprocess.Popen(command), folder / "redis"
    try:
        while not log.exists() or "Ready to accept" not in log.read_text():
            assert server.poll() is None
            time.sleep(0.02)
        yield
    finally:
        server.kill()
        server.wait()


needs_redis_server = pytest.mark.skipif(
    not shutil.which("redis-server"), reason="redis-server is not installed"
)


@needs_redis_server
def test_while_redis_is_away_it_counts_here_and_says_so_once(key, tmp_path, caplog, monkeypatch):
    port = free_port()
    limiter = Limiter(f"redis://127.0.0.1:{port}/0")

    assert [limiter.hit(LIMIT, key) for _ in range(3)] == [True, True, False]

    with a_redis(port, tmp_path):
        assert not limiter.hit(LIMIT, key)  # it is not asked again so soon
        now = time.monotonic()
        monkeypatch.setattr("framework.rate_limiter.time.monotonic", lambda: now + RETRY_SECONDS)
        assert [limiter.hit(LIMIT, key) for _ in range(3)] == [True, True, False]

    assert limiter.test(LIMIT, "another key")
    assert [record.message for record in caplog.records] == ["redis_away", "redis_back", "redis_away"]


@needs_redis_server
def test_services_with_one_redis_count_together_and_go_on_without_it(tmp_path):
    port, name = free_port(), f"demo_user_redis_{os.getpid()}"
    settings = {
        "UTILMETA_PRODUCTION": "true",
        "SECRET_KEY": "a-key-of-the-tests-that-is-long-enough-for-production",
        "THROTTLE": "on",
        "REDIS_URL": f"redis://127.0.0.1:{port}/0",
        "DATABASE_URL": database_url(name, tmp_path),
    }
    command = ("sh", "-c", 'exec granian --interface=wsgi --no-ws --port "$PORT" tests.granian_app:app')
    with a_database(name), ExitStack() as stack:
        assert run("meta", "migrate", **settings).returncode == 0
        services = [Process(command, BASE_DIR, tmp_path / f"log{number}", settings) for number in range(2)]
        for service in services:
            stack.callback(service.stop)
            service.wait_until_granian_has_started(workers=1)
        one, other = (stack.enter_context(httpx.Client(base_url=each.url, timeout=60)) for each in services)

        with a_redis(port, tmp_path):
            assert one.post("/api/user/signup", json=credentials()).status_code == 200
            for number in range(10):
                assert_problem(login((one, other)[number % 2], password="wrong"), 403, "invalid_credentials")
            for client in (one, other):
                response = login(client)
                assert_problem(response, 429, "too_many_requests")
                assert 0 < int(response.headers["Retry-After"]) <= 600

        for client in (one, other):
            assert [login(client).status_code for _ in range(3)] == [200, 200, 200]

    assert [service.log.count("redis_away") for service in services] == [1, 1]


def test_redis_that_stays_away_is_tried_again_without_a_word(key, caplog, monkeypatch):
    limiter = Limiter(f"redis://127.0.0.1:{free_port()}/0")
    limiter.hit(LIMIT, key)
    now = time.monotonic()
    monkeypatch.setattr("framework.rate_limiter.time.monotonic", lambda: now + RETRY_SECONDS)

    assert limiter.hit(LIMIT, key)

    assert limiter.away_until == now + 2 * RETRY_SECONDS
    assert [record.message for record in caplog.records] == ["redis_away"]


def test_redis_that_never_answers_is_away_in_bounded_time(key):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        limiter = Limiter(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        start = time.monotonic()

        assert limiter.hit(LIMIT, key)

        assert time.monotonic() - start < 5
