"""POST /api/user/logout."""

import pytest

from user.models import Session

from .support import COOKIE, assert_problem, session_key, with_key


@pytest.mark.parametrize("body", [{}, {"content": b""}, {"json": {}}])
def test_logout_ends_the_session_on_the_server(bob, client, body):
    key = session_key(bob)

    response = bob.post("/api/user/logout", **body)

    assert response.status_code == 200
    assert response.content == b""
    assert COOKIE not in bob.cookies
    assert Session.objects.get().deleted_time
    assert_problem(with_key(client, key), 401, "not_logged_in")


def test_logout_without_a_login_is_fine(client):
    response = client.post("/api/user/logout")

    assert response.status_code == 200
    assert response.content == b""


def test_logout_ends_no_other_session(bob, make_client):
    other = make_client()
    other.post("/api/user/login", json={"username": "bob", "password": "correct horse battery"})

    bob.post("/api/user/logout")

    assert other.get("/api/user").status_code == 200


@pytest.mark.parametrize(
    ("content", "status", "code", "fields"),
    [
        (b'{"everywhere": true}', 400, "invalid_request", ["everywhere"]),
        (b"[]", 400, "invalid_request", []),
        (b"{", 400, "malformed_json", []),
    ],
)
def test_logout_with_another_body_is_refused_and_ends_nothing(bob, content, status, code, fields):
    response = bob.post("/api/user/logout", content=content, headers={"Content-Type": "application/json"})

    assert_problem(response, status, code, *fields)
    assert bob.get("/api/user").status_code == 200
