"""What is asked of the tables of users and sessions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import QuerySet
from django.db.models.sql import UpdateQuery
from django.utils import timezone

from framework.compiled_query import CompiledQuery, Parameter, is_tested_version

from .models import Session, User

user_by_name = CompiledQuery(lambda username: User.objects.filter(username=username), User.username)


def live_sessions(now: datetime | Parameter | None = None) -> "QuerySet[Session]":
    """Return the sessions that are not over, now or at another time."""
    sessions: QuerySet[Session] = Session.objects.filter(
        deleted_time=None, expiry_time__gt=now or timezone.now()
    )
    return sessions


# The row of a session by the hash of its key and the time, together with its user.
live_session = CompiledQuery(
    lambda hashed_key, now: live_sessions(now).filter(session_key=hashed_key).select_related("user"),
    Session.session_key,
    Session.expiry_time,
)


def end_sessions(sessions: "QuerySet[Session]") -> int:
    """End those of some sessions that are live; return how many there were."""
    return sessions.filter(deleted_time=None).update(deleted_time=timezone.now())


def end_session(hashed_key: str) -> tuple[bool, int | None]:
    """End the session of a key if it is live; tell whether it was, and whose, with one statement.

    A SQLite before 3.35 cannot say whose, nor can a version of Django whose compiler is not known.
    """
    sessions = live_sessions().filter(session_key=hashed_key)
    connection = connections[DEFAULT_DB_ALIAS]
    if not (connection.features.can_return_columns_from_insert and is_tested_version()):
        return end_sessions(sessions) > 0, None
    query: Any = sessions.query.chain(UpdateQuery)
    query.add_update_values({"deleted_time": timezone.now()})
    sql, parameters = query.get_compiler(connection=connection).as_sql()
    with connection.cursor() as cursor:
        cursor.execute(f"{sql} RETURNING user_id", parameters)
        row = cursor.fetchone()
    return (True, row[0]) if row else (False, None)


def add_users(accounts: Sequence[tuple[str, str, datetime]]) -> int:
    """Insert those of some accounts whose names are free, with one statement; return how many there were.

    An account is a normalised username, a hash, and the time of the signup, for which the ORM would put now.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    as_column = connection.ops.adapt_datetimefield_value
    sql = (
        f"INSERT INTO {User._meta.db_table} (username, password, signup_time)"  # noqa: S608
        f" VALUES {', '.join(['(%s, %s, %s)'] * len(accounts))} ON CONFLICT (username) DO NOTHING"
    )
    values = [value for name, encoded, time in accounts for value in (name, encoded, as_column(time))]
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return int(cursor.rowcount)
