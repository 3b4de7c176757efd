"""Sessions: how they are kept, and how they end."""

import hashlib
import re
import sqlite3
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

import psycopg
import pytest
from django.core import signing
from django.db import connection
from django.test import override_settings
from django.utils import timezone
from utilmeta.core.request import Request
from utilmeta.core.request.backends.django import DjangoRequestAdaptor
from utilmeta.core.response import Response

from user.auth import SessionSchema, session_config
from user.models import Session, User
from user.sessions import hash_key
from web.logs import Record

from .conftest import NAME
from .databases import SERVER, database_url
from .support import COOKIE, PASSWORD, assert_problem, login, session_key, with_key


def load(key: str) -> SessionSchema:
    """Return a session as the service sees it in a request with a key."""
    return SessionSchema.init_from(key, config=session_config)


def test_table_keeps_only_the_sha_256_of_a_key(bob):
    key = session_key(bob)

    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", key)
    assert (
        Session.objects.get().session_key
        == urlsafe_b64encode(hashlib.sha256(key.encode()).digest()).decode()[:43]
    )
    assert key not in str(list(Session.objects.values()))


def test_expired_session_is_rejected(bob):
    Session.objects.update(expiry_time=timezone.now())

    assert_problem(bob.get("/api/user"), 401, "not_logged_in")


def test_session_is_good_until_it_expires(bob):
    Session.objects.update(expiry_time=timezone.now() + timedelta(seconds=30))

    assert bob.get("/api/user").status_code == 200


def test_use_does_not_prolong_a_session(bob):
    before = Session.objects.get()
    Session.objects.update(last_activity=timezone.now() - timedelta(days=1))

    bob.get("/api/user")

    after = Session.objects.get()
    assert (after.expiry_time, after.created_time) == (before.expiry_time, before.created_time)


def test_session_without_an_expiry_is_rejected(bob):
    Session.objects.update(expiry_time=None)

    assert_problem(bob.get("/api/user"), 401, "not_logged_in")


def test_late_save_does_not_bring_an_ended_session_back(bob):
    late = load(session_key(bob))
    late["note"] = "late"
    bob.post("/api/user/logout")

    late.save()

    assert Session.objects.count() == 1
    assert Session.objects.get().deleted_time
    assert not load(session_key(login_again(bob))).get("note")


def login_again(client):
    login(client)
    return client


def test_late_touch_does_not_bring_an_ended_session_back(bob):
    long_ago = timezone.now() - timedelta(hours=1)
    Session.objects.update(last_activity=long_ago)
    late = load(session_key(bob))
    bob.post("/api/user/logout")

    late.touch()

    assert Session.objects.get().deleted_time
    assert Session.objects.get().last_activity == long_ago


def test_late_save_does_not_bring_a_purged_session_back(bob):
    late = load(session_key(bob))
    Session.objects.all().delete()

    late.save()
    late.touch()

    assert not Session.objects.exists()


def test_what_an_endpoint_writes_into_a_session_is_kept(bob):
    session = load(session_key(bob))
    session["theme"] = "dark"

    session.save()

    assert load(session_key(bob))["theme"] == "dark"


@pytest.mark.parametrize(("minutes", "written"), [(0, False), (9, False), (11, True)])
def test_last_activity_is_written_at_most_once_in_ten_minutes(bob, minutes, written):
    last = timezone.now() - timedelta(minutes=minutes)
    Session.objects.update(last_activity=last)

    bob.get("/api/user")

    assert (Session.objects.get().last_activity > last) == written


@contextmanager
def locked() -> Iterator[None]:
    """Have somebody else lock the sessions against writes, as a tool that copies SQLite's file does."""
    if SERVER:
        other = psycopg.connect(database_url(NAME, ""))
        other.execute("LOCK TABLE user_session IN SHARE MODE")
    else:
        other = sqlite3.connect(connection.settings_dict["NAME"])
        other.execute("BEGIN IMMEDIATE")
    with closing(other):
        yield


@contextmanager
def read_only() -> Iterator[None]:
    """Have the database take no writes, as on a full disk or after a failover."""
    switch = "SET default_transaction_read_only =" if SERVER else "PRAGMA query_only ="
    with connection.cursor() as cursor:
        cursor.execute(f"{switch} on")
    yield
    with connection.cursor() as cursor:
        cursor.execute(f"{switch} off")


@pytest.mark.parametrize("obstacle", [locked, read_only])
def test_response_neither_waits_for_last_activity_nor_depends_on_it(bob, obstacle):
    Session.objects.update(last_activity=None)

    with obstacle():
        start = time.monotonic()
        response = bob.get("/api/user")
        seconds = time.monotonic() - start
        unwritten = Session.objects.get().last_activity
    later = bob.get("/api/user")

    assert response.json() == later.json()
    assert response.status_code == 200
    assert seconds < 5
    assert unwritten is None
    assert Session.objects.get().last_activity


