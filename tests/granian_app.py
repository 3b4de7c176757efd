"""The service for tests under granian: hashing costs next to nothing, unless a test wants it to take long."""

import os

from django.contrib.auth.hashers import PBKDF2PasswordHasher

from server import app

PBKDF2PasswordHasher.iterations = int(os.environ.get("TEST_HASH_ITERATIONS", "1"))

__all__ = ["app"]
