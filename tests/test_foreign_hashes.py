"""Hashes that another system made, in the rows of users who come from there."""

import sys

import argon2
import bcrypt
import pytest
from django.contrib.auth import hashers
from django.db import connection

from user import accounts, foreign_hashes
from user.models import User
from user.passwords import EncodedPassword, PBKDF2PasswordHasher, salt_of

from .support import OTHER_PASSWORD, PASSWORD, assert_problem, login

BCRYPT_SALT = b"$2b$04$abcdefghijklmnopqrstuu"
ARGON2 = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(
    PASSWORD, salt=bytes(range(16))
)
BCRYPT = bcrypt.hashpw(PASSWORD.encode(), BCRYPT_SALT).decode()
BCRYPT_SHA256 = hashers.BCryptSHA256PasswordHasher().encode(PASSWORD, BCRYPT_SALT)
PBKDF2_SHA1 = hashers.PBKDF2SHA1PasswordHasher().encode(PASSWORD, "a-salt", 1)
SCRYPT = hashers.ScryptPasswordHasher().encode(PASSWORD, "a salt", 16, 8, 1)
# 64 MiB, where OpenSSL stops at 32 unless told otherwise.
LARGE_SCRYPT = foreign_hashes.ScryptPasswordHasher().encode(PASSWORD, "s" * 22, 2**16, 8, 1)
HASHES = {
    "argon2": f"argon2{ARGON2}",
    "argon2, as its library writes it": ARGON2,
    "bcrypt": f"bcrypt${BCRYPT}",
    "bcrypt, as its library writes it": BCRYPT,
    "bcrypt, as PHP writes it": BCRYPT.replace("$2b$", "$2y$"),
    "bcrypt_sha256": BCRYPT_SHA256,
    "pbkdf2_sha1": PBKDF2_SHA1,
    "pbkdf2_sha256 with a short salt": hashers.PBKDF2PasswordHasher().encode(PASSWORD, "short", 1),
    "scrypt": SCRYPT,
    "scrypt of 64 MiB": LARGE_SCRYPT,
}
NO_HASHES = [
    "",
    "x",
    PASSWORD,
    "$",
    "$2b$04$short",
    "md5$salt$5f4dcc3b5aa765d61d8327deb882cf99",
    "pbkdf2_sha256$$$",
    "pbkdf2_sha256$1$$" + "h" * 43 + "=",
    "pbkdf2_sha1$many$salt$hash",
    "argon2$",
    "argon2$argon2id$v=19$m=64,t=1,p=1$é$é",
    "bcrypt_sha256$$2b$04$é",
    "scrypt$17$salt$8$1$hash",
    "scrypt$16$salt",
]


@pytest.fixture(autouse=True)
def _log_again():
    """Log what was logged before in this process."""
    foreign_hashes.report.cache_clear()
    yield
    foreign_hashes.report.cache_clear()


@pytest.fixture
def import_bob():
    """Return a function that makes an account as another system's export does."""

    def make(encoded: str) -> None:
        User.objects.create(username="bob", password=EncodedPassword(encoded))

    return make


@pytest.fixture
def own_hashes(monkeypatch):
    """The passwords that are hashed by the rule of today."""
    hashed = []
    encode = PBKDF2PasswordHasher.encode

    def count(hasher, password, salt, iterations=None):
        encoded = encode(hasher, password, salt, iterations)
        if hasher.algorithm == "pbkdf2_sha256":
            hashed.append(password)
        return encoded

    monkeypatch.setattr(PBKDF2PasswordHasher, "encode", count)
    return hashed


@pytest.fixture
def without_libraries(monkeypatch):
    """Be installed without the extra `hashes`."""
    monkeypatch.setitem(sys.modules, "argon2", None)
    monkeypatch.setitem(sys.modules, "bcrypt", None)


@pytest.mark.parametrize("encoded", HASHES.values(), ids=HASHES)
def test_login_checks_a_foreign_hash_and_upgrades_it(client, import_bob, own_hashes, records, encoded):
    import_bob(encoded)

    assert_problem(login(client, password=OTHER_PASSWORD), 403, "invalid_credentials")
    assert User.objects.get().password == encoded

    assert login(client).status_code == 200
    assert client.get("/api/user").status_code == 200
    assert User.objects.get().password.startswith("pbkdf2_sha256$")
    assert "hash_not_checked" not in [record["event"] for record in records]

    own_hashes.clear()

    assert login(client).status_code == 200
    assert own_hashes == [PASSWORD]  # and not a second time, for another upgrade


def test_bcrypt_looks_at_the_72_bytes_that_it_always_did(client, import_bob):
    password = "ü" * 50
    import_bob(bcrypt.hashpw(password.encode()[:72], BCRYPT_SALT).decode())

    assert login(client, password=password).status_code == 200
    assert_problem(login(client, password=password[:-1]), 403, "invalid_credentials")


