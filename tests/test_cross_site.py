"""Requests that a page of another site makes with a user's cookie."""

import json

import pytest
from corsheaders.checks import check_settings
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings

import tests.support
from config import Settings, settings
from user.models import User

from .support import BASE_URL, COOKIE, assert_problem, credentials, login, send, session_key

TRUSTED = "https://app.example.com"
UNSAFE = [
    ("POST", "/api/user/signup"),
    ("POST", "/api/user/login"),
    ("POST", "/api/user/logout"),
    ("PUT", "/api/user"),
]
OTHER_SCHEME = "http" if settings.production else "https"
FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": ""},
    {"Sec-Fetch-Site": "Same-Origin"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "https://evil.example"},
    {"Origin": BASE_URL + ":81"},
    {"Origin": BASE_URL + "/"},
    {"Origin": BASE_URL + ".evil.example"},
    {"Origin": "ftp://127.0.0.1"},
    {"Origin": OTHER_SCHEME + "://127.0.0.1"},
    {"Sec-Fetch-Site": "cross-site", "Origin": BASE_URL},
    {"Sec-Fetch-Site": "same-site", "Origin": BASE_URL},
    {"Sec-Fetch-Site": "", "Origin": BASE_URL},
    {"Sec-Fetch-Site": "same-origin, cross-site", "Origin": BASE_URL},
]


@pytest.mark.parametrize(("method", "path"), UNSAFE)
@pytest.mark.parametrize("headers", FOREIGN)
def test_unsafe_request_from_another_site_is_refused_and_does_nothing(bob, method, path, headers):
    response = bob.request(method, path, json=credentials("eve"), headers=headers)

    assert_problem(response, 403, "cross_site_request")
    assert "Set-Cookie" not in response.headers
    assert not User.objects.filter(username="eve").exists()
    assert bob.get("/api/user").json()["username"] == "bob"


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": BASE_URL},
     {"Sec-Fetch-Site": "same-origin", "Origin": BASE_URL},
     # A front end behind its own development server, and a page under `Referrer-Policy: no-referrer`.
     {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:5173"},
     {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
     {"Sec-Fetch-Site": "none", "Origin": "https://evil.example"}],
)  # fmt: skip
def test_request_from_our_own_page_or_from_no_page_passes(bob, headers):
    assert bob.put("/api/user", json={"username": "robert"}, headers=headers).status_code == 200


def test_port_of_the_scheme_in_the_host_is_no_other_origin(bob):
    port = 443 if settings.production else 80
    headers = {"Host": f"127.0.0.1:{port}", "Origin": BASE_URL}

    assert bob.put("/api/user", json={"username": "robert"}, headers=headers).status_code == 200


@pytest.mark.parametrize("port", [8443, 80 if settings.production else 443])
def test_other_port_in_the_host_is_another_origin(bob, port):
    headers = {"Host": f"127.0.0.1:{port}", "Origin": BASE_URL}

    assert_problem(bob.put("/api/user", json={}, headers=headers), 403, "cross_site_request")


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://localhost:5173", "https://xn--e1afmkfd.example:8443", "http://[::1]:81"],
)
def test_refusal_is_logged_with_the_origin_and_the_setting_that_would_allow_it(client, records, origin):
    client.post("/api/user/login", json=credentials(), headers={"Origin": origin})

    (record,) = records
    assert record["event"] == "cross_site_request"
    assert record["refused_origin"] == origin
    assert record["setting"] == "TRUSTED_ORIGINS"


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "my secret",
        "https://evil.example/secret",
        "https://evil.example?secret",
        "https://user:secret@evil.example",
        "https://Secret.example",
        "https://s\xe9cret.example",
        "https://evil.example:99999",
        "https://evil.example:secret",
        "https://[secret]",
        "https://evil.example\nlevel=ERROR",
        "https://evil.example level=ERROR",
        "javascript://secret",
        "https://" + "secret." * 40 + "example",
    ],
)
def test_what_is_no_origin_is_refused_and_not_logged(records, origin):
    response = send("POST", "/api/user/login", {"Origin": origin}, json.dumps(credentials()).encode())

    assert_problem(response, 403, "cross_site_request")
    (record,) = records
    assert record["event"] == "cross_site_request"
    assert record.keys().isdisjoint({"refused_origin", "setting"})


