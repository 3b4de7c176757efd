"""Passkeys: whatever breaks a rule of WebAuthn level 3, section 7, is refused, logged and stored nowhere."""

import json
import re
import secrets
from types import SimpleNamespace

import pytest
from django.utils import timezone
from fido2 import cbor
from fido2.cose import ES256
from limits import parse

from config import settings
from passkey import ceremonies, passkeys
from passkey.challenges import CLEANUP_SIZE, cookie
from passkey.models import Passkey, UsedChallenge, UserHandle
from passkey.passkeys import MAX_PASSKEYS
from user.models import Session, User

from .authenticator import (
    AT,
    BE,
    BS,
    ED,
    ORIGIN,
    UP,
    UV,
    Authenticator,
    encode,
    log_in,
    log_in_with,
    options_to_create,
    options_to_get,
    register,
    send_new,
)
from .markdown import read, table
from .support import OTHER_PASSWORD, assert_problem, login

SYNCED = UP | UV | BE | BS
SCHEME, _, HOST = ORIGIN.partition("://")
ORIGINS = [
    "https://example.net",
    "null",
    "",
    f"{SCHEME}://evil.{HOST}",
    f"{SCHEME}://{HOST}.example.net",
    f"{SCHEME}://{HOST.partition(':')[0]}:444",
    f"ftp://{HOST}",
    f"{ORIGIN}/",
    ORIGIN.upper(),
    None,
    1,
    [ORIGIN],
]
# What a browser says that it did.
CLIENT_DATA = [
    *(({"origin": origin}, "wrong_origin") for origin in ORIGINS),
    ({"type": "payment.get"}, "wrong_type"),
    ({"type": None}, "wrong_type"),
    ({"crossOrigin": True}, "cross_origin"),
    ({"crossOrigin": 0}, "cross_origin"),
    ({"crossOrigin": "false"}, "cross_origin"),
    ({"topOrigin": ORIGIN}, "cross_origin"),
]
# What an authenticator says.
AUTHENTICATOR_DATA = [
    ({"rp_id": "example.net"}, "wrong_rp_id"),
    ({"rp_id": f"evil.{settings.passkey_rp_id}"}, "wrong_rp_id"),
    ({"flags": UV | BE | BS}, "user_not_present"),
    ({"flags": UP | BE | BS}, "user_not_verified"),
    ({"flags": UP | UV | BS}, "wrong_backup_flags"),
]
NOT_CLIENT_DATA = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"{}",
    b'{"challenge": 1}',
    b'{"challenge": "A"}',
    b'{"challenge": "AB"}',
    b'{"challenge": "AA=="}',
    b'{"challenge": "+/+/"}',
    b'{"challenge": "AA", "challenge": "AA"}',
    b'{"challenge": "AA", "x": NaN}',
    b'{"challenge": "\xff"}',
    b"[" * 3000,
]


def state():
    """Return every row that a passkey could change."""
    models = (Passkey, UserHandle, UsedChallenge, Session, User)
    return [list(model.objects.order_by("pk").values()) for model in models]


@pytest.fixture
def refused(records):
    """Return a function that sends a request, and checks that it is refused, with a reason in the log."""

    def check(send, reason):
        before = state()

        response = send()

        assert_problem(response, 403, "invalid_credentials")
        assert response.json()["detail"] == "The passkey was not accepted"
        record = records[-1]
        assert (record["event"], record["level"], record["reason"]) == ("passkey_failure", "WARNING", reason)
        assert state() == before
        return record

    return check


@pytest.fixture
def unreadable(records):
    """Return a function that sends a request, and checks that a field is refused with a logged reason."""

    def check(send, field, reason):
        before = state()

        assert_problem(send(), 400, "invalid_request", f"credential.{field}")

        assert (records[-1]["event"], records[-1]["reason"]) == ("passkey_failure", reason)
        assert state() == before

    return check


@pytest.fixture
def phone(bob):
    """bob's passkey."""
    return register(bob)


@pytest.fixture
def later(monkeypatch):
    """Return a function that moves the clock that challenges are signed with, and no other."""

    def move(seconds):
        now = timezone.now().timestamp()
        monkeypatch.setattr("django.core.signing.time", SimpleNamespace(time=lambda: now + seconds))

    return move


