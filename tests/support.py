"""What the tests say often."""

import io
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from django.core.management import CommandError, call_command

from config import BASE_DIR, settings
from server import app
from user import passwords
from user.auth import session_config
from user.models import User

# A Secure cookie comes back over HTTPS only.
BASE_URL = "https://127.0.0.1" if settings.production else "http://127.0.0.1"
COOKIE = session_config.cookie_name
PASSWORD = "correct horse battery"
OTHER_PASSWORD = "staple correct horse"
MIN_LENGTH = settings.password_min_length if settings.production else 6


def assert_problem(response: httpx.Response, status: int, code: str, *fields: str) -> dict[str, Any]:
    """Check the whole form of an error response, and the fields it names; return its body."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    expected = {"type", "title", "status", "code", "detail", "request_id"} | ({"errors"} if fields else set())
    assert set(body) == expected
    assert body["type"] == "about:blank"
    assert body["status"] == status
    assert body["code"] == code
    assert body["request_id"] == response.headers["X-Request-ID"]
    assert sorted(error["field"] for error in body.get("errors", [])) == sorted(fields)
    assert all(set(error) == {"field", "message"} for error in body.get("errors", []))
    return body


def credentials(username: str = "bob", password: str = PASSWORD) -> dict[str, str]:
    """Return the body of a signup or login."""
    return {"username": username, "password": password}


def login(client: httpx.Client, username: str = "bob", password: str = PASSWORD) -> httpx.Response:
    """Log in; return the response."""
    return client.post("/api/user/login", json=credentials(username, password))


def session_key(client: httpx.Client) -> str:
    """Return the key that a browser holds."""
    return client.cookies[COOKIE]


def with_key(client: httpx.Client, key: str) -> httpx.Response:
    """Ask who is logged in, with a key."""
    client.cookies.clear()
    return client.get("/api/user", headers={"Cookie": f"{COOKIE}={key}"})


def send(
    method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"", **environ: Any
) -> httpx.Response:
    """Send what a well-behaved client would not: give the WSGI application a request as a server would."""
    result: dict[str, Any] = {}
    variables: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/json" if body else "",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_HOST": "127.0.0.1",
        "wsgi.url_scheme": BASE_URL.partition(":")[0],
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        **{"HTTP_" + name.upper().replace("-", "_"): value for name, value in (headers or {}).items()},
        **environ,
    }

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        result.update(status=int(status[:3]), headers=headers)

    answer = app({name: value for name, value in variables.items() if value is not None}, start_response)
    try:
        content = b"".join(answer)
    finally:
        answer.close()
    return httpx.Response(result["status"], headers=result["headers"], content=content)


def free_port() -> int:
    """Return a port that nobody listens on, below those that systems give to connections meanwhile."""
    while True:
        port = 11_000 + secrets.randbelow(21_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def upgrade_hash() -> None:
    """Change the hash of the one user as a login does to an outdated one: the salt stays the same."""
    user = User.objects.get()
    hasher = passwords.PBKDF2PasswordHasher()
    upgraded = hasher.encode(PASSWORD, passwords.salt_of(user.password), hasher.iterations + 1)
    User.objects.update(password=passwords.EncodedPassword(upgraded))


def call(name: str, *arguments: object) -> str:
    """Run a command; return what it says."""
    stdout, stderr = io.StringIO(), io.StringIO()
    call_command(name, *map(str, arguments), stdout=stdout, stderr=stderr)
    assert stderr.getvalue() == ""
    return stdout.getvalue()


def damage(path: Path) -> None:
    """Overwrite the pages of a database file, but for the first one."""
    contents = path.read_bytes()
    path.write_bytes(contents[:4096] + b"\xaa" * (len(contents) - 4096))


def refusal(name: str, *arguments: object) -> str:
    """Run a command that is refused; return the one line that says why."""
    with pytest.raises(CommandError) as caught:
        call(name, *arguments)
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.returncode != 0
    return text


def until(condition: Callable[[], Any]) -> None:
    """Wait until something holds."""
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came about")


class Process:
    """A process of the service: `python server.py`, `meta run` or a server."""

    def __init__(self, command: Sequence[str], cwd: Path, log: Path, settings: dict[str, str]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log_file = log
        self.environment = os.environ | {
            "PORT": str(port),
            "PYTHONUNBUFFERED": "1",
            "PASSKEYS": "off",  # the default, which this process does not have
            "DATABASE_URL": f"sqlite:///{log.parent}/db.sqlite3",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            **settings,
        }
        self.environment.pop("DJANGO_SETTINGS_MODULE", None)
        self.command, self.cwd = command, cwd
        self.start()

    def start(self) -> None:
        """Start the process, with an empty log; once more when it has ended."""
        with self.log_file.open("wb") as output:
            self.process = subprocess.Popen(
                self.command, cwd=self.cwd, env=self.environment, stdout=output, stderr=output
            )

    @property
    def log(self) -> str:
        """What the process has written."""
        return self.log_file.read_text()

    def wait_until_it_serves(self) -> "Process":
        """Wait until the service answers."""
        for _ in range(600):
            assert self.process.poll() is None, self.log
            try:
                httpx.get(f"{self.url}/api/user", verify=False)
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return self
        raise AssertionError(f"no response; {self.log}")

    def wait_until_granian_has_started(self, workers: int = 2) -> "Process":
        """Wait until every worker of granian serves: one that is told to stop before does not listen."""
        for _ in range(600):
            if all(f"Started worker-{number + 1}" in self.log for number in range(workers)):
                return self.wait_until_it_serves()
            assert self.process.poll() is None, self.log
            time.sleep(0.05)
        raise AssertionError(f"not started; {self.log}")

    def children(self) -> list[psutil.Process]:
        """Return the processes that this one started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def exit_code(self) -> int:
        """Wait until the process ends by itself; return its exit code."""
        return self.process.wait(60)

    def stop(self) -> None:
        """Interrupt the process, as Ctrl-C does; granian kills its workers after 30 seconds."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)


# Makes UtilMeta find annotations, as future versions that support Python 3.14 will.
FIND_ANNOTATIONS = ""
if sys.version_info >= (3, 14):
    PATCH = BASE_DIR / "framework/utilmeta_patches/python_314.py"
    FIND_ANNOTATIONS = f"import runpy; runpy.run_path({str(PATCH)!r})['apply']()\n"


def run(
    *command: str, cwd: Path = BASE_DIR, stdin: str = "", without: Sequence[str] = (), **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of the project to its end, in this environment with, and without, some settings."""
    environment = {name: value for name, value in os.environ.items() if name not in without}
    environment |= {"PASSKEYS": "off"} | settings
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
