"""The fields of each request and response, and the rules for a username and a password."""

import unicodedata
from datetime import datetime
from functools import cache
from typing import Any

import utype
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from utilmeta.core import orm

from config import settings
from web.faults import FaultError
from web.json_body import STRICT

from .models import User
from .passwords import NormalisedPassword
from .recovery_codes import RecoveryCodeText

COLUMNS = frozenset(field.name for field in User._meta.concrete_fields)
USERNAME_MAX_LENGTH = 20
EXAMPLE_TIME = "2024-01-29T12:29:33.684594Z"
DEVELOPMENT_PASSWORD_MIN_LENGTH = 6
PASSWORD_MAX_LENGTH = 100
# NFKC composes at most four code points into one (a Greek iota with three marks).
MOST_COMPOSED = 4


class Username(str, utype.Rule):
    """A normalised username: NFKC and lower case, so that no two accounts look alike."""

    regex = r"[a-z0-9][a-z0-9._-]{0,19}"
    message = "Use 1 to 20 letters from a to z, digits, '.', '_' or '-'. Start with a letter or a digit."
    # The OpenAPI document describes a username as it is sent, before it is normalised.
    extra = {  # noqa: RUF012  (UtilMeta reads it from the class)
        "description": "1 to 20 letters from a to z, digits, `.`, `_` or `-`, and a letter or a digit first."
        " It is normalised (NFKC) and lower-cased before that, so `Ada` is `ada`.",
        "pattern": r"^([A-Za-z0-9]|[^\x00-\x7F])([A-Za-z0-9._-]|[^\x00-\x7F])*$",
        "maxLength": USERNAME_MAX_LENGTH,
        "examples": ["ada"],
    }

    @classmethod
    def pre_validate(cls, value: Any, context: Any = None) -> Any:
        """Normalise a username, unless it is longer than one can be."""
        if isinstance(value, str) and len(value) <= USERNAME_MAX_LENGTH:
            return unicodedata.normalize("NFKC", value).lower()
        return value


class Password(str, utype.Rule):
    """A password to verify: NFKC-normalised (NIST SP 800-63B-4, section 3.1.1.2), never trimmed or cut."""

    min_length = 1
    max_length = PASSWORD_MAX_LENGTH
    # The OpenAPI document describes a password as it is sent; normalising can make it shorter or longer.
    extra = {  # noqa: RUF012  (UtilMeta reads it from the class)
        "description": "1 to 100 characters after NFKC normalisation, without NUL. Nothing is trimmed.",
        "format": "password",
        "pattern": r"^[^\x00]*$",
        "minLength": 1,
        "maxLength": PASSWORD_MAX_LENGTH * MOST_COMPOSED,
        "examples": ["correct horse battery"],
    }

    @classmethod
    def pre_validate(cls, value: Any, context: Any = None) -> Any:
        """Normalise a password that can become short enough by that.

        Normalising takes time quadratic in the length: 64 KiB would keep a core busy for seconds.
        """
        if isinstance(value, str) and len(value) <= PASSWORD_MAX_LENGTH * MOST_COMPOSED:
            return unicodedata.normalize("NFKC", value)
        return value

    @classmethod
    def parse(cls, value: Any, context: Any = None) -> NormalisedPassword:
        """Return the password, which still knows how it was sent."""
        return NormalisedPassword(super().parse(value, context), as_sent=value)


class NewPassword(Password):
    """A password to set: long enough, and in production none that attackers try first."""

    min_length = settings.password_min_length if settings.production else DEVELOPMENT_PASSWORD_MIN_LENGTH
    extra = Password.extra | {
        "description": f"{min_length} to 100 characters after NFKC normalisation, without NUL"
        + (", not a common password and not the username. " if settings.production else ". ")
        + "Nothing is trimmed or cut."
    }

    @classmethod
    def post_validate(cls, value: str, context: Any = None) -> str:
        """Refuse in production what Django's AUTH_PASSWORD_VALIDATORS refuse."""
        if settings.production:
            try:
                validate_password(value)
            except ValidationError as refusal:
                raise FaultError(refusal.messages[0]) from None
        return value


class SignupSchema(utype.Schema):
    """A new account."""

    __options__ = STRICT

    username: Username
    password: NewPassword


class LoginSchema(utype.Schema):
    """The credentials of an account."""

    __options__ = STRICT

    username: Username
    password: Password


class LogoutSchema(utype.Schema):
    """Nothing."""

    __options__ = STRICT


class UserSchema(orm.Schema[User]):
    """An account, as its user sees it."""

    id: int = orm.Field(example=1)
    username: str = orm.Field(example="ada", description="Normalised, and in lower case.")
    signup_time: datetime = orm.Field(
        example="2024-01-29T12:29:33.684594Z", description="In UTC, with microseconds."
    )

    @classmethod
    def init(cls, user: User, context: Any = None) -> "UserSchema":
        """Return the response for a user. UtilMeta would read the row again, and validate it."""
        response = cls.__new__(cls)
        names = output_names(cls)  # type: ignore[arg-type]  # (a class is hashable, whatever its rows are)
        dict.update(response, {name: getattr(user, name) for name in names})
        return response


class UserUpdateSchema(utype.Schema):
    """Changes of an account; what is left out stays as it is."""

    __options__ = STRICT

    username: Username = utype.Field(required=False)
    password: NewPassword = utype.Field(required=False)
    current_password: Password = utype.Field(
        required=False, description="Required if the login is too long ago."
    )


class ReauthenticationSchema(utype.Schema):
    """The password of the current user."""

    __options__ = STRICT

    password: Password


class RecoverySchema(utype.Schema):
    """A recovery code, and a new password."""

    __options__ = STRICT

    username: Username
    recovery_code: RecoveryCodeText
    password: NewPassword


class SessionInfoSchema(utype.Schema):
    """A login of the current user."""

    id: int = utype.Field(example=12)
    client: str = utype.Field(
        example="Firefox on Linux", description="The browser and system at login; empty if unknown."
    )
    created_time: datetime = utype.Field(example=EXAMPLE_TIME, description="The time of the login.")
    last_activity: datetime = utype.Field(example=EXAMPLE_TIME, description="Accurate to 10 minutes.")
    expiry_time: datetime = utype.Field(example="2024-02-05T12:29:33.684594Z")
    current: bool = utype.Field(example=True, description="Whether it is the session of this request.")


class EndedSchema(utype.Schema):
    """How many sessions were revoked."""

    ended: int = utype.Field(example=3)


class RecoveryCodeStatusSchema(utype.Schema):
    """Whether the current user has a recovery code."""

    created_time: datetime | None = utype.Field(
        example=EXAMPLE_TIME, description="When the recovery code was created; null if there is none."
    )


class RecoveryCodeSchema(utype.Schema):
    """A new recovery code, shown this once."""

    recovery_code: str = utype.Field(example="7ZQ4-0M1K-9F2W-XT8D-C5RB-VH3N-6P")
    created_time: datetime = utype.Field(example=EXAMPLE_TIME)


@cache
def output_names(schema: Any) -> tuple[str, ...]:
    """Return the names of the fields of a response, each the name of an attribute of a user."""
    fields = schema.__parser__.fields.items()
    return tuple(name for name, field in fields if not field.always_no_output(schema.__options__))


def columns_of(data: utype.Schema) -> dict[str, Any]:
    """Return what of a body goes into the row of an account."""
    return {name: value for name, value in data.items() if name in COLUMNS}