# What the browser says


@pytest.mark.parametrize(("changes", "reason"), [*CLIENT_DATA, ({"type": "webauthn.create"}, "wrong_type")])
def test_login_that_a_browser_did_not_make_here_is_refused(client, phone, refused, changes, reason):
    options = options_to_get(client)

    refused(lambda: log_in_with(client, phone.get(options, **changes)), reason)

    assert log_in_with(client, phone.get(options)).status_code == 200


@pytest.mark.parametrize(("changes", "reason"), [*CLIENT_DATA, ({"type": "webauthn.get"}, "wrong_type")])
def test_registration_that_a_browser_did_not_make_here_is_refused(bob, refused, changes, reason):
    options, phone = options_to_create(bob), Authenticator()

    refused(lambda: send_new(bob, phone.create(options, **changes)), reason)

    assert send_new(bob, phone.create(options)).status_code == 200


@pytest.mark.parametrize("text", NOT_CLIENT_DATA)
def test_client_data_that_are_none_are_malformed(bob, client, phone, unreadable, text):
    login_credential = phone.get(options_to_get(client))
    new_credential = Authenticator().create(options_to_create(bob))
    for credential in (login_credential, new_credential):
        credential["response"]["clientDataJSON"] = encode(text or b"\0")

    field, reason = "response.clientDataJSON", "malformed_client_data"
    unreadable(lambda: log_in_with(client, login_credential), field, reason)
    unreadable(lambda: send_new(bob, new_credential), field, reason)


# What the authenticator says


@pytest.mark.parametrize(
    ("changes", "reason"), [*AUTHENTICATOR_DATA, ({"flags": UP | UV}, "wrong_backup_flags")]
)
def test_login_of_an_authenticator_that_breaks_a_rule_is_refused(client, phone, refused, changes, reason):
    options = options_to_get(client)

    record = refused(lambda: log_in_with(client, phone.get(options, phone.data(**changes))), reason)

    assert record["user_id"] == User.objects.get().pk
    assert log_in_with(client, phone.get(options)).status_code == 200


@pytest.mark.parametrize(("changes", "reason"), AUTHENTICATOR_DATA)
def test_registration_of_an_authenticator_that_breaks_a_rule_is_refused(bob, refused, changes, reason):
    options, phone = options_to_create(bob), Authenticator()

    credential = phone.create(options, phone.data(phone.attested(), **changes))

    refused(lambda: send_new(bob, credential), reason)


def test_passkey_of_one_device_does_not_become_one_that_is_synced(bob, client, refused):
    key = register(bob, flags=UP | UV)

    refused(
        lambda: log_in_with(client, key.get(options_to_get(client), key.data(flags=SYNCED))),
        "wrong_backup_flags",
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(36),
        lambda phone: phone.data() + b"\0",
        lambda phone: phone.data(flags=SYNCED | ED),
        lambda phone: phone.data(flags=SYNCED | ED) + b"\xa1\x61",
        lambda phone: phone.data(flags=SYNCED | ED) + b"\x81" * 2000,
        lambda phone: phone.data(flags=SYNCED | ED) + b"\x9b" + b"\xff" * 8,
        lambda phone: phone.data(flags=SYNCED | ED) + b"\xf9\x00\x00",
        lambda phone: phone.data(flags=SYNCED | AT) + b"\xff" * 40,
    ],
)
def test_authenticator_data_that_are_none_are_malformed(client, phone, unreadable, data):
    raw = data(phone) if callable(data) else data or b"\0"

    credential = phone.get(options_to_get(client), raw)

    unreadable(
        lambda: log_in_with(client, credential), "response.authenticatorData", "malformed_authenticator_data"
    )


def attestation(**members):
    """Return an attestation object in CBOR."""
    return cbor.encode({"fmt": "none", "attStmt": {}} | members)


def coordinates(phone):
    """Return the point of a public key on the curve P-256."""
    numbers = phone.key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")


def with_key(phone, *values):
    """Return an attestation object with a public key of some parameters."""
    key = dict(zip((1, 3, -1, -2, -3), values, strict=False))
    return attestation(authData=phone.data(phone.attested(key)))


