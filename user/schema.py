"""What crosses the wire: the fields of each request and answer, and the rules of a name and a password."""

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
# Normalising makes one code point of four at the most (an iota with three marks, in Greek).
MOST_COMPOSED = 4


class Username(str, utype.Rule):
    """A name in its one form: NFKC-normalised and in lower case, so that no two accounts look alike."""

    regex = r"[a-z0-9][a-z0-9._-]{0,19}"
    message = "1 to 20 characters: a-z, 0-9, '.', '_' and '-', beginning with a letter or digit."
    # What the document says of a name as it is sent: of ASCII just this, else what normalising makes of it.
    extra = {  # noqa: RUF012  (UtilMeta reads it from the class)
        "description": f"{message} NFKC and lower-casing come first, so `Admin` is `admin`.",
        "pattern": r"^([A-Za-z0-9]|[^\x00-\x7F])([A-Za-z0-9._-]|[^\x00-\x7F])*$",
        "maxLength": USERNAME_MAX_LENGTH,
        "examples": ["ada"],
    }

    @classmethod
    def pre_validate(cls, value: Any, context: Any = None) -> Any:
        """Bring a name into its one form; a longer text than a name can be has none."""
        if isinstance(value, str) and len(value) <= USERNAME_MAX_LENGTH:
            return unicodedata.normalize("NFKC", value).lower()
        return value


class Password(str, utype.Rule):
    """A password to compare: NFKC-normalised (NIST SP 800-63B-4, section 3.1.1.2), never trimmed or cut."""

    min_length = 1
    max_length = PASSWORD_MAX_LENGTH
    message = "1 to 100 characters, without NUL."
    # As it is sent, a password may be shorter or longer than what normalising makes of it.
    extra = {  # noqa: RUF012  (UtilMeta reads it from the class)
        "description": f"{message} They are counted after NFKC; nothing is trimmed or cut.",
        "format": "password",
        "pattern": r"^[^\x00]*$",
        "minLength": 1,
        "maxLength": PASSWORD_MAX_LENGTH * MOST_COMPOSED,
        "examples": ["correct horse battery"],
    }

    @classmethod
    def pre_validate(cls, value: Any, context: Any = None) -> Any:
        """Bring a password into the form that is hashed, if it can become short enough by that.

        To normalise costs the square of the length, so 64 KiB would keep a core busy for seconds.
        """
        if isinstance(value, str) and len(value) <= PASSWORD_MAX_LENGTH * MOST_COMPOSED:
            return unicodedata.normalize("NFKC", value)
        return value

    @classmethod
    def parse(cls, value: Any, context: Any = None) -> NormalisedPassword:
        """Return the password, which still knows how it was sent."""
        return NormalisedPassword(super().parse(value, context), as_sent=value)

    @classmethod
    def post_validate(cls, value: str, context: Any = None) -> str:
        """Refuse what cannot be encoded (a lone surrogate) and NUL, where some systems end a text."""
        value.encode()
        if "\0" in value:
            raise ValueError
        return value


class NewPassword(Password):
    """A password to set: also long enough, and in production none that guessers try first."""

    min_length = settings.password_min_length if settings.production else DEVELOPMENT_PASSWORD_MIN_LENGTH
    message = f"{min_length} to 100 characters, without NUL" + (
        ", not a common password and not the username." if settings.production else "."
    )
    extra = Password.extra | {
        "description": f"{message} They are counted after NFKC; nothing is trimmed or cut."
    }

    @classmethod
    def post_validate(cls, value: str, context: Any = None) -> str:
        """Refuse in production what one of Django's validators refuses (AUTH_PASSWORD_VALIDATORS)."""
        value = super().post_validate(value, context)
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
    """An account as its owner sees it."""

    id: int = orm.Field(example=1)
    username: str = orm.Field(example="ada", description="In its one form: normalised, and in lower case.")
    signup_time: datetime = orm.Field(
        example="2024-01-29T12:29:33.684594Z", description="In UTC, with microseconds."
    )

    @classmethod
    def init(cls, user: User, context: Any = None) -> "UserSchema":
        """Return the answer for a user in hand, whose row UtilMeta would read once more, and check."""
        answer = cls.__new__(cls)
        names = output_names(cls)  # type: ignore[arg-type]  # (a class is hashable, whatever its rows are)
        dict.update(answer, {name: getattr(user, name) for name in names})
        return answer


class UserUpdateSchema(utype.Schema):
    """What to change of an account; what is left out stays."""

    __options__ = STRICT

    username: Username = utype.Field(required=False)
    password: NewPassword = utype.Field(required=False)
    current_password: Password = utype.Field(
        required=False, description="Needed when the login is too long ago."
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
