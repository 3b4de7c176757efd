"""Requests at the same time: real threads, each with a connection of its own, on a real database file."""

from collections import Counter
from datetime import timedelta

from django.utils import timezone

from user.models import Session, User

from .support import OTHER_PASSWORD, PASSWORD, credentials, login

CLIENTS = 16


def test_one_of_many_signups_with_the_same_name_wins(make_client, in_threads):
    def sign_up(number):
        return make_client().post("/api/user/signup", json=credentials("bob")).json()

    answers = Counter(answer.get("code", "signed up") for answer in in_threads(CLIENTS, sign_up))

    assert answers == {"signed up": 1, "username_exists": CLIENTS - 1}
    assert User.objects.count() == Session.objects.count() == 1


def test_one_of_many_renames_to_the_same_name_wins(make_user, in_threads):
    users = [make_user(f"user{number}") for number in range(CLIENTS)]

    answers = in_threads(
        CLIENTS, lambda number: users[number].put("/api/user", json={"username": "bob"}).json()
    )

    codes = Counter(answer.get("code", "renamed") for answer in answers)
    assert codes == {"renamed": 1, "username_exists": CLIENTS - 1}


def test_signups_and_logins_at_once_all_succeed(make_client, in_threads):
    rounds = 4

    def sign_up_and_log_in(number):
        statuses = []
        for turn in range(rounds):
            name = f"user{number}-{turn}"
            client = make_client()
            statuses.append(client.post("/api/user/signup", json=credentials(name)).status_code)
            statuses.append(login(client, name).status_code)
            statuses.append(client.get("/api/user").status_code)
        return statuses

    statuses = Counter(status for answers in in_threads(CLIENTS, sign_up_and_log_in) for status in answers)

    assert statuses == {200: CLIENTS * rounds * 3}
    assert User.objects.count() == CLIENTS * rounds
    assert Session.objects.filter(deleted_time=None).count() == CLIENTS * rounds


def test_one_of_two_password_changes_at_once_wins(make_client, make_user, in_threads):
    make_user("bob")
    browsers = [make_client() for _ in range(4)]
    for browser in browsers:
        login(browser)

    def change(number):
        return browsers[number].put("/api/user", json={"password": f"{OTHER_PASSWORD} {number}"}).status_code

    statuses = in_threads(len(browsers), change)

    assert sorted(statuses) == [200, 401, 401, 401]
    winner = statuses.index(200)
    assert [browser.get("/api/user").status_code for browser in browsers] == statuses
    assert login(make_client(), password=f"{OTHER_PASSWORD} {winner}").status_code == 200


def test_logins_that_race_a_password_change_leave_no_old_session(make_client, make_user, in_threads):
    bob = make_user("bob")
    browsers = [make_client() for _ in range(CLIENTS)]

    def log_in_or_change(number):
        if number == CLIENTS // 2:
            return bob.put("/api/user", json={"password": OTHER_PASSWORD}).status_code
        return login(browsers[number], password=PASSWORD).status_code

    in_threads(CLIENTS, log_in_or_change)

    assert bob.get("/api/user").status_code == 200
    assert {browser.get("/api/user").status_code for browser in browsers} == {401}


def test_logout_during_other_requests_is_final(bob, make_client, in_threads):
    def get_or_log_out(number):
        if number == 3:
            return bob.post("/api/user/logout").status_code
        return bob.get("/api/user").status_code

    # So long ago that every GET notes that it came.
    Session.objects.update(last_activity=timezone.now() - timedelta(hours=1))

    in_threads(CLIENTS, get_or_log_out)

    assert Session.objects.get().deleted_time
