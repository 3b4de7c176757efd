"""The service with every app, for mypy: it looks here for Django's settings."""

import os

os.environ["PASSKEYS"] = "on"

from server import *  # noqa: F403
