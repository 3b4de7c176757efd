"""Password hashes made by other systems: which are supported, and how a password is verified against one."""

import logging
import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from django.contrib.auth import hashers

# Django's mark for "no password": verifying against it takes as long as against a real hash, and fails.
NO_PASSWORD = hashers.UNUSABLE_PASSWORD_PREFIX
# What follows each algorithm's name in Django's form of a hash. Only names of this table are ever logged.
BASE64 = "[A-Za-z0-9+/]"
BCRYPT = r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}"
FORMS = {
    "pbkdf2_sha256": rf"[1-9][0-9]{{0,9}}\$[^$]+\${BASE64}{{43}}=",
    "pbkdf2_sha1": rf"[1-9][0-9]{{0,9}}\$[^$]+\${BASE64}{{27}}=",
    "argon2": rf"argon2(id|i|d)\$v=[0-9]+\$m=[0-9]+,t=[0-9]+,p=[0-9]+\${BASE64}{{11,}}\${BASE64}{{11,}}",
    "bcrypt_sha256": BCRYPT,
    "bcrypt": BCRYPT,
    "scrypt": rf"[1-9][0-9]{{0,9}}\$[^$]+\$[1-9][0-9]{{0,9}}\$[1-9][0-9]{{0,9}}\${BASE64}{{86}}==",
}
LIBRARIES = {"argon2": "argon2", "bcrypt_sha256": "bcrypt", "bcrypt": "bcrypt"}

logger = logging.getLogger("demo-user")


class BCryptPasswordHasher(hashers.BCryptPasswordHasher):
    """Django's hasher, but it cuts a password at 72 bytes, as bcrypt did before version 5.0."""

    def verify(self, password: str, encoded: str) -> bool:
        """Verify the 72 bytes that bcrypt looks at."""
        _, _, data = encoded.partition("$")
        right: bool = import_module("bcrypt").checkpw(password.encode()[:72], data.encode())
        return right


class ScryptPasswordHasher(hashers.ScryptPasswordHasher):
    """Django's hasher with 128 MiB of memory, as OWASP recommends, where OpenSSL allows 32 by default."""

    maxmem = 2**31 - 1


def in_django_form(encoded: str) -> str:
    """Return a hash with its algorithm's name in front, which the libraries leave out."""
    if encoded.startswith("$argon2"):
        return f"argon2{encoded}"
    if encoded.startswith("$2"):
        return f"bcrypt${encoded}"
    return encoded


def algorithm_of(encoded: str) -> str | None:
    """Return the algorithm of a hash in Django's format, or None if it is not one."""
    name, _, rest = encoded.partition("$")
    printable = encoded.isascii() and encoded.isprintable()
    return name if printable and name in FORMS and re.fullmatch(FORMS[name], rest) else None


def is_hash(text: str) -> bool:
    """Tell whether a text is a hash that is known here, or Django's mark of no password."""
    return text.startswith(NO_PASSWORD) or bool(algorithm_of(in_django_form(text)))


def is_installed(algorithm: str) -> bool:
    """Tell whether the library for an algorithm is installed."""
    return algorithm not in LIBRARIES or bool(find_spec(LIBRARIES[algorithm]))


def verify_hash(password: str, encoded: str) -> tuple[bool, bool]:
    """Tell whether a password is the one a hash was made of, and whether the hash should be upgraded.

    A hash that cannot be checked is logged, once for each algorithm, and no password is the right one: that
    takes as long as NO_PASSWORD does.
    """
    try:
        if encoded.startswith(NO_PASSWORD):
            return hashers.verify_password(password, NO_PASSWORD)
        encoded = in_django_form(encoded)
        hashers.identify_hasher(encoded)
        return hashers.verify_password(password, encoded)
    except Exception:  # noqa: BLE001  (a damaged hash makes hashers and libraries raise errors of every kind)
        name = encoded.partition("$")[0]
        report(name if name in FORMS else None)
        return hashers.verify_password(password, NO_PASSWORD)


@cache
def report(algorithm: str | None) -> None:
    """Log once per process that hashes of an algorithm cannot be verified, and why."""
    fields = {"algorithm": algorithm or "unknown", "reason": "not a hash that is known here"}
    if algorithm and not is_installed(algorithm):
        fields["reason"] = "the extra `hashes` is not installed"
    logger.warning("hash_not_checked", extra={"fields": fields})