@pytest.mark.parametrize(
    "make",
    [
        lambda phone: b"\0",
        lambda phone: b"\xff" * 50,
        lambda phone: b"\xa1",
        lambda phone: b"\x81" * 5000,
        lambda phone: b"\x9b" + b"\xff" * 8,
        lambda phone: cbor.encode([]),
        lambda phone: attestation(),
        lambda phone: attestation(authData=b""),
        lambda phone: attestation(authData="text"),
        lambda phone: attestation(authData=phone.data()),
        lambda phone: attestation(authData=phone.data(phone.attested())) + b"\0",
        lambda phone: attestation(authData=phone.data(phone.attested() + b"\0")),
        lambda phone: attestation(authData=phone.data(phone.attested()[:-1])),
        lambda phone: attestation(authData=phone.data(phone.attested())[:60]),
        lambda phone: with_key(phone, 2),
        lambda phone: with_key(phone, 2, -7),
        lambda phone: with_key(phone, 2, -7, 1, b"1", b"2"),
        lambda phone: with_key(phone, 2, -7, 2, *coordinates(phone)),
        lambda phone: with_key(phone, 1, -8, 6, b"short"),
        lambda phone: with_key(phone, 3, -257, b"", b""),
    ],
)
def test_attestation_object_that_is_none_is_malformed(bob, unreadable, make):
    phone = Authenticator()
    credential = phone.create(options_to_create(bob))
    credential["response"]["attestationObject"] = encode(make(phone))

    unreadable(
        lambda: send_new(bob, credential), "response.attestationObject", "malformed_attestation_object"
    )


@pytest.mark.parametrize("alg", [-35, -36, -37, -47, -9, -65535, 7])
def test_algorithm_that_was_not_offered_is_refused(bob, refused, alg):
    phone = Authenticator()
    key = dict(ES256.from_cryptography_key(phone.key.public_key())) | {3: alg}

    credential = phone.create(options_to_create(bob), phone.data(phone.attested(key)))

    refused(lambda: send_new(bob, credential), "algorithm_not_offered")


def test_attestation_is_not_looked_at(bob, client):
    phone = Authenticator()
    credential = phone.create(options_to_create(bob))
    statement = {"alg": -7, "sig": b"of nobody"}
    credential["response"]["attestationObject"] = encode(
        attestation(fmt="packed", attStmt=statement, authData=phone.data(phone.attested()))
    )

    assert send_new(bob, credential).status_code == 200
    assert log_in(client, phone).status_code == 200


@pytest.mark.parametrize("alg", [-7, -8, -257])
def test_signature_that_is_not_of_the_passkey_is_refused(bob, client, refused, alg):
    phone, options = register(bob, alg=alg), options_to_get(client)
    signed = phone.get(options)
    of_another = Authenticator(alg=alg).get(options)["response"]["signature"]
    of_something_else = phone.get(options_to_get(client))["response"]["signature"]

    for signature in (of_another, of_something_else, "AA", encode(bytes(64))):
        forged = signed | {"response": signed["response"] | {"signature": signature}}
        refused(lambda forged=forged: log_in_with(client, forged), "bad_signature")

    assert log_in_with(client, signed).status_code == 200


def test_data_that_were_changed_after_the_signature_are_refused(client, phone, refused):
    credential = phone.get(options_to_get(client))
    phone.count = 9
    credential["response"]["authenticatorData"] = encode(phone.data())

    refused(lambda: log_in_with(client, credential), "bad_signature")


@pytest.mark.parametrize("count", [4, 5])
def test_counter_that_goes_back_or_stays_is_the_sign_of_a_copy(bob, client, make_client, refused, count):
    key = register(bob, flags=UP | UV, count=5)
    options = options_to_get(client)
    key.count = count

    record = refused(lambda: log_in_with(client, key.get(options)), "counter_went_back")

    assert record["user_id"] == User.objects.get().pk
    key.count = 6
    assert log_in_with(client, key.get(options)).status_code == 200
    key.count = 0
    refused(lambda: log_in_with(make_client(), key.get(options)), "challenge_of_another_browser")
    refused(lambda: log_in_with(client, key.get(options_to_get(client))), "counter_went_back")


# Challenges


