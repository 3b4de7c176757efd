"""POST /api/user/login."""

from datetime import timedelta

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.db import DatabaseError
from django.utils import timezone

from framework.fair_queue import FairQueue
from user import passwords, queries
from user.models import Session, User
from user.queries import MAX_SESSIONS

from .support import (
    COOKIE,
    OTHER_PASSWORD,
    PASSWORD,
    assert_problem,
    credentials,
    login,
    session_key,
    with_key,
)


def test_login_returns_the_user(bob, client):
    response = login(client)

    assert response.status_code == 200
    assert response.json() == bob.get("/api/user").json()
    assert client.get("/api/user").json() == response.json()


@pytest.mark.parametrize("username", ["Bob", "BOB", "ｂｏｂ"])
def test_username_is_brought_into_its_one_form(bob, client, username):
    assert login(client, username).json()["username"] == "bob"


@pytest.mark.parametrize("username", ["bob", "nobody"])
def test_wrong_password_and_unknown_name_get_the_same_response(bob, client, username):
    response = login(client, username, "wrong")

    body = assert_problem(response, 403, "invalid_credentials")
    assert body["detail"] == "Username or password wrong"
    assert "Set-Cookie" not in response.headers
    assert Session.objects.count() == 1


@pytest.mark.parametrize("password", [PASSWORD + " ", " " + PASSWORD, PASSWORD[:-1], PASSWORD.upper(), "x"])
def test_password_must_be_the_very_one(bob, client, password):
    assert_problem(login(client, password=password), 403, "invalid_credentials")


@pytest.mark.parametrize("username", ["bob", "nobody"])
def test_known_and_unknown_names_cost_one_hash_each(bob, client, monkeypatch, username):
    hashed = []
    encode = passwords.PBKDF2PasswordHasher.encode

    def count(hasher, password, salt, iterations=None):
        hashed.append(iterations or hasher.iterations)
        return encode(hasher, password, salt, iterations)

    monkeypatch.setattr(passwords.PBKDF2PasswordHasher, "encode", count)

    login(client, username, "wrong")

    assert hashed == [PBKDF2PasswordHasher.iterations]


def test_login_gives_a_new_key_and_ends_the_earlier_session_of_this_browser(bob, client):
    earlier = session_key(bob)

    login(bob)

    assert session_key(bob) != earlier
    assert_problem(with_key(client, earlier), 401, "not_logged_in")
    assert bob.get("/api/user").status_code == 200


def test_login_as_another_user_ends_the_earlier_session_of_this_browser(bob, make_user, client):
    make_user("eve")
    earlier = session_key(bob)

    login(bob, "eve")

    assert bob.get("/api/user").json()["username"] == "eve"
    assert_problem(with_key(client, earlier), 401, "not_logged_in")


def test_failed_login_leaves_the_session_alone(bob):
    assert_problem(login(bob, password="wrong"), 403, "invalid_credentials")

    assert bob.get("/api/user").status_code == 200


def test_logins_in_other_browsers_stay(bob, client):
    login(client)

    assert bob.get("/api/user").status_code == client.get("/api/user").status_code == 200


@pytest.mark.parametrize("planted", ["A" * 43, "", "x", "A" * 42, "A" * 44, "../" * 20])
def test_key_that_we_did_not_issue_is_never_adopted(bob, client, planted):
    response = client.post("/api/user/login", json=credentials(), headers={"Cookie": f"{COOKIE}={planted}"})

    assert response.cookies[COOKIE] != planted
    assert_problem(with_key(client, planted), 401, "not_logged_in")


def test_outdated_hash_is_upgraded_at_login(bob, client, monkeypatch):
    old = User.objects.get().password
    monkeypatch.setattr(PBKDF2PasswordHasher, "iterations", 2)

    assert login(client).status_code == 200

    assert User.objects.get().password != old
    assert "$2$" in User.objects.get().password
    assert client.get("/api/user").status_code == 200
    assert login(client).status_code == 200


@pytest.fixture
def room_for_two(monkeypatch):
    """Let one hash be made while another is."""
    queue = FairQueue(slots=2, length=1, seconds=1)
    monkeypatch.setattr(passwords, "hashing_queue", lambda: queue)


