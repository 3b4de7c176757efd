"""A typed client of the service: one class, with a method for each endpoint under `/api/user`.

What of `/api/passkeys` needs no browser is there too.

It needs httpx (`pip install httpx`) and nothing else of this project, so you can copy this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import httpx

Result = TypeVar("Result")

PATH = "/api/user"
PASSKEYS_PATH = "/api/passkeys"
# What reading a response raises that is not the service's own.
NOT_OF_THE_SERVICE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class User:
    """An account as its owner sees it; `signup_time` is in UTC."""

    id: int
    username: str
    signup_time: datetime


@dataclass(frozen=True)
class Session:
    """A login of the current user; all times are in UTC.

    `client` is the browser and system at login, or "" if unknown. `last_activity` is accurate to 10 minutes.
    `current` tells whether it is the session of this client.
    """

    id: int
    client: str
    created_time: datetime
    last_activity: datetime
    expiry_time: datetime
    current: bool


@dataclass(frozen=True)
class RecoveryCode:
    """A new recovery code, which the service shows this once; `created_time` is in UTC."""

    recovery_code: str = field(repr=False)
    created_time: datetime


@dataclass(frozen=True)
class Passkey:
    """A passkey of the current user; all times are in UTC.

    `last_used_time` is None if it was never used to log in. `backed_up` tells whether it is synced to other
    devices.
    """

    id: int
    name: str
    created_time: datetime
    last_used_time: datetime | None
    backed_up: bool


class ClientError(Exception):
    """A call that failed."""


class NoResponseError(ClientError):
    """The service could not be reached, or timed out: the call may or may not have taken effect."""


class InsecureAddressError(ClientError):
    """The call succeeded, but the session is lost: its cookie is sent to https:// addresses only."""


@dataclass(eq=False)
class UnexpectedResponseError(ClientError):
    """The response is not the service's: a proxy's, for example, or that of another address."""

    status: int

    def __str__(self) -> str:
        """Return a one-line description."""
        return f"unexpected response with status {self.status}"


@dataclass(eq=False)
class ProblemError(ClientError):
    """The service refused the request (RFC 9457).

    Programs should look at `code`; `detail` is for people. `errors` maps each invalid field to a message.
    `retry_after` is the number of seconds to wait, if any.
    """

    status: int
    code: str
    detail: str
    request_id: str
    errors: dict[str, str] = field(default_factory=dict)
    retry_after: int | None = None

    def __str__(self) -> str:
        """Return the code, the status and the messages in one line."""
        faults = "".join(f" {name}: {message}" for name, message in self.errors.items())
        return f"{self.code} ({self.status}): {self.detail}{faults}"