def test_challenge_works_once(client, phone, refused):
    options = options_to_get(client)
    credential = phone.get(options)
    assert log_in_with(client, credential).status_code == 200

    refused(lambda: log_in_with(client, credential), "challenge_used")
    refused(lambda: log_in_with(client, phone.get(options)), "challenge_used")


def test_challenge_works_once_whoever_uses_it(client, phone, make_user, refused):
    other = register(make_user("eve"))
    options = options_to_get(client)
    assert log_in_with(client, phone.get(options)).status_code == 200

    refused(lambda: log_in_with(client, other.get(options)), "challenge_used")


def test_challenge_of_a_registration_works_once(bob, refused):
    options = options_to_create(bob)
    assert send_new(bob, Authenticator().create(options)).status_code == 200

    refused(lambda: send_new(bob, Authenticator().create(options)), "challenge_used")


def test_challenge_of_a_reauthentication_works_once(bob, phone, refused):
    body = {"credential": phone.get(options_to_get(bob))}
    assert bob.post("/api/passkeys/reauthenticate", json=body).status_code == 200

    refused(lambda: bob.post("/api/passkeys/reauthenticate", json=body), "challenge_used")
    refused(lambda: bob.post("/api/passkeys/login", json=body), "challenge_used")


def test_challenge_of_another_browser_is_refused(client, make_client, phone, refused):
    credential = phone.get(options_to_get(client))
    other = make_client()
    refused(lambda: log_in_with(other, credential), "challenge_of_another_browser")
    options_to_get(other)

    refused(lambda: log_in_with(other, credential), "challenge_of_another_browser")

    client.cookies.clear()
    refused(lambda: log_in_with(client, credential), "challenge_of_another_browser")


def test_two_cookies_of_one_name_are_no_browser(client, phone, refused):
    credential = phone.get(options_to_get(client))
    [token] = [value for name, value in client.cookies.items() if name == cookie.name]
    client.cookies.clear()
    headers = {"Cookie": f"{cookie.name}={token}; {cookie.name}={'x' * 43}"}

    refused(
        lambda: client.post("/api/passkeys/login", json={"credential": credential}, headers=headers),
        "challenge_of_another_browser",
    )


@pytest.mark.parametrize("challenge", ["AA", encode(b"\xff" * 32), encode(b"a:b:c"), encode(b"\xc3\xa9:b:c")])
def test_challenge_that_was_never_given_is_refused(client, phone, refused, challenge):
    options = options_to_get(client) | {"challenge": challenge}

    refused(lambda: log_in_with(client, phone.get(options)), "challenge_of_another_browser")


def test_challenge_is_good_for_five_minutes(client, phone, later, refused):
    options = options_to_get(client)
    later(302)
    refused(lambda: log_in_with(client, phone.get(options)), "challenge_expired")

    later(298)

    assert log_in_with(client, phone.get(options)).status_code == 200


def test_challenge_of_a_registration_is_good_for_five_minutes(bob, later, refused):
    credential = Authenticator().create(options_to_create(bob))

    later(302)

    refused(lambda: send_new(bob, credential), "challenge_expired")


def test_challenge_is_good_for_one_purpose(bob, phone, refused):
    to_create, to_get = options_to_create(bob), options_to_get(bob)

    reason = "challenge_of_another_purpose"
    refused(lambda: log_in_with(bob, phone.get(to_create)), reason)
    body = {"credential": phone.get(to_create)}
    refused(lambda: bob.post("/api/passkeys/reauthenticate", json=body), reason)
    refused(lambda: send_new(bob, Authenticator().create(to_create | to_get)), reason)


def test_reauthentication_takes_no_challenge_from_before_the_login(client, phone, refused):
    options = options_to_get(client)
    login(client)

    body = {"credential": phone.get(options)}

    refused(lambda: client.post("/api/passkeys/reauthenticate", json=body), "challenge_of_another_session")


def test_registration_takes_no_challenge_of_another_session(bob, make_user, refused):
    options = options_to_create(bob)
    login(bob)  # the same user and browser, but another session
    credential = Authenticator().create(options)

    refused(lambda: send_new(bob, credential), "challenge_of_another_session")

    make_user("eve")
    login(bob, "eve")
    refused(lambda: send_new(bob, credential), "challenge_of_another_session")


