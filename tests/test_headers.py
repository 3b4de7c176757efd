"""The headers of every response."""

import re

import pytest

from config import settings as config

from .support import credentials, send

REQUESTS = [
    ("GET", "/api/user", {}, 401),
    ("GET", "/api/user", {"Host": "evil.example"}, 400),
    ("POST", "/api/user/login", {"Origin": "https://evil.example"}, 403),
    ("GET", "/api/user/login", {}, 405),
    ("GET", "/api/nope", {}, 404),
    ("POST", "/api/user/login", {}, 400),
    ("POST", "/api/user/logout", {}, 200),
]


@pytest.mark.parametrize(("method", "path", "headers", "status"), [*REQUESTS, ("GET", "/nope", {}, 404)])
def test_every_response_protects_its_reader(method, path, headers, status):
    response = send(method, path, headers)

    assert response.status_code == status
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert response.headers["Referrer-Policy"] == "same-origin"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["X-Request-ID"])
    assert int(response.headers["Content-Length"]) == len(response.content)


@pytest.mark.parametrize(("method", "path", "headers", "status"), REQUESTS)
def test_nothing_under_api_is_kept(method, path, headers, status):
    assert send(method, path, headers).headers["Cache-Control"] == "no-store"


def test_success_protects_its_reader_too(client):
    response = client.post("/api/user/signup", json=credentials())

    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_request_ids_differ_and_are_never_the_clients(client):
    ids = {
        client.get("/api/user", headers={"X-Request-ID": "mine"}).headers["X-Request-ID"] for _ in range(3)
    }

    assert len(ids) == 3
    assert "mine" not in ids


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_hsts_is_sent_in_production_over_tls_only(scheme):
    response = send("GET", "/api/user", **{"wsgi.url_scheme": scheme})

    expected = "max-age=31536000" if config.production and scheme == "https" else None
    assert response.headers.get("Strict-Transport-Security") == expected


def test_service_never_redirects_to_https():
    assert send("GET", "/api/user", **{"wsgi.url_scheme": "http"}).status_code == 401
