"""What every test has at hand: the service on a database of its own, and browsers to use it with.

The suite runs in development mode, or in production mode with UTILMETA_PRODUCTION=1 around it; on SQLite,
or with TEST_DATABASE_URL=postgresql://… on a server where it may make databases, one for each process.
"""

import json
import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from .databases import a_database, database_url

ROOT = Path(__file__).parent.parent
FOLDER = tempfile.TemporaryDirectory(prefix="demo-user-")

NAME = f"demo_user_test_{os.getpid()}"

# The defaults, whatever stands in a .env here; config.py reads the environment when it is imported.
os.environ.update(
    {name: value or "" for name, value in dotenv_values(ROOT / ".env.example").items()}
    | {
        "UTILMETA_PRODUCTION": os.environ.get("UTILMETA_PRODUCTION", "false"),
        "SECRET_KEY": "only-for-tests-" + "k" * 50,
        "DATABASE_URL": database_url(NAME, FOLDER.name),
        "THROTTLE": "off",
        "PASSKEYS": "on",
    }
)

import httpx  # noqa: E402
import utilmeta  # noqa: E402
from django.contrib.auth.hashers import PBKDF2PasswordHasher  # noqa: E402

# A shell that starts the tests in the background has them ignore SIGINT, and so would every server that they
# start and stop by it: each would go on until its time-out, for hours altogether.
signal.signal(signal.SIGINT, signal.default_int_handler)

from django.core.management import call_command  # noqa: E402
from django.db import connection, connections  # noqa: E402
from django.test import RequestFactory  # noqa: E402

utilmeta._cmd_env = True  # as under `meta`: the database is made below
from server import app  # noqa: E402

# isort: split
from passkey.models import UsedChallenge  # noqa: E402
from user import rate_limits  # noqa: E402
from user.models import Session, User  # noqa: E402
from web import logs  # noqa: E402

from .support import BASE_URL, PASSWORD, Process  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def database() -> Iterator[None]:
    """Make the tables, once for each process that runs tests."""
    with a_database(NAME):
        call_command("migrate", verbosity=0)
        yield
        connections.close_all()


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hash cheaply, and leave no row and no count to the next test."""
    monkeypatch.setattr(PBKDF2PasswordHasher, "iterations", 1)
    yield
    monkeypatch.undo()  # first: what connects now serves the next test, too
    Session.objects.all().delete()
    User.objects.all().delete()
    UsedChallenge.objects.all().delete()
    rate_limits.limiter.local.reset()


@pytest.fixture
def make_client() -> Iterator[Callable[..., httpx.Client]]:
    """Return a function that opens a browser: a client with a cookie jar of its own."""
    clients = []

    def make(address: str = "127.0.0.1", **kwargs: Any) -> httpx.Client:
        transport = httpx.WSGITransport(app=app, remote_addr=address)
        clients.append(httpx.Client(transport=transport, base_url=BASE_URL, **kwargs))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(make_client: Callable[..., httpx.Client]) -> httpx.Client:
    """A browser that nobody is logged in with."""
    return make_client()


@pytest.fixture
def make_user(make_client: Callable[..., httpx.Client]) -> Callable[..., httpx.Client]:
    """Return a function that signs a user up, and gives the browser in which that was done."""

    def make(username: str = "bob", password: str = PASSWORD) -> httpx.Client:
        client = make_client()
        response = client.post("/api/user/signup", json={"username": username, "password": password})
        assert response.status_code == 200, response.text
        return client

    return make


@pytest.fixture
def bob(make_user: Callable[..., httpx.Client]) -> httpx.Client:
    """A browser that bob is logged in with."""
    return make_user("bob")


@pytest.fixture
def rf() -> RequestFactory:
    """Django's maker of requests, for what reads nothing but a request."""
    return RequestFactory()


class Records(logging.Handler):
    """Keeps what is logged, as the objects that the lines of JSON hold."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(json.loads(logs.JsonFormatter().format(record)))


@pytest.fixture
def records() -> Iterator[list[dict[str, Any]]]:
    """The records of a test."""
    handler = Records()
    logging.getLogger("demo-user").addHandler(handler)
    yield handler.kept
    logging.getLogger("demo-user").removeHandler(handler)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Return a function that starts a process of the service, on a database and a port of its own.

    Keyword arguments are settings. What it writes goes to `log`, in the working directory.
    """
    processes = []

    def run(*command: str, cwd: Path = tmp_path, **settings: str) -> Process:
        process = Process(command, cwd, tmp_path / f"log{len(processes)}", settings)
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.stop()


@pytest.fixture
def in_threads() -> Callable[..., list[Any]]:
    """Return a function that calls another one in several threads at once, and gives all results."""

    def run(count: int, function: Callable[[int], Any]) -> list[Any]:
        def call(number: int) -> Any:
            try:
                return function(number)
            finally:
                connection.close()

        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(call, range(count)))

    return run


@pytest.fixture(scope="module")
def browser_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser, which the tests of a module use one after the other."""
    from .browser import Browser  # which needs the extra `browser`

    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def gate(gate_of_module: Any, service: Process) -> Iterator[Any]:
    """The way to the service; a module of browser tests has its own of both."""
    yield gate_of_module
    gate_of_module.reset()


@pytest.fixture
def browser(browser_of_module: Any, gate: Any) -> Iterator[Any]:
    """A browser that nobody is logged in with; in the end, it wrote and sent nothing that it should not."""
    browser_of_module.reset(gate.url)
    yield browser_of_module
    gate.open.set()
    assert list(browser_of_module.unexpected()) == []
