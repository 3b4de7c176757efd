"""Recovery codes: one per account, with which its user gets back in after forgetting the password."""

import hashlib
import secrets
import unicodedata
from base64 import urlsafe_b64encode
from typing import Any

import utype

# NIST SP 800-63B-4, section 4.2.1, asks for 64 bits at least.
RANDOM_BITS = 128
# Crockford's base 32: no I, L, O or U.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = -(-RANDOM_BITS // 5)
GROUP = 4
# What people read for another character.
LOOKALIKES = str.maketrans({"O": "0", "I": "1", "L": "1", "-": "", " ": ""})
MAX_INPUT_LENGTH = 100


def new_code() -> str:
    """Return a new code of 128 random bits: 26 characters, in groups of four, as `XXXX-XXXX-…`."""
    number = secrets.randbits(RANDOM_BITS)
    text = "".join(ALPHABET[number >> shift & 31] for shift in range(5 * (LENGTH - 1), -1, -5))
    return "-".join(text[start : start + GROUP] for start in range(0, LENGTH, GROUP))


def normalize(code: str) -> str:
    """Return a code as it is hashed: in upper case, without hyphens and spaces, lookalikes replaced."""
    return unicodedata.normalize("NFKC", code).upper().translate(LOOKALIKES)


def hash_code(code: str) -> str:
    """Return the hash of a code, as the table stores it: 43 characters of base64url.

    SHA-256 is enough: nobody can try 128 random bits.
    """
    return urlsafe_b64encode(hashlib.sha256(normalize(code).encode()).digest()).decode().rstrip("=")


class RecoveryCodeText(str, utype.Rule):
    """A recovery code as a person types it: in any case, with or without hyphens and spaces."""

    regex = f"[{ALPHABET}]{{{LENGTH}}}"
    message = f"Enter the recovery code as it was shown: {LENGTH} letters and digits."
    extra = {  # noqa: RUF012  (UtilMeta reads it from the class)
        "description": "In any case, with or without hyphens and spaces; O is read as 0, and I and L as 1.",
        "pattern": ".*",
        "maxLength": MAX_INPUT_LENGTH,
        "examples": ["7ZQ4-0M1K-9F2W-XT8D-C5RB-VH3N-6P"],
    }

    @classmethod
    def pre_validate(cls, value: Any, context: Any = None) -> Any:
        """Normalise a code that is not longer than one can be."""
        return normalize(value) if isinstance(value, str) and len(value) <= MAX_INPUT_LENGTH else value
