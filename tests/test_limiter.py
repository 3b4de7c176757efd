"""Counting in a real Redis, and without one."""

import os
import shutil
import subprocess
import time
import uuid

import pytest
import redis
from limits import parse

from user.limiter import RETRY_SECONDS, Limiter

from .support import free_port

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
    assert 3500 < limiter.reset_time(LIMIT, key) - time.time() <= 3600


@needs_redis
def test_two_processes_count_together(key):
    one, other = Limiter(REDIS_URL), Limiter(REDIS_URL)

    assert one.hit(LIMIT, key)
    assert other.hit(LIMIT, key)
    assert not one.test(LIMIT, key)
    assert not other.hit(LIMIT, key)
    assert 3500 < other.reset_time(LIMIT, key) - time.time() <= 3600


@pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed")
def test_while_redis_is_away_it_counts_here_and_says_so_once(key, tmp_path, caplog, monkeypatch):
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path), "--logfile", "log"]
    limiter = Limiter(f"redis://127.0.0.1:{port}/0")

    assert [limiter.hit(LIMIT, key) for _ in range(3)] == [True, True, False]

    server = subprocess.Popen(command)
    try:
        while not (tmp_path / "log").exists() or "Ready to accept" not in (tmp_path / "log").read_text():
            time.sleep(0.02)
        assert not limiter.hit(LIMIT, key)  # it is not asked again so soon
        now = time.monotonic()
        monkeypatch.setattr("user.limiter.time.monotonic", lambda: now + RETRY_SECONDS)
        assert [limiter.hit(LIMIT, key) for _ in range(3)] == [True, True, False]
    finally:
        server.kill()
        server.wait()

    assert limiter.test(LIMIT, "another key")
    assert [record.message for record in caplog.records] == ["redis_away", "redis_back", "redis_away"]


def test_redis_that_stays_away_is_tried_again_without_a_word(key, caplog, monkeypatch):
    limiter = Limiter(f"redis://127.0.0.1:{free_port()}/0")
    limiter.hit(LIMIT, key)
    now = time.monotonic()
    monkeypatch.setattr("user.limiter.time.monotonic", lambda: now + RETRY_SECONDS)

    assert limiter.hit(LIMIT, key)

    assert limiter.away_until == now + 2 * RETRY_SECONDS
    assert [record.message for record in caplog.records] == ["redis_away"]


def test_redis_that_never_answers_is_away_in_bounded_time(key):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        limiter = Limiter(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        start = time.monotonic()

        assert limiter.hit(LIMIT, key)

        assert time.monotonic() - start < 5
