"""What the OpenAPI document says of an operation, and UtilMeta does not know."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cookie:
    """The Set-Cookie header of an operation: what its value, a regular expression, means.

    Without a name, it is the session's.
    """

    description: str
    value: str = "[A-Za-z0-9_-]{43}"
    always: bool = True
    name: str | None = None


@dataclass(frozen=True)
class Operation:
    """What UtilMeta does not know of an operation: its name for clients, its own problems, its cookie."""

    id: str
    problems: tuple[str, ...] = ()
    cookie: Cookie | None = None
    any_host: bool = False


NEW_SESSION = Cookie("The key of a new session.")
# By UtilMeta's name. An app has its own in a module of this name; `openapi.added` describes those of no app.
OPERATIONS = {
    "health_get": Operation("health", any_host=True),
    "health_ready": Operation("ready", ("service_unavailable",), any_host=True),
}
