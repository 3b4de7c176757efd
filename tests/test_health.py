"""GET /api/health and /api/health/ready."""

import logging

import pytest
from django.db import OperationalError, ProgrammingError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext

from config import settings

from .support import assert_problem, send

OK = {"status": "ok"}


def test_process_that_serves_is_healthy_without_asking_the_database(client):
    with CaptureQueriesContext(connection) as queries:
        response = client.get("/api/health")

    assert response.status_code == 200
    assert response.json() == OK
    assert len(queries) == 0


def test_service_with_its_tables_is_ready_at_the_cost_of_one_statement(client):
    client.get("/api/health/ready")

    with CaptureQueriesContext(connection) as queries:
        response = client.get("/api/health/ready")

    assert response.status_code == 200
    assert response.json() == OK
    assert len(queries) == 1


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


def test_health_is_not_throttled(client, monkeypatch):
    monkeypatch.setattr(settings, "throttle", True)
    monkeypatch.setattr("user.throttle.limiter.test", lambda *arguments: False)
    monkeypatch.setattr("user.throttle.limiter.hit", lambda *arguments: False)

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
