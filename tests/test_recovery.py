"""Recovery codes: created, shown once, used once, and guessed at."""

import re
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone
from limits import parse

from config import settings
from user import accounts, passwords, recovery_codes
from user.models import RecoveryCode, Session, User

from .support import OTHER_PASSWORD, assert_problem, login, session_key, upgrade_hash

NEW_PASSWORD = "a third long password"


def create(client) -> str:
    response = client.post("/api/user/recovery-code")
    assert response.status_code == 200, response.text
    return response.json()["recovery_code"]


def recover(client, code, username="bob", password=NEW_PASSWORD):
    body = {"username": username, "recovery_code": code, "password": password}
    return client.post("/api/user/recover", json=body)


def test_code_is_created_and_its_hash_alone_is_stored(bob, records):
    assert bob.get("/api/user/recovery-code").json() == {"created_time": None}

    code = create(bob)

    assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){6}[0-9A-HJKMNP-TV-Z]{2}", code)
    row = RecoveryCode.objects.get()
    assert code.replace("-", "") not in str(vars(row)).replace("-", "")
    shown = bob.get("/api/user/recovery-code").json()
    assert shown == {"created_time": row.created_time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
    assert "recovery_code_created" in [each["event"] for each in records]
    assert code not in str(records)


def test_codes_use_all_of_their_random_bits(monkeypatch):
    monkeypatch.setattr(recovery_codes.secrets, "randbits", lambda bits: 2**bits - 1)
    assert recovery_codes.new_code() == "7ZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZ"
    monkeypatch.setattr(recovery_codes.secrets, "randbits", lambda bits: 1)
    assert recovery_codes.new_code() == "0000-0000-0000-0000-0000-0000-01"


def test_recovery_sets_the_password_and_logs_in(bob, client, make_client, records):
    code = create(bob)

    response = recover(client, code)

    assert response.status_code == 200
    assert response.json() == client.get("/api/user").json()
    assert_problem(bob.get("/api/user"), 401, "not_logged_in")
    assert Session.objects.filter(deleted_time=None).count() == 1
    assert_problem(login(make_client()), 403, "invalid_credentials")
    assert login(make_client(), password=NEW_PASSWORD).status_code == 200
    assert client.get("/api/user/recovery-code").json() == {"created_time": None}
    [record] = [each for each in records if each["event"] == "recovery"]
    assert record["user_id"] == User.objects.get().pk
    assert client.delete("/api/user/sessions").status_code == 200  # it is a fresh login


def test_recovery_ends_the_session_that_the_browser_had(bob, make_user):
    code = create(bob)
    eve = make_user("eve")
    key = session_key(eve)

    assert recover(eve, code).json()["username"] == "bob"

    assert session_key(eve) != key
    assert not Session.objects.filter(user__username="eve", deleted_time=None).exists()


@pytest.mark.parametrize(
    "spell",
    [
        str.lower,
        lambda code: code.replace("-", ""),
        lambda code: code.replace("-", " "),
        lambda code: f"  {code.replace('-', ' - ')} ",
        lambda code: code.replace("0", "O").replace("1", "l"),
        lambda code: code.replace("0", "o").replace("1", "I"),
        lambda code: "".join(chr(ord(each) + 0xFEE0) if each != "-" else each for each in code),
    ],
)
def test_code_may_be_typed_as_people_do(bob, client, spell, monkeypatch):
    monkeypatch.setattr(recovery_codes.secrets, "randbits", lambda bits: 0x0123456789ABCDEF00112233445566FF)
    code = create(bob)
    assert {"0", "1"} < set(code)

    assert recover(client, spell(code)).status_code == 200


def test_code_works_once(bob, client, make_client):
    code = create(bob)
    recover(client, code)

    assert_problem(recover(make_client(), code, password=OTHER_PASSWORD), 403, "invalid_credentials")

    assert client.get("/api/user").status_code == 200


def test_one_of_two_uses_at_once_wins(bob, make_client, in_threads):
    code = create(bob)
    clients = [make_client() for _ in range(6)]

    statuses = in_threads(6, lambda number: recover(clients[number], code).status_code)

    assert sorted(statuses) == [200, 403, 403, 403, 403, 403]
    assert Session.objects.filter(deleted_time=None).count() == 1


def test_new_code_replaces_the_earlier_one(bob, client):
    first, second = create(bob), create(bob)

    assert_problem(recover(client, first), 403, "invalid_credentials")
    assert recover(client, second).status_code == 200


def test_deleted_code_does_not_work(bob, client):
    code = create(bob)

    assert bob.delete("/api/user/recovery-code").status_code == 204

    assert_problem(recover(client, code), 403, "invalid_credentials")
    assert bob.delete("/api/user/recovery-code").status_code == 204


def test_code_of_a_deleted_account_does_not_work(bob, client, make_user):
    code = create(bob)
    bob.delete("/api/user")
    make_user("bob")

    assert_problem(recover(client, code), 403, "invalid_credentials")


def test_code_of_another_account_does_not_work(bob, make_user, client):
    code = create(bob)
    make_user("eve")

    assert_problem(recover(client, code, username="eve"), 403, "invalid_credentials")
    assert recover(client, code).status_code == 200


def test_refusals_do_not_tell_what_was_wrong(bob, make_user, client, records):
    make_user("eve")
    code = create(bob)
    wrong = recovery_codes.new_code()

    refusals = [recover(client, wrong), recover(client, wrong, "eve"), recover(client, code, "nobody")]

    for response in refusals:
        assert_problem(response, 403, "invalid_credentials")
    bodies = [{**response.json(), "request_id": ""} for response in refusals]
    assert bodies[0] == bodies[1] == bodies[2]
    failures = [each for each in records if each["event"] == "recovery_failure"]
    assert len(failures) == 3
    assert not any("user_id" in each for each in failures)


@pytest.mark.parametrize("username", ["bob", "eve", "nobody"])
def test_every_guess_costs_one_hash(bob, make_user, client, monkeypatch, username):
    make_user("eve")
    create(bob)
    hashed = []
    monkeypatch.setattr(
        "user.accounts.hash_password", lambda password: hashed.append(1) or passwords.hash_password(password)
    )

    assert recover(client, recovery_codes.new_code(), username).status_code == 403

    assert len(hashed) == 1


def test_guesses_are_counted_as_failed_logins(bob, client, make_client, monkeypatch):
    monkeypatch.setattr(settings, "throttle", True)
    monkeypatch.setattr("user.rate_limits.FAILURES_PER_PAIR", parse("3/hour"))
    code = create(bob)
    for _ in range(2):
        recover(client, recovery_codes.new_code())
    login(client, password="wrong")

    assert_problem(recover(client, code), 429, "too_many_requests")
    assert_problem(login(client), 429, "too_many_requests")

    assert recover(make_client("192.0.2.9"), code).status_code == 200


def test_code_that_could_not_be_checked_counts_as_no_failure(bob, client, monkeypatch):
    monkeypatch.setattr(settings, "throttle", True)
    monkeypatch.setattr("user.rate_limits.FAILURES_PER_PAIR", parse("1/hour"))
    code = create(bob)

    def fail(*arguments):
        raise OperationalError("the database is away")

    with monkeypatch.context() as broken:
        broken.setattr("user.accounts.sessions_so_far", fail)
        assert_problem(recover(client, code), 503, "service_unavailable")

    assert recover(client, code).status_code == 200


def test_right_code_counts_as_no_failure(bob, make_client, monkeypatch):
    monkeypatch.setattr(settings, "throttle", True)
    monkeypatch.setattr("user.rate_limits.FAILURES_PER_PAIR", parse("1/hour"))
    browser = bob

    for number in range(3):
        code, browser = create(browser), make_client()
        assert recover(browser, code, password=f"{NEW_PASSWORD} {number}").status_code == 200


def test_new_password_obeys_the_rules_and_the_code_stays(bob, client):
    code = create(bob)

    for password in ("short", "x" * 101, "correct\0horse battery"):
        assert_problem(recover(client, code, password=password), 400, "invalid_request", "password")

    assert recover(client, code).status_code == 200


@pytest.mark.parametrize("code", ["", "x", "U" * 26, "0" * 25, "0" * 27, "0" * 101, 26, None, ["0" * 26]])
def test_malformed_code_is_refused_as_such(bob, client, code):
    assert_problem(recover(client, code), 400, "invalid_request", "recovery_code")


def test_code_is_used_up_by_a_recovery_alone(bob, client):
    code = create(bob)

    bob.put("/api/user", json={"password": OTHER_PASSWORD})

    assert recover(client, code).status_code == 200


def test_code_that_a_new_password_overtakes_is_not_created(bob, make_client, monkeypatch):
    other = make_client()
    login(other)

    def change_the_password():
        bob.put("/api/user", json={"password": OTHER_PASSWORD})
        return recovery_codes.new_code()

    monkeypatch.setattr("user.recovery_code_api.new_code", change_the_password)

    assert_problem(other.post("/api/user/recovery-code"), 401, "not_logged_in")

    assert not RecoveryCode.objects.exists()


def test_code_is_created_while_a_login_upgrades_the_hash(bob, monkeypatch):
    def overtaken():
        upgrade_hash()
        return recovery_codes.new_code()

    monkeypatch.setattr("user.recovery_code_api.new_code", overtaken)

    assert bob.post("/api/user/recovery-code").status_code == 200
    assert bob.get("/api/user").status_code == 200


def test_code_of_an_account_that_is_deleted_meanwhile_is_not_created(bob, monkeypatch):
    def delete():
        User.objects.all().delete()
        return recovery_codes.new_code()

    monkeypatch.setattr("user.recovery_code_api.new_code", delete)

    assert_problem(bob.post("/api/user/recovery-code"), 401, "not_logged_in")


def test_recovery_of_an_account_that_is_deleted_meanwhile_is_refused(bob, client, monkeypatch):
    code = create(bob)

    def delete(password):
        User.objects.all().delete()
        return passwords.hash_password(password)

    monkeypatch.setattr("user.accounts.hash_password", delete)

    assert_problem(recover(client, code), 403, "invalid_credentials")


def test_code_that_another_request_uses_meanwhile_is_refused(bob, client, monkeypatch):
    code = create(bob)
    lock = accounts.lock

    def overtaken(user: User) -> User | None:
        RecoveryCode.objects.all().delete()
        return lock(user)

    monkeypatch.setattr(accounts, "lock", overtaken)

    assert_problem(recover(client, code), 403, "invalid_credentials")
    assert login(client).status_code == 200


def test_the_code_needs_a_login_to_be_seen_or_changed(client):
    for method in ("GET", "POST", "DELETE"):
        assert_problem(client.request(method, "/api/user/recovery-code"), 401, "not_logged_in")


def test_late_look_needs_no_fresh_login(bob):
    create(bob)
    Session.objects.update(created_time=timezone.now() - timedelta(days=1))

    assert bob.get("/api/user/recovery-code").json()["created_time"]


def test_username_as_password_is_refused_in_production(bob, client, monkeypatch):
    monkeypatch.setattr(settings, "utilmeta_production", True)
    code = create(bob)
    bob.put("/api/user", json={"username": "robert-the-second"})

    response = recover(client, code, "robert-the-second", "Robert-The-Second")

    assert_problem(response, 400, "invalid_request", "password")
