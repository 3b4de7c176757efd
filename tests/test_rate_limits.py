"""Guessing is slow, and nobody can lock another user out."""

import time
from collections import Counter
from contextlib import contextmanager
from threading import Barrier
from types import SimpleNamespace

import pytest
from django.db import OperationalError
from limits import parse

from config import settings
from framework.fair_queue import FairQueue
from user import rate_limits
from user.models import User
from user.passwords import PBKDF2PasswordHasher
from web.client_address import client_address, client_network

from .support import OTHER_PASSWORD, PASSWORD, assert_problem, credentials, login

HERE, ELSEWHERE = "192.0.2.1", "198.51.100.1"


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch):
    monkeypatch.setattr(settings, "throttle", True)
    monkeypatch.setattr(rate_limits, "FAILURES_PER_PAIR", parse("3/10 minutes"))
    monkeypatch.setattr(rate_limits, "FAILURES_PER_ADDRESS", parse("5/10 minutes"))
    monkeypatch.setattr(rate_limits, "FAILURES_PER_USERNAME", parse("7/hour"))
    monkeypatch.setattr(rate_limits, "SIGNUPS_PER_ADDRESS", parse("2/hour"))


def fail(client, times, username="bob"):
    """Fail to log in, and be told so each time."""
    for _ in range(times):
        assert_problem(login(client, username, "wrong"), 403, "invalid_credentials")


def assert_throttled(response, within):
    """Check that a response says when to come back, within some seconds."""
    assert_problem(response, 429, "too_many_requests")
    assert 1 <= int(response.headers["Retry-After"]) <= within


def test_guesser_of_one_name_is_stopped_before_any_hash(bob, make_client, monkeypatch):
    guesser = make_client(HERE)
    fail(guesser, 3)
    monkeypatch.setattr("user.accounts.verify_password", None)

    assert_throttled(login(guesser, password="wrong"), within=600)
    assert_throttled(login(guesser, password=PASSWORD), within=600)


def test_guesser_of_unknown_names_is_stopped_alike(make_client):
    guesser = make_client(HERE)
    fail(guesser, 3, "nobody")

    assert_throttled(login(guesser, "nobody"), within=600)


def test_guesser_of_many_names_is_stopped(bob, make_client):
    guesser = make_client(HERE)
    for number in range(5):
        fail(guesser, 1, f"name{number}")

    assert_throttled(login(guesser), within=600)


def test_guessers_in_many_places_are_stopped_and_the_user_is_not(bob, make_client):
    guessers = [make_client(f"203.0.113.{number}") for number in range(8)]
    for guesser in guessers[:7]:
        fail(guesser, 1)

    assert_throttled(login(guessers[0], password="wrong"), within=3600)
    assert login(make_client(ELSEWHERE)).status_code == 200
    assert bob.get("/api/user").status_code == 200


@pytest.mark.parametrize(
    ("guesser", "other", "again"),
    [
        ("64:ff9b::198.51.100.1", "64:ff9b::198.51.100.2", "198.51.100.1"),  # NAT64
        ("2001:0:4136:e378:8000:1:39cc:9bfe", "2001:0:4136:e378:8000:1:39cc:9bfd", "198.51.100.1"),  # Teredo
        ("2002:c633:6401:1::1", "2002:c633:6402:1::1", "2002:c633:6401:2::1"),  # 6to4
    ],
)
def test_clients_behind_a_translator_are_counted_each_by_its_ipv4_address(
    bob, make_client, guesser, other, again
):
    fail(make_client(guesser), 3)

    assert_throttled(login(make_client(again)), within=600)
    assert login(make_client(other)).status_code == 200


def test_success_is_not_counted(bob, make_client):
    user = make_client(HERE)
    for _ in range(10):
        assert login(user).status_code == 200


def test_wrong_current_password_counts(make_client, make_user):
    make_user("bob")
    client = make_client(HERE)
    login(client)

    for _ in range(3):
        response = client.put("/api/user", json={"password": OTHER_PASSWORD, "current_password": "wrong"})
        assert_problem(response, 403, "invalid_credentials")

    body = {"password": OTHER_PASSWORD, "current_password": PASSWORD}
    assert_throttled(client.put("/api/user", json=body), within=600)
    assert client.get("/api/user").status_code == 200