def test_expired_challenges_are_deleted_with_each_use(client, phone):
    now = timezone.now()
    UsedChallenge.objects.bulk_create(
        UsedChallenge(challenge_hash=str(number), expiry_time=now) for number in range(CLEANUP_SIZE + 1)
    )
    before = UsedChallenge.objects.count()

    log_in(client, phone)
    assert UsedChallenge.objects.count() == before - CLEANUP_SIZE + 1

    log_in(client, phone)
    assert UsedChallenge.objects.filter(expiry_time__gt=now).count() == UsedChallenge.objects.count()


# Credentials


def test_unknown_credential_is_refused(client, phone, refused):
    stranger = Authenticator(user_handle=phone.user_handle)

    record = refused(lambda: log_in(client, stranger), "unknown_credential")

    assert "user_id" not in record


def test_deleted_credential_is_refused(bob, client, phone, refused):
    Passkey.objects.all().delete()

    refused(lambda: log_in(client, phone), "unknown_credential")


def test_login_needs_the_handle_of_the_right_user(client, phone, make_user, refused):
    eve = register(make_user("eve"))

    for handle in (eve.user_handle, None, encode(b"1"), encode(bytes(64))):
        phone.user_handle = handle
        refused(lambda: log_in(client, phone), "wrong_user_handle")


def test_reauthentication_with_the_handle_of_another_user_is_refused(bob, phone, make_user, refused):
    phone.user_handle = register(make_user("eve")).user_handle
    body = {"credential": phone.get(options_to_get(bob))}

    refused(lambda: bob.post("/api/passkeys/reauthenticate", json=body), "wrong_user_handle")


def test_reauthentication_with_a_passkey_of_another_user_is_refused(bob, make_user, refused):
    eve = register(make_user("eve"))
    body = {"credential": eve.get(options_to_get(bob))}

    record = refused(
        lambda: bob.post("/api/passkeys/reauthenticate", json=body), "credential_of_another_user"
    )

    assert record["user_id"] == User.objects.get(username="bob").pk


def test_credential_that_is_registered_already_is_refused(bob, phone, make_user, refused):
    eve = make_user("eve")
    copy = Authenticator(credential_id=phone.credential_id)
    options_to_create(eve)

    refused(lambda: send_new(eve, copy.create(options_to_create(eve))), "credential_exists")
    refused(lambda: send_new(bob, phone.create(options_to_create(bob))), "credential_exists")


def test_ids_of_a_credential_must_agree(bob, client, phone, unreadable):
    stranger = encode(secrets.token_bytes(16))
    credential = phone.get(options_to_get(client)) | {"rawId": stranger}
    unreadable(lambda: log_in_with(client, credential), "rawId", "id_of_another_credential")

    for changes in ({"id": stranger}, {"rawId": stranger}, {"id": stranger, "rawId": stranger}):
        new = Authenticator().create(options_to_create(bob)) | changes
        unreadable(lambda new=new: send_new(bob, new), "id", "id_of_another_credential")


# Shapes


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("id", [None, 1, "", "A", "AB", "AA==", "A A", "+/+/", "A" * 1368]),
        ("rawId", [None, ["AA"]]),
        ("type", [None, "password", 1]),
        ("response", [None, [], "text"]),
        ("response.clientDataJSON", [None, {}, "é", "A" * 4100]),
        ("response.authenticatorData", [None, "A" * 4100]),
        ("response.signature", [None, "A" * 4100]),
        ("response.userHandle", [1, "", "A" * 4100]),
    ],
)
def test_credential_of_another_shape_is_refused_by_field(client, phone, path, values):
    for value in values:
        credential = phone.get(options_to_get(client))
        *inner, name = path.split(".")
        (credential[inner[0]] if inner else credential)[name] = value
        before = state()

        response = log_in_with(client, credential)

        assert_problem(response, 400, "invalid_request", f"credential.{path}")
        assert state() == before


