"""The benchmark of passkeys: what a login with one costs, beside a login with a password."""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import psutil

from .databases import a_database, migrated
from .flow import HOST, PASSWORD, new_address
from .servers import a_server
from .tables import Table

RP_ID, ORIGIN = "localhost", "https://localhost"
SETTINGS = {"PASSKEYS": "on", "ALLOWED_HOSTS": f"{RP_ID},{HOST}"}
ONE_BY_ONE = 20


class Browser:
    """A browser of one user, with a passkey in software."""

    def __init__(self, port: int) -> None:
        """Sign up, and add a passkey."""
        from cryptography.hazmat.primitives.asymmetric import ec

        self._port, self._address = port, new_address()
        self._cookies: dict[str, str] = {}
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._id = secrets.token_bytes(16)
        self.name = f"b{secrets.token_hex(6)}"
        self.password = {"username": self.name, "password": PASSWORD}
        self.send("/api/user/signup", self.password)
        self._add_passkey(self.send("/api/passkeys/registration"))

    def send(self, path: str, body: Any = None) -> Any:
        """Send a POST request, again after `Retry-After` when refused; return what it was answered with.

        Raises RuntimeError for another status than 200 and 503.
        """
        response, content = self._ask(path, body)
        while response.status == 503:
            time.sleep(float(response.getheader("Retry-After") or 1))
            response, content = self._ask(path, body)
        if response.status != 200:
            raise RuntimeError(f"{path} was answered {response.status}: {content!r}")
        name, _, value = (response.getheader("Set-Cookie") or "").partition(";")[0].partition("=")
        self._cookies |= {name: value} if name else {}
        return json.loads(content)

    def _ask(self, path: str, body: Any) -> tuple[HTTPResponse, bytes]:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        headers = {"Content-Type": "application/json", "Cookie": cookies, "X-Forwarded-For": self._address}
        connection = HTTPConnection(HOST, self._port, timeout=120)
        try:
            connection.request("POST", path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def _add_passkey(self, options: Any) -> None:
        from fido2.cose import ES256
        from fido2.utils import websafe_encode
        from fido2.webauthn import Aaguid, AttestationObject, AttestedCredentialData

        self._handle = options["user"]["id"]
        public = ES256.from_cryptography_key(self._key.public_key())  # type: ignore[no-untyped-call]
        data = self._data(AttestedCredentialData.create(Aaguid.NONE, self._id, public))
        attestation = AttestationObject.create("none", data, {})
        response = {
            "clientDataJSON": websafe_encode(self._client_data("webauthn.create", options)),
            "attestationObject": websafe_encode(attestation),
        }
        self.send("/api/passkeys", {"credential": self._credential(response)})

    def assertion(self) -> dict[str, Any]:
        """Return the body of a login, made for a challenge of the service."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from fido2.utils import websafe_encode

        client_data, data = (
            self._client_data("webauthn.get", self.send("/api/passkeys/authentication")),
            self._data(),
        )
        signature = self._key.sign(data + client_data.hash, ec.ECDSA(hashes.SHA256()))
        response = {
            "clientDataJSON": websafe_encode(client_data),
            "authenticatorData": websafe_encode(data),
            "signature": websafe_encode(signature),
            "userHandle": self._handle,
        }
        return {"credential": self._credential(response)}

    def _data(self, credential: bytes = b"") -> Any:
        from fido2.utils import sha256
        from fido2.webauthn import AuthenticatorData

        flags = AuthenticatorData.FLAG
        attested = flags.AT if credential else flags(0)
        return AuthenticatorData.create(sha256(RP_ID.encode()), flags.UP | flags.UV | attested, 0, credential)

    def _client_data(self, kind: str, options: Any) -> Any:
        from fido2.webauthn import CollectedClientData

        return CollectedClientData.create(kind, options["challenge"], ORIGIN)

    def _credential(self, response: dict[str, str]) -> dict[str, Any]:
        from fido2.utils import websafe_encode

        text = websafe_encode(self._id)
        return {"id": text, "rawId": text, "type": "public-key", "response": response}


def cpu_of_the_server() -> float:
    """Return the seconds of CPU that the processes of the server have taken."""
    times = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    return float(sum(each.user + each.system for each in times))


def one_by_one(logins: Iterable[Callable[[], Any]]) -> tuple[float, float]:
    """Log in one after the other; return the median time and the mean CPU of a login, both in ms."""
    before, passed = cpu_of_the_server(), []
    for log_in in logins:
        start = time.perf_counter()
        log_in()
        passed.append(time.perf_counter() - start)
    return 1000 * statistics.median(passed), 1000 * (cpu_of_the_server() - before) / len(passed)


def at_once(logins: list[Callable[[], Any]]) -> float:
    """Log in at the same moment; return the seconds until all are in."""
    ready = threading.Barrier(len(logins) + 1)

    def client(log_in: Callable[[], Any]) -> None:
        ready.wait()
        log_in()

    with ThreadPoolExecutor(len(logins)) as pool:
        results = [pool.submit(client, log_in) for log_in in logins]
        ready.wait()
        start = time.perf_counter()
        for each in results:
            each.result()
        return time.perf_counter() - start


def with_password(browser: Browser) -> Callable[[], Any]:
    """Return a login with a password."""
    return lambda: browser.send("/api/user/login", browser.password)


def with_passkey(browser: Browser) -> Callable[[], Any]:
    """Return a login with a passkey, whose challenge has been asked for."""
    body = browser.assertion()
    return lambda: browser.send("/api/passkeys/login", body)


def passkeys(options: argparse.Namespace) -> Table:
    """Return what a login costs with a password and with a passkey, and how long many take at once."""
    rows: list[list[str | float]] = []
    most = max(options.clients)
    with a_database(options.database_url) as url:
        migrated(url, **SETTINGS)
        with a_server(options.server, url, options.workers, iterations=0, **SETTINGS) as port:
            with ThreadPoolExecutor(8) as pool:
                browsers = list(pool.map(Browser, [port] * max(most, ONE_BY_ONE)))
            for label, prepare in (("password", with_password), ("passkey", with_passkey)):
                figures = one_by_one([prepare(each) for each in browsers[:ONE_BY_ONE]])
                crowds = [at_once([prepare(each) for each in browsers[:count]]) for count in options.clients]
                rows.append([label, *figures, *crowds])
    title = f"{options.server}, {options.workers} workers; the challenges were asked for before"
    header = [
        "a login with a",
        "ms, one by one",
        "ms of CPU",
        *(f"s, {each} at once" for each in options.clients),
    ]
    return Table(title, header, rows)
