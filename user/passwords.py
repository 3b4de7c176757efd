"""How passwords are hashed: the field that does it, a fast hasher, and a fair queue for the cores."""

import hashlib
import os
import re
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from django.contrib.auth import hashers
from django.utils.encoding import force_bytes
from utilmeta.core.orm.backends.django import models as framework

from config import BASE_DIR, settings
from framework.connections import give_connection_back
from framework.fair_queue import FairQueue, QueueFullError
from framework.machine_slots import MachineSlots
from web.problems import Problem

from .foreign_hashes import NO_PASSWORD as NO_PASSWORD
from .foreign_hashes import in_django_form, verify_hash

try:
    from Crypto.Hash import SHA256
    from Crypto.Protocol import KDF
except ImportError:  # the service works without pycryptodome, with slower logins
    KDF = None  # type: ignore[assignment]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# A hash keeps a core busy for a tenth of a second or more, on purpose.
HASH_CONCURRENCY = settings.hash_concurrency or CORES
# Who has waited for that long has given up.
HASH_QUEUE_SECONDS = 15
# A salt that Django's PBKDF2 takes, finds long enough and makes by itself; the column has room for it.
OWN_SALT = re.compile("[A-Za-z0-9]{22,48}")

# What returns the 32 bytes of PBKDF2-HMAC-SHA256 for a password, a salt and a number of rounds.
Pbkdf2 = Callable[[bytes, bytes, int], bytes]
TRIAL_ROUNDS, TRIALS = 2000, 3


def pbkdf2_of_openssl(password: bytes, salt: bytes, rounds: int) -> bytes:
    """Return the key that Python's own module derives, by OpenSSL."""
    return hashlib.pbkdf2_hmac("sha256", password, salt, rounds)


def pbkdf2_of_pycryptodome(password: bytes, salt: bytes, rounds: int) -> bytes:
    """Return the same key, in a third of the time or less where the processor knows SHA-256."""
    key: bytes = KDF.PBKDF2(password, salt, 32, rounds, hmac_hash_module=SHA256)
    return key


@cache
def fastest_pbkdf2() -> tuple[Pbkdf2, float]:
    """Return the implementation that is fastest on this machine, and its seconds for one round."""
    candidates = [pbkdf2_of_openssl, *([pbkdf2_of_pycryptodome] if KDF else [])]
    return min(((each, seconds_per_round(each)) for each in candidates), key=lambda found: found[1])


def seconds_per_round(pbkdf2: Pbkdf2) -> float:
    """Return the seconds that one round of an implementation takes, measured in a few milliseconds."""
    times = []
    for _ in range(TRIALS):
        start = time.perf_counter()
        pbkdf2(b"password", b"salt", TRIAL_ROUNDS)
        times.append(time.perf_counter() - start)
    return min(times) / TRIAL_ROUNDS


class NormalisedPassword(str):
    """A password in NFKC, the form that is hashed here, and the text that it was made of."""

    as_sent: str

    def __new__(cls, normalised: str, as_sent: str) -> "NormalisedPassword":
        """Keep both."""
        password = super().__new__(cls, normalised)
        password.as_sent = as_sent
        return password


class PBKDF2PasswordHasher(hashers.PBKDF2PasswordHasher):
    """Django's hasher, its algorithm, rounds and texts, computed by the fastest implementation there is."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        """Return the text to store for a password, which Django's own hasher can read."""
        if not salt or "$" in salt:
            raise ValueError("The salt of a password must be a text without $.")
        rounds = iterations or self.iterations
        pbkdf2, _ = fastest_pbkdf2()
        key = pbkdf2(force_bytes(password), force_bytes(salt), rounds)
        return f"{self.algorithm}${rounds}${salt}${b64encode(key).decode()}"


class EncodedPassword(str):
    """A hash that this service made itself; only such a one is stored as it stands."""


class PasswordField(framework.PasswordField):
    """UtilMeta's field, but it hashes whatever is not an EncodedPassword.

    UtilMeta stores a text that looks like a hash unhashed, so that a client can choose the hash, and
    its cost, of its own account.
    """

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> EncodedPassword | None:
        """Mark what comes from the database as a hash."""
        return None if value is None else EncodedPassword(value)

    def get_prep_value(self, value: Any) -> str | None:
        """Return the hash to store for a password, or a hash of ours as it is."""
        if value is None or isinstance(value, EncodedPassword):
            return value
        return hash_password(value)


def hash_password(password: str) -> EncodedPassword:
    """Return the hash of a password. While requests are served, call it in a `hashing_slot`."""
    return EncodedPassword(hashers.make_password(password))


def rehash_password(password: str, encoded: str) -> EncodedPassword:
    """Return a hash by today's rule of a password whose present hash is outdated; its salt stays."""
    return EncodedPassword(hashers.make_password(password, salt_of(encoded)))


def salt_of(encoded: str) -> str:
    """Return the salt of a hash, which is another one each time that a password is set.

    For a salt that PBKDF2 cannot do with (Argon2 has bytes), it is one that is made of it, so that the
    hash of an upgrade has the same.
    """
    salt = encoded
    # Whatever another system made of it, or a library that is missing, is no reason to fail.
    with suppress(Exception):
        encoded = in_django_form(encoded)
        salt = hashers.identify_hasher(encoded).decode(encoded)["salt"]
    return salt if OWN_SALT.fullmatch(salt) else hashlib.sha256(salt.encode()).hexdigest()[:32]


def verify_password(password: str, encoded: str) -> tuple[bool, bool]:
    """Tell whether a password is the one a hash was made of, and whether the hash is outdated.

    Other systems, the tutorial's service among them, hash a password as it was sent. So a wrong one that was
    not sent in NFKC is also compared as it was sent; a hash of that form is outdated. Takes as long as one
    hash takes, or as two for such a password, also with NO_PASSWORD. Call it in a `hashing_slot`.
    """
    right, outdated = verify_hash(password, encoded)
    as_sent = getattr(password, "as_sent", password)
    if not right and as_sent != password:
        right, outdated = verify_hash(as_sent, encoded)[0], True
    return right, outdated


@cache
def hashing_queue() -> FairQueue:
    """Return the queue for the cores that may hash passwords in this process."""
    seconds = PBKDF2PasswordHasher.iterations * fastest_pbkdf2()[1]
    return FairQueue(HASH_CONCURRENCY, settings.hash_queue_length, HASH_QUEUE_SECONDS, seconds)


@cache
def machine_slots() -> MachineSlots:
    """Return the cores that all processes of this service on this machine may hash with."""
    return MachineSlots(f"demo-user-{zlib.crc32(bytes(BASE_DIR)):x}", HASH_CONCURRENCY)


@contextmanager
def hashing_slot(client: str) -> Iterator[None]:
    """Wait for a core to hash with; `client` is the network that takes turns with the others.

    The request holds no database connection while it waits and hashes. Raises Problem
    `service_unavailable` when the queue is full, or no core was free in HASH_QUEUE_SECONDS.
    """
    give_connection_back()
    try:
        with hashing_queue().slot(client), machine_slots().slot():
            yield
    except QueueFullError as full:
        raise Problem("service_unavailable", headers={"Retry-After": str(full.retry_after)}) from None
