"""Gunicorn for tests: hashing costs next to nothing."""

from typing import Any


def post_worker_init(worker: Any) -> None:
    """Let passwords be hashed once instead of a million times."""
    from django.contrib.auth.hashers import PBKDF2PasswordHasher

    PBKDF2PasswordHasher.iterations = 1