def test_signups_are_counted_for_an_address(make_client):
    client = make_client(HERE)
    for name in ("bob", "eve"):
        assert client.post("/api/user/signup", json=credentials(name)).status_code == 200

    assert_throttled(client.post("/api/user/signup", json=credentials("mallory")), within=3600)
    assert User.objects.count() == 2
    assert make_client(ELSEWHERE).post("/api/user/signup", json=credentials("mallory")).status_code == 200


def test_signup_that_was_not_tried_is_not_counted(make_client, monkeypatch):
    client = make_client(HERE)
    full = FairQueue(slots=1, length=0, seconds=1)
    with monkeypatch.context() as busy, full.slot("somebody else"):
        busy.setattr("user.passwords.hashing_queue", lambda: full)
        for _ in range(3):
            answer = client.post("/api/user/signup", json=credentials())
            assert_problem(answer, 503, "service_unavailable")

    assert client.post("/api/user/signup", json=credentials()).status_code == 200


@pytest.mark.parametrize("overtaken", [False, True])
def test_signup_over_the_limit_is_refused_before_any_hash(make_client, monkeypatch, overtaken):
    client = make_client(HERE)
    if overtaken:  # it was early enough when it began, and others were faster through the queue
        monkeypatch.setattr(rate_limits, "check_signups", lambda _: None)
    for name in ("bob", "eve"):
        client.post("/api/user/signup", json=credentials(name))
    monkeypatch.setattr("user.accounts.hash_password", None)

    assert_throttled(client.post("/api/user/signup", json=credentials("mallory")), within=3600)


def test_signups_at_the_same_time_are_counted_together(make_client, in_threads):
    def sign_up(number):
        return make_client(HERE).post("/api/user/signup", json=credentials(f"user{number}")).status_code

    assert sorted(in_threads(8, sign_up)) == [200, 200] + 6 * [429]
    assert User.objects.count() == 2


def test_taken_names_are_counted(bob, make_client):
    client = make_client(HERE)
    for _ in range(2):
        assert_problem(
            client.post("/api/user/signup", json=credentials()), 400, "username_exists", "username"
        )

    assert_throttled(client.post("/api/user/signup", json=credentials()), within=3600)


def test_invalid_signups_are_not_counted(make_client):
    client = make_client(HERE)
    for _ in range(5):
        client.post("/api/user/signup", json=credentials("!"))

    assert client.post("/api/user/signup", json=credentials()).status_code == 200


def test_of_guesses_at_the_same_time_no_more_are_hashed_than_the_limit_allows(bob, make_client, in_threads):
    guesses = in_threads(20, lambda _: login(make_client(HERE), password="wrong").status_code)

    assert Counter(guesses) == {403: 3, 429: 17}
    assert login(make_client(ELSEWHERE)).status_code == 200


def test_of_guesses_of_many_names_at_the_same_time_no_more_are_hashed_than_the_limit_allows(
    make_client, in_threads, monkeypatch
):
    all_wait = Barrier(20, timeout=30)

    @contextmanager
    def wait_for_all():
        all_wait.wait()
        yield

    monkeypatch.setattr("user.passwords.wait_observers", [wait_for_all])
    guesses = in_threads(20, lambda number: login(make_client(HERE), f"name{number}").status_code)

    assert Counter(guesses) == {403: 5, 429: 15}


def test_right_password_among_guesses_from_elsewhere_gets_in(bob, make_client, in_threads):
    def guess_or_log_in(number):
        if number == 10:
            return login(make_client(ELSEWHERE)).status_code
        return login(make_client(HERE), password="wrong").status_code

    statuses = in_threads(20, guess_or_log_in)

    assert statuses[10] == 200
    assert Counter(statuses) == {200: 1, 403: 3, 429: 16}


def test_right_passwords_of_many_users_at_one_address_are_all_let_in(make_user, make_client, in_threads):
    for number in range(12):
        make_user(f"user{number}")
        rate_limits.limiter.local.reset()

    statuses = in_threads(12, lambda number: login(make_client(HERE), f"user{number}").status_code)

    assert statuses == [200] * 12


def test_right_password_is_not_counted_when_the_database_then_fails(bob, make_client, monkeypatch):
    client = make_client(HERE)
    with monkeypatch.context() as broken:
        broken.setattr(PBKDF2PasswordHasher, "iterations", 2)  # so that the hash is to be upgraded
        broken.setattr("user.accounts.rehash_password", fail_as_the_database_does)
        for _ in range(4):
            assert_problem(login(client), 503, "service_unavailable")

    assert login(client).status_code == 200


