"""wrk, which sends a server requests of one kind and reports the responses."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from typing import Any

from .flow import HOST, Request

# Counts the responses by status, and says what wrk found as JSON, in milliseconds.
SCRIPT = """
local number, prefix, names = 0, "{prefix}", {{{names}}}
local threads = {{}}
function setup(thread) table.insert(threads, thread) end
function init() answers = {{}} end
function request()
  number = number + 1
  local body = string.gsub('{body}', "NEW", prefix .. string.format("%x", number))
  body = string.gsub(body, "NAME", names[number % #names + 1])
  local address = {address}
  local headers = {{["Content-Type"] = "application/json", ["X-Forwarded-For"] = address, {cookie}}}
  return wrk.format("{method}", "{path}", headers, body)
end
function response(status) answers[status] = (answers[status] or 0) + 1 end
function done(summary, latency)
  local counts, errors = {{}}, summary.errors
  for status, count in pairs(threads[1]:get("answers")) do
    table.insert(counts, string.format('"%d": %d', status, count))
  end
  io.write(string.format(
    'JSON {{"seconds": %f, "p50": %f, "p95": %f, "p99": %f, "socket_errors": %d, "answers": {{%s}}}}\\n',
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    latency:percentile(99) / 1e3, errors.connect + errors.read + errors.write + errors.timeout,
    table.concat(counts, ", ")))
end
"""
NEW_ADDRESS = 'string.format("10.%d.%d.%d", number / 65536, number / 256 % 256, number % 256)'


def need_wrk() -> None:
    """Raise RuntimeError without wrk."""
    if not shutil.which("wrk"):
        raise RuntimeError("wrk is not installed (Debian and Ubuntu: apt-get install wrk)")


class Load:
    """Requests that wrk sends for some seconds over kept-alive connections; it ends with its block."""

    def __init__(
        self, port: int, request: Request, connections: int, seconds: float, *users: dict[str, str]
    ) -> None:
        """Start to send them, for one user after the other, and with the cookie of the first."""
        cookie = f'["Cookie"] = "{users[0]["cookie"]}"' if request.session else ""
        script = SCRIPT.format(
            prefix=users[0]["prefix"],
            names=", ".join(f'"{user["name"]}"' for user in users),
            method=request.method,
            path=request.path,
            body=request.text("NAME", "NEW"),
            cookie=cookie,
            address=f'"{HOST}"' if request.session else NEW_ADDRESS,
        )
        self._file = tempfile.NamedTemporaryFile("w", suffix=".lua")  # noqa: SIM115
        self._file.write(script)
        self._file.flush()
        try:
            self._process = subprocess.Popen(
                ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", self._file.name,
                 f"http://{HOST}:{port}"],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        except BaseException:  # a signal, for one, after which no block would close the file
            self._file.close()
            raise

    def __enter__(self) -> Load:
        """Return these requests."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sending."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._file.close()

    def result(self) -> dict[str, Any]:
        """Wait for the end; return seconds, latencies in milliseconds, and the responses by status."""
        output = self._process.communicate()[0]
        line = next((line for line in output.splitlines() if line.startswith("JSON ")), None)
        if line is None:
            raise RuntimeError(f"wrk failed: {(output.strip() or 'no word').splitlines()[-1]}")
        found: dict[str, Any] = json.loads(line.removeprefix("JSON "))
        return found
