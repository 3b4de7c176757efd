"""GET /api/user."""

import pytest

from user.models import Session, User

from .support import COOKIE, assert_problem, login, send, session_key, with_key


def test_user_is_who_is_logged_in(bob, make_user):
    eve = make_user("eve")

    assert bob.get("/api/user").json()["username"] == "bob"
    assert eve.get("/api/user").json()["username"] == "eve"
    assert set(bob.get("/api/user").json()) == {"id", "username", "signup_time"}


def test_trailing_slash_is_accepted(bob):
    assert bob.get("/api/user/").json() == bob.get("/api/user").json()


def test_head_is_get_without_a_body(bob):
    response = bob.head("/api/user")

    assert response.status_code == 200
    assert response.headers["Content-Length"] == bob.get("/api/user").headers["Content-Length"]


def test_without_a_session_it_is_401_and_nothing_is_written(client):
    response = client.get("/api/user")

    assert_problem(response, 401, "not_logged_in")
    assert "Set-Cookie" not in response.headers
    assert not Session.objects.exists()


@pytest.mark.parametrize(
    "key",
    [
        "",
        "x",
        "A" * 43,
        "A" * 4000,
        "\u00e9" * 43,
        '"' + "\\000" * 43 + '"',
        '"' + "\\303\\050" * 20 + '"',
        "' OR 1=1 --",
        "%00",
        ";;;",
    ],
)
def test_key_of_any_bytes_is_answered_as_no_key(bob, key):
    response = send("GET", "/api/user", {"Cookie": f"{COOKIE}={key}"})

    assert_problem(response, 401, "not_logged_in")
    assert Session.objects.count() == 1


def test_hash_of_a_key_is_not_a_key(bob, client):
    assert_problem(with_key(client, Session.objects.get().session_key), 401, "not_logged_in")


def test_deleted_user_is_logged_out(bob):
    User.objects.all().delete()

    assert_problem(bob.get("/api/user"), 401, "not_logged_in")


def test_deleted_user_is_logged_out_of_a_session_that_was_left_behind(bob):
    Session.objects.update(user=None)

    assert_problem(bob.get("/api/user"), 401, "not_logged_in")


def test_two_browsers_hold_two_keys(bob, client):
    login(client)

    assert session_key(client) != session_key(bob)
