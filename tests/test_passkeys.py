"""Passkeys: added, used, renamed and deleted by their users."""

import re
from datetime import timedelta

import pytest
from django.db import IntegrityError
from django.utils import timezone

from config import settings
from passkey.management.commands import deletepasskeys
from passkey.models import Passkey, UsedChallenge, UserHandle
from passkey.passkeys import MAX_PASSKEYS
from user.models import Session, User
from user.queries import MAX_SESSIONS

from .authenticator import (
    BE,
    BS,
    ORIGIN,
    RP_ID,
    UP,
    UV,
    Authenticator,
    decode,
    log_in,
    log_in_with,
    options_to_create,
    options_to_get,
    register,
    send_new,
)
from .support import OTHER_PASSWORD, PASSWORD, assert_problem, call, login, refusal, session_key
from .test_reauthentication import age_login

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def reauthenticate(client, authenticator):
    credential = authenticator.get(options_to_get(client))
    return client.post("/api/passkeys/reauthenticate", json={"credential": credential})


def ids(client):
    return [each["id"] for each in client.get("/api/passkeys").json()]


def test_options_for_a_new_passkey_ask_for_one_that_needs_no_name(bob):
    phone = register(bob)

    options = options_to_create(bob)

    assert len(decode(options.pop("challenge"))) >= 32
    assert re.fullmatch("[A-Za-z0-9_-]{43}", options["user"].pop("id"))
    assert options == {
        "rp": {"id": RP_ID, "name": "demo-user"},
        "user": {"name": "bob", "displayName": "bob"},
        "pubKeyCredParams": [{"type": "public-key", "alg": alg} for alg in (-7, -8, -257)],
        "timeout": 300_000,
        "excludeCredentials": [{"type": "public-key", "id": phone.id}],
        "authenticatorSelection": {
            "residentKey": "required",
            "requireResidentKey": True,
            "userVerification": "required",
        },
        "attestation": "none",
    }


def test_options_to_log_in_name_nobody(client):
    options = options_to_get(client)

    assert len(decode(options.pop("challenge"))) >= 32
    assert options == {
        "timeout": 300_000,
        "rpId": RP_ID,
        "allowCredentials": [],
        "userVerification": "required",
    }


def test_options_in_a_session_list_the_passkeys_of_its_user(bob, make_user):
    register(make_user("eve"))
    phone = register(bob)

    assert options_to_get(bob)["allowCredentials"] == [{"type": "public-key", "id": phone.id}]


def test_anonymous_options_write_no_row_and_are_different_each_time(client, make_client):
    challenges = {options_to_get(each)["challenge"] for each in (client, client, make_client())}

    assert len(challenges) == 3
    assert not UsedChallenge.objects.exists()
    assert not Session.objects.exists()


def test_cookie_of_a_challenge_has_its_flags(client):
    response = client.post("/api/passkeys/authentication")

    prefix, flags = ("__Host-", "; Secure") if settings.production else ("", "")
    cookie = response.headers["Set-Cookie"]
    assert re.fullmatch(
        rf"{prefix}{settings.cookie_name}-passkey=[\w-]{{43}}; HttpOnly; Max-Age=300; Path=/; "
        rf"SameSite=Strict{flags}",
        cookie,
    ), cookie


@pytest.mark.parametrize("alg", [-7, -8, -257])
def test_passkey_of_each_algorithm_logs_its_user_in(bob, client, alg):
    response = log_in(client, register(bob, alg=alg))

    assert response.status_code == 200, response.text
    assert response.json() == bob.get("/api/user").json() == client.get("/api/user").json()


def test_new_passkey_is_returned_and_listed(bob, records):
    before = timezone.now()
    authenticator = Authenticator(flags=UP | UV | BE)

    response = send_new(bob, authenticator.create(options_to_create(bob)), name="My phone 📱")

    [row] = Passkey.objects.all()
    assert before <= row.created_time <= timezone.now()
    assert response.json() == {
        "id": row.pk,
        "name": "My phone 📱",
        "created_time": row.created_time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "last_used_time": None,
        "backed_up": False,
    }
    assert bob.get("/api/passkeys").json() == [response.json()]
    [record] = [each for each in records if each["event"] == "passkey_created"]
    assert record["user_id"] == User.objects.get().pk


