"""GET /api/user."""

import sys

import pytest

from user.models import Session, User

from .support import COOKIE, assert_problem, login, send, session_key, with_key

# What Python strips from a text, but for the two that a Cookie header may have between its pairs.
SPACES = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace() and chr(code) not in " \t"]


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


def get_with(cookies: str):
    """Ask who is logged in, with the bytes of a Cookie header as a server passes them on (PEP 3333)."""
    return send("GET", "/api/user", {"Cookie": cookies.encode().decode("latin-1")})


@pytest.mark.parametrize("form", ["{space}{name}={key}", "{name}{space}={key}", "a=b; {space}{name}={key}"])
@pytest.mark.parametrize("space", SPACES)
def test_cookie_whose_name_only_looks_like_ours_is_not_taken(bob, space, form):
    cookies = form.format(space=space, name=COOKIE, key=session_key(bob))

    assert_problem(get_with(cookies), 401, "not_logged_in")


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("order", ["{planted}; {own}", "{own}; {planted}"])
def test_cookie_planted_under_a_similar_name_does_not_replace_ours(bob, make_user, space, order):
    eve = make_user("eve")
    planted, own = f"{space}{COOKIE}={session_key(eve)}", f"{COOKIE}={session_key(bob)}"

    response = get_with(order.format(planted=planted, own=own))

    assert response.json()["username"] == "bob"


@pytest.mark.parametrize(
    "cookies",
    [
        "{name}={key}",
        "theme=dark; {name}={key}; x",
        "a=b;{name}={key}",
        "a=é;\t{name}={key};",
        "{name}={key}; {name}={key}",
    ],
)
def test_key_is_found_among_other_cookies(bob, cookies):
    response = get_with(cookies.format(name=COOKIE, key=session_key(bob)))

    assert response.json()["username"] == "bob"


@pytest.mark.parametrize("other", ["{eve}", "x", "", '"{bob}"'])
@pytest.mark.parametrize("order", ["{name}={bob}; {name}={other}", "{name}={other}; {name}={bob}"])
def test_of_several_cookies_with_different_values_none_is_taken(bob, make_user, other, order):
    keys = {"bob": session_key(bob), "eve": session_key(make_user("eve"))}

    response = get_with(order.format(name=COOKIE, bob=keys["bob"], other=other.format(**keys)))

    assert_problem(response, 401, "not_logged_in")


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
