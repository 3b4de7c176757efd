"""A server of the service, as it runs in production."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import psutil
from dotenv import dotenv_values

from config import BASE_DIR

from .databases import environment
from .flow import HOST, Request, new_address

# More than may wait to hash a password, as in deploy/granian.conf.
THREADS = "128"
# Longer than the workers of granian and gunicorn are given for the requests under way.
STOP_SECONDS = 40
BIN = Path(sys.executable).parent


@contextmanager
def a_server(name: str, url: str, workers: int, iterations: int, **extra: str) -> Iterator[int]:
    """Have granian or gunicorn serve a database; give the port."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    granian = {key: value or "" for key, value in dotenv_values(BASE_DIR / "deploy/granian.conf").items()}
    own = {"GRANIAN_WORKERS": str(workers), "BENCHMARK_ITERATIONS": str(iterations)}
    commands = {
        "granian": ["granian", "--port", str(port), "benchmarks.app:app"],
        "gunicorn": ["gunicorn", "--bind", f"{HOST}:{port}", "--workers", str(workers), "--threads", THREADS,
                     "--keep-alive", "60", "--log-level", "error", "--no-control-socket",
                     "benchmarks.app:app"],
    }  # fmt: skip
    command = [str(BIN / commands[name][0]), *commands[name][1:]]
    if not Path(command[0]).exists():
        raise RuntimeError(f"{name} is not installed (the extra `server` brings granian)")
    settings = environment(url, **extra) | granian | own
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, cwd=BASE_DIR, env=settings, stdout=log, stderr=log)
        try:
            for _ in range(300):
                try:
                    ask(port, Request("GET", "/api/health"))
                    break
                except OSError:
                    time.sleep(0.1)
                if server.poll() is not None:
                    log.seek(0)
                    words = log.read().decode().split("\n")
                    raise RuntimeError(f"{name} did not start: {next(filter(None, words[::-1]), 'no word')}")
            else:
                raise RuntimeError(f"{name} did not answer in 30 seconds")
            yield port
        finally:
            stop(server)


def stop(server: subprocess.Popen[bytes]) -> None:
    """End a server and its workers: at its own pace, or by force when that takes too long."""
    workers = psutil.Process(server.pid).children(recursive=True) if server.poll() is None else []
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        for process in [server, *workers]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        server.wait()


def ask(port: int, request: Request, name: str = "", cookie: str = "") -> tuple[int, str]:
    """Send one request; return the status, and the session's cookie if one is set."""
    connection = HTTPConnection(HOST, port, timeout=60)
    try:
        headers = {"Content-Type": "application/json", "X-Forwarded-For": new_address()}
        headers |= {"Cookie": cookie} if cookie else {}
        connection.request(request.method, request.path, request.text(name, "") or None, headers)
        response = connection.getresponse()
        response.read()
        return response.status, (response.getheader("Set-Cookie") or "").partition(";")[0]
    finally:
        connection.close()
