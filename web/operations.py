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
# By UtilMeta's name. An app adds its own; `openapi.added` describes those that are not here.
OPERATIONS = {
    "user_signup": Operation(
        "signup", ("username_exists", "too_many_requests", "service_unavailable"), NEW_SESSION
    ),
    "user_login": Operation(
        "login", ("invalid_credentials", "too_many_requests", "service_unavailable"), NEW_SESSION
    ),
    "user_logout": Operation("logout", ("service_unavailable",), Cookie("Deletes the cookie.", '""')),
    "user_get": Operation("getUser", ("not_logged_in", "service_unavailable")),
    "user_put": Operation(
        "updateUser",
        (
            "not_logged_in",
            "username_exists",
            "invalid_credentials",
            "reauthentication_required",
            "too_many_requests",
            "service_unavailable",
        ),
        Cookie("With a new password: a new key of the session.", always=False),
    ),
    "user_delete": Operation(
        "deleteAccount",
        ("not_logged_in", "reauthentication_required", "account_in_use", "service_unavailable"),
        Cookie("Deletes the cookie.", '""'),
    ),
    "user_reauthenticate": Operation(
        "reauthenticate",
        ("not_logged_in", "invalid_credentials", "too_many_requests", "service_unavailable"),
    ),
    "user_recover": Operation(
        "recover", ("invalid_credentials", "too_many_requests", "service_unavailable"), NEW_SESSION
    ),
    "user_sessions_get": Operation("listSessions", ("not_logged_in", "service_unavailable")),
    "user_sessions_delete": Operation(
        "revokeOtherSessions", ("not_logged_in", "reauthentication_required", "service_unavailable")
    ),
    "user_sessions_end": Operation(
        "revokeSession",
        ("not_logged_in", "reauthentication_required", "not_found", "service_unavailable"),
        Cookie("For the session of this request: deletes the cookie.", '""', always=False),
    ),
    "user_recovery_code_get": Operation("getRecoveryCode", ("not_logged_in", "service_unavailable")),
    "user_recovery_code_post": Operation(
        "createRecoveryCode", ("not_logged_in", "reauthentication_required", "service_unavailable")
    ),
    "user_recovery_code_delete": Operation(
        "deleteRecoveryCode", ("not_logged_in", "reauthentication_required", "service_unavailable")
    ),
    "health_get": Operation("health", any_host=True),
    "health_ready": Operation("ready", ("service_unavailable",), any_host=True),
}