def test_missing_fields_are_all_named(bob, client):
    fields = ["id", "rawId", "type", "response"]
    assert_problem(
        log_in_with(client, {}), 400, "invalid_request", *(f"credential.{each}" for each in fields)
    )
    assert_problem(client.post("/api/passkeys/login", json={}), 400, "invalid_request", "credential")
    credential = {"id": "AA", "rawId": "AA", "type": "public-key", "response": {}}
    fields = [f"credential.response.{each}" for each in ("clientDataJSON", "attestationObject")]
    assert_problem(send_new(bob, credential, name="", x=1), 400, "invalid_request", "name", "x", *fields)


def test_attestation_object_is_bounded(bob):
    credential = Authenticator().create(options_to_create(bob))
    credential["response"]["attestationObject"] = "A" * 16_388

    response = send_new(bob, credential)

    assert_problem(response, 400, "invalid_request", "credential.response.attestationObject")


def test_body_is_bounded(client, phone):
    credential = phone.get(options_to_get(client)) | {"padding": "x" * 65_536}

    assert_problem(log_in_with(client, credential), 413, "payload_too_large")


def test_malformed_json_is_refused(client):
    response = client.post(
        "/api/passkeys/login", content=b'{"credential": {', headers={"Content-Type": "application/json"}
    )

    assert_problem(response, 400, "malformed_json")


# Limits


def test_failures_are_counted_by_address_and_successes_are_not(client, make_client, phone, monkeypatch):
    monkeypatch.setattr(settings, "throttle", True)
    monkeypatch.setattr("user.rate_limits.FAILURES_PER_ADDRESS", parse("3/hour"))
    for _ in range(5):
        assert log_in(client, phone).status_code == 200
    for _ in range(3):
        assert_problem(log_in(client, Authenticator()), 403, "invalid_credentials")

    refusal = log_in(client, phone)

    assert_problem(refusal, 429, "too_many_requests")
    assert 0 < int(refusal.headers["Retry-After"]) <= 3600
    assert_problem(login(client), 429, "too_many_requests")
    assert log_in(make_client("192.0.2.9"), phone).status_code == 200


def test_records_hold_nothing_of_a_credential(bob, client, phone, records):
    log_in(client, phone)
    log_in(client, Authenticator())
    bob.put("/api/passkeys/1", json={"name": "The name of my passkey"})

    text = json.dumps(records)
    for secret in (phone.id, phone.user_handle, *client.cookies.values(), "The name of my passkey"):
        assert secret not in text


# Races


def test_one_of_many_uses_of_one_assertion_wins(make_client, phone, in_threads):
    first = make_client()
    credential = phone.get(options_to_get(first))
    browsers = [make_client() for _ in range(8)]
    for each in browsers:
        each.cookies.update(first.cookies)

    statuses = in_threads(8, lambda number: log_in_with(browsers[number], credential).status_code)

    assert sorted(statuses) == [200] + [403] * 7
    assert Session.objects.count() == 2
    assert UsedChallenge.objects.count() == 2


def test_counter_that_goes_back_in_a_race_is_refused(bob, make_client, in_threads):
    key = register(bob, flags=UP | UV, count=1)
    key.count = 2
    browsers = [make_client() for _ in range(6)]
    credentials = [key.get(options_to_get(each)) for each in browsers]

    statuses = in_threads(6, lambda number: log_in_with(browsers[number], credentials[number]).status_code)

    assert sorted(statuses) == [200] + [403] * 5
    assert Passkey.objects.get().sign_count == 2


def test_registrations_at_once_do_not_exceed_the_limit(bob, in_threads):
    for _ in range(MAX_PASSKEYS - 2):
        register(bob)
    credentials = [Authenticator().create(options_to_create(bob)) for _ in range(6)]

    statuses = in_threads(6, lambda number: send_new(bob, credentials[number]).status_code)

    assert sorted(statuses) == [200, 200, 409, 409, 409, 409]
    assert Passkey.objects.count() == MAX_PASSKEYS


def test_first_registrations_at_once_get_one_handle(bob, in_threads):
    handles = in_threads(6, lambda number: options_to_create(bob)["user"]["id"])

    assert len(set(handles)) == UserHandle.objects.count() == 1


