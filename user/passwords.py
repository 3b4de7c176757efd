"""How passwords are kept: the field that hashes them, checking one, and a bound on hashes at once."""

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.contrib.auth import hashers
from utilmeta.core.orm.backends.django import models as framework

from config import settings
from web.problems import Problem

from .foreign_hashes import NO_PASSWORD as NO_PASSWORD
from .foreign_hashes import in_django_form, verify_hash

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# A hash keeps a core busy for about a third of a second, on purpose, and whoever waits for one keeps a
# thread of the server busy. In production, half of the cores and most threads are for users who are logged
# in already, and there are several processes; in development, nobody is to be turned away.
HASH_CONCURRENCY = settings.hash_concurrency or (min(max(1, CORES // 2), 2) if settings.production else CORES)
HASH_QUEUE_LENGTH = 2 if settings.production else 64
HASH_QUEUE_SECONDS = 15
# Threads of one process take turns of milliseconds: a queue that is full for so short a time is no storm.
HASH_ADMISSION_SECONDS = 0.01
# A salt that Django's PBKDF2 takes, finds long enough and makes by itself; the column has room for it.
OWN_SALT = re.compile("[A-Za-z0-9]{22,48}")

_admitted = threading.BoundedSemaphore(HASH_CONCURRENCY + HASH_QUEUE_LENGTH)
_running = threading.BoundedSemaphore(HASH_CONCURRENCY)


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
    """Return the hash of a password.

    Raises Problem `service_unavailable` when too many hashes wait already.
    """
    with _turn_to_hash():
        return EncodedPassword(hashers.make_password(password))


def renew_hash(password: str, encoded: str) -> EncodedPassword:
    """Return a hash by today's rule of a password whose present one is outdated; its salt stays.

    Raises Problem `service_unavailable` when too many hashes wait already.
    """
    with _turn_to_hash():
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
    """Tell whether a password is the one a hash was made of, and whether the hash should be made anew.

    Takes as long as a hash takes, also with NO_PASSWORD. Raises Problem `service_unavailable` when too
    many hashes wait already.
    """
    with _turn_to_hash():
        return verify_hash(password, encoded)


@contextmanager
def _turn_to_hash() -> Iterator[None]:
    if not _admitted.acquire(timeout=HASH_ADMISSION_SECONDS):
        raise Problem("service_unavailable")
    try:
        if not _running.acquire(timeout=HASH_QUEUE_SECONDS):
            raise Problem("service_unavailable")
        try:
            yield
        finally:
            _running.release()
    finally:
        _admitted.release()
