"""POST /api/user/logout."""

import pytest
from django.db import connection

from user.models import Session, User

from .support import COOKIE, assert_problem, send, session_key, with_key


@pytest.mark.parametrize("body", [{}, {"content": b""}, {"json": {}}])
def test_logout_ends_the_session_on_the_server(bob, client, body):
    key = session_key(bob)

    response = bob.post("/api/user/logout", **body)

    assert response.status_code == 200
    assert response.content == b""
    assert COOKIE not in bob.cookies
    assert Session.objects.get().deleted_time
    assert_problem(with_key(client, key), 401, "not_logged_in")


def test_logout_says_in_the_log_whose_session_ended(bob, records):
    bob.post("/api/user/logout")

    assert (records[-1]["event"], records[-1]["user_id"]) == ("logout", User.objects.get().pk)


def test_logout_by_a_database_that_cannot_say_whose_session_ended(bob, client, records, monkeypatch):
    monkeypatch.setattr(connection.features, "can_return_columns_from_insert", False)
    key = session_key(bob)

    bob.post("/api/user/logout")

    assert records[-1]["event"] == "logout"
    assert "user_id" not in records[-1]
    assert_problem(with_key(client, key), 401, "not_logged_in")


@pytest.mark.parametrize("returning", [True, False])
def test_logout_with_a_key_that_opens_nothing_is_no_logout(bob, records, monkeypatch, returning):
    monkeypatch.setattr(connection.features, "can_return_columns_from_insert", returning)
    key = session_key(bob)
    bob.post("/api/user/logout")

    response = bob.post("/api/user/logout", headers={"Cookie": f"{COOKIE}={key}"})

    assert response.headers["Set-Cookie"].startswith(f'{COOKIE}=""; ')
    assert records[-1]["event"] == "request"


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


def test_logout_with_chunks_of_nothing_has_no_body():
    chunks = {"CONTENT_LENGTH": None, "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}

    assert send("POST", "/api/user/logout", CONTENT_TYPE="", **chunks).status_code == 200
