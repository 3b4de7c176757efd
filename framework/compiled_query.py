"""Queries whose SQL is compiled once: to build and compile one costs Django more than to run it.

What Django's compiler finds out stands in attributes that Django does not document. So they are read on the
versions of Django alone that the suite has passed with; on any other, the same queries run as Django's own.
"""

import logging
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import django
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.models import Expression, Field, Model, QuerySet

from framework.connections import is_cut, is_end_of_session

# Those with which the suite has passed.
TESTED_VERSIONS = ((5, 2), (6, 0), (6, 1))

logger = logging.getLogger("demo-user")

Row = TypeVar("Row", bound=Model)


class Parameter(Expression):
    """The place of a value that is known when the query runs."""

    def __init__(self, field: "Field[Any, Any]", position: int) -> None:
        """Stand for the value at a position, which is compared with a field."""
        super().__init__(output_field=field)
        self.position = position

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """Return a placeholder, and this parameter in the place of its value."""
        return "%s", (self,)

    def value(self, values: tuple[Any, ...], connection: Any) -> Any:
        """Return the value as the database's driver takes it."""
        return self.output_field.get_db_prep_value(values[self.position], connection, prepared=True)


class RowShape(NamedTuple):
    """Where the columns of one model stand in a result, and those of the models that it is joined with."""

    model: type[Any]
    names: list[str]
    positions: list[int]
    key: int
    joined: list[tuple["RowShape", Callable[..., None], Callable[..., None]]]

    def build(self, columns: Sequence[Any]) -> Any:
        """Return the instance that the columns of a result describe, with those it is joined with."""
        row = self.model.from_db(DEFAULT_DB_ALIAS, self.names, [columns[each] for each in self.positions])
        for shape, set_on_row, set_on_other in self.joined:
            other = None if columns[shape.key] is None else shape.build(columns)
            set_on_row(row, other)
            if other is not None:
                set_on_other(other, row)
        return row


class Compiled(NamedTuple):
    """What Django's compiler found out about a query."""

    sql: str
    parameters: list[Parameter]
    converters: list[tuple[int, list[Callable[[Any, Any, Any], Any]], Any]]
    shape: RowShape


class CompiledQuery(Generic[Row]):
    """A query for one row by given values, with the rows of `select_related`, compiled at its first run.

    `build` makes its queryset of one parameter for each of `fields`, and stays the one place that says
    what is selected, joined and compared.
    """

    def __init__(self, build: Callable[..., "QuerySet[Row]"], *fields: Any) -> None:
        """Prepare the query that `build` makes."""
        self._build = build
        self._fields = fields

    def first(self, *values: Any) -> Row | None:
        """Return the row for some values, of their fields' Python types, or None.

        When the connection turns out to be broken, and no transaction depends on it, another one is tried
        once: a query changes nothing.
        """
        connection = connections[DEFAULT_DB_ALIAS]
        try:
            return self._fetch(connection, values)
        except OperationalError as error:
            broken = is_cut(connection) or (connection.connection and is_end_of_session(error))
            if connection.in_atomic_block or not broken:
                raise
            connection.close()
            return self._fetch(connection, values)

    def _fetch(self, connection: Any, values: tuple[Any, ...]) -> Row | None:
        compiled = self._compiled
        if compiled is None:
            return next(iter(self._build(*values)[:1]), None)
        with connection.cursor() as cursor:
            cursor.execute(compiled.sql, [each.value(values, connection) for each in compiled.parameters])
            found = cursor.fetchone()
        if not found:
            return None
        columns = list(found)
        for position, functions, expression in compiled.converters:
            for convert in functions:
                columns[position] = convert(columns[position], expression, connection)
        row: Row = compiled.shape.build(columns)
        return row

    @cached_property
    def _compiled(self) -> Compiled | None:
        if not is_tested_version():
            return None
        # From a queryset of its own: to compile one changes it, and several threads may be at it at once.
        parameters = [Parameter(each.field, position) for position, each in enumerate(self._fields)]
        compiler = self._build(*parameters).query.get_compiler(DEFAULT_DB_ALIAS)
        sql, used = compiler.as_sql()
        expressions = [expression for expression, _, _ in compiler.select]
        return Compiled(
            sql,
            list(used),
            [(position, *found) for position, found in compiler.get_converters(expressions).items()],
            shape_of(compiler.klass_info, [expression.target for expression in expressions]),
        )


def shape_of(selection: dict[str, Any], targets: list[Any]) -> RowShape:
    """Return the shape of a model's rows from what the compiler notes down about it."""
    positions = {targets[position].attname: position for position in selection["select_fields"]}
    options = selection["model"]._meta
    names = [field.attname for field in options.concrete_fields if field.attname in positions]
    return RowShape(
        selection["model"],
        names,
        [positions[name] for name in names],
        positions[options.pk_fields[0].attname],
        [
            (shape_of(each, targets), each["local_setter"], each["remote_setter"])
            for each in selection.get("related_klass_infos", ())
        ],
    )


def is_tested_version() -> bool:
    """Tell whether this version of Django is one whose compiler is known; otherwise log that."""
    if django.VERSION[:2] in TESTED_VERSIONS:
        return True
    report_untested_version(django.get_version())
    return False


@cache
def report_untested_version(version: str) -> None:
    """Log that queries run as Django's own on this version; in this process for the first time only."""
    logger.warning("queries_not_compiled", extra={"fields": {"version": version}})
