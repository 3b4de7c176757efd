"""POST /api/user/reauthenticate, and what needs a fresh login."""

from datetime import timedelta

import pytest
from django.utils import timezone
from limits import parse

from config import settings
from user.models import RecoveryCode, Session, User

from .support import OTHER_PASSWORD, PASSWORD, assert_problem, login, session_key


def age_login(**age: float) -> None:
    Session.objects.update(created_time=timezone.now() - timedelta(**age))


def reauthenticate(client, password=PASSWORD):
    return client.post("/api/user/reauthenticate", json={"password": password})


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "", {"password": OTHER_PASSWORD}, 200),
        ("DELETE", "/sessions", None, 200),
        ("POST", "/recovery-code", None, 200),
        ("DELETE", "/recovery-code", None, 204),
        ("DELETE", "", None, 204),
    ],
)
def test_sensitive_action_needs_a_fresh_login_or_the_password_again(bob, method, path, body, status):
    age_login(minutes=settings.reauthentication_minutes)
    before = (list(User.objects.values()), list(RecoveryCode.objects.values()))

    refused = bob.request(method, f"/api/user{path}", json=body)

    assert_problem(refused, 403, "reauthentication_required")
    assert before == (list(User.objects.values()), list(RecoveryCode.objects.values()))
    assert reauthenticate(bob).json()["username"] == "bob"
    assert bob.request(method, f"/api/user{path}", json=body).status_code == status


def test_reauthentication_lasts_as_long_as_a_login(bob, monkeypatch):
    age_login(days=1)
    reauthenticate(bob)
    now = timezone.now()

    for minutes, status in (
        (settings.reauthentication_minutes - 1, 200),
        (settings.reauthentication_minutes, 403),
    ):
        monkeypatch.setattr(timezone, "now", lambda minutes=minutes: now + timedelta(minutes=minutes))
        assert bob.delete("/api/user/sessions").status_code == status


def test_without_reauthentication_minutes_it_lasts_one_minute(bob, monkeypatch):
    monkeypatch.setattr(settings, "reauthentication_minutes", 0)
    assert_problem(bob.delete("/api/user/sessions"), 403, "reauthentication_required")
    reauthenticate(bob)
    now = timezone.now()

    for seconds, status in ((59, 200), (60, 403)):
        monkeypatch.setattr(timezone, "now", lambda seconds=seconds: now + timedelta(seconds=seconds))
        assert bob.delete("/api/user/sessions").status_code == status


def test_reauthentication_is_of_this_session_alone(bob, make_client):
    other = make_client()
    login(other)
    age_login(days=1)

    reauthenticate(bob)

    assert_problem(other.delete("/api/user/sessions"), 403, "reauthentication_required")


def test_wrong_password_is_refused_and_counted(bob, records, monkeypatch):
    monkeypatch.setattr(settings, "throttle", True)
    monkeypatch.setattr("user.rate_limits.FAILURES_PER_PAIR", parse("2/hour"))
    age_login(days=1)

    for _ in range(2):
        assert_problem(reauthenticate(bob, "wrong"), 403, "invalid_credentials")

    assert_problem(reauthenticate(bob), 429, "too_many_requests")
    assert_problem(bob.delete("/api/user/sessions"), 403, "reauthentication_required")
    events = [each["event"] for each in records if each["route"] == "/api/user/reauthenticate"]
    assert events == ["reauthentication_failure"] * 2 + ["throttled"]


def test_reauthentication_is_logged_with_the_user(bob, records):
    reauthenticate(bob)

    [record] = [each for each in records if each["event"] == "reauthentication"]
    assert record["user_id"] == User.objects.get().pk


def test_session_that_is_revoked_meanwhile_stays_revoked(bob, monkeypatch):
    def revoke(password, encoded):
        Session.objects.update(deleted_time=timezone.now())
        return True, False

    monkeypatch.setattr("user.accounts.verify_password", revoke)

    assert_problem(reauthenticate(bob), 401, "not_logged_in")

    assert_problem(bob.get("/api/user"), 401, "not_logged_in")


def test_reauthentication_keeps_the_session_as_it_is(bob):
    before, key = Session.objects.get(), session_key(bob)

    reauthenticate(bob)

    after = Session.objects.get()
    assert (after.session_key, after.created_time, after.expiry_time) == (
        before.session_key,
        before.created_time,
        before.expiry_time,
    )
    assert session_key(bob) == key


@pytest.mark.parametrize("body", [{}, {"password": ""}, {"password": 1}, {"password": PASSWORD, "x": 1}])
def test_malformed_reauthentication_is_refused(bob, body):
    assert bob.post("/api/user/reauthenticate", json=body).json()["code"] == "invalid_request"


def test_reauthentication_needs_a_login(client):
    assert_problem(reauthenticate(client), 401, "not_logged_in")
