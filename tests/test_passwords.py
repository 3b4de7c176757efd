"""How passwords are kept."""

import sys
import textwrap
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest
from django.contrib.auth import hashers
from django.contrib.auth.hashers import check_password
from hypothesis import example, given
from hypothesis import strategies as st

from config import settings
from framework.fair_queue import FairQueue
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


@pytest.mark.parametrize("path", ["login", "signup"])
def test_request_that_finds_no_hashing_slot_in_time_is_told_when_to_come_back(client, monkeypatch, path):
    queue = FairQueue(slots=1, length=1, seconds=0.01, typical_seconds=2.5)
    monkeypatch.setattr(passwords, "hashing_queue", lambda: queue)

    with queue.slot("somebody else"):
        response = client.post(f"/api/user/{path}", json=credentials())

    assert_problem(response, 503, "service_unavailable")
    assert response.headers["Retry-After"] == "5"  # one that hashes and one that waited, 2.5 seconds each


def test_authenticated_user_does_not_wait_for_hashes(bob, monkeypatch):
    full = FairQueue(slots=1, length=0, seconds=1)
    monkeypatch.setattr(passwords, "hashing_queue", lambda: full)

    with full.slot("somebody else"):
        assert bob.get("/api/user").status_code == 200
        assert bob.put("/api/user", json={"username": "robert"}).status_code == 200


def test_network_that_floods_the_queue_turns_away_its_own_requests_alone(make_client, bob, monkeypatch):
    queue = FairQueue(slots=1, length=4, seconds=30)
    monkeypatch.setattr(passwords, "hashing_queue", lambda: queue)

    with ThreadPoolExecutor(10) as pool:
        with queue.slot("somebody who hashes"):
            flood = [pool.submit(login, make_client("2001:db8::" + str(n)), "nobody") for n in range(8)]
            turned_away = as_completed(flood)
            for _ in range(4):
                next(turned_away)
            user = pool.submit(login, make_client("2001:db8:1::1"))
            next(turned_away)
        responses = [each.result() for each in flood]

        assert user.result().status_code == 200
    assert Counter(response.status_code for response in responses) == {503: 5, 403: 3}


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100)


@given(password=texts, salt=st.text("abcXYZ019", min_size=1, max_size=30), rounds=st.integers(1, 300))
@example(password="x", salt="y", rounds=1)
@example(password="pässwörd 密码 🔑", salt="salt", rounds=2)
@example(password="k" * 64, salt="salt", rounds=2)
@example(password="k" * 65, salt="salt", rounds=2)
@example(password="NUL \0 inside", salt="salt", rounds=2)
def test_fast_hash_is_the_one_of_hashlib_and_of_django(password, salt, rounds):
    key = passwords.pbkdf2_of_openssl(password.encode(), salt.encode(), rounds)

    assert passwords.pbkdf2_of_pycryptodome(password.encode(), salt.encode(), rounds) == key
    ours = passwords.PBKDF2PasswordHasher().encode(password, salt, rounds)
    assert ours == hashers.PBKDF2PasswordHasher().encode(password, salt, rounds)


def test_plain_django_reads_our_hash_and_we_read_its(bob, client):
    plain = hashers.PBKDF2PasswordHasher()

    assert plain.verify(PASSWORD, User.objects.get().password)
    User.objects.update(password=passwords.EncodedPassword(plain.encode(OTHER_PASSWORD, "salt", 3)))
    assert login(client, password=OTHER_PASSWORD).status_code == 200


@pytest.mark.parametrize("salt", ["", "a$b"])
def test_salt_that_could_not_be_read_again_is_refused(salt):
    with pytest.raises(ValueError, match="salt"):
        passwords.PBKDF2PasswordHasher().encode(PASSWORD, salt)


@pytest.mark.parametrize("slow", ["pbkdf2_of_openssl", "pbkdf2_of_pycryptodome"])
def test_fastest_implementation_is_taken(monkeypatch, slow):
    seconds = {name: 9.0 if name == slow else 1.0 for name in ("pbkdf2_of_openssl", "pbkdf2_of_pycryptodome")}
    monkeypatch.setattr(passwords, "seconds_per_round", lambda each: seconds[each.__name__])

    fastest, per_round = passwords.fastest_pbkdf2.__wrapped__()

    assert fastest.__name__ != slow
    assert per_round == 1.0


def test_service_works_without_pycryptodome():
    program = """
        import sys, utilmeta
        sys.modules["Crypto"] = None
        utilmeta._cmd_env = True  # as under `meta`: no database is needed
        import server
        from user import passwords
        print(passwords.fastest_pbkdf2()[0].__name__, passwords.hash_password("123123")[:14])
    """

    done = run(sys.executable, "-c", textwrap.dedent(program), UTILMETA_PRODUCTION="0")

    assert done.stdout.split() == ["pbkdf2_of_openssl", "pbkdf2_sha256$"], done.stderr


# What NFKC changes, and a German keyboard types: a micro sign and a square.
AS_SENT = "5 µm² is a small area"
NORMALISED = "5 μm2 is a small area"


@pytest.fixture
def hashed_as_sent(bob):
    """A browser of bob, whose password another system hashed as it was sent."""
    User.objects.update(password=passwords.hash_password(AS_SENT))


@pytest.fixture
def hashes(monkeypatch):
    """The passwords that are hashed during a test."""
    hashed = []
    encode = passwords.PBKDF2PasswordHasher.encode

    def note(hasher, password, *arguments):
        hashed.append(password)
        return encode(hasher, password, *arguments)

    monkeypatch.setattr(passwords.PBKDF2PasswordHasher, "encode", note)
    return hashed


@pytest.mark.usefixtures("hashed_as_sent")
def test_password_that_was_hashed_as_sent_is_rehashed_in_its_normalised_form(client):
    assert_problem(login(client, password=NORMALISED), 403, "invalid_credentials")

    response = login(client, password=AS_SENT)

    assert response.status_code == 200
    assert check_password(NORMALISED, User.objects.get().password)
    assert client.get("/api/user").status_code == 200
    for password in (NORMALISED, AS_SENT):
        assert login(client, password=password).status_code == 200


@pytest.mark.usefixtures("hashed_as_sent")
def test_wrong_password_that_is_not_normalised_changes_nothing(client):
    before = User.objects.get().password

    assert_problem(login(client, password=f"{AS_SENT}²"), 403, "invalid_credentials")

    assert User.objects.get().password == before


def test_password_that_was_hashed_as_sent_is_the_current_one(bob, client):
    salt = passwords.salt_of(User.objects.get().password)  # which the session is bound to
    as_sent = passwords.PBKDF2PasswordHasher().encode(AS_SENT, salt, 1)
    User.objects.update(password=passwords.EncodedPassword(as_sent))

    response = bob.put("/api/user", json={"password": OTHER_PASSWORD, "current_password": AS_SENT})

    assert response.status_code == 200
    assert login(client, password=OTHER_PASSWORD).status_code == 200


@pytest.mark.usefixtures("bob")
@pytest.mark.parametrize("username", ["bob", "nobody"])
def test_wrong_password_that_is_not_normalised_costs_two_hashes_for_any_name(client, hashes, username):
    assert_problem(login(client, username, AS_SENT), 403, "invalid_credentials")

    assert len(hashes) == 2


def test_right_password_costs_one_hash_in_any_form(make_user, client, hashes):
    make_user("bob", AS_SENT)
    hashes.clear()

    for form in (AS_SENT, NORMALISED):
        assert login(client, password=form).status_code == 200

    assert hashes == [NORMALISED, NORMALISED]
