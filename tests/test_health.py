"""GET /api/health and /api/health/ready."""

import logging
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from django.db import OperationalError, ProgrammingError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext

from config import settings
from user.models import Session, User

from .databases import SERVER, a_database, database_url
from .support import assert_problem, login, run, send

OK = {"status": "ok"}


def rows():
    """Return all rows of the service's tables."""
    return [*User.objects.order_by("pk").values_list(), *Session.objects.order_by("pk").values_list()]


def test_process_that_serves_is_healthy_without_asking_the_database(client):
    with CaptureQueriesContext(connection) as queries:
        response = client.get("/api/health")

    assert response.status_code == 200
    assert response.json() == OK
    assert len(queries) == 0


def test_service_with_its_tables_is_ready_at_the_cost_of_few_statements_that_write_nothing(client, bob):
    login(bob)
    client.get("/api/health/ready")
    before = rows()

    with CaptureQueriesContext(connection) as queries:
        response = client.get("/api/health/ready")

    assert response.status_code == 200
    assert response.json() == OK
    # The migrations; a row of each table, three of which are for passkeys, and a change of none.
    assert len(queries) == 1 + 2 * (3 + 3)
    assert rows() == before


@pytest.fixture
def lacking():
    """Have a database that lacks a migration."""
    row = MigrationRecorder.Migration.objects.filter(app="user").latest("pk")
    row.delete()
    yield
    row.save(force_insert=True)


@pytest.mark.usefixtures("lacking")
def test_service_that_lacks_a_migration_is_not_ready(client):
    body = assert_problem(client.get("/api/health/ready"), 503, "service_unavailable")

    assert "migrations" in body["detail"]
    assert client.get("/api/health").status_code == 200


@pytest.mark.parametrize("error", [OperationalError("no route to host"), ProgrammingError("no such table")])
def test_service_without_its_database_is_not_ready(client, monkeypatch, error):
    def refuse(*fields):
        raise error

    monkeypatch.setattr(MigrationRecorder.Migration.objects, "values_list", refuse)

    assert_problem(client.get("/api/health/ready"), 503, "service_unavailable")
    assert client.get("/api/health").status_code == 200


HARM = {
    "no users": "DROP TABLE user_user {cascade}",
    "no sessions": "DROP TABLE user_session",
    "other columns": "ALTER TABLE user_user RENAME COLUMN password TO word",
}
ASK = """
import utilmeta
utilmeta._cmd_env = True  # as under `meta`: what the database lacks does not stop the start
import httpx
from server import app
client = httpx.Client(transport=httpx.WSGITransport(app=app), base_url="http://127.0.0.1")
print(client.get("/api/health").status_code, client.get("/api/health/ready").status_code)
"""


def ask(url: str) -> str:
    """Return the status codes of the two addresses, of a service on a database."""
    return run("python", "-c", ASK, DATABASE_URL=url).stdout.strip()


@pytest.fixture
def url(tmp_path):
    """A database of its own."""
    name = f"demo_user_health_{os.getpid()}"
    with a_database(name):
        url = database_url(name, tmp_path)
        assert run("meta", "migrate", DATABASE_URL=url).returncode == 0
        yield url


def execute(url: str, statement: str) -> None:
    """Change a database from outside of the service."""
    if SERVER:
        with psycopg.connect(url) as database:
            database.execute(statement.format(cascade="CASCADE"))
    else:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database, database:
            database.execute("PRAGMA journal_mode = DELETE")
            database.execute(statement.format(cascade=""))


def test_service_on_a_whole_database_is_ready(url):
    assert ask(url) == "200 200"


@pytest.mark.parametrize("harm", HARM)
def test_service_whose_tables_are_not_its_own_is_not_ready(url, harm):
    execute(url, HARM[harm])

    assert ask(url) == "200 503"


@pytest.mark.skipif(bool(SERVER), reason="it is about SQLite's file")
@pytest.mark.parametrize("name", ["user_user", "sqlite_autoindex_user_user_1", "user_session"])
def test_service_on_a_damaged_file_is_not_ready(url, name):
    path = Path(url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as database:
        [(page,)] = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [name])
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xaa" * 4096)

    assert ask(url) == "200 503"


@pytest.fixture
def role():
    """A role of the server that is not its owner."""
    name = f"demo_user_health_{os.getpid()}_role"
    with psycopg.connect(SERVER, autocommit=True) as server:
        server.execute(f"CREATE ROLE {name} LOGIN")
        yield name
        server.execute(f"DROP ROLE {name}")


@pytest.mark.skipif(not SERVER, reason="it is about PostgreSQL's rights and standbys")
@pytest.mark.parametrize(
    "harm",
    [
        "REVOKE SELECT ON user_user FROM {role}",
        "REVOKE UPDATE ON user_session FROM {role}",
        "ALTER ROLE {role} SET default_transaction_read_only = on",
    ],
)
def test_service_that_may_not_log_anybody_in_is_not_ready(role, url, harm):
    execute(url, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    of_role = re.sub("//[^@/]*@", f"//{role}@", url)
    assert ask(of_role) == "200 200"

    execute(url, harm.format(role=role))

    assert ask(of_role) == "200 503"


def test_health_is_not_throttled(client, monkeypatch):
    monkeypatch.setattr(settings, "throttle", True)
    monkeypatch.setattr("user.rate_limits.limiter.test", lambda *arguments: False)
    monkeypatch.setattr("user.rate_limits.limiter.hit", lambda *arguments: False)

    assert client.get("/api/health").status_code == client.get("/api/health/ready").status_code == 200


@pytest.mark.parametrize("path", ["/api/health", "/api/health/ready"])
def test_health_is_not_logged_at_info(client, caplog, path):
    with caplog.at_level(logging.DEBUG, "demo-user"):
        client.get(path)

    assert [record.levelname for record in caplog.records] == ["DEBUG"]


PATHS = ["/api/health", "/api/health/", "/api/health/ready", "/api/health/ready/"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "host",
    [
        "10.1.2.3",
        "10.1.2.3:8001",
        "[fd00::1]:8001",
        "ip-10-1-2-3",
        "evil.example",
        "",
        "a b",
        "_",
        "\xe9",
        None,
    ],
)
def test_health_is_told_whatever_the_host(host, method, path):
    response = send(method, path, HTTP_HOST=host, SERVER_NAME="0.0.0.0")

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "path",
    [
        "/api/healthy",
        "/api/health/nope",
        "/api/health//",
        "/api//health",
        "/api/health/../user",
        "/api/user",
        "/",
    ],
)
@pytest.mark.parametrize("host", ["10.1.2.3", None])
def test_host_is_checked_everywhere_else(host, path):
    response = send("GET", path, HTTP_HOST=host, SERVER_NAME="10.1.2.3")

    assert_problem(response, 400, "invalid_request")


@pytest.mark.parametrize("host", ["10.1.2.3", None])
def test_health_takes_no_other_method_whatever_the_host(host):
    for headers in ({}, {"Sec-Fetch-Site": "same-origin"}):
        response = send("POST", "/api/health", headers, HTTP_HOST=host, SERVER_NAME="10.1.2.3")
        assert_problem(response, 405, "method_not_allowed")
    foreign = send("POST", "/api/health", {"Origin": "https://evil.example"}, HTTP_HOST=host)
    assert_problem(foreign, 403, "cross_site_request")
