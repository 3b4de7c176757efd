"""What the OpenAPI document says of the operations of this app, beside their docstrings."""

from web.openapi_operations import NEW_SESSION, Cookie, Operation

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
}