@pytest.mark.parametrize(("header", "name"), [(FIREFOX, "Firefox on Linux"), ("", "Passkey")])
def test_passkey_without_a_name_is_named_after_its_browser(bob, header, name):
    credential = Authenticator().create(options_to_create(bob))

    response = bob.post("/api/passkeys", json={"credential": credential}, headers={"User-Agent": header})

    assert response.json()["name"] == name


def test_login_is_as_by_a_password(bob, make_user, records):
    phone = register(bob)
    eve = make_user("eve")
    key = session_key(eve)

    response = log_in(eve, phone)

    assert response.json()["username"] == "bob"
    assert session_key(eve) != key
    assert not Session.objects.filter(user__username="eve", deleted_time=None).exists()
    assert eve.delete("/api/user/sessions").status_code == 200  # it is a fresh login
    [record] = [each for each in records if each["route"] == "/api/passkeys/login"]
    assert (record["event"], record["user_id"]) == ("login", User.objects.get(username="bob").pk)


def test_login_revokes_the_oldest_session_beyond_the_limit(bob, client):
    phone = register(bob)
    user = User.objects.get()
    expiry = timezone.now() + timedelta(days=1)
    Session.objects.bulk_create(
        Session(user=user, session_key=f"{number:043}", encoded_data="", expiry_time=expiry)
        for number in range(MAX_SESSIONS - 1)
    )

    log_in(client, phone)

    assert Session.objects.filter(deleted_time=None).count() == MAX_SESSIONS
    assert_problem(bob.get("/api/user"), 401, "not_logged_in")


def test_use_is_recorded(bob, client):
    phone = register(bob, flags=UP | UV | BE, count=3)
    phone.count, phone.flags = 7, UP | UV | BE | BS

    log_in(client, phone)

    [listed] = bob.get("/api/passkeys").json()
    row = Passkey.objects.get()
    assert (row.sign_count, row.backed_up) == (7, True)
    assert listed["backed_up"]
    assert listed["last_used_time"] == row.last_used_time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_synced_passkey_always_counts_0_and_is_no_copy(bob, make_client):
    phone = register(bob)

    assert [log_in(make_client(), phone).status_code for _ in range(3)] == [200, 200, 200]


def test_reauthentication_makes_the_session_fresh(bob, records):
    phone = register(bob)
    age_login(days=1)
    key = session_key(bob)
    assert_problem(bob.delete("/api/user/sessions"), 403, "reauthentication_required")

    response = reauthenticate(bob, phone)

    assert response.json() == bob.get("/api/user").json()
    assert session_key(bob) == key
    assert bob.delete("/api/user/sessions").status_code == 200
    assert Passkey.objects.get().last_used_time
    assert [each["event"] for each in records if each["route"] == "/api/passkeys/reauthenticate"] == [
        "reauthentication"
    ]


def test_reauthentication_may_come_without_a_user_handle(bob):
    phone = register(bob)
    phone.user_handle = None

    assert reauthenticate(bob, phone).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/registration", 200), ("DELETE", "/{id}", 204)],
)
def test_change_needs_a_fresh_login(bob, method, path, status):
    phone = register(bob)
    path = "/api/passkeys" + path.format(id=ids(bob)[0])
    age_login(minutes=settings.reauthentication_minutes)

    assert_problem(bob.request(method, path), 403, "reauthentication_required")

    assert Passkey.objects.exists()
    reauthenticate(bob, phone)
    assert bob.request(method, path).status_code == status


def test_new_passkey_needs_a_fresh_login(bob):
    credential = Authenticator().create(options_to_create(bob))
    age_login(days=1)

    assert_problem(send_new(bob, credential), 403, "reauthentication_required")

    assert not Passkey.objects.exists()


