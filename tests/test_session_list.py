"""/api/user/sessions: where a user is logged in, and how to log out there."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from config import settings
from user.browsers import describe
from user.models import Session, User
from user.queries import MAX_SESSIONS

from .support import COOKIE, OTHER_PASSWORD, assert_problem, login, session_key

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/17.5 Mobile/15E148 Safari/604.1"
)


def sessions_of(client):
    response = client.get("/api/user/sessions")
    assert response.status_code == 200, response.text
    return response.json()


def make_logins_older(**age: float) -> None:
    Session.objects.update(created_time=timezone.now() - timedelta(**age))


@pytest.fixture
def phone(bob, make_client):
    """A second browser of bob's."""
    client = make_client(headers={"User-Agent": SAFARI})
    login(client)
    return client


def id_of(client):
    return next(each["id"] for each in sessions_of(client) if each["current"])


def test_sessions_are_listed_the_most_recently_used_first(bob, phone):
    rows = list(Session.objects.order_by("pk"))
    Session.objects.filter(pk=rows[1].pk).update(last_activity=timezone.now() - timedelta(minutes=5))

    listed = sessions_of(bob)

    assert [(each["id"], each["current"]) for each in listed] == [(rows[0].pk, True), (rows[1].pk, False)]
    assert listed[1]["client"] == "Mobile Safari on iOS"
    assert set(listed[0]) == {"id", "client", "created_time", "last_activity", "expiry_time", "current"}
    assert listed[0]["expiry_time"] == rows[0].expiry_time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert [each["current"] for each in sessions_of(phone)] == [False, True]


def test_session_that_asks_was_used_just_now(bob, phone):
    Session.objects.filter(pk=id_of(bob)).update(last_activity=timezone.now() - timedelta(days=5))
    Session.objects.filter(pk=id_of(phone)).update(last_activity=timezone.now() - timedelta(days=4))

    assert [each["current"] for each in sessions_of(bob)] == [True, False]


def test_last_activity_is_written_once_in_a_request(bob):
    Session.objects.update(last_activity=timezone.now() - timedelta(days=5))

    with CaptureQueriesContext(connection) as queries:
        sessions_of(bob)

    assert len([each for each in queries if each["sql"].startswith("UPDATE")]) == 1


@pytest.mark.parametrize(
    ("user_agent", "client"),
    [
        (FIREFOX, "Firefox on Linux"),
        (SAFARI, "Mobile Safari on iOS"),
        ("curl/8.5.0", "curl"),
        ("", ""),
        ("whatever", ""),
        ("x" * 10_000, ""),
        ("Mozilla/5.0 <script>alert(1)</script>", ""),
    ],
)
def test_client_is_told_by_the_user_agent(bob, make_client, user_agent, client):
    browser = make_client(headers={"User-Agent": user_agent})
    login(browser)

    assert next(each["client"] for each in sessions_of(browser) if each["current"]) == client
    assert not Session.objects.filter(encoded_data__contains=user_agent or "Mozilla").exists()


def test_description_of_a_client_is_bounded():
    assert len(describe("Mozilla/5.0 (compatible; " + "a" * 500 + "Bot/1.0)")) <= 60


def test_sessions_that_open_nothing_are_not_listed(bob, phone, make_client, make_user):
    make_user("eve")
    for change in (
        {"deleted_time": timezone.now()},
        {"expiry_time": timezone.now()},
        {"encoded_data": Session.objects.get(user__username="eve").encoded_data},
    ):
        other = make_client()
        login(other)
        Session.objects.filter(pk=id_of(other)).update(**change)

    assert len(sessions_of(bob)) == 2


def test_list_is_bounded_and_costs_two_statements(bob):
    user, row = User.objects.get(), Session.objects.get()
    Session.objects.bulk_create(
        Session(session_key=f"key {number}", user=user, expiry_time=row.expiry_time)
        for number in range(2 * MAX_SESSIONS)
    )

    with CaptureQueriesContext(connection) as queries:
        listed = sessions_of(bob)

    assert len(listed) <= MAX_SESSIONS
    assert len(queries) == 2


def test_another_session_is_revoked(bob, phone, records):
    response = bob.delete(f"/api/user/sessions/{id_of(phone)}")

    assert (response.status_code, response.content) == (204, b"")
    assert_problem(phone.get("/api/user"), 401, "not_logged_in")
    assert bob.get("/api/user").status_code == 200
    assert "Set-Cookie" not in response.headers
    assert [each["event"] for each in records if each.get("status") == 204] == ["session_revoked"]


def test_the_present_session_is_logged_out_without_a_fresh_login(bob, phone):
    make_logins_older(days=3)

    response = phone.delete(f"/api/user/sessions/{id_of(phone)}")

    assert response.status_code == 204
    assert response.headers["Set-Cookie"].startswith(f'{COOKIE}=""; ')
    assert COOKIE not in phone.cookies
    assert bob.get("/api/user").status_code == 200


def test_all_others_are_revoked(bob, phone, make_client, make_user, records):
    eve, third = make_user("eve"), make_client()
    login(third)

    response = bob.delete("/api/user/sessions")

    assert (response.status_code, response.json()) == (200, {"ended": 2})
    for client in (phone, third):
        assert_problem(client.get("/api/user"), 401, "not_logged_in")
    assert bob.get("/api/user").status_code == eve.get("/api/user").status_code == 200
    assert "sessions_revoked" in [each["event"] for each in records]
    assert bob.delete("/api/user/sessions").json() == {"ended": 0}


def test_what_is_not_a_live_session_of_the_user_is_not_found(bob, phone, make_user):
    eve = make_user("eve")
    ended = id_of(phone)
    phone.post("/api/user/logout")

    for session in (id_of(eve), ended, 0, -1, 2**31, 2**63, 10**30, 10**100, "x", "1.0", "01", "%00", "1/2"):
        assert_problem(bob.delete(f"/api/user/sessions/{session}"), 404, "not_found")

    assert eve.get("/api/user").status_code == 200


@pytest.mark.parametrize("of_all", [False, True])
def test_revoking_another_session_needs_a_fresh_login(bob, phone, of_all):
    path = "/api/user/sessions" if of_all else f"/api/user/sessions/{id_of(phone)}"
    make_logins_older(minutes=settings.reauthentication_minutes)

    assert_problem(bob.delete(path), 403, "reauthentication_required")

    assert phone.get("/api/user").status_code == 200


def test_list_and_revocation_need_a_login(client):
    assert_problem(client.get("/api/user/sessions"), 401, "not_logged_in")
    assert_problem(client.delete("/api/user/sessions"), 401, "not_logged_in")
    assert_problem(client.delete("/api/user/sessions/1"), 401, "not_logged_in")


def test_new_password_leaves_one_session_in_the_list(bob, phone, monkeypatch):
    monkeypatch.setattr("user.accounts.end_sessions", lambda sessions: 0)

    bob.put("/api/user", json={"password": OTHER_PASSWORD})

    assert [each["current"] for each in sessions_of(bob)] == [True]
    assert session_key(bob)
