"""Logs: one record per request, named after its event; JSON in production, a readable line in development.

No record holds anything that the client sent, but for its address, and an origin that was refused: not the
path, which may be a password in the wrong place, and not the name that somebody tried to log in with.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from utilmeta.core.request import Request

from config import settings

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
# What load balancers and Prometheus ask every few seconds.
FREQUENT = ("/api/health", "/metrics")
WARNINGS = frozenset(
    ("login_failure", "passkey_failure", "throttled", "cross_site_request", "service_unavailable")
)

# Called with the record, the status and the seconds of each request: empty, unless something measures them.
observers: list[Callable[["Record", int, float], None]] = []

logger = logging.getLogger("demo-user")
# What our log records do not contain need not be collected (Python's logging HOWTO, "Optimization").
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


@dataclass
class Record:
    """The log record of one request; the Django request carries it as `record`."""

    method: str
    client: str
    route: str | None = None
    request_id: str = field(default_factory=lambda: uuid4().hex)
    event: str = "request"
    user_id: int | None = None
    reason: str | None = None
    kept: dict[str, int] | None = None
    refused_origin: str | None = None
    error: BaseException | None = None
    cause: str | None = None
    start: float = field(default_factory=time.perf_counter)

    def write(self, status: int) -> None:
        """Log the record at the end of its request, and tell the observers."""
        seconds = time.perf_counter() - self.start
        if self.error and status == 500:
            self.event = "unhandled_error"
        elif status == 503:
            self.event = "service_unavailable"
        for observe in observers:
            observe(self, status, seconds)
        level = logging.DEBUG if (self.route or "").startswith(FREQUENT) else logging.INFO
        if self.event in WARNINGS:
            level = logging.WARNING
        elif self.event == "unhandled_error":
            level = logging.ERROR
        if logger.isEnabledFor(level):
            # `logger.log` would also search the stack for the line that called it, which says nothing here.
            error = (type(self.error), self.error, self.error.__traceback__) if self.error else None
            extra = {"fields": self.fields(status, seconds)}
            logger.handle(logger.makeRecord(logger.name, level, "", 0, self.event, (), error, extra=extra))

    def fields(self, status: int, seconds: float) -> dict[str, Any]:
        """Return the fields of the record of a request that took some seconds."""
        fields = {
            "request_id": self.request_id,
            "method": self.method if self.method in METHODS else "other",
            "route": self.route,
            "status": status,
            "duration_ms": round(seconds * 1000, 1),
            "user_id": self.user_id,
            "client": self.client,
            "reason": self.reason,
            "kept": self.kept,
            "cause": self.cause,
            "refused_origin": self.refused_origin,
            "setting": "TRUSTED_ORIGINS" if self.refused_origin else None,
        }
        return {name: value for name, value in fields.items() if value is not None}


def log_event(
    request: Request,
    event: str | None = None,
    user_id: int | None = None,
    *,
    reason: str | None = None,
    kept: dict[str, int] | None = None,
) -> None:
    """Set what a request's log record says: its event, its user, why it failed, and what rows it kept."""
    record: Record = request.adaptor.request.record
    record.event = event or record.event
    record.user_id = user_id or record.user_id
    record.reason = reason or record.reason
    record.kept = kept or record.kept


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON; line breaks are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry = {
            "time": utc(record.created),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry)


class LineFormatter(logging.Formatter):
    """Formats a record as one readable line, with a traceback indented below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = [f" {name}={value}" for name, value in getattr(record, "fields", {}).items()]
        text = f"{record.levelname} {record.getMessage()}{''.join(fields)}"
        line = f"{utc(record.created)} {text.encode('unicode_escape').decode()}"
        if record.exc_info:
            line += "\n" + "\n".join(
                f"    {each}" for each in self.formatException(record.exc_info).splitlines()
            )
        return line


def utc(seconds: float) -> str:
    """Return a time, given in seconds since 1970, in ISO 8601 and UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03}Z"


CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"ours": {"()": JsonFormatter if settings.production else LineFormatter}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "ours"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        # Only our own loggers: at lower levels, libraries log the data that passes through them.
        "demo-user": {"level": settings.log_level},
        # Django would log each request a second time, with text that the client sent.
        **{
            name: {"handlers": [], "propagate": False, "level": "CRITICAL"}
            for name in ("django.request", "django.server", "django.security")
        },
    },
}
