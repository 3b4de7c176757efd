"""PUT /api/user."""

from datetime import timedelta

import pytest
from django.db import DatabaseError
from django.utils import timezone

from config import settings
from user import accounts, queries
from user.models import Session, User
from user.passwords import hash_password

from .support import (
    COOKIE,
    MIN_LENGTH,
    OTHER_PASSWORD,
    PASSWORD,
    assert_problem,
    login,
    session_key,
    upgrade_hash,
    with_key,
)


def make_login_older(**age: float) -> None:
    Session.objects.update(created_time=timezone.now() - timedelta(**age))


def test_username_changes_and_the_rest_stays(bob, client):
    before = bob.get("/api/user").json()
    key = session_key(bob)

    response = bob.put("/api/user", json={"username": "Robert"})

    assert response.status_code == 200
    assert response.json() == before | {"username": "robert"}
    assert bob.get("/api/user").json() == response.json()
    assert "Set-Cookie" not in response.headers
    assert session_key(bob) == key
    assert login(client, "robert").status_code == 200


def test_empty_object_changes_nothing(bob):
    before = bob.get("/api/user").json()
    row = User.objects.values().get()

    response = bob.put("/api/user", json={})

    assert response.status_code == 200
    assert response.json() == before
    assert User.objects.values().get() == row


def test_ones_own_username_is_no_conflict(bob):
    assert bob.put("/api/user", json={"username": "BOB"}).json()["username"] == "bob"


def test_taken_username_is_refused_and_nothing_changes(bob, make_user):
    make_user("eve")

    response = bob.put("/api/user", json={"username": "EVE", "password": OTHER_PASSWORD})

    body = assert_problem(response, 400, "username_exists", "username")
    assert body["detail"] == "Username exists"
    assert bob.get("/api/user").json()["username"] == "bob"
    assert login(bob).status_code == 200


def test_password_changes(bob, client):
    response = bob.put("/api/user", json={"password": OTHER_PASSWORD})

    assert response.json() == bob.get("/api/user").json()
    assert_problem(login(client), 403, "invalid_credentials")
    assert login(client, password=OTHER_PASSWORD).status_code == 200


def test_changed_password_gives_a_new_key_here_and_ends_every_other_session(bob, make_client):
    other, observer = make_client(), make_client()
    login(other)
    old_key = session_key(bob)

    bob.put("/api/user", json={"password": OTHER_PASSWORD})

    assert session_key(bob) != old_key
    assert bob.get("/api/user").status_code == 200
    assert_problem(other.get("/api/user"), 401, "not_logged_in")
    assert_problem(with_key(observer, old_key), 401, "not_logged_in")
    assert Session.objects.filter(deleted_time=None).count() == 1


def test_sessions_are_revoked_also_when_their_rows_cannot_be_ended(bob, make_client, monkeypatch):
    def fail(sessions):
        raise DatabaseError("canceling statement due to statement timeout")

    other = make_client()
    login(other)
    monkeypatch.setattr("user.accounts.end_sessions", fail)

    response = bob.put("/api/user", json={"password": OTHER_PASSWORD})

    assert response.status_code == 200
    assert bob.get("/api/user").status_code == 200
    assert_problem(other.get("/api/user"), 401, "not_logged_in")
    assert Session.objects.filter(deleted_time=None).count() == 2
    assert login(other, password=OTHER_PASSWORD).status_code == 200


def test_response_to_a_password_change_waits_only_so_long_for_the_rows_to_end(bob, make_client, monkeypatch):
    others = [make_client() for _ in range(3)]
    for other in others:
        login(other)
    monkeypatch.setattr("user.accounts.REVOKING_SECONDS", -1.0)
    monkeypatch.setattr(queries.in_batches, "__defaults__", (2,))

    assert bob.put("/api/user", json={"password": OTHER_PASSWORD}).status_code == 200

    assert Session.objects.filter(deleted_time=None).count() == 2
    for other in others:
        assert_problem(other.get("/api/user"), 401, "not_logged_in")


def test_login_with_the_new_password_stays_while_older_sessions_end(bob, make_client, monkeypatch):
    early, late = make_client(), make_client()
    login(early)

    def log_in_meanwhile(*arguments):
        login(late, password=OTHER_PASSWORD)
        return queries.in_batches(*arguments)

    monkeypatch.setattr("user.accounts.in_batches", log_in_meanwhile)

    bob.put("/api/user", json={"password": OTHER_PASSWORD})

    assert late.get("/api/user").status_code == 200
    assert_problem(early.get("/api/user"), 401, "not_logged_in")
    assert Session.objects.filter(deleted_time=None).count() == 2


def test_changed_password_ends_no_session_of_another_user(bob, make_user):
    eve = make_user("eve")

    bob.put("/api/user", json={"password": OTHER_PASSWORD})

    assert eve.get("/api/user").status_code == 200


def test_changed_password_does_not_prolong_the_session(bob):
    make_login_older(minutes=10)
    before = Session.objects.get()

    bob.put("/api/user", json={"password": OTHER_PASSWORD})

    after = Session.objects.get(deleted_time=None)
    assert (after.created_time, after.expiry_time) == (before.created_time, before.expiry_time)


