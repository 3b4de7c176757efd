"""The fields of requests and responses: ours, and those that WebAuthn defines the JSON form of."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Any

import utype

from user.schema import EXAMPLE_TIME
from web.faults import FaultError
from web.json_body import OPEN, STRICT

NAME_MAX_LENGTH = 50

EXAMPLE_ID = "7FiUVx9lXQ3hk0nBq1o2Zw"
EXAMPLE_CHALLENGE = "WyJhdXRoZW50aWNhdGlvbiIsbnVsbCwi"


def to_base64url(value: bytes) -> str:
    """Return bytes in base64url without padding."""
    return urlsafe_b64encode(value).decode().rstrip("=")


def from_base64url(text: str) -> bytes:
    """Return the bytes of a Base64Url that was validated."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Base64Url(str, utype.Rule):
    """Bytes in base64url (RFC 4648, section 5), without padding, and without stray bits at the end."""

    max_length = 4096
    message = "This must be base64url without padding, and not too long."
    extra = {  # noqa: RUF012  (UtilMeta reads it from the class)
        "pattern": "^[A-Za-z0-9_-]+$",
        "maxLength": max_length,
        "examples": [EXAMPLE_ID],
    }

    @classmethod
    def post_validate(cls, value: str, context: Any = None) -> str:
        """Refuse what the bytes would not be written as."""
        fits = re.fullmatch("[A-Za-z0-9_-]+", value) and len(value) % 4 != 1
        if not fits or to_base64url(from_base64url(value)) != value:
            raise FaultError(cls.message)
        return value


class CredentialId(Base64Url):
    """The id of a credential: 1,023 bytes at most (WebAuthn level 3, section 4)."""

    max_length = 1364
    extra = Base64Url.extra | {"maxLength": max_length}


class AttestationObject(Base64Url):
    """What an authenticator says of a new credential; with a chain of certificates, some kilobytes."""

    max_length = 16_384
    extra = Base64Url.extra | {"maxLength": max_length}


class PasskeyName(str, utype.Rule):
    """What a user calls a passkey."""

    message = f"Use 1 to {NAME_MAX_LENGTH} printable characters, not all of them spaces."
    extra = {  # noqa: RUF012  (UtilMeta reads it from the class)
        "description": f"1 to {NAME_MAX_LENGTH} printable characters, not all of them spaces.",
        "minLength": 1,
        "maxLength": NAME_MAX_LENGTH,
        "pattern": r"\S",
        "examples": ["My phone"],
    }

    @classmethod
    def post_validate(cls, value: str, context: Any = None) -> str:
        """Refuse a name that nobody could read in a list."""
        if not value.strip() or len(value) > NAME_MAX_LENGTH or not value.isprintable():
            raise FaultError(cls.message)
        return value


class AttestationResponse(utype.Schema):
    """The response of an authenticator to a registration."""

    __options__ = OPEN

    clientDataJSON: Base64Url
    attestationObject: AttestationObject


class AssertionResponse(utype.Schema):
    """The response of an authenticator to an authentication."""

    __options__ = OPEN

    clientDataJSON: Base64Url
    authenticatorData: Base64Url
    signature: Base64Url
    userHandle: Base64Url | None = utype.Field(required=False, default=None)


class CredentialSchema(utype.Schema):
    """What a browser's PublicKeyCredential is in JSON (`toJSON()`)."""

    __options__ = OPEN

    id: CredentialId
    rawId: CredentialId
    type: str = utype.Field(enum=["public-key"])


class NewCredentialSchema(CredentialSchema):
    """A RegistrationResponseJSON, as `navigator.credentials.create()` makes it."""

    __options__ = OPEN

    response: AttestationResponse


class KnownCredentialSchema(CredentialSchema):
    """An AuthenticationResponseJSON, as `navigator.credentials.get()` makes it."""

    __options__ = OPEN

    response: AssertionResponse


class NewPasskeySchema(utype.Schema):
    """A new passkey."""

    __options__ = STRICT

    credential: NewCredentialSchema
    name: PasskeyName = utype.Field(required=False, description="If left out, the browser and its system.")


class PasskeyLoginSchema(utype.Schema):
    """A passkey, instead of a username and a password."""

    __options__ = STRICT

    credential: KnownCredentialSchema


class PasskeyUpdateSchema(utype.Schema):
    """Another name."""

    __options__ = STRICT

    name: PasskeyName


class PasskeySchema(utype.Schema):
    """A passkey of the current user."""

    id: int = utype.Field(example=3)
    name: str = utype.Field(example="Chrome on Android")
    created_time: datetime = utype.Field(example=EXAMPLE_TIME)
    last_used_time: datetime | None = utype.Field(
        example=EXAMPLE_TIME, description="When it last logged its user in; null if it never has."
    )
    backed_up: bool = utype.Field(example=True, description="Whether it is synced to other devices.")


class RelyingPartySchema(utype.Schema):
    """The service."""

    id: str = utype.Field(example="users.example.com")
    name: str = utype.Field(example="demo-user")


class UserEntitySchema(utype.Schema):
    """The current user, as authenticators know them."""

    id: str = utype.Field(example=EXAMPLE_ID, description="Random, in base64url.")
    name: str = utype.Field(example="ada")
    displayName: str = utype.Field(example="ada")


class AlgorithmSchema(utype.Schema):
    """An algorithm of signatures."""

    type: str = utype.Field(example="public-key")
    alg: int = utype.Field(example=-7)


class DescriptorSchema(utype.Schema):
    """A passkey that there is."""

    type: str = utype.Field(example="public-key")
    id: str = utype.Field(example=EXAMPLE_ID)


class SelectionSchema(utype.Schema):
    """What a passkey must be."""

    residentKey: str = utype.Field(example="required")
    requireResidentKey: bool = utype.Field(example=True)
    userVerification: str = utype.Field(example="required")


class CreationOptionsSchema(utype.Schema):
    """A PublicKeyCredentialCreationOptionsJSON, for `navigator.credentials.create()`."""

    rp: RelyingPartySchema
    user: UserEntitySchema
    challenge: str = utype.Field(example=EXAMPLE_CHALLENGE)
    pubKeyCredParams: list[AlgorithmSchema]
    timeout: int = utype.Field(example=300_000, description="In milliseconds.")
    excludeCredentials: list[DescriptorSchema]
    authenticatorSelection: SelectionSchema
    attestation: str = utype.Field(example="none")


class RequestOptionsSchema(utype.Schema):
    """A PublicKeyCredentialRequestOptionsJSON, for `navigator.credentials.get()`."""

    challenge: str = utype.Field(example=EXAMPLE_CHALLENGE)
    timeout: int = utype.Field(example=300_000, description="In milliseconds.")
    rpId: str = utype.Field(example="users.example.com")
    allowCredentials: list[DescriptorSchema] = utype.Field(
        description="The passkeys of the current user; empty without a login."
    )
    userVerification: str = utype.Field(example="required")


class AcceptedSchema(utype.Schema):
    """The passkeys of the current user, for `PublicKeyCredential.signalAllAcceptedCredentials()`."""

    rpId: str = utype.Field(example="users.example.com")
    userId: str | None = utype.Field(
        example=EXAMPLE_ID, description="null if the user never began to add a passkey."
    )
    allAcceptedCredentialIds: list[str] = utype.Field(example=[EXAMPLE_ID])
