"""Database queries about users and sessions."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import QuerySet
from django.db.models.sql import UpdateQuery
from django.utils import timezone

from framework.compiled_query import CompiledQuery, Parameter, is_tested_version

from .models import Session, User
from .passwords import salt_of

# A batch is what others wait for: some milliseconds.
BATCH_SIZE = 1000
# How many sessions of a user stay live; more than anybody has browsers and devices.
MAX_SESSIONS = 100

user_by_name = CompiledQuery(lambda username: User.objects.filter(username=username), User.username)


def live_sessions(now: datetime | Parameter | None = None) -> "QuerySet[Session]":
    """Return the sessions that are not over, now or at another time."""
    sessions: QuerySet[Session] = Session.objects.filter(
        deleted_time=None, expiry_time__gt=now or timezone.now()
    )
    return sessions


def live_sessions_of(user: User) -> "QuerySet[Session]":
    """Return the live sessions of a user."""
    return live_sessions().filter(user=user)


# The row of a session by the hash of its key and the time, together with its user.
session_by_key = CompiledQuery(
    lambda hashed_key, now: live_sessions(now).filter(session_key=hashed_key).select_related("user"),
    Session.session_key,
    Session.expiry_time,
)


def end_sessions(sessions: "QuerySet[Session]") -> int:
    """End those of some sessions that are live; return how many there were."""
    return sessions.filter(deleted_time=None).update(deleted_time=timezone.now())


# The newest session of a user that one login more makes one too many.
surplus_session = CompiledQuery(
    lambda user: (
        Session.objects.filter(user=user, deleted_time=None)
        .only("pk")
        .order_by("-pk")[MAX_SESSIONS : MAX_SESSIONS + 1]
    ),
    Session.user,
)


def end_surplus_sessions(user: User) -> None:
    """End the oldest sessions of a user who has more than MAX_SESSIONS, a batch of them at most."""
    surplus = surplus_session.first(user.pk)
    if surplus:
        sessions = Session.objects.filter(user=user, deleted_time=None, pk__lte=surplus.pk)
        end_sessions(next(in_batches(sessions, "pk"), Session.objects.none()))


def sessions_so_far(user: User) -> "QuerySet[Session]":
    """Return the sessions of a user that have not been ended, without any that begins after this call."""
    sessions: QuerySet[Session] = Session.objects.filter(user=user, deleted_time=None)
    newest = sessions.order_by("-pk").values_list("pk", flat=True).first()
    return sessions.filter(pk__lte=newest or 0)


def in_batches(
    sessions: "QuerySet[Session]", column: str, size: int = BATCH_SIZE
) -> Iterator["QuerySet[Session]"]:
    """Yield some sessions, `size` at a time in the order of a column, each batch by primary key.

    The caller deletes or ends a batch, so that its rows are not found again, before it asks for the next:
    each is a transaction of its own, and nobody waits for the lock of more than one.
    """
    rest = sessions.order_by(column)
    while rows := list(rest.values_list("pk", column)[:size]):
        # Django 5.2.0 selects the primary key once, also where it is the column as well.
        yield Session.objects.filter(pk__in=[row[0] for row in rows])
        # To start where the last batch ended spares each search the index entries of all before it.
        rest = sessions.order_by(column).filter(**{f"{column}__gte": rows[-1][-1]})


def end_in_batches(sessions: "QuerySet[Session]") -> int:
    """End those of some sessions that are live, in batches; return how many there were."""
    return sum(end_sessions(batch) for batch in in_batches(sessions, "pk"))


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


def rows_of_other_apps(user: User) -> dict[str, int]:
    """Return how many rows of each model of another app belong to a user, by the model's plural name."""
    counts: Counter[str] = Counter()
    for relation in User._meta.related_objects:
        model: Any = relation.related_model
        if model._meta.app_label != User._meta.app_label:
            rows = model._default_manager.filter(**{relation.field.name: user})
            counts[str(model._meta.verbose_name_plural)] += rows.count()
    return dict(counts)


def lock(user: User) -> User | None:
    """Lock a user until the transaction ends; return None if the password has changed or the user is gone.

    A session from before the change has been revoked, and its requests must do nothing more. A login that
    only upgrades the hash is no change: the salt stays the same.
    """
    row = User.objects.select_for_update().filter(pk=user.pk).first()
    return row if row and salt_of(row.password) == salt_of(user.password) else None


def update_user(user: User, columns: dict[str, Any]) -> bool:
    """Change some columns of a user; return whether that was done, or False as `lock` returns None."""
    if User.objects.filter(pk=user.pk, password=user.password).update(**columns):
        return True
    # A login may just have upgraded the hash.
    with transaction.atomic():
        return bool(lock(user) and User.objects.filter(pk=user.pk).update(**columns))


def delete_user(user: User) -> int | None:
    """Delete an account and all that belongs to it; return how many sessions it had, or None as `lock` does.

    Raises IntegrityError, and deletes nothing, if another app's rows forbid it.
    """
    with transaction.atomic():
        # Nobody logs in to it between the deletion of its sessions and its own.
        locked = lock(user)
        if not locked:
            return None
        _, deleted = locked.delete()
    return int(deleted.get("user.Session", 0))


def rename_users(renames: Sequence[tuple[int, str, str]]) -> int:
    """Rename those of some accounts that still have their old names; return how many did.

    A rename is the primary key, the old name and the new one. Call it in a transaction: it raises
    IntegrityError when a new name is taken. `QuerySet.bulk_update` would not look at the old names.
    """
    sql = f"UPDATE {User._meta.db_table} SET username = %s WHERE id = %s AND username = %s"  # noqa: S608
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.executemany(sql, [(new, pk, old) for pk, old, new in renames])
        return int(cursor.rowcount)


def add_users(accounts: Sequence[tuple[str, str, datetime]]) -> int:
    """Insert those of some accounts whose names are free, with one statement; return how many there were.

    An account is a normalised username, a hash, and the time of the signup, for which the ORM would put now;
    every other column gets its default.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    as_column = connection.ops.adapt_datetimefield_value
    known = ("id", "username", "password", "signup_time")
    others = [field for field in User._meta.concrete_fields if field.name not in known]
    columns = [*known[1:], *(connection.ops.quote_name(str(field.column)) for field in others)]
    row = f"({', '.join(['%s'] * len(columns))})"
    sql = (
        f"INSERT INTO {User._meta.db_table} ({', '.join(columns)})"  # noqa: S608
        f" VALUES {', '.join([row] * len(accounts))} ON CONFLICT (username) DO NOTHING"
    )
    values: list[Any] = []
    for name, encoded, time in accounts:
        values += (name, encoded, as_column(time))
        values += [field.get_db_prep_save(field.get_default(), connection) for field in others]
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return int(cursor.rowcount)
