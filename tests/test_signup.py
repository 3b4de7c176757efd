"""POST /api/user/signup."""

import json
import re
from datetime import datetime, timedelta, timezone

import pytest

from user.models import Session, User

from .support import COOKIE, MIN_LENGTH, PASSWORD, assert_problem, credentials, login


def test_signup_returns_the_user_and_logs_in(client):
    response = client.post("/api/user/signup", json=credentials())

    user = User.objects.get()
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert list(response.json()) == ["id", "username", "signup_time"]
    assert response.json()["id"] == user.pk
    assert response.json()["username"] == "bob"
    assert client.get("/api/user").json() == response.json()


def test_signup_time_is_utc_with_microseconds(client):
    text = client.post("/api/user/signup", json=credentials()).json()["signup_time"]

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    signup_time = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    assert abs(datetime.now(timezone.utc) - signup_time) < timedelta(minutes=1)
    assert User.objects.get().signup_time == signup_time


def test_signup_time_without_microseconds_has_the_same_form(bob):
    User.objects.update(signup_time=datetime(2024, 1, 29, 12, 29, 33, tzinfo=timezone.utc))

    assert bob.get("/api/user").json()["signup_time"] == "2024-01-29T12:29:33.000000Z"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("Ada", "ada"),
        ("ADA", "ada"),
        ("ａｄａ", "ada"),  # full width
        ("\u212aelvin", "kelvin"),  # the Kelvin sign
        ("a", "a"),
        ("0", "0"),
        ("a.b_c-d", "a.b_c-d"),
        ("a" * 20, "a" * 20),
    ],
)
def test_username_is_kept_in_its_one_form(client, sent, kept):
    response = client.post("/api/user/signup", json=credentials(sent))

    assert response.json()["username"] == kept


@pytest.mark.parametrize(
    "username",
    [
        "",
        " ",
        "a" * 21,
        ".a",
        "-a",
        "_a",
        "a b",
        " a",
        "a ",
        "a\n",
        "a\0",
        "é",
        "аdmin",
        "a/b",
        "a@b",
        "ﷺ",
        "😀",
    ],
)
def test_username_of_another_form_is_refused(client, username):
    response = client.post("/api/user/signup", json=credentials(username))

    assert_problem(response, 400, "invalid_request", "username")
    assert not User.objects.exists()


@pytest.mark.parametrize("again", ["bob", "Bob", "BOB", "ｂｏｂ"])
def test_taken_username_is_refused(bob, client, again):
    response = client.post("/api/user/signup", json=credentials(again))

    body = assert_problem(response, 400, "username_exists", "username")
    assert body["detail"] == "Username exists"
    assert User.objects.count() == 1
    assert Session.objects.count() == 1
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("length", [MIN_LENGTH, 100])
def test_password_of_a_length_at_the_bounds_is_taken(client, length):
    password = "pä55" + "x" * (length - 4)

    assert client.post("/api/user/signup", json=credentials(password=password)).status_code == 200
    assert login(client, password=password).status_code == 200


@pytest.mark.parametrize("length", [0, 1, MIN_LENGTH - 1, 101, 10_000])
def test_password_of_a_length_beyond_the_bounds_is_refused(client, length):
    response = client.post("/api/user/signup", json=credentials(password="x" * length))

    assert_problem(response, 400, "invalid_request", "password")
    assert not User.objects.exists()


@pytest.mark.parametrize("password", [f"{PASSWORD}\0", f"\0{PASSWORD}", f"{PASSWORD}\ud800"])
def test_password_that_cannot_be_kept_whole_is_refused(client, password):
    text = json.dumps(credentials(password=password))

    response = client.post("/api/user/signup", content=text, headers={"Content-Type": "application/json"})

    assert_problem(response, 400, "invalid_request", "password")


def test_password_is_normalised_but_never_trimmed(client):
    composed, decomposed = "ﬁancé-" + PASSWORD, "fiance\u0301-" + PASSWORD
    client.post("/api/user/signup", json=credentials(password=f" {composed} "))

    assert login(client, password=f" {decomposed} ").status_code == 200
    assert_problem(login(client, password=decomposed), 403, "invalid_credentials")


def test_every_field_at_fault_is_named(client):
    response = client.post("/api/user/signup", json={"username": "!", "password": "", "email": "x", "id": 1})

    assert_problem(response, 400, "invalid_request", "username", "password", "email", "id")


def test_signup_in_a_browser_with_a_session_ends_that(bob, client):
    earlier = bob.cookies[COOKIE]

    bob.post("/api/user/signup", json=credentials("eve"))

    assert bob.get("/api/user").json()["username"] == "eve"
    assert client.get("/api/user", headers={"Cookie": f"{COOKIE}={earlier}"}).status_code == 401
