"""Checks before the service starts."""

import logging
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import utilmeta
from django.core.management import call_command, load_command_class
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from config import EXIT_CODE, settings

from .migration_lock import migration_lock
from .time_limits import limits_lifted

SERVERS = ("granian", "gunicorn")

logger = logging.getLogger("demo-user")


def prepare_development() -> None:
    """Make sure that the development server can serve: its port is free, and its database up to date.

    Says in one line what it did to the database. Exits with one line when something is not right.
    """
    if settings.production:
        refuse_to_start("production is served by a WSGI server, as in: granian --interface wsgi server:app")
    try:
        with socket.create_server((settings.host, settings.port)):
            pass
    except OSError as error:
        refuse_to_start(
            f"it cannot listen on {settings.host}:{settings.port}: {os.strerror(error.errno or 0)}"
        )
    try:
        missing = migrate()
        if missing:
            print(f"Brought the database up to date: {', '.join(missing)}.", flush=True)
    except DatabaseError as error:
        refuse_to_start(
            f"the database {connection.settings_dict['NAME']} cannot be used: {first_line(error)}"
        )
    # As Ctrl-C does; by itself, Python would end without closing anything.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def check_production() -> None:
    """Exit with one line when the database lacks migrations, which production never applies by itself.

    Does nothing under a command (`meta migrate`, say), and in development, but that servers which are for
    production say it. A database that cannot be reached is no reason to exit: it may come back.
    """
    if not settings.production:
        if Path(sys.argv[0]).name in SERVERS:
            print(
                "demo-user: this is development mode; real users need UTILMETA_PRODUCTION=1.", file=sys.stderr
            )
        return
    if is_command():
        return
    try:
        missing = missing_migrations()
    except DatabaseError as error:
        print(f"demo-user: the database cannot be reached now: {first_line(error)}", file=sys.stderr)
    else:
        if missing:
            refuse_to_start(f"the database lacks {', '.join(missing)}. Run: meta migrate")
    finally:
        # A server may fork after this, and two processes must not share a connection.
        connection.close()


def warn_of_other_sites() -> None:
    """Log a warning for each trusted origin from which browsers do not send the session's cookie.

    With SameSite=Lax they send it within a site, which includes the scheme (RFC 6265bis, section 5.2): from
    elsewhere a login succeeds, and the next request comes without its cookie. Does nothing under a command.
    """
    sites = set(map(site_of, settings.allowed_hosts))
    for origin in settings.trusted_origins if not is_command() else []:
        parts = urlsplit(origin)
        same_site = "*" in sites or site_of(parts.hostname or "") in sites
        if not same_site or (settings.production and parts.scheme != "https"):
            fields = {
                "origin": origin,
                "allowed_hosts": ",".join(settings.allowed_hosts),
                "meaning": "browsers do not send the SameSite=Lax session cookie from this origin",
            }
            logger.warning("origin_on_another_site", extra={"fields": fields})


def site_of(host: str) -> str:
    """Return the last two labels of a name, or an address as it is.

    Hosts for which they differ are never on one site; those for which they do not may still not be, which the
    public suffix list would tell (a.co.uk and b.co.uk).
    """
    host = host.strip("[].")
    labels = host.split(".")
    if labels[-1] == "localhost":
        return "localhost"
    return host if ":" in host or labels[-1].isdigit() else ".".join(labels[-2:])


def migrate() -> list[str]:
    """Apply the migrations that the database lacks, and return their names; raises DatabaseError."""
    with migration_lock(connection, partial(print, flush=True)), limits_lifted(connection):
        missing = missing_migrations()
        if missing:
            # Django's own command: by its name, it would be the one that waits for the lock.
            call_command(load_command_class("django.core", "migrate"), verbosity=0, interactive=False)
        return missing


def missing_migrations() -> list[str]:
    """Return the names of the migrations that the database lacks; raises DatabaseError."""
    executor = MigrationExecutor(connection)
    return [str(migration) for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]


def is_command() -> bool:
    """Tell whether this process is `meta` or `python -m django`, and not a server."""
    return bool(getattr(utilmeta, "_cmd_env", False)) or Path(sys.argv[0]).parent.name == "django"


def refuse_to_start(reason: str) -> NoReturn:
    """Exit with one line on standard error."""
    print(f"demo-user cannot start: {reason}", file=sys.stderr)
    sys.exit(EXIT_CODE)


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return str(error).strip().partition("\n")[0]
