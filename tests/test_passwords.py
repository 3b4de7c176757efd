"""How passwords are kept."""

import sys
import textwrap
import threading

import pytest
from django.contrib.auth.hashers import check_password

from config import settings
from user import passwords
from user.models import User

from .support import MIN_LENGTH, OTHER_PASSWORD, PASSWORD, assert_problem, credentials, login, run

# What UtilMeta's own field takes for a hash, and stores as it stands.
LOOKS_LIKE_A_HASH = "pbkdf2_sha256$90000000$" + "s" * 22 + "$" + "h" * 43 + "="


def test_table_keeps_a_hash(bob):
    stored = User.objects.get().password

    assert stored.startswith("pbkdf2_sha256$")
    assert check_password(PASSWORD, stored)
    assert isinstance(stored, passwords.EncodedPassword)


@pytest.mark.parametrize("password", [LOOKS_LIKE_A_HASH, "unknown$1$salt$" + "h" * 60 + "=", "!" + "x" * 40])
def test_password_that_looks_like_a_hash_is_hashed(client, password):
    client.post("/api/user/signup", json=credentials(password=password))

    assert User.objects.get().password != password
    assert login(client, password=password).status_code == 200


@pytest.mark.parametrize(
    ("production", "cores", "hashes"),
    [("1", 1, 1), ("1", 2, 1), ("1", 3, 1), ("1", 4, 2), ("1", 64, 2), ("0", 1, 1), ("0", 64, 64)],
)
def test_hashes_at_once_leave_threads_and_cores_to_others_in_production(production, cores, hashes):
    program = f"""
        import os, utilmeta
        os.sched_getaffinity = lambda _: range({cores})
        utilmeta._cmd_env = True  # as under `meta`: no database is needed
        import server
        from user.passwords import HASH_CONCURRENCY
        print(HASH_CONCURRENCY)
    """

    done = run(sys.executable, "-c", textwrap.dedent(program), UTILMETA_PRODUCTION=production)

    assert done.stdout.split() == [str(hashes)], done.stderr


def test_new_password_that_looks_like_a_hash_is_hashed(bob, client):
    bob.put("/api/user", json={"password": LOOKS_LIKE_A_HASH})

    assert User.objects.get().password != LOOKS_LIKE_A_HASH
    assert login(client, password=LOOKS_LIKE_A_HASH).status_code == 200


def test_stored_hash_is_not_the_password(bob, client):
    assert_problem(login(client, password=User.objects.get().password), 403, "invalid_credentials")


def test_saving_a_user_again_keeps_the_hash(bob, client):
    user = User.objects.get()
    user.username = "robert"
    user.save()

    assert login(client, "robert").status_code == 200


@pytest.mark.parametrize("password", [OTHER_PASSWORD, LOOKS_LIKE_A_HASH])
def test_whatever_writes_a_password_writes_its_hash(bob, client, password):
    User.objects.update(password=password)

    assert User.objects.get().password != password
    assert login(client, password=password).status_code == 200


def test_field_of_no_password_stays_none():
    field = User._meta.get_field("password")

    assert field.get_prep_value(None) is None
    assert field.from_db_value(None, None, None) is None


def test_same_password_has_another_hash_each_time():
    assert passwords.hash_password(PASSWORD) != passwords.hash_password(PASSWORD)


@pytest.fixture
def in_production(monkeypatch):
    """Be as strict as production about new passwords."""
    monkeypatch.setattr(settings, "utilmeta_production", True)


@pytest.mark.usefixtures("in_production")
@pytest.mark.parametrize("password", ["manchesterunited", "ManchesterUnited", "qwerty123456789 "])
def test_common_password_is_refused_in_production(bob, client, password):
    response = client.post("/api/user/signup", json=credentials("eve", password))
    assert_problem(response, 400, "invalid_request", "password")

    assert_problem(bob.put("/api/user", json={"password": password}), 400, "invalid_request", "password")


@pytest.mark.usefixtures("in_production")
def test_username_is_no_password_in_production(client, make_user):
    name = "long-enough-username"
    assert_problem(
        client.post("/api/user/signup", json=credentials(name, name)), 400, "invalid_request", "password"
    )

    user = make_user(name)
    for body in (
        {"password": name.upper()},
        {"username": "this-is-another-name", "password": "This-is-another-name"},
    ):
        assert_problem(user.put("/api/user", json=body), 400, "invalid_request", "password")


@pytest.mark.skipif(settings.production, reason="production is strict")
@pytest.mark.parametrize("password", ["123123", "bobbob"])
def test_development_takes_what_the_tutorial_types(client, password):
    assert client.post("/api/user/signup", json=credentials("bobbob", password)).status_code == 200


def test_minimum_is_for_new_passwords_only(bob, client):
    short = "x" * (MIN_LENGTH - 1)
    User.objects.update(password=short)

    assert login(client, password=short).status_code == 200


@pytest.fixture
def busy(monkeypatch):
    """Let nobody else hash: one hash at a time, and that one under way."""
    monkeypatch.setattr(passwords, "_running", threading.BoundedSemaphore(1))
    monkeypatch.setattr(passwords, "HASH_QUEUE_SECONDS", 0.01)
    passwords._running.acquire()
    yield
    passwords._running.release()


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("path", ["login", "signup"])
def test_too_many_hashes_at_once_mean_unavailable(client, path):
    response = client.post(f"/api/user/{path}", json=credentials())

    assert_problem(response, 503, "service_unavailable")
    assert response.headers["Retry-After"]


def test_full_queue_means_unavailable_at_once(client, monkeypatch):
    monkeypatch.setattr(passwords, "_admitted", threading.BoundedSemaphore(1))
    passwords._admitted.acquire()

    assert_problem(login(client), 503, "service_unavailable")


@pytest.mark.usefixtures("bob")
def test_who_is_logged_in_does_not_wait_for_hashes(make_client, bob, busy):
    assert bob.get("/api/user").status_code == 200


def test_hashes_give_their_turn_back(bob, client):
    for _ in range(passwords.HASH_CONCURRENCY + passwords.HASH_QUEUE_LENGTH + 1):
        assert_problem(login(client, password="wrong"), 403, "invalid_credentials")
