"""The limits on time that requests need, lifted for what takes longer: a migration, a copy of all tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

# PostgreSQL's settings. While a statement waits for a lock, others wait behind it: that keeps a limit.
LIFTED = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "lock_timeout": "10s"}
# These may be missing, or set on the server. The last three end a transaction 90 seconds after its client's
# machine is gone, which the first two did.
LIFTED_IN_TRANSACTION = LIFTED | {
    "transaction_timeout": "0",
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}


@contextmanager
def limits_lifted(database: BaseDatabaseWrapper) -> Iterator[None]:
    """Have a connection without the limits while a block runs, and close it afterwards.

    PgBouncer ignores what a connection asks for at its start.
    """
    if database.vendor == "postgresql" and not database.in_atomic_block:  # pragma: no cover  (PostgreSQL)
        options = database.settings_dict["OPTIONS"]
        kept = options.get("options", "")
        options["options"] = kept + "".join(f" -c {name}={value}" for name, value in LIFTED.items())
        database.close()
        try:
            database.ensure_connection()
            wait_for_responses(database)
            yield
        finally:
            options["options"] = kept
            database.close()
    else:
        yield


def lift_limits_of_transaction(cursor: Any) -> None:  # pragma: no cover  (PostgreSQL)
    """Lift the limits until the present transaction ends, also behind PgBouncer."""
    for name, value in LIFTED_IN_TRANSACTION.items():
        cursor.execute("SELECT set_config(name, %s, true) FROM pg_settings WHERE name = %s", [value, name])


def wait_for_responses(database: BaseDatabaseWrapper) -> None:  # pragma: no cover  (PostgreSQL)
    """Let an open connection wait as long as the server takes, which framework/django_settings.py limits."""
    vars(database.connection).pop("wait", None)