@pytest.mark.parametrize("name", HASHES)
def test_session_that_races_the_upgrade_stays_good(make_client, import_bob, monkeypatch, name):
    import_bob(HASHES[name])
    first, second = make_client(), make_client()
    rehash_password = accounts.rehash_password

    def lose_the_race(password, encoded):
        monkeypatch.setattr(accounts, "rehash_password", rehash_password)
        assert login(second).status_code == 200
        return rehash_password(password, encoded)

    monkeypatch.setattr(accounts, "rehash_password", lose_the_race)

    assert login(first).status_code == 200

    assert first.get("/api/user").status_code == 200
    assert second.get("/api/user").status_code == 200


@pytest.mark.parametrize("name", HASHES)
def test_salt_stays_through_an_upgrade(name):
    upgraded = hashers.make_password(PASSWORD, salt_of(HASHES[name]))

    assert salt_of(upgraded) == salt_of(HASHES[name])
    assert salt_of(upgraded) in upgraded


def test_salt_of_our_own_hash_is_the_one_that_it_has():
    encoded = hashers.make_password(PASSWORD)

    assert salt_of(encoded) == encoded.split("$")[2]


@pytest.mark.usefixtures("without_libraries")
@pytest.mark.parametrize("algorithm", ["argon2", "bcrypt", "bcrypt_sha256"])
def test_library_that_is_missing_is_logged_once_and_no_password_is_right(
    client, import_bob, own_hashes, records, algorithm
):
    import_bob(HASHES[algorithm])

    for _ in range(2):
        assert_problem(login(client), 403, "invalid_credentials")

    assert len(own_hashes) == 2  # it takes the time of any other login
    (record,) = [record for record in records if record["event"] == "hash_not_checked"]
    assert record["level"] == "WARNING"
    assert record["algorithm"] == algorithm
    assert record["reason"] == "the extra `hashes` is not installed"
    assert HASHES[algorithm] not in str(records)


@pytest.mark.parametrize("encoded", NO_HASHES)
def test_text_that_is_no_hash_is_logged_without_it_and_no_password_is_right(
    client, import_bob, own_hashes, records, encoded
):
    import_bob(encoded)

    assert_problem(login(client, password=PASSWORD), 403, "invalid_credentials")

    assert len(own_hashes) == 1
    (record,) = [record for record in records if record["event"] == "hash_not_checked"]
    assert record["algorithm"] in {"unknown", *foreign_hashes.FORMS}
    assert set(record) == {"time", "level", "logger", "event", "algorithm", "reason"}
    assert "salt" not in str(record)


@pytest.mark.usefixtures("without_libraries")
@pytest.mark.parametrize("encoded", [*NO_HASHES, *HASHES.values()])
def test_hash_that_somebody_replaced_ends_sessions_and_is_no_defect(bob, encoded):
    User.objects.update(password=EncodedPassword(encoded))

    assert_problem(bob.get("/api/user"), 401, "not_logged_in")


def test_account_without_a_password_is_nothing_to_log(client, import_bob, own_hashes, records):
    import_bob(f"!{'x' * 40}")

    assert_problem(login(client), 403, "invalid_credentials")

    assert len(own_hashes) == 1
    assert [record["event"] for record in records] == ["login_failure"]


@pytest.mark.parametrize(
    "algorithm", ["pbkdf2_sha256", "pbkdf2_sha1", "argon2", "bcrypt_sha256", "bcrypt", "scrypt"]
)
def test_hash_as_django_makes_it_is_known_and_fits_the_column(algorithm, monkeypatch):
    monkeypatch.setattr(hashers.PBKDF2PasswordHasher, "iterations", 99_999_999)
    monkeypatch.setattr(hashers, "pbkdf2", lambda *args, digest, **kwargs: b"h" * digest().digest_size)
    monkeypatch.setattr("user.passwords.fastest_pbkdf2", lambda: (lambda *args: b"h" * 32, "none"))
    encoded = hashers.make_password(PASSWORD, hasher=algorithm)

    assert foreign_hashes.algorithm_of(encoded) == algorithm

    User.objects.create(username="bob", password=EncodedPassword(encoded))
    assert User.objects.get().password == encoded
    assert len(encoded) <= User._meta.get_field("password").max_length


@pytest.mark.parametrize("encoded", HASHES.values(), ids=HASHES)
def test_hash_of_another_library_is_known(encoded):
    assert foreign_hashes.algorithm_of(foreign_hashes.in_django_form(encoded))


@pytest.mark.parametrize("encoded", [*NO_HASHES, "!", f"{HASHES['scrypt']}\n", f"{HASHES['bcrypt']}x"])
def test_other_text_is_not_known_for_a_hash(encoded):
    assert foreign_hashes.algorithm_of(foreign_hashes.in_django_form(encoded)) is None


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite keeps a text of any length")
def test_column_has_room_for_128_characters():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT character_maximum_length FROM information_schema.columns"
            " WHERE table_name = 'user_user' AND column_name = 'password'"
        )
        assert cursor.fetchone() == (128,)
