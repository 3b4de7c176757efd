"""What a browser sends of an authenticator, read and verified (WebAuthn level 3, sections 7.1 and 7.2).

The library decodes CBOR and verifies signatures. Each rule stands here, with the reason to log when it is
broken.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from fido2 import cbor, webauthn
from fido2.cose import ES256, RS256, CoseKey, EdDSA

from config import settings
from web.json_body import parse_json

from .models import Passkey
from .schema import KnownCredentialSchema, NewCredentialSchema, from_base64url, to_base64url

# In the order of preference. ES256 is what most authenticators have, RS256 what older Windows ones have.
ALGORITHMS: tuple[int, ...] = (ES256.ALGORITHM, EdDSA.ALGORITHM, RS256.ALGORITHM)
CREATE, GET = "webauthn.create", "webauthn.get"


class MalformedError(Exception):
    """A credential that cannot be read; `field` is the path of the field in it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


class RefusedError(Exception):
    """A credential that breaks a rule; the text is the reason, for the log."""


@dataclass(frozen=True)
class ClientData:
    """What the browser says that it did."""

    raw: bytes
    members: dict[str, Any]
    challenge: bytes


@dataclass(frozen=True)
class NewCredential:
    """A credential that an authenticator has made."""

    client: ClientData
    authenticator: webauthn.AuthenticatorData
    credential_id: str
    public_key: CoseKey

    @property
    def public_key_bytes(self) -> bytes:
        """The public key as a COSE_Key."""
        return cbor.encode(self.public_key)


@dataclass(frozen=True)
class Assertion:
    """A signature that an authenticator has made with a credential."""

    client: ClientData
    authenticator: webauthn.AuthenticatorData
    credential_id: str
    signature: bytes
    user_handle: str | None


def read_new(credential: NewCredentialSchema) -> NewCredential:
    """Return a new credential; raise MalformedError if it cannot be read."""
    client = read_client_data(credential.response.clientDataJSON)
    with malformed("response.attestationObject", "malformed_attestation_object"):
        raw = from_base64url(credential.response.attestationObject)
        authenticator = webauthn.AttestationObject(raw).auth_data
        data = authenticator.credential_data
        if not data:
            raise ValueError("no credential")
        if data.public_key.ALGORITHM in ALGORITHMS:
            with suppress(InvalidSignature):
                data.public_key.verify(b"", b"")  # raises something else for a key that is none
    if not to_base64url(data.credential_id) == credential.id == credential.rawId:
        raise MalformedError("id", "id_of_another_credential")
    return NewCredential(client, authenticator, credential.id, data.public_key)


def read_assertion(credential: KnownCredentialSchema) -> Assertion:
    """Return the assertion of a credential; raise MalformedError if it cannot be read."""
    response = credential.response
    client = read_client_data(response.clientDataJSON)
    with malformed("response.authenticatorData", "malformed_authenticator_data"):
        authenticator = webauthn.AuthenticatorData(from_base64url(response.authenticatorData))
    if credential.id != credential.rawId:
        raise MalformedError("rawId", "id_of_another_credential")
    signature = from_base64url(response.signature)
    return Assertion(client, authenticator, credential.id, signature, response.userHandle)


def read_client_data(text: str) -> ClientData:
    """Return what a browser says that it did; raise MalformedError if it cannot be read."""
    raw = from_base64url(text)
    with malformed("response.clientDataJSON", "malformed_client_data"):
        members = parse_json(raw)
        challenge = from_base64url(members["challenge"])
        if to_base64url(challenge) != members["challenge"]:
            raise ValueError("not base64url")
    return ClientData(raw, members, challenge)


@contextmanager
def malformed(field: str, reason: str) -> Iterator[None]:
    """Raise MalformedError for whatever decoding raises; the library has no exception of its own for it."""
    try:
        yield
    except Exception:  # noqa: BLE001
        raise MalformedError(field, reason) from None


def check_client_data(client: ClientData, kind: str) -> None:
    """Raise RefusedError unless a browser did the right thing, on a page of ours that nobody else frames."""
    members = client.members
    if members.get("type") != kind:
        raise RefusedError("wrong_type")
    if members.get("origin") not in settings.passkey_origins:
        raise RefusedError("wrong_origin")
    if members.get("crossOrigin", False) is not False or "topOrigin" in members:
        raise RefusedError("cross_origin")


def check_authenticator_data(data: webauthn.AuthenticatorData) -> None:
    """Raise RefusedError unless an authenticator did it for this service, and made sure of the user."""
    if data.rp_id_hash != hashlib.sha256(settings.passkey_rp_id.encode()).digest():
        raise RefusedError("wrong_rp_id")
    if not data.is_user_present():
        raise RefusedError("user_not_present")
    if not data.is_user_verified():
        raise RefusedError("user_not_verified")
    if data.is_backed_up() and not data.is_backup_eligible():
        raise RefusedError("wrong_backup_flags")


def verify_new(new: NewCredential) -> None:
    """Raise RefusedError unless a new credential obeys the rules, but for those of its challenge."""
    check_client_data(new.client, CREATE)
    check_authenticator_data(new.authenticator)
    if new.public_key.ALGORITHM not in ALGORITHMS:
        raise RefusedError("algorithm_not_offered")


def verify_assertion(assertion: Assertion, passkey: Passkey) -> None:
    """Raise RefusedError unless an assertion was made with a passkey.

    `check_client_data` and the rules of its challenge are not part of it.
    """
    data = assertion.authenticator
    check_authenticator_data(data)
    if data.is_backup_eligible() != passkey.backup_eligible:
        raise RefusedError("wrong_backup_flags")
    key = CoseKey.parse(cbor.decode(bytes(passkey.public_key)))  # type: ignore[arg-type]
    try:
        key.verify(data + hashlib.sha256(assertion.client.raw).digest(), assertion.signature)
    except InvalidSignature:
        raise RefusedError("bad_signature") from None