def test_origin_that_passes_is_not_logged(client, records):
    client.post("/api/user/logout", headers={"Origin": "https://evil.example", "Sec-Fetch-Site": "none"})

    assert records[0].keys().isdisjoint({"refused_origin", "setting"})


@pytest.mark.parametrize("headers", FOREIGN)
def test_safe_request_passes(bob, headers):
    assert bob.get("/api/user", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "site", [{}, *({"Sec-Fetch-Site": name} for name in ("same-site", "cross-site", ""))]
)
def test_trusted_origin_passes(bob, monkeypatch, site):
    monkeypatch.setattr(settings, "trusted_origins", [TRUSTED])
    headers = {"Origin": TRUSTED, **site}

    assert bob.put("/api/user", json={"username": "robert"}, headers=headers).status_code == 200


def test_without_trusted_origins_there_are_no_cors_headers(bob):
    response = bob.get("/api/user", headers={"Origin": TRUSTED})

    assert not [name for name in response.headers if name.lower().startswith("access-control")]


APPS = ["capacitor://localhost", "ionic://localhost"]


@pytest.fixture(params=[TRUSTED])
def with_trusted_origin(request, monkeypatch):
    """Serve as with TRUSTED_ORIGINS set at the start; return the origin."""
    from django.conf import settings as django_settings

    middleware = list(django_settings.MIDDLEWARE)
    middleware.insert(
        middleware.index("django.middleware.common.CommonMiddleware"), "corsheaders.middleware.CorsMiddleware"
    )
    monkeypatch.setattr(settings, "trusted_origins", [request.param])
    with override_settings(MIDDLEWARE=middleware, CORS_ALLOWED_ORIGINS=[request.param]):
        monkeypatch.setattr(tests.support, "app", WSGIHandler())
        yield request.param


@pytest.mark.usefixtures("with_trusted_origin")
def test_trusted_origin_is_answered_by_name_with_credentials(bob):
    cookie = f"{COOKIE}={session_key(bob)}"

    response = send("GET", "/api/user", {"Origin": TRUSTED, "Cookie": cookie})

    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == TRUSTED
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert "origin" in response.headers["Vary"].lower()


@pytest.mark.usefixtures("with_trusted_origin")
def test_other_origin_is_not_answered():
    response = send("GET", "/api/user", {"Origin": "https://evil.example"})

    assert "Access-Control-Allow-Origin" not in response.headers
    assert "origin" in response.headers["Vary"].lower()


@pytest.mark.usefixtures("with_trusted_origin")
@pytest.mark.parametrize(("origin", "allowed"), [(TRUSTED, True), ("https://evil.example", False)])
def test_preflight_is_answered_for_trusted_origins(origin, allowed):
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type",
    }

    response = send("OPTIONS", "/api/user", headers)

    assert response.status_code == 200
    assert (response.headers.get("Access-Control-Allow-Origin") == TRUSTED) == allowed
    assert ("PUT" in response.headers.get("Access-Control-Allow-Methods", "")) == allowed


@pytest.mark.usefixtures("with_trusted_origin")
def test_errors_for_a_trusted_origin_can_be_read_by_it(client):
    response = send("GET", "/api/user", {"Origin": TRUSTED})

    assert_problem(response, 401, "not_logged_in")
    assert response.headers["Access-Control-Allow-Origin"] == TRUSTED
    assert login(client).status_code == 403


@pytest.mark.usefixtures("with_trusted_origin")
def test_preflight_lets_tracing_headers_pass():
    # What OpenTelemetry (W3C Trace Context and Baggage) and Sentry add to the requests of a page.
    wanted = {"content-type", "traceparent", "tracestate", "baggage", "sentry-trace"}
    headers = {
        "Origin": TRUSTED,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": ",".join(sorted(wanted)),
    }

    response = send("OPTIONS", "/api/user/login", headers)

    assert wanted <= set(response.headers["Access-Control-Allow-Headers"].split(", "))


@pytest.mark.parametrize("with_trusted_origin", APPS, indirect=True)
def test_web_view_of_an_app_can_be_trusted(with_trusted_origin):
    headers = {"Origin": with_trusted_origin, "Sec-Fetch-Site": "cross-site"}

    response = send("POST", "/api/user/signup", headers, json.dumps(credentials()).encode())

    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == with_trusted_origin
    assert with_trusted_origin in Settings.load({"TRUSTED_ORIGINS": with_trusted_origin}).trusted_origins
    assert check_settings() == []