def test_writes_after_last_activity_wait_for_locks_and_the_disk_again(bob):
    def state():
        names = ("SHOW lock_timeout", "SHOW synchronous_commit")
        if not SERVER:
            names = ("PRAGMA busy_timeout", "PRAGMA synchronous")
        with connection.cursor() as cursor:
            return [cursor.execute(name).fetchone()[0] for name in names]

    before = state()
    Session.objects.update(last_activity=None)

    bob.get("/api/user")

    assert Session.objects.get().last_activity
    assert state() == before == (["0", "on"] if SERVER else [10_000, 2])


def test_missing_last_activity_is_written(bob):
    Session.objects.update(last_activity=None)

    bob.get("/api/user")

    assert Session.objects.get().last_activity


def test_data_copied_to_another_row_are_void(bob, make_user):
    eve = make_user("eve")
    data = Session.objects.get(user__username="bob").encoded_data

    Session.objects.filter(user__username="eve").update(encoded_data=data)

    assert_problem(eve.get("/api/user"), 401, "not_logged_in")


def test_row_given_to_another_user_is_void(bob, make_user):
    eve = make_user("eve")

    bob_row = User.objects.get(username="bob")
    User.objects.update(password=bob_row.password)
    Session.objects.filter(user__username="eve").update(user=bob_row)

    assert_problem(eve.get("/api/user"), 401, "not_logged_in")


@pytest.mark.parametrize("data", [None, "", "x", "e30:1abc:x"])
def test_data_that_we_did_not_sign_are_void(bob, data):
    Session.objects.update(encoded_data=data)

    assert_problem(bob.get("/api/user"), 401, "not_logged_in")


def test_data_that_we_signed_for_something_else_are_void(bob):
    Session.objects.update(encoded_data=signing.dumps({"_user_id": User.objects.get().pk}))

    assert_problem(bob.get("/api/user"), 401, "not_logged_in")


def test_changed_hash_ends_sessions_whoever_changed_it(bob):
    user = User.objects.get()
    user.password = PASSWORD
    user.save()

    assert_problem(bob.get("/api/user"), 401, "not_logged_in")


def test_changed_secret_key_ends_sessions_unless_it_is_a_fallback(bob):
    from django.conf import settings

    with override_settings(SECRET_KEY="n" * 50):
        assert_problem(bob.get("/api/user"), 401, "not_logged_in")
    with override_settings(SECRET_KEY="n" * 50, SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        assert bob.get("/api/user").status_code == 200


def test_cookie_has_its_flags(client, make_user):
    make_user()

    flags = set(login(client).headers["Set-Cookie"].split("; ")[1:])

    secure = {"Secure"} if COOKIE.startswith("__Host-") else set()
    assert flags == {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=604800"} | secure


def test_cookie_is_deleted_with_the_flags_it_was_set_with(bob):
    response = bob.post("/api/user/logout")

    value, *flags = response.headers["Set-Cookie"].split("; ")
    secure = {"Secure"} if COOKIE.startswith("__Host-") else set()
    assert value == f'{COOKIE}=""'
    assert set(flags) == {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=0"} | secure


def test_responses_that_depend_on_the_cookie_say_so(bob):
    assert bob.get("/api/user").headers["Vary"] == "Cookie"


def test_key_of_one_row_does_not_open_another(bob, make_user, client):
    make_user("eve")
    Session.objects.filter(user__username="eve").update(session_key=hash_key("B" * 43))

    assert_problem(with_key(client, "B" * 43), 401, "not_logged_in")


@pytest.fixture
def request_of(rf):
    """Return a function that makes the request of a browser as an endpoint gets it."""

    def make(client=None):
        http = rf.get("/api/user", HTTP_HOST="127.0.0.1")
        http.record = Record(method="GET", client="127.0.0.1")
        if client:
            http.META["HTTP_COOKIE"] = f"{COOKIE}={session_key(client)}"
        return Request(DjangoRequestAdaptor(http))

    return make


def test_what_an_endpoint_writes_is_saved_with_its_response(bob, request_of):
    request = request_of(bob)
    session_config.getter(request)["theme"] = "dark"

    response = session_config.process_response(Response(request=request))

    assert load(session_key(bob))["theme"] == "dark"
    assert not response.cookies


def test_what_an_endpoint_writes_for_nobody_is_not_saved(request_of):
    request = request_of()
    session_config.getter(request)["theme"] = "dark"

    response = session_config.process_response(Response(request=request))

    assert not Session.objects.exists()
    assert not response.cookies


def test_endpoint_without_a_session_sets_no_cookie(bob, request_of):
    response = session_config.process_response(Response(request=request_of(bob)))

    assert not response.cookies