def test_username_and_password_change_together(bob, client):
    response = bob.put("/api/user", json={"username": "robert", "password": OTHER_PASSWORD})

    assert response.json()["username"] == "robert"
    assert login(client, "robert", OTHER_PASSWORD).status_code == 200


def test_late_password_change_asks_for_the_current_one(bob, client):
    make_login_older(minutes=settings.reauthentication_minutes)

    response = bob.put("/api/user", json={"password": OTHER_PASSWORD})

    assert_problem(response, 403, "reauthentication_required")
    assert bob.get("/api/user").status_code == 200
    assert login(client).status_code == 200


def test_late_password_change_with_the_current_one_is_fine(bob, client):
    make_login_older(days=3)

    response = bob.put("/api/user", json={"password": OTHER_PASSWORD, "current_password": PASSWORD})

    assert response.status_code == 200
    assert login(client, password=OTHER_PASSWORD).status_code == 200


def test_username_can_change_at_any_time(bob):
    make_login_older(days=3)

    assert bob.put("/api/user", json={"username": "robert"}).status_code == 200


def test_reauthentication_can_be_asked_for_always(bob, monkeypatch):
    monkeypatch.setattr(settings, "reauthentication_minutes", 0)

    response = bob.put("/api/user", json={"password": OTHER_PASSWORD})

    assert_problem(response, 403, "reauthentication_required")


@pytest.mark.parametrize("body", [{"password": OTHER_PASSWORD}, {"username": "robert"}, {}])
def test_wrong_current_password_is_refused_and_nothing_changes(bob, client, body):
    response = bob.put("/api/user", json=body | {"current_password": "wrong"})

    assert_problem(response, 403, "invalid_credentials")
    assert bob.get("/api/user").json()["username"] == "bob"
    assert login(client).status_code == 200


def test_current_password_alone_changes_nothing(bob):
    key = session_key(bob)

    assert bob.put("/api/user", json={"current_password": PASSWORD}).status_code == 200
    assert session_key(bob) == key


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"username": ""}, ["username"]),
        ({"username": None}, ["username"]),
        ({"password": None}, ["password"]),
        ({"password": "x" * (MIN_LENGTH - 1)}, ["password"]),
        ({"current_password": ""}, ["current_password"]),
        ({"id": 2}, ["id"]),
        ({"pk": 2, "signup_time": "2020-01-01T00:00:00.000000Z"}, ["pk", "signup_time"]),
        (
            {"username": 1, "password": [], "current_password": {}},
            ["username", "password", "current_password"],
        ),
    ],
)
def test_fields_at_fault_are_named_and_nothing_changes(bob, body, fields):
    row = User.objects.values().get()

    assert_problem(bob.put("/api/user", json=body), 400, "invalid_request", *fields)

    assert User.objects.values().get() == row


@pytest.mark.parametrize(
    ("content", "content_type"),
    [(b"{", "application/json"), (b"x", "text/plain"), (b"x" * 70_000, "application/json")],
)
def test_401_comes_before_anything_about_the_body(client, content, content_type):
    response = client.put("/api/user", content=content, headers={"Content-Type": content_type})

    assert_problem(response, 401, "not_logged_in")


def test_put_of_a_user_whose_password_was_changed_meanwhile_is_refused(bob, monkeypatch):
    def change_elsewhere(password: str) -> str:
        User.objects.update(password=hash_password("elsewhere " + password))
        return hash_password(password)

    monkeypatch.setattr("user.accounts.hash_password", change_elsewhere)

    assert_problem(bob.put("/api/user", json={"password": OTHER_PASSWORD}), 401, "not_logged_in")
    monkeypatch.setattr("user.accounts.hash_password", hash_password)
    assert login(bob, password="elsewhere " + OTHER_PASSWORD).status_code == 200


@pytest.mark.parametrize("change", [{"username": "robert"}, {"password": OTHER_PASSWORD}])
def test_put_is_done_while_a_login_upgrades_the_hash(bob, client, monkeypatch, change):
    unique_username = accounts.unique_username

    def overtaken():
        upgrade_hash()
        return unique_username()

    monkeypatch.setattr(accounts, "unique_username", overtaken)

    assert bob.put("/api/user", json=change).status_code == 200
    assert bob.get("/api/user").status_code == 200
    renamed = {"username": "bob", "password": PASSWORD} | change
    assert client.post("/api/user/login", json=renamed).status_code == 200


def test_put_in_a_session_that_ended_meanwhile_is_refused(bob, client, monkeypatch):
    def log_out_elsewhere(password: str) -> str:
        Session.objects.update(deleted_time=timezone.now())
        return hash_password(password)

    monkeypatch.setattr("user.accounts.hash_password", log_out_elsewhere)

    assert_problem(bob.put("/api/user", json={"password": OTHER_PASSWORD}), 401, "not_logged_in")
    assert login(client).status_code == 200


def test_cookie_of_the_new_key_has_all_its_flags(bob):
    response = bob.put("/api/user", json={"password": OTHER_PASSWORD})

    assert response.headers["Set-Cookie"].startswith(f"{COOKIE}={session_key(bob)}; ")
    assert "Max-Age=604800" in response.headers["Set-Cookie"]
