"""A browser and an authenticator in software, which can be told to break each rule of WebAuthn."""

import hashlib
import json
import secrets
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from fido2 import cbor
from fido2.cose import ES256, RS256, CoseKey, EdDSA

from config import settings

UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
ORIGIN = settings.passkey_origins[0]
RP_ID = settings.passkey_rp_id
KINDS: dict[int, tuple[type[CoseKey], Any]] = {
    -7: (ES256, lambda: ec.generate_private_key(ec.SECP256R1())),
    -8: (EdDSA, ed25519.Ed25519PrivateKey.generate),
    -257: (RS256, lambda: rsa.generate_private_key(65537, 2048)),
}


def encode(value: bytes) -> str:
    """Return bytes in base64url."""
    return urlsafe_b64encode(value).decode().rstrip("=")


def decode(text: str) -> bytes:
    """Return the bytes of base64url."""
    return urlsafe_b64decode(text + "==")


def client_data(kind: str, challenge: str, **changes: Any) -> bytes:
    """Return what a browser says that it did; a change to None leaves a member out."""
    members = {"type": kind, "challenge": challenge, "origin": ORIGIN, "crossOrigin": False} | changes
    return json.dumps({name: value for name, value in members.items() if value is not None}).encode()


@dataclass
class Authenticator:
    """One credential, and the device that holds it."""

    alg: int = -7
    rp_id: str = RP_ID
    flags: int = UP | UV | BE | BS
    count: int = 0
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    user_handle: str | None = None

    def __post_init__(self) -> None:
        """Make a key."""
        self.cose, generate = KINDS[self.alg]
        self.key = generate()

    @property
    def id(self) -> str:
        """The id of the credential, in base64url."""
        return encode(self.credential_id)

    def data(self, attested: bytes = b"", *, flags: int | None = None, rp_id: str | None = None) -> bytes:
        """Return authenticator data."""
        flags = (self.flags if flags is None else flags) | (AT if attested else 0)
        hashed = hashlib.sha256((rp_id or self.rp_id).encode()).digest()
        return hashed + struct.pack(">BI", flags, self.count) + attested

    def attested(self, key: dict[int, Any] | None = None) -> bytes:
        """Return attested credential data, with the public key or another one."""
        public = key or dict(self.cose.from_cryptography_key(self.key.public_key()))
        size = struct.pack(">H", len(self.credential_id))
        return bytes(16) + size + self.credential_id + cbor.encode(public)

    def sign(self, message: bytes) -> bytes:
        """Return a signature."""
        if self.alg == -7:
            return self.key.sign(message, ec.ECDSA(hashes.SHA256()))
        if self.alg == -8:
            return self.key.sign(message)
        return self.key.sign(message, padding.PKCS1v15(), hashes.SHA256())

    def create(self, options: dict[str, Any], data: bytes | None = None, **changes: Any) -> dict[str, Any]:
        """Return a RegistrationResponseJSON."""
        self.user_handle = options["user"]["id"]
        authenticator_data = self.data(self.attested()) if data is None else data
        attestation = {"fmt": "none", "attStmt": {}, "authData": authenticator_data}
        return {
            "id": self.id,
            "rawId": self.id,
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {"credProps": {"rk": True}},
            "response": {
                "clientDataJSON": encode(client_data("webauthn.create", options["challenge"], **changes)),
                "attestationObject": encode(cbor.encode(attestation)),
                "transports": ["internal"],
            },
        }

    def get(self, options: dict[str, Any], data: bytes | None = None, **changes: Any) -> dict[str, Any]:
        """Return an AuthenticationResponseJSON."""
        client = client_data("webauthn.get", options["challenge"], **changes)
        authenticator_data = self.data() if data is None else data
        signature = self.sign(authenticator_data + hashlib.sha256(client).digest())
        return {
            "id": self.id,
            "rawId": self.id,
            "type": "public-key",
            "authenticatorAttachment": None,
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": encode(client),
                "authenticatorData": encode(authenticator_data),
                "signature": encode(signature),
                "userHandle": self.user_handle,
            },
        }


def options_to_create(client: httpx.Client) -> dict[str, Any]:
    """Ask for options for a new passkey."""
    response = client.post("/api/passkeys/registration")
    assert response.status_code == 200, response.text
    return response.json()


def options_to_get(client: httpx.Client) -> dict[str, Any]:
    """Ask for options to log in or to reauthenticate."""
    response = client.post("/api/passkeys/authentication")
    assert response.status_code == 200, response.text
    return response.json()


def send_new(client: httpx.Client, credential: Any, **fields: Any) -> httpx.Response:
    """Send a new credential."""
    return client.post("/api/passkeys", json={"credential": credential, **fields})


def register(client: httpx.Client, **kwargs: Any) -> Authenticator:
    """Add a passkey; return its authenticator."""
    authenticator = Authenticator(**kwargs)
    response = send_new(client, authenticator.create(options_to_create(client)))
    assert response.status_code == 200, response.text
    return authenticator


def log_in_with(client: httpx.Client, credential: Any) -> httpx.Response:
    """Log in with a credential."""
    return client.post("/api/passkeys/login", json={"credential": credential})


def log_in(client: httpx.Client, authenticator: Authenticator) -> httpx.Response:
    """Log in with an authenticator."""
    return log_in_with(client, authenticator.get(options_to_get(client)))
