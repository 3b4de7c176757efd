"""What the service writes about its work, and what it never writes."""

import io
import json
import logging
import logging.config
import re
import sys

import pytest
from django.db import OperationalError, connection

from config import settings
from user import sessions
from user.auth import session_config
from web import logs

from .support import COOKIE, OTHER_PASSWORD, assert_problem, credentials, login, send, session_key


@pytest.fixture(params=[logs.JsonFormatter, logs.LineFormatter], ids=["json", "line"])
def written(request, monkeypatch):
    """All that the service writes during a test, at the lowest level, in either form."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    config = logs.CONFIG | {
        "formatters": {"ours": {"()": request.param}},
        "loggers": logs.CONFIG["loggers"] | {"demo-user": {"level": "DEBUG"}},
    }
    logging.config.dictConfig(config)
    yield stream
    monkeypatch.undo()
    logging.config.dictConfig(logs.CONFIG)


def test_every_request_is_one_record_with_its_event(client, records, make_user):
    client.post("/api/user/signup", json=credentials())
    client.get("/api/user")
    client.put("/api/user", json={"password": OTHER_PASSWORD})
    client.post("/api/user/logout")
    login(client, password="wrong")
    login(client, password=OTHER_PASSWORD)
    client.get("/nope/secret?password=secret")
    client.put("/api/user", json={"username": "robert"}, headers={"Origin": "https://evil.example"})

    user_id = client.get("/api/user").json()["id"]
    seen = [
        (e["event"], e["level"], e["method"], e.get("route"), e["status"], e.get("user_id")) for e in records
    ]
    assert seen == [
        ("signup", "INFO", "POST", "/api/user/signup", 200, user_id),
        ("request", "INFO", "GET", "/api/user", 200, user_id),
        ("password_change", "INFO", "PUT", "/api/user", 200, user_id),
        ("logout", "INFO", "POST", "/api/user/logout", 200, user_id),
        ("login_failure", "WARNING", "POST", "/api/user/login", 403, user_id),
        ("login", "INFO", "POST", "/api/user/login", 200, user_id),
        ("request", "INFO", "GET", None, 404, None),
        ("cross_site_request", "WARNING", "PUT", "/api/user", 403, None),
        ("request", "INFO", "GET", "/api/user", 200, user_id),
    ]


def test_record_says_when_and_how_long(client, records):
    response = client.get("/api/user")

    (record,) = records
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])
    assert record["request_id"] == response.headers["X-Request-ID"]
    assert 0 < record["duration_ms"] < 60_000
    assert record["client"] == "127.0.0.1"


def test_wrong_current_password_is_a_login_failure(bob, records):
    bob.put("/api/user", json={"current_password": "wrong"})

    assert records[-1]["event"] == "login_failure"


def test_throttled_request_is_an_event(client, records, monkeypatch):
    monkeypatch.setattr(settings, "throttle", True)
    monkeypatch.setattr("user.rate_limits.limiter.test", lambda *args: False)

    login(client)

    assert (records[-1]["event"], records[-1]["level"]) == ("throttled", "WARNING")


def test_crash_is_an_event_with_a_trace_but_no_variables(client, records, monkeypatch):
    def crash(self, request, ident, password):
        raise RuntimeError("it broke")

    monkeypatch.setattr("user.accounts.UserAuthentication.login", crash)
    login(client, password="the marked password")

    (record,) = records
    assert (record["event"], record["level"], record["status"]) == ("unhandled_error", "ERROR", 500)
    assert "RuntimeError: it broke" in record["trace"]
    assert "in crash" in record["trace"]
    assert "the marked password" not in json.dumps(record)


def test_crash_outside_of_the_api_is_an_event_with_a_trace(client, records, monkeypatch):
    monkeypatch.setattr("web.middleware.is_same_origin", None)

    client.post("/api/user/login", json=credentials())

    assert records[-1]["event"] == "unhandled_error"
    assert "TypeError" in records[-1]["trace"]


def test_crash_where_the_framework_prints_variables_is_only_a_trace(client, records, monkeypatch, capfd):
    def crash(self, *args):
        secret = "the marked secret"
        raise RuntimeError("it broke", len(secret))

    monkeypatch.setattr("utilmeta.core.request.backends.django.DjangoRequestAdaptor.__init__", crash)
    response = client.get("/api/user")

    assert_problem(response, 500, "internal_error")
    assert records[-1]["event"] == "unhandled_error"
    assert "it broke" in records[-1]["trace"]
    written = "".join(capfd.readouterr())
    assert "Local Variables" not in written
    assert "the marked secret" not in written.replace('secret = "the marked secret"', "")


def test_database_away_is_an_event_with_its_cause(client, records):
    def refuse(*args, **kwargs):
        raise OperationalError("no route to host")

    with connection.execute_wrapper(refuse):
        login(client)

    assert (records[-1]["event"], records[-1]["status"]) == ("service_unavailable", 503)
    assert "no route to host" in records[-1]["cause"]


MARK = "marked-S3cret"


def test_nothing_secret_is_ever_written(make_user, make_client, written, monkeypatch):
    password, new_password = f"{MARK} password", f"{MARK} new password"
    bob = make_user("bob", password)
    keys = [session_key(bob)]
    bob.put("/api/user", json={"password": new_password, "current_password": password})
    keys.append(session_key(bob))
    stranger = make_client()
    for body in (
        credentials("bob", MARK),
        credentials(MARK, MARK),
        {"username": MARK, MARK: MARK},
        {"username": [MARK], "password": {MARK: MARK}},
        [MARK],
    ):
        for path in ("signup", "login", "logout"):
            stranger.post(f"/api/user/{path}", json=body)
    for content in (MARK.encode(), b'{"password": "' + MARK.encode(), b"\xff" + MARK.encode()):
        for content_type in ("application/json", f"text/{MARK}"):
            stranger.post("/api/user/login", content=content, headers={"Content-Type": content_type})
    stranger.get(f"/api/user?password={MARK}")
    stranger.get(f"/{MARK}")
    stranger.get(f"/api/user/login/{MARK}")
    send(MARK, "/api/user")
    send("GET", "/api/user", {"Host": MARK})
    send("GET", "/api/user", {"Cookie": f"{COOKIE}={MARK}"})
    send(
        "POST",
        "/api/user/login",
        {"Origin": MARK, "Referer": MARK, "User-Agent": MARK, "X-Forwarded-For": MARK},
    )
    monkeypatch.setattr("user.accounts.unique_username", None)
    stranger.post("/api/user/signup", json=credentials("eve", password))
    bob.put("/api/user", json={"username": "eve", "password": password})
    bob.post("/api/user/logout")

    assert "unhandled_error" in written.getvalue()
    assert MARK not in written.getvalue()
    for key in keys:
        assert key not in written.getvalue()


FORGED = "2026-01-01T00:00:00.000Z INFO login user_id=1"


@pytest.mark.parametrize("separator", ["\n", "\r", "\x1b[2K", "\x85", "\x00"])
def test_client_cannot_forge_a_line(client, written, separator):
    forged = separator + FORGED
    send("GET", "/" + forged)
    send("GET" + forged, "/api/user")
    send(
        "GET",
        "/api/user",
        {"Host": forged, "X-Request-ID": forged, "X-Forwarded-For": forged, "Cookie": forged},
    )
    client.post("/api/user/login", json=credentials(forged, forged))

    assert FORGED not in written.getvalue()
    assert len(written.getvalue().splitlines()) == 4


def test_text_of_a_crash_cannot_forge_a_line(client, written, monkeypatch):
    def crash(*args, **kwargs):
        raise RuntimeError(f"it broke\n{FORGED}")

    monkeypatch.setattr("user.accounts.UserAuthentication.login", crash)
    login(client)

    assert FORGED not in written.getvalue().splitlines()


def test_message_of_a_library_cannot_forge_a_line(written):
    logging.getLogger("library").warning("it broke\n%s", FORGED)

    assert len(written.getvalue().splitlines()) == 1


def test_libraries_write_warnings_at_the_lowest(written):
    logging.getLogger("library").info("chatter")

    assert written.getvalue() == ""


def test_cookie_that_a_browser_drops_is_warned_of_once(make_client, make_user, records, monkeypatch):
    make_user("bob")
    monkeypatch.setattr(session_config.cookie, "secure", True)  # as it is in production
    sessions.warn_of_insecure_request.cache_clear()
    with make_client() as client:
        client.base_url = "http://127.0.0.1"
        for _ in range(2):
            assert login(client).status_code == 200
        client.post("/api/user/logout")

    [warning] = [record for record in records if record["event"] == "secure_cookie_over_http"]
    assert warning["level"] == "WARNING"
    assert "HTTPS" in warning["reason"]
    assert "TRUSTED_PROXIES" in warning["reason"]


def test_cookie_that_a_browser_keeps_is_not_warned_of(make_user, records):
    sessions.warn_of_insecure_request.cache_clear()

    make_user("bob")

    assert [record["event"] for record in records] == ["signup"]
