"""The service for a server that is measured: it hashes as often as it is told, once for example."""

import os

from django.contrib.auth.hashers import PBKDF2PasswordHasher

from server import app

PBKDF2PasswordHasher.iterations = int(os.environ["BENCHMARK_ITERATIONS"]) or PBKDF2PasswordHasher.iterations

__all__ = ["app"]
