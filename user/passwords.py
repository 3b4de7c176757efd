"""How passwords are hashed: the model field, a fast hasher, and a fair queue for the cores."""

import hashlib
import os
import re
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import cache
from typing import Any

from django.contrib.auth import hashers
from django.db.models.signals import pre_save
from django.utils.encoding import force_bytes
from utilmeta.core.orm.backends.django import models as utilmeta_models

from config import BASE_DIR, settings
from framework.connections import give_connection_back
from framework.fair_queue import FairQueue, QueueFullError
from framework.machine_slots import MachineSlots
from web.problems import Problem

from .foreign_hashes import NO_PASSWORD as NO_PASSWORD
from .foreign_hashes import in_django_form, is_hash, verify_hash

try:
    from Crypto.Hash import SHA256
    from Crypto.Protocol import KDF
except ImportError:  # the service works without pycryptodome, with slower logins
    KDF = None  # type: ignore[assignment]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# A hash keeps a core busy for a tenth of a second or more, on purpose.
HASH_CONCURRENCY = settings.hash_concurrency or CORES
# A person who has waited for that long has given up.
HASH_QUEUE_SECONDS = 15
# A salt as Django's PBKDF2 hasher makes it: long enough for it, and short enough for the column.
OWN_SALT = re.compile("[A-Za-z0-9]{22,48}")

# A function of a password, a salt and a number of rounds that returns the 32 bytes of PBKDF2-HMAC-SHA256.
Pbkdf2 = Callable[[bytes, bytes, int], bytes]
TRIAL_ROUNDS, TRIALS = 2000, 3

# What each request enters while it waits for a hashing slot, and leaves with QueueFullError if it gets none:
# empty, unless something measures that.
wait_observers: list[Callable[[], AbstractContextManager[None]]] = []


def pbkdf2_of_openssl(password: bytes, salt: bytes, rounds: int) -> bytes:
    """Return the key that Python's hashlib derives, with OpenSSL."""
    return hashlib.pbkdf2_hmac("sha256", password, salt, rounds)


def pbkdf2_of_pycryptodome(password: bytes, salt: bytes, rounds: int) -> bytes:
    """Return the same key, in a third of the time or less on processors with SHA-256 instructions."""
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
    """Django's hasher with the same algorithm, rounds and format, in the fastest implementation installed."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        """Return the encoded hash of a password, which Django's own hasher can read."""
        if not salt or "$" in salt:
            raise ValueError("The salt of a password must be a text without $.")
        rounds = iterations or self.iterations
        pbkdf2, _ = fastest_pbkdf2()
        key = pbkdf2(force_bytes(password), force_bytes(salt), rounds)
        return f"{self.algorithm}${rounds}${salt}${b64encode(key).decode()}"


class EncodedPassword(str):
    """A hash that this service made itself: the only kind that is stored unchanged."""


class PasswordField(utilmeta_models.PasswordField):
    """UtilMeta's field, which here hashes everything that is not an EncodedPassword.

    UtilMeta stores text that looks like a hash unchanged, which lets a client choose the hash of its account.
    """

    def contribute_to_class(self, cls: Any, name: str, *args: Any, **kwargs: Any) -> None:
        """Watch what `loaddata` saves to the model."""
        super().contribute_to_class(cls, name, *args, **kwargs)
        pre_save.connect(self.keep_loaded_hash, sender=cls)

    def keep_loaded_hash(self, instance: Any, raw: bool, **kwargs: Any) -> None:
        """Mark a hash that `loaddata` has read from a file of `dumpdata`; a password there is hashed.

        Only `loaddata` saves an instance raw, as Django says of its signal `pre_save`.
        """
        value = getattr(instance, self.attname)
        if raw and value and is_hash(value):
            setattr(instance, self.attname, EncodedPassword(value))

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> EncodedPassword | None:
        """Mark a value from the database as a hash."""
        return None if value is None else EncodedPassword(value)

    def get_prep_value(self, value: Any) -> str | None:
        """Return the hash of a password; an EncodedPassword is returned unchanged."""
        if value is None or isinstance(value, EncodedPassword):
            return value
        return hash_password(value)


def hash_password(password: str) -> EncodedPassword:
    """Return the hash of a password. While requests are served, call it in a `hashing_slot`."""
    return EncodedPassword(hashers.make_password(password))


def rehash_password(password: str, encoded: str) -> EncodedPassword:
    """Return an up-to-date hash of a password whose current hash is outdated; the salt stays the same."""
    return EncodedPassword(hashers.make_password(password, salt_of(encoded)))


def salt_of(encoded: str) -> str:
    """Return the salt of a hash, which changes each time that a password is set.

    A salt that PBKDF2 cannot use (Argon2's are bytes) is replaced by one derived from it, so that the
    salt stays the same when the hash is upgraded.
    """
    salt = encoded
    # An unreadable hash of another system, or a missing library, must not fail here.
    with suppress(Exception):
        encoded = in_django_form(encoded)
        salt = hashers.identify_hasher(encoded).decode(encoded)["salt"]
    return salt if OWN_SALT.fullmatch(salt) else hashlib.sha256(salt.encode()).hexdigest()[:32]


def verify_password(password: str, encoded: str) -> tuple[bool, bool]:
    """Return whether a password matches a hash, and whether the hash is outdated.

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
    """Return this process's queue for hashing slots."""
    seconds = PBKDF2PasswordHasher.iterations * fastest_pbkdf2()[1]
    return FairQueue(HASH_CONCURRENCY, settings.hash_queue_length, HASH_QUEUE_SECONDS, seconds)


@cache
def machine_slots() -> MachineSlots:
    """Return the hashing slots that all processes of this service share on this machine."""
    return MachineSlots(f"demo-user-{zlib.crc32(bytes(BASE_DIR)):x}", HASH_CONCURRENCY)


@contextmanager
def hashing_slot(client: str) -> Iterator[None]:
    """Wait for a hashing slot; `client` is the client's network, which takes turns with the others.

    The request holds no database connection while it waits and hashes. Raises Problem
    `service_unavailable` when the queue is full, or no slot was free within HASH_QUEUE_SECONDS.
    """
    give_connection_back()
    with ExitStack() as slots:
        try:
            with ExitStack() as wait:
                for observe in wait_observers:
                    wait.enter_context(observe())
                slots.enter_context(hashing_queue().slot(client))
                slots.enter_context(machine_slots().slot())
        except QueueFullError as full:
            raise Problem("service_unavailable", headers={"Retry-After": str(full.retry_after)}) from None
        yield
