"""How many statements each request costs."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from .authenticator import options_to_get, register
from .support import COOKIE, OTHER_PASSWORD, PASSWORD, credentials, login

TRANSACTION_CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


def statements(function) -> list[str]:
    """Return the statements that a function sends, transaction control aside."""
    with CaptureQueriesContext(connection) as queries:
        assert function().status_code < 500
    return [query["sql"] for query in queries if not query["sql"].startswith(TRANSACTION_CONTROL)]


@pytest.mark.parametrize(
    ("method", "path", "body", "count"),
    [
        ("GET", "/api/user", None, 1),
        ("PUT", "/api/user", {}, 1),
        ("PUT", "/api/user", {"username": "robert"}, 2),
        ("PUT", "/api/user", {"password": OTHER_PASSWORD}, 5),
        ("PUT", "/api/user", {"password": OTHER_PASSWORD, "current_password": PASSWORD}, 5),
        ("POST", "/api/user/logout", None, 1),
        ("POST", "/api/user/login", credentials(), 4),
        ("POST", "/api/user/login", credentials(password="wrong"), 1),
        ("POST", "/api/user/signup", credentials("eve"), 3),
    ],
)
def test_statements_in_a_browser_with_a_session(bob, method, path, body, count):
    assert len(statements(lambda: bob.request(method, path, json=body))) == count


@pytest.mark.parametrize(
    ("method", "path", "body", "count"),
    [
        ("GET", "/api/user", None, 0),
        ("PUT", "/api/user", {"username": "eve"}, 0),
        ("POST", "/api/user/logout", None, 0),
        ("POST", "/api/user/login", credentials(), 3),
        ("POST", "/api/user/login", credentials("nobody"), 1),
        ("POST", "/api/user/login", {}, 0),
        ("POST", "/api/user/signup", credentials("eve"), 2),
        ("POST", "/api/user/signup", {}, 0),
    ],
)
@pytest.mark.usefixtures("bob")
def test_statements_without_a_session(client, method, path, body, count):
    assert len(statements(lambda: client.request(method, path, json=body))) == count


def test_statements_of_passkeys(bob, client):
    phone = register(bob)
    body = {"credential": phone.get(options_to_get(client))}

    assert len(statements(lambda: client.post("/api/passkeys/authentication"))) == 0
    # The passkey, its handle, its user; expired challenges, this one; the use; the session, others too many.
    assert len(statements(lambda: client.post("/api/passkeys/login", json=body))) == 8
    assert len(statements(lambda: bob.get("/api/passkeys"))) == 2


@pytest.mark.parametrize(
    ("key", "count"), [("A" * 43, 1), ("A" * 42, 0), ("A" * 44, 0), ("+" * 43, 0), ("", 0)]
)
def test_only_what_may_be_a_key_is_looked_up(client, key, count):
    assert len(statements(lambda: client.get("/api/user", headers={"Cookie": f"{COOKIE}={key}"}))) == count


def test_user_and_session_are_read_together_and_only_while_live(bob):
    (statement,) = statements(lambda: bob.get("/api/user"))

    assert "JOIN" in statement
    where = statement.partition("WHERE")[2]
    assert "deleted_time" in where
    assert "expiry_time" in where
    assert "session_key" in where


def test_login_inserts_its_session_once(bob, client):
    sent = statements(lambda: login(client))

    assert [statement.split()[0] for statement in sent] == ["SELECT", "INSERT", "SELECT"]
