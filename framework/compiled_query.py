"""Queries whose SQL is compiled once: to build and compile one costs Django more than to run it."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.models import Expression, Field, Model, QuerySet
from django.db.models.query import get_related_populators

from framework.connections import is_cut, is_end_of_session

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


class Compiled(NamedTuple):
    """What Django's compiler found out about a query."""

    model: type[Any]
    sql: str
    parameters: list[Parameter]
    converters: list[tuple[int, list[Callable[[Any, Any, Any], Any]], Any]]
    names: list[str]
    related: list[Any]


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
        model, _, _, converters, names, related = self._compiled
        connection = connections[DEFAULT_DB_ALIAS]
        try:
            found = self._fetch(connection, values)
        except OperationalError as error:
            broken = is_cut(connection) or (connection.connection and is_end_of_session(error))
            if connection.in_atomic_block or not broken:
                raise
            connection.close()
            found = self._fetch(connection, values)
        if not found:
            return None
        columns = list(found)
        for position, functions, expression in converters:
            for convert in functions:
                columns[position] = convert(columns[position], expression, connection)
        row: Row = model.from_db(DEFAULT_DB_ALIAS, names, columns[: len(names)])
        for populator in related:
            populator.populate(columns, row)
        return row

    def _fetch(self, connection: Any, values: tuple[Any, ...]) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(
                self._compiled.sql, [each.value(values, connection) for each in self._compiled.parameters]
            )
            return cursor.fetchone()

    @cached_property
    def _compiled(self) -> Compiled:
        # From a queryset of its own: to compile one changes it, and several threads may be at it at once.
        parameters = [Parameter(each.field, position) for position, each in enumerate(self._fields)]
        queryset = self._build(*parameters)
        compiler = queryset.query.get_compiler(DEFAULT_DB_ALIAS)
        sql, used = compiler.as_sql()
        expressions = [expression for expression, _, _ in compiler.select]
        own = compiler.klass_info["select_fields"]
        return Compiled(
            queryset.model,
            sql,
            list(used),
            [(position, *found) for position, found in compiler.get_converters(expressions).items()],
            [expressions[position].target.attname for position in own],
            get_related_populators(compiler.klass_info, compiler.select, DEFAULT_DB_ALIAS),
        )