class UserClient:
    """The service as one user sees it; the client keeps the session cookie between calls.

    Every method raises ProblemError, UnexpectedResponseError or NoResponseError when it fails, and ValueError
    for text that cannot be encoded in UTF-8. Over http://, signup and login raise InsecureAddressError if the
    service is in production.
    """

    def __init__(self, base_url: str, *, timeout: float = 30.0, **options: Any) -> None:
        """Connect to the service at, for example, `https://users.example.com`; `timeout` is in seconds.

        The options are those of `httpx.Client`: `verify` for a private CA, `proxy` and others.
        """
        self._http = httpx.Client(base_url=base_url, timeout=timeout, **options)

    def signup(self, username: str, password: str) -> User:
        """Create an account and log in to it."""
        return self._user("POST", "/signup", {"username": username, "password": password})

    def login(self, username: str, password: str) -> User:
        """Log in; an earlier session of this client is revoked."""
        return self._user("POST", "/login", {"username": username, "password": password})

    def logout(self) -> None:
        """Log out; it is no error if nobody is logged in."""
        self._nothing("POST", "/logout")

    def get(self) -> User:
        """Return the current user."""
        return self._user("GET")

    def put(
        self, *, username: str | None = None, password: str | None = None, current_password: str | None = None
    ) -> User:
        """Change the username or the password of the current user; None leaves a value as it is."""
        changes = {"username": username, "password": password, "current_password": current_password}
        return self._user("PUT", "", {name: value for name, value in changes.items() if value is not None})

    def delete(self) -> None:
        """Delete the account of the current user and everything that belongs to it.

        Like every method that needs a fresh login, it raises ProblemError `reauthentication_required` if the
        login is too long ago; call `reauthenticate` then, and try again.
        """
        self._nothing("DELETE")

    def reauthenticate(self, password: str) -> User:
        """Enter the password again, so that the session counts as freshly logged in."""
        return self._user("POST", "/reauthenticate", {"password": password})

    def sessions(self) -> list[Session]:
        """Return the live sessions of the current user, the most recently used first, 100 at most."""
        return _parse(self._send("GET", "/sessions"), lambda body: [_session(each) for each in body])

    def revoke_session(self, session_id: int) -> None:
        """Revoke one session of the current user; any but the one of this client needs a fresh login."""
        self._nothing("DELETE", f"/sessions/{session_id}")

    def revoke_other_sessions(self) -> int:
        """Revoke every session but the one of this client; return how many. Needs a fresh login."""
        return _parse(self._send("DELETE", "/sessions"), lambda body: int(body["ended"]))

    def recovery_code_time(self) -> datetime | None:
        """Return when the recovery code of the current user was created, or None if there is none."""
        return _parse(
            self._send("GET", "/recovery-code"),
            lambda body: None if body["created_time"] is None else _time(body["created_time"]),
        )

    def create_recovery_code(self) -> RecoveryCode:
        """Create a recovery code, which replaces an earlier one. Needs a fresh login."""
        return _parse(
            self._send("POST", "/recovery-code"),
            lambda body: RecoveryCode(body["recovery_code"], _time(body["created_time"])),
        )

    def delete_recovery_code(self) -> None:
        """Delete the recovery code. Needs a fresh login."""
        self._nothing("DELETE", "/recovery-code")

    def recover(self, username: str, recovery_code: str, password: str) -> User:
        """Set a new password with a recovery code, and log in."""
        body = {"username": username, "recovery_code": recovery_code, "password": password}
        return self._user("POST", "/recover", body)

    def passkeys(self) -> list[Passkey]:
        """Return the passkeys of the current user, the oldest first.

        Like the other methods for passkeys, it raises ProblemError `not_found` if the service has them off.
        """
        response = self._send("GET", path=PASSKEYS_PATH)
        return _parse(response, lambda body: [_passkey(each) for each in body])

    def rename_passkey(self, passkey_id: int, name: str) -> Passkey:
        """Give a passkey of the current user another name."""
        response = self._send("PUT", f"/{passkey_id}", {"name": name}, path=PASSKEYS_PATH)
        return _parse(response, _passkey)

    def delete_passkey(self, passkey_id: int) -> None:
        """Delete a passkey of the current user. Needs a fresh login."""
        self._nothing("DELETE", f"/{passkey_id}", path=PASSKEYS_PATH)

    def close(self) -> None:
        """Close the connections; the session stays live."""
        self._http.close()

    def __enter__(self) -> UserClient:
        """Return the client."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the connections."""
        self.close()

    def _nothing(self, method: str, below: str = "", path: str = PATH) -> None:
        response = self._send(method, below, path=path)
        if response.content:
            raise UnexpectedResponseError(response.status_code)

    def _user(self, method: str, below: str = "", body: dict[str, str] | None = None) -> User:
        response = self._send(method, below, body)
        if response.url.scheme == "http" and any(cookie.secure for cookie in response.cookies.jar):
            raise InsecureAddressError(
                f"{self._http.base_url} cannot keep a session: its cookie is sent over https:// only"
            )
        return _parse(response, lambda body: User(body["id"], body["username"], _time(body["signup_time"])))

    def _send(
        self, method: str, below: str = "", body: dict[str, str] | None = None, path: str = PATH
    ) -> httpx.Response:
        try:
            response = self._http.request(method, path + below, json=body)
        except httpx.RequestError as error:
            raise NoResponseError(f"no response from {self._http.base_url} ({error})") from error
        if response.status_code not in (httpx.codes.OK, httpx.codes.NO_CONTENT):
            raise _error(response)
        return response


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _session(members: dict[str, Any]) -> Session:
    times = {name: _time(members[name]) for name in ("created_time", "last_activity", "expiry_time")}
    return Session(id=members["id"], client=members["client"], current=members["current"], **times)


def _passkey(members: dict[str, Any]) -> Passkey:
    used = members["last_used_time"]
    return Passkey(
        id=members["id"],
        name=members["name"],
        created_time=_time(members["created_time"]),
        last_used_time=None if used is None else _time(used),
        backed_up=members["backed_up"],
    )


def _parse(response: httpx.Response, read: Callable[[Any], Result]) -> Result:
    """Return what a function reads from a response's JSON."""
    try:
        return read(response.json())
    except NOT_OF_THE_SERVICE:
        raise UnexpectedResponseError(response.status_code) from None


def _error(response: httpx.Response) -> ClientError:
    wait = response.headers.get("Retry-After", "")
    try:
        problem: dict[str, Any] = response.json()
        return ProblemError(
            response.status_code,
            problem["code"],
            problem["detail"],
            problem["request_id"],
            {error["field"]: error["message"] for error in problem.get("errors", [])},
            int(wait) if wait.isdecimal() else None,
        )
    except NOT_OF_THE_SERVICE:
        return UnexpectedResponseError(response.status_code)