def test_one_credential_is_not_registered_twice_in_a_race(make_user, in_threads):
    users = [make_user(f"user{number}") for number in range(6)]
    phone = Authenticator()
    credentials = [phone.create(options_to_create(each)) for each in users]

    statuses = in_threads(6, lambda number: send_new(users[number], credentials[number]).status_code)

    assert sorted(statuses) == [200] + [403] * 5
    assert Passkey.objects.count() == 1


def meanwhile(monkeypatch, act, name="verify_assertion"):
    """Have something happen just after a credential was verified."""
    verify = getattr(ceremonies, name)

    def verify_and_act(*arguments):
        verify(*arguments)
        act()

    monkeypatch.setattr(ceremonies, name, verify_and_act)


@pytest.mark.parametrize("model", [Passkey, User])
def test_login_that_a_deletion_overtakes_is_refused(client, phone, monkeypatch, model):
    meanwhile(monkeypatch, lambda: model.objects.all().delete())

    assert_problem(log_in(client, phone), 403, "invalid_credentials")

    assert_problem(client.get("/api/user"), 401, "not_logged_in")


def test_login_that_a_password_change_overtakes_leaves_a_session_that_works(bob, client, phone, monkeypatch):
    meanwhile(monkeypatch, lambda: bob.put("/api/user", json={"password": OTHER_PASSWORD}))

    assert log_in(client, phone).status_code == 200

    assert client.get("/api/user").status_code == 200


@pytest.mark.parametrize(
    "act",
    [
        lambda bob: Session.objects.update(deleted_time=timezone.now()),
        lambda bob: User.objects.all().delete(),
        lambda bob: User.objects.update(password="!"),
    ],
)
def test_reauthentication_that_a_revocation_overtakes_changes_nothing(bob, phone, monkeypatch, act):
    meanwhile(monkeypatch, lambda: act(bob))
    body = {"credential": phone.get(options_to_get(bob))}

    assert_problem(bob.post("/api/passkeys/reauthenticate", json=body), 401, "not_logged_in")

    assert UsedChallenge.objects.count() == 1
    assert not Passkey.objects.filter(last_used_time__isnull=False).exists()


def test_passkey_that_a_password_change_overtakes_is_not_added(bob, make_client, monkeypatch):
    thief = make_client()
    login(thief)
    credential = Authenticator().create(options_to_create(thief))
    change = {"password": OTHER_PASSWORD}
    meanwhile(monkeypatch, lambda: bob.put("/api/user", json=change), name="verify_new")

    assert_problem(send_new(thief, credential), 401, "not_logged_in")

    assert not Passkey.objects.exists()


def test_handle_of_an_account_that_is_deleted_meanwhile_is_not_made(bob, monkeypatch):
    monkeypatch.setattr(passkeys, "descriptors", lambda user: User.objects.all().delete() and [])

    assert_problem(bob.post("/api/passkeys/registration"), 401, "not_logged_in")

    assert not UserHandle.objects.exists()


def test_passkey_is_not_deleted_by_a_session_that_a_password_change_revokes_meanwhile(
    bob, phone, monkeypatch
):
    require = type(passkeys.auth.user_config).require_fresh_login

    def require_and_change(self, request):
        require(self, request)
        User.objects.update(password="!")

    monkeypatch.setattr(type(passkeys.auth.user_config), "require_fresh_login", require_and_change)

    assert_problem(bob.delete(f"/api/passkeys/{Passkey.objects.get().pk}"), 401, "not_logged_in")

    assert Passkey.objects.exists()


def test_surplus_sessions_that_cannot_be_ended_do_not_undo_the_login(client, phone, monkeypatch):
    def fail(user):
        raise passkeys.Error

    monkeypatch.setattr(passkeys, "end_surplus_sessions", fail)

    assert log_in(client, phone).status_code == 200


def test_every_reason_is_explained():
    rows = table("docs/passkeys.md", "What is checked")
    listed = {name.strip("` ") for names, _ in rows for name in names.split(",")}
    source = "".join(read(f"passkey/{name}.py") for name in ("ceremonies", "challenges", "passkeys"))

    raised = re.findall(r'(?:RefusedError|ChallengeError)\(\s*"(\w+)"', source)
    raised += re.findall(r'(?:MalformedError|malformed)\(\s*"[\w.]+", "(\w+)"', source)

    assert listed == {*raised, "counter_went_back"}