def fail_as_the_database_does(*_):
    """Raise what a database raises that went away."""
    raise OperationalError("gone")


def test_login_that_found_no_hashing_slot_is_not_counted(bob, make_client, monkeypatch):
    client = make_client(HERE)
    full = FairQueue(slots=1, length=0, seconds=1)
    with monkeypatch.context() as busy, full.slot("somebody else"):
        busy.setattr("user.passwords.hashing_queue", lambda: full)
        for _ in range(4):
            assert_problem(login(client), 503, "service_unavailable")

    assert login(client).status_code == 200


def test_window_moves_on(bob, make_client, monkeypatch):
    guesser = make_client(HERE)
    fail(guesser, 3)
    later = time.monotonic() + 601

    monkeypatch.setattr("framework.rate_limiter.time", SimpleNamespace(monotonic=lambda: later))

    assert login(guesser).status_code == 200


def test_throttle_can_be_turned_off(bob, make_client, monkeypatch):
    monkeypatch.setattr(settings, "throttle", False)
    client = make_client(HERE)

    fail(client, 12)
    for number in range(5):
        assert client.post("/api/user/signup", json=credentials(f"user{number}")).status_code == 200


def test_forwarded_address_is_not_believed(bob, make_client):
    guesser = make_client(HERE)
    for number in range(3):
        response = guesser.post(
            "/api/user/login",
            json=credentials(password="wrong"),
            headers={"X-Forwarded-For": f"203.0.113.{number}"},
        )
        assert_problem(response, 403, "invalid_credentials")

    assert_throttled(login(guesser), within=600)


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "203.0.113.9", HERE),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "forged, 203.0.113.9", "203.0.113.9"),
        (1, "10.0.0.1, 203.0.113.9", "203.0.113.9"),
        (2, "forged, 203.0.113.9, 10.0.0.1", "203.0.113.9"),
        (2, "203.0.113.9", "203.0.113.9"),
        (1, None, HERE),
        (1, "", "unknown"),
        (2, "203.0.113.9, ", "203.0.113.9"),
        (1, "not an address", "unknown"),
        (1, "2001:db8::1", "2001:db8::1"),
        (1, "fe80::1%eth0 status=200", "fe80::1"),
        (1, "::ffff:203.0.113.9", "203.0.113.9"),
        (1, "203.0.113.9:50123", "203.0.113.9"),
        (1, "[2001:db8::1]:50123", "2001:db8::1"),
        (1, "[2001:db8::1]", "2001:db8::1"),
        (1, "203.0.113.9:", "unknown"),
        (1, "[203.0.113.9", "unknown"),
        (1, "[2001:db8::1]:50123 status=200", "unknown"),
    ],
)
def test_client_address_is_what_the_trusted_proxies_saw(rf, monkeypatch, proxies, forwarded, address):
    monkeypatch.setattr(settings, "trusted_proxies", proxies)
    headers = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}

    assert client_address(rf.get("/", REMOTE_ADDR=HERE, **headers)) == address


@pytest.mark.parametrize(
    ("address", "network"),
    [
        (HERE, HERE),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("64:ff9b::c633:6401", "198.51.100.1"),
        ("2002:c000:201:7::1", "192.0.2.1"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdfe", "192.0.2.1"),
        ("64:ff9b::1:192.0.2.1", "64:ff9b::/64"),
        ("64:ff9b:1::192.0.2.1", "64:ff9b:1::/64"),
        ("2003::1", "2003::/64"),
        ("", "unknown"),
    ],
)
def test_client_with_a_whole_ipv6_network_is_one_client(rf, address, network):
    assert client_network(rf.get("/", REMOTE_ADDR=address)) == network


@pytest.mark.parametrize("path", ["", "/reauthenticate", "/login", "/recover"])
def test_change_of_the_username_does_not_open_the_limit_of_an_account(bob, make_client, path):
    def guess(username):
        if path == "":
            return bob.put("/api/user", json={"current_password": "wrong"})
        if path == "/reauthenticate":
            return bob.post("/api/user/reauthenticate", json={"password": "wrong"})
        if path == "/login":
            return login(make_client(), username, "wrong")
        body = {"username": username, "recovery_code": "0" * 26, "password": "a new long password"}
        return make_client().post("/api/user/recover", json=body)

    statuses = []
    for number in range(4):
        username = f"bob{number}"
        assert bob.put("/api/user", json={"username": username}).status_code == 200
        statuses.append(guess(username).status_code)

    assert statuses == [403, 403, 403, 429]
