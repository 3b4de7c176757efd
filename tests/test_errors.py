"""Every error, wherever it arises, has the same form."""

import json

import pytest
from django.db import InterfaceError, OperationalError, ProgrammingError, connection
from utilmeta.utils import exceptions

from web.problems import ALL_PROBLEMS, from_exception, from_status

from .support import assert_problem, credentials, login, send

UNKNOWN_PATHS = [
    "/nope",
    "/apiuser",
    "/API/user",
    "/api",
    "/api/",
    "/api/nope",
    "/api/user/nope",
    "/api/user/login/x",
]
STRANGE_PATHS = [
    "/api//user",
    "/api/user//",
    "/api/user/login//",
    "//api/user",
    "/api/user\n",
    "/api/user\0",
    "/api/us\xc3er",
    "/api/user;x=1",
    "/api/user/..",
    "/api/./user",
    "/api/user/ ",
    "/" + "x" * 5000,
]


@pytest.mark.parametrize("path", UNKNOWN_PATHS + STRANGE_PATHS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_address_is_not_found(method, path):
    assert_problem(send(method, path), 404, "not_found")


METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "CONNECT", "FOO"}
ALLOWED = {
    "/api/user": "GET, HEAD, PUT, DELETE",
    "/api/user/signup": "POST",
    "/api/user/login": "POST",
    "/api/user/logout": "POST",
    "/api/health": "GET, HEAD",
    "/api/health/ready": "GET, HEAD",
}


@pytest.mark.parametrize(
    ("path", "allowed", "method"),
    [
        (path, allowed, method)
        for path, allowed in ALLOWED.items()
        for method in sorted(METHODS - set(allowed.split(", ")))
    ],
)
def test_wrong_method_is_not_allowed_and_the_right_ones_are_named(path, allowed, method):
    response = send(method, path)

    assert response.status_code == 405
    assert response.headers["Allow"] == allowed
    if method != "HEAD":
        assert_problem(response, 405, "method_not_allowed")


@pytest.mark.parametrize("path", [path for path, allowed in ALLOWED.items() if "HEAD" in allowed])
def test_head_is_taken_where_it_is_named(bob, path):
    assert bob.head(path).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "", "127.0.0.1:x", "127.0.0.1.evil.example", "a b", "[::1", "é", "localhost\n"]
)
@pytest.mark.parametrize("path", ["/api/user", "/nope"])
def test_bad_host_is_a_bad_request(host, path):
    assert_problem(send("GET", path, {"Host": host}), 400, "invalid_request")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.0.0.1:8000", "LOCALHOST"])
def test_allowed_host_is_served(host):
    assert_problem(send("GET", "/api/user", {"Host": host}), 401, "not_logged_in")


@pytest.mark.parametrize(
    "error", [RuntimeError("secret"), ProgrammingError("secret"), KeyError("secret"), AssertionError()]
)
def test_crash_is_an_internal_error_that_says_nothing(client, monkeypatch, capfd, error):
    def crash(*args):
        raise error

    monkeypatch.setattr("user.accounts.UserAuthentication.login", crash)

    body = assert_problem(login(client), 500, "internal_error")

    assert "secret" not in str(body)
    assert type(error).__name__ not in str(body)


def test_crash_outside_of_the_api_is_an_internal_error(client, monkeypatch):
    def crash(request):
        raise RuntimeError("secret")

    monkeypatch.setattr("web.middleware.is_same_origin", crash)

    body = assert_problem(client.post("/api/user/login", json={}), 500, "internal_error")

    assert "secret" not in str(body)


@pytest.mark.parametrize(
    "error", [OperationalError("no route to host"), InterfaceError("connection already closed")]
)
@pytest.mark.parametrize("path", ["/api/user/login", "/api/user/signup"])
def test_database_away_means_unavailable(client, error, path):
    def refuse(*args, **kwargs):
        raise error

    with connection.execute_wrapper(refuse):
        response = client.post(path, json=credentials())

    body = assert_problem(response, 503, "service_unavailable")
    assert response.headers["Retry-After"] == "5"
    assert str(error) not in str(body)


def test_detail_says_nothing_of_what_was_sent(client):
    secret = "s3cr3t-" * 20

    response = client.post("/api/user/signup", json={"username": secret, "password": secret, "other": secret})

    assert_problem(response, 400, "invalid_request", "username", "password", "other")
    assert "s3cr3t" not in response.text


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (exceptions.Unauthorized(), "not_logged_in"),
        (exceptions.BadRequest("x"), "invalid_request"),
        (exceptions.UnprocessableEntity("x"), "invalid_request"),
        (exceptions.RequestEntityTooLarge(), "payload_too_large"),
        (exceptions.PermissionDenied("x"), "forbidden"),
        (exceptions.ServerError("x"), "internal_error"),
    ],
)
def test_errors_of_the_framework_have_their_problems(error, code):
    problem = from_exception(error)

    assert problem.code == code
    assert problem.message == ALL_PROBLEMS[code][1]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid_request"),
        (403, "forbidden"),
        (404, "not_found"),
        (413, "payload_too_large"),
        (418, "invalid_request"),
        (500, "internal_error"),
        (502, "internal_error"),
        (503, "service_unavailable"),
    ],
)
def test_statuses_of_django_have_their_problems(status, code):
    assert from_status(status).code == code


def test_too_many_faults_are_not_all_named(client):
    body = {str(number): 0 for number in range(5000)}

    response = client.post("/api/user/login", json=body)

    assert response.status_code == 400
    assert len(response.json()["errors"]) == 100


def test_mounted_below_a_prefix_the_rules_are_the_same():
    headers = {"Origin": "https://evil.example"}

    response = send("POST", "/api/user/logout", headers, SCRIPT_NAME="/prefix")

    assert_problem(response, 403, "cross_site_request")
    assert response.headers["Cache-Control"] == "no-store"


def test_options_is_no_way_to_another_method():
    response = send("OPTIONS", "/api/user/logout", {"Access-Control-Request-Method": "POST"})

    assert_problem(response, 405, "method_not_allowed")


@pytest.mark.parametrize("path", ["/api/user", "/nope"])
def test_head_of_an_error_has_no_body(path):
    response = send("HEAD", path)

    assert response.content == b""
    assert int(response.headers["Content-Length"]) > 0


def test_title_is_the_same_under_every_python():
    assert json.loads(from_status(413).body(""))["title"] == "Content Too Large"
