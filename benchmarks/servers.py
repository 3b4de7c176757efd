"""A server of the service, as it runs in production, and wrk, which sends it requests."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from config import BASE_DIR

from .databases import environment
from .flow import HOST, Request

THREADS = "8"
BIN = Path(sys.executable).parent
# Counts the answers that are no success, and says what wrk found as JSON, in milliseconds.
SCRIPT = """
local number, prefix, failed = 0, "{prefix}", 0
local threads = {{}}
function setup(thread) table.insert(threads, thread) end
function init() answers = {{}} end
function request()
  number = number + 1
  local body = string.gsub('{body}', "NEW", prefix .. string.format("%x", number))
  return wrk.format("{method}", "{path}", {{["Content-Type"] = "application/json", {cookie}}}, body)
end
function response(status) answers[status] = (answers[status] or 0) + 1 end
function done(summary, latency)
  local counts = {{}}
  for status, count in pairs(threads[1]:get("answers")) do
    table.insert(counts, string.format('"%d": %d', status, count))
  end
  io.write(string.format(
    'JSON {{"seconds": %f, "p50": %f, "p95": %f, "p99": %f, "socket_errors": %d, "answers": {{%s}}}}\\n',
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    latency:percentile(99) / 1e3, summary.errors.connect + summary.errors.read + summary.errors.timeout,
    table.concat(counts, ", ")))
end
"""


def need_wrk() -> None:
    """Raise RuntimeError without wrk."""
    if not shutil.which("wrk"):
        raise RuntimeError("wrk is not installed (Debian and Ubuntu: apt-get install wrk)")


@contextmanager
def a_server(name: str, url: str, workers: int, iterations: int) -> Iterator[int]:
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
    settings = environment(url) | granian | own
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
                    raise RuntimeError(f"{name} did not start: {log.read().decode()[-2000:]}")
            yield port
        finally:
            server.terminate()
            server.wait(60)


def ask(port: int, request: Request, name: str = "", cookie: str = "") -> tuple[int, str]:
    """Send one request; return the status, and the session's cookie if one is set."""
    connection = HTTPConnection(HOST, port, timeout=60)
    try:
        headers = {"Content-Type": "application/json"} | ({"Cookie": cookie} if cookie else {})
        connection.request(request.method, request.path, request.text(name, "") or None, headers)
        response = connection.getresponse()
        response.read()
        return response.status, (response.getheader("Set-Cookie") or "").partition(";")[0]
    finally:
        connection.close()


class Load:
    """Requests that wrk sends for some seconds over kept-alive connections, all of one kind."""

    def __init__(self, port: int, request: Request, connections: int, seconds: float, **who: str) -> None:
        """Start to send them, for a user's name, and with a cookie."""
        cookie = f'["Cookie"] = "{who["cookie"]}"' if request.session else ""
        script = SCRIPT.format(
            prefix=who["prefix"],
            method=request.method,
            path=request.path,
            body=request.text(who["name"], "NEW"),
            cookie=cookie,
        )
        self._file = tempfile.NamedTemporaryFile("w", suffix=".lua")  # noqa: SIM115
        self._file.write(script)
        self._file.flush()
        self._process = subprocess.Popen(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", self._file.name,
             f"http://{HOST}:{port}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def result(self) -> dict[str, Any]:
        """Wait for the end; return seconds, latencies in milliseconds, and the answers by status."""
        output = self._process.communicate()[0]
        self._file.close()
        line = next((line for line in output.splitlines() if line.startswith("JSON ")), None)
        if line is None:
            raise RuntimeError(f"wrk failed: {output[-500:]}")
        found: dict[str, Any] = json.loads(line.removeprefix("JSON "))
        return found