def test_passkey_can_be_renamed_without_a_fresh_login(bob):
    register(bob)
    age_login(days=1)
    [before] = bob.get("/api/passkeys").json()

    response = bob.put(f"/api/passkeys/{before['id']}", json={"name": "Yubikey, the blue one"})

    assert response.json() == before | {"name": "Yubikey, the blue one"}
    assert bob.get("/api/passkeys").json() == [response.json()]


@pytest.mark.parametrize("name", ["", " ", "\u3000", "x" * 51, "a\nb", "a\0b", "a\u202eb", "\ud800", None, 1])
def test_name_that_cannot_be_read_in_a_list_is_refused(bob, name):
    register(bob)

    response = bob.put(
        f"/api/passkeys/{ids(bob)[0]}",
        content=__import__("json").dumps({"name": name}),
        headers={"Content-Type": "application/json"},
    )

    assert_problem(response, 400, "invalid_request", "name")


def test_deleted_passkey_is_gone_and_its_sessions_stay(bob, client, records):
    phone, other = register(bob), register(bob)
    log_in(client, phone)
    first, second = ids(bob)

    assert bob.delete(f"/api/passkeys/{first}").status_code == 204

    assert ids(bob) == [second]
    assert client.get("/api/user").status_code == 200
    assert log_in(client, other).status_code == 200
    assert_problem(bob.delete(f"/api/passkeys/{first}"), 404, "not_found")
    assert [each["event"] for each in records if each["event"] == "passkey_deleted"]


def test_passkeys_of_others_are_not_found(bob, make_user):
    register(bob)
    [number] = ids(bob)
    eve = make_user("eve")

    assert eve.get("/api/passkeys").json() == []
    assert_problem(eve.put(f"/api/passkeys/{number}", json={"name": "mine"}), 404, "not_found")
    assert_problem(eve.delete(f"/api/passkeys/{number}"), 404, "not_found")

    [kept] = bob.get("/api/passkeys").json()
    assert (kept["id"], kept["name"]) == (number, "Passkey")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("GET", "/accepted", None),
        ("POST", "/registration", None),
        ("POST", "", {}),
        ("PUT", "/1", {}),
        ("DELETE", "/1", None),
        ("POST", "/reauthenticate", {}),
    ],
)
def test_login_is_needed_before_anything_else(client, method, path, body):
    assert_problem(client.request(method, f"/api/passkeys{path}", json=body), 401, "not_logged_in")


def test_browser_is_told_which_passkeys_there_are(bob):
    assert bob.get("/api/passkeys/accepted").json() == {
        "rpId": RP_ID,
        "userId": None,
        "allAcceptedCredentialIds": [],
    }
    phone, other = register(bob), register(bob)
    bob.delete(f"/api/passkeys/{ids(bob)[0]}")

    assert bob.get("/api/passkeys/accepted").json() == {
        "rpId": RP_ID,
        "userId": phone.user_handle,
        "allAcceptedCredentialIds": [other.id],
    }


def test_handle_of_a_user_is_random_and_stays(bob, make_user):
    phone, other = register(bob), register(bob)
    eve = register(make_user("eve"))

    assert phone.user_handle == other.user_handle != eve.user_handle
    assert len({phone.user_handle, *UserHandle.objects.values_list("handle", flat=True)}) == 2


def test_two_windows_of_a_browser_have_challenges_open_at_once(bob, client):
    phone = register(bob)
    first, second = options_to_get(client), options_to_get(client)

    assert log_in_with(client, phone.get(first)).status_code == 200
    assert log_in_with(client, phone.get(second)).status_code == 200


def test_members_that_are_not_known_here_are_ignored(bob, client):
    phone = Authenticator()
    credential = phone.create(options_to_create(bob))
    credential |= {"ofLevel4": {"x": [1]}, "_ofSomebody": 1}
    credential["response"] |= {"publicKey": "AA", "publicKeyAlgorithm": -7, "_ofLevel4": 1}

    assert send_new(bob, credential).status_code == 200
    assert log_in(client, phone).status_code == 200


