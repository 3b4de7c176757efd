"""Whether the service is up, for the machines that ask."""

from functools import cache

import utype
from django.db import ProgrammingError
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from utilmeta.core import api

from .problems import Problem


class HealthSchema(utype.Schema):
    """How the service is."""

    status: str = utype.Field(example="ok")


class HealthAPI(api.API):
    """Ask how the service is."""

    def get(self) -> HealthSchema:
        """Tell whether the process serves.

        The answer comes without the database.
        """
        return HealthSchema(status="ok")

    @api.get
    def ready(self) -> HealthSchema:
        """Tell whether requests can be served.

        They can when the database answers and lacks no migration; otherwise the answer is 503.
        """
        try:
            applied = set(MigrationRecorder.Migration.objects.values_list("app", "name"))
        except ProgrammingError:  # PostgreSQL's for a database without tables
            applied = set()
        if not known_migrations() <= applied:
            raise Problem("service_unavailable", "The database lacks migrations.")
        return HealthSchema(status="ok")


@cache
def known_migrations() -> frozenset[tuple[str, str]]:
    """Return the app and name of every migration that this version of the service knows."""
    loader = MigrationLoader(None)
    return frozenset(loader.disk_migrations)
