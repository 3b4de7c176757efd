"""Health checks for load balancers and orchestrators."""

from functools import cache

import utype
from django.apps import apps
from django.db import ProgrammingError
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import F, Model
from utilmeta.core import api

from .problems import Problem


class HealthSchema(utype.Schema):
    """The state of the service."""

    status: str = utype.Field(example="ok")


class HealthAPI(api.API):
    """Health checks."""

    def get(self) -> HealthSchema:
        """Return whether the process runs.

        The database is not asked.
        """
        return HealthSchema(status="ok")

    @api.get
    def ready(self) -> HealthSchema:
        """Return whether requests can be served.

        They can if the database responds, lacks no migration, and its tables can be read and written.
        Otherwise the response is 503.
        """
        try:
            applied = set(MigrationRecorder.Migration.objects.values_list("app", "name"))
            for model in own_models():
                try_table(model)
        except ProgrammingError:  # PostgreSQL's for a table, a column or a right that is missing
            raise Problem("service_unavailable", "The database lacks tables, or rights to them.") from None
        if not known_migrations() <= applied:
            raise Problem("service_unavailable", "The database lacks migrations.")
        return HealthSchema(status="ok")


@cache
def known_migrations() -> frozenset[tuple[str, str]]:
    """Return the app and name of every migration that this version of the service knows."""
    loader = MigrationLoader(None)
    return frozenset(loader.disk_migrations)


def own_models() -> list[type[Model]]:
    """Return the models of this service."""
    return [model for model in apps.get_models() if not model.__module__.startswith("django.")]


def try_table(model: type[Model]) -> None:
    """Read one row of a table, found by an index, and change none; raises DatabaseError."""
    key = next(
        (field for field in model._meta.fields if field.unique and not field.primary_key), model._meta.pk
    )
    rows = model._default_manager.order_by(key.attname)
    rows.values_list().first()
    rows.filter(pk=0).update(**{key.attname: F(key.attname)})