@pytest.mark.usefixtures("bob", "room_for_two")
def test_outdated_hash_is_not_upgraded_over_a_password_changed_meanwhile(make_client, monkeypatch):
    late = make_client()
    monkeypatch.setattr(PBKDF2PasswordHasher, "iterations", 2)
    verify = passwords.hashers.verify_password

    def verify_and_change(password, encoded):
        answer = verify(password, encoded)
        User.objects.update(password=passwords.hash_password(OTHER_PASSWORD))
        return answer

    monkeypatch.setattr(passwords.hashers, "verify_password", verify_and_change)
    assert login(late).status_code == 200
    monkeypatch.setattr(passwords.hashers, "verify_password", verify)

    assert_problem(late.get("/api/user"), 401, "not_logged_in")
    assert login(make_client(), password=OTHER_PASSWORD).status_code == 200


@pytest.mark.usefixtures("room_for_two")
def test_login_that_races_a_password_change_leaves_no_working_session(bob, make_client, monkeypatch):
    late = make_client()
    verify = passwords.hashers.verify_password

    def verify_while_bob_changes_the_password(password, encoded):
        answer = verify(password, encoded)
        assert bob.put("/api/user", json={"password": OTHER_PASSWORD}).status_code == 200
        return answer

    monkeypatch.setattr(passwords.hashers, "verify_password", verify_while_bob_changes_the_password)
    assert login(late).status_code == 200

    assert_problem(late.get("/api/user"), 401, "not_logged_in")
    assert bob.get("/api/user").status_code == 200


def test_session_lasts_seven_days_from_login(bob):
    session = Session.objects.get()

    assert abs(session.expiry_time - session.created_time - timedelta(days=7)) < timedelta(seconds=1)


def test_login_that_races_the_deletion_of_its_account_is_wrong(bob, client, monkeypatch):
    verify = passwords.hashers.verify_password

    def verify_while_the_account_is_deleted(password, encoded):
        answer = verify(password, encoded)
        User.objects.all().delete()
        return answer

    monkeypatch.setattr(passwords.hashers, "verify_password", verify_while_the_account_is_deleted)

    assert_problem(login(client), 403, "invalid_credentials")
    assert not Session.objects.exists()


def test_account_without_a_usable_password_cannot_be_logged_in_to(bob, client):
    User.objects.update(password=passwords.EncodedPassword("!locked"))

    assert_problem(login(client), 403, "invalid_credentials")
    assert_problem(bob.get("/api/user"), 401, "not_logged_in")


def test_upgraded_hash_ends_no_session(bob, make_client, monkeypatch):
    monkeypatch.setattr(PBKDF2PasswordHasher, "iterations", 2)
    other = make_client()

    assert bob.put("/api/user", json={"username": "robert", "current_password": PASSWORD}).status_code == 200
    assert login(other, "robert").status_code == 200

    assert "$2$" in User.objects.get().password
    assert bob.get("/api/user").status_code == other.get("/api/user").status_code == 200


def add_sessions(user: User, count: int) -> None:
    Session.objects.bulk_create(
        Session(session_key=f"key {number}", user=user, expiry_time=timezone.now() + timedelta(days=1))
        for number in range(count)
    )


@pytest.mark.parametrize("more", [0, 1, 7])
def test_login_ends_the_oldest_sessions_of_a_user_who_has_too_many(bob, make_user, client, monkeypatch, more):
    eve = make_user("eve")
    add_sessions(User.objects.get(username="bob"), MAX_SESSIONS - 1 + more)
    monkeypatch.setattr(queries.in_batches, "__defaults__", (5,))

    assert login(client).status_code == 200

    live = Session.objects.filter(user__username="bob", deleted_time=None)
    assert live.count() == MAX_SESSIONS + max(0, more + 1 - 5)
    assert client.get("/api/user").status_code == 200
    assert_problem(bob.get("/api/user"), 401, "not_logged_in")
    assert eve.get("/api/user").status_code == 200


def test_user_keeps_as_many_sessions_as_are_allowed(bob, client):
    add_sessions(User.objects.get(), MAX_SESSIONS - 2)

    login(client)

    assert Session.objects.filter(deleted_time=None).count() == MAX_SESSIONS
    assert bob.get("/api/user").status_code == 200


def test_login_succeeds_when_older_sessions_cannot_be_ended(bob, client, monkeypatch):
    def fail(sessions):
        raise DatabaseError("deadlock detected")

    add_sessions(User.objects.get(), MAX_SESSIONS)
    monkeypatch.setattr(queries, "end_sessions", fail)

    assert login(client).status_code == 200
    assert client.get("/api/user").status_code == 200
    assert bob.get("/api/user").status_code == 200