def test_account_has_20_passkeys_at_most(bob):
    for _ in range(MAX_PASSKEYS - 1):
        register(bob)
    last, surplus = (Authenticator().create(options_to_create(bob)) for _ in range(2))

    assert send_new(bob, last).status_code == 200
    refused = [send_new(bob, surplus), bob.post("/api/passkeys/registration")]

    for response in refused:
        assert assert_problem(response, 409, "conflict")["detail"] == (
            "An account has at most 20 passkeys. Delete one first."
        )
    assert len(ids(bob)) == MAX_PASSKEYS
    bob.delete(f"/api/passkeys/{ids(bob)[0]}")
    assert send_new(bob, surplus).status_code == 200


def test_deletion_of_the_account_takes_its_passkeys_along(bob, make_user, client):
    phone, eve = register(bob), register(make_user("eve"))

    assert bob.delete("/api/user").status_code == 204

    assert_problem(log_in(client, phone), 403, "invalid_credentials")
    assert Passkey.objects.count() == UserHandle.objects.count() == 1
    assert log_in(client, eve).status_code == 200


def test_database_deletes_passkeys_with_their_user_by_itself(bob):
    from django.db import connection

    register(bob)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM user_session")
        cursor.execute("DELETE FROM user_user")

    assert not Passkey.objects.exists()
    assert not UserHandle.objects.exists()


def test_passkey_of_no_user_cannot_be_stored():
    with pytest.raises(IntegrityError):
        UserHandle.objects.create(user_id=0, handle="x")


def test_password_change_leaves_passkeys(bob, client):
    phone = register(bob)
    bob.put("/api/user", json={"password": OTHER_PASSWORD})

    assert log_in(client, phone).status_code == 200
    assert client.get("/api/user").status_code == 200


def test_recovery_leaves_passkeys_and_its_record_says_how_many(bob, client, make_client, records):
    phone, _ = register(bob), register(bob)
    code = bob.post("/api/user/recovery-code").json()["recovery_code"]
    body = {"username": "bob", "recovery_code": code, "password": OTHER_PASSWORD}

    assert client.post("/api/user/recover", json=body).status_code == 200

    assert log_in(make_client(), phone).status_code == 200
    [record] = [each for each in records if each["event"] == "recovery"]
    assert record["kept"] == {"passkeys": 2}


def test_operator_deletes_the_passkeys_of_a_user(bob, make_user, client):
    phone, key, of_eve = register(bob), register(bob), register(make_user("eve"))

    assert call("deletepasskeys", "Bob") == "Passkeys deleted: 2. Sessions ended: 1.\n"

    assert_problem(bob.get("/api/user"), 401, "not_logged_in")
    for each in (phone, key):
        assert_problem(log_in(client, each), 403, "invalid_credentials")
    assert log_in(client, of_eve).status_code == 200
    assert login(bob).status_code == 200
    assert ids(bob) == []
    assert call("deletepasskeys", "bob") == "Passkeys deleted: 0. Sessions ended: 1.\n"


@pytest.mark.usefixtures("bob")
def test_operator_is_told_when_there_is_no_user(monkeypatch):
    assert refusal("deletepasskeys", "eve") == "There is no user eve."

    monkeypatch.setattr(deletepasskeys, "find_user", lambda name: User(pk=0, username=name))
    assert refusal("deletepasskeys", "bob") == "The account bob was deleted meanwhile."


def test_login_with_a_password_goes_on_working(bob, client):
    register(bob)

    assert login(client, password=PASSWORD).status_code == 200


def test_password_managers_find_where_passkeys_are_managed(client):
    response = client.get("/.well-known/passkey-endpoints")

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == {"enroll": f"{ORIGIN}/#passkeys", "manage": f"{ORIGIN}/#passkeys"}
