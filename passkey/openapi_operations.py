"""What the OpenAPI document says of the operations of this app, beside their docstrings."""

from web.openapi_operations import NEW_SESSION, Cookie, Operation

from .challenges import cookie

CHALLENGE_COOKIE = Cookie("Binds the challenge to this browser.", name=cookie.name)
OPERATIONS = {
    "passkeys_get": Operation("listPasskeys", ("not_logged_in", "service_unavailable")),
    "passkeys_accepted": Operation("getAcceptedPasskeys", ("not_logged_in", "service_unavailable")),
    "passkeys_registration": Operation(
        "beginPasskeyRegistration",
        ("not_logged_in", "reauthentication_required", "conflict", "service_unavailable"),
        CHALLENGE_COOKIE,
    ),
    "passkeys_post": Operation(
        "addPasskey",
        (
            "not_logged_in",
            "invalid_credentials",
            "reauthentication_required",
            "conflict",
            "too_many_requests",
            "service_unavailable",
        ),
    ),
    "passkeys_rename": Operation("renamePasskey", ("not_logged_in", "not_found", "service_unavailable")),
    "passkeys_remove": Operation(
        "deletePasskey",
        ("not_logged_in", "reauthentication_required", "not_found", "service_unavailable"),
    ),
    "passkeys_authentication": Operation(
        "beginPasskeyAuthentication", ("service_unavailable",), CHALLENGE_COOKIE
    ),
    "passkeys_login": Operation(
        "loginWithPasskey", ("invalid_credentials", "too_many_requests", "service_unavailable"), NEW_SESSION
    ),
    "passkeys_reauthenticate": Operation(
        "reauthenticateWithPasskey",
        ("not_logged_in", "invalid_credentials", "too_many_requests", "service_unavailable"),
    ),
}
