"""A typed client of the service: one class, with the five calls of `UserAPI`.

It needs httpx (`pip install httpx`) and nothing else of this project, so it can be copied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

PATH = "/api/user"
# What it raises to read an answer that is none of the service's.
NOT_OF_THE_SERVICE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class User:
    """An account as its owner sees it; `signup_time` is in UTC."""

    id: int
    username: str
    signup_time: datetime


class ClientError(Exception):
    """A call that did not do what it should."""


class NoAnswerError(ClientError):
    """The service cannot be reached, or took too long: whether the call did something is not known."""


class InsecureAddressError(ClientError):
    """The call did what it should, but the session is lost: its cookie is for https:// addresses only."""


@dataclass(eq=False)
class UnexpectedAnswerError(ClientError):
    """Something answered that is not the service: a proxy, say, or another address."""

    status: int

    def __str__(self) -> str:
        """Say what came instead."""
        return f"an answer of status {self.status} that is not the service's"


@dataclass(eq=False)
class ProblemError(ClientError):
    """The service refused: RFC 9457.

    `code` says why, and is what a program should look at; `detail` is for people. `errors` has a message for
    each field at fault, `retry_after` the seconds to wait, if any.
    """

    status: int
    code: str
    detail: str
    request_id: str
    errors: dict[str, str] = field(default_factory=dict)
    retry_after: int | None = None

    def __str__(self) -> str:
        """Say all that the service said."""
        faults = "".join(f" {name}: {message}" for name, message in self.errors.items())
        return f"{self.code} ({self.status}): {self.detail}{faults}"


class UserClient:
    """The service at an address, as one user sees it; the session's cookie is kept from call to call.

    Every call raises ProblemError, UnexpectedAnswerError or NoAnswerError when it fails, and ValueError for a
    text that UTF-8 cannot hold. Over http://, signup and login raise InsecureAddressError when the service is
    in production.
    """

    def __init__(self, base_url: str, *, timeout: float = 30.0, **options: Any) -> None:
        """Talk to the service at, for one, `https://users.example.com`; wait `timeout` seconds for it.

        The options are those of `httpx.Client`: `verify` for a certificate of one's own, `proxy` and others.
        """
        self._http = httpx.Client(base_url=base_url, timeout=timeout, **options)

    def signup(self, username: str, password: str) -> User:
        """Create an account and log in to it."""
        return self._user("POST", "/signup", {"username": username, "password": password})

    def login(self, username: str, password: str) -> User:
        """Log in; an earlier session of this client ends."""
        return self._user("POST", "/login", {"username": username, "password": password})

    def logout(self) -> None:
        """Log out; not being logged in is fine."""
        response = self._send("POST", "/logout")
        if response.content:
            raise UnexpectedAnswerError(response.status_code)

    def get(self) -> User:
        """Return the user who is logged in."""
        return self._user("GET")

    def put(
        self, *, username: str | None = None, password: str | None = None, current_password: str | None = None
    ) -> User:
        """Change the name or the password of the user who is logged in; what is None stays."""
        changes = {"username": username, "password": password, "current_password": current_password}
        return self._user("PUT", "", {name: value for name, value in changes.items() if value is not None})

    def close(self) -> None:
        """Close the connections; the session stays what it is."""
        self._http.close()

    def __enter__(self) -> UserClient:
        """Return the client."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the connections."""
        self.close()

    def _user(self, method: str, path: str = "", body: dict[str, str] | None = None) -> User:
        response = self._send(method, path, body)
        if response.url.scheme == "http" and any(cookie.secure for cookie in response.cookies.jar):
            raise InsecureAddressError(
                f"{self._http.base_url} keeps nobody logged in: the session's cookie is for https:// only"
            )
        try:
            members = response.json()
            time = datetime.fromisoformat(members["signup_time"].replace("Z", "+00:00"))
            return User(members["id"], members["username"], time)
        except NOT_OF_THE_SERVICE:
            raise UnexpectedAnswerError(response.status_code) from None

    def _send(self, method: str, path: str, body: dict[str, str] | None = None) -> httpx.Response:
        try:
            response = self._http.request(method, PATH + path, json=body)
        except httpx.RequestError as error:
            raise NoAnswerError(f"no answer from {self._http.base_url} ({error})") from error
        if response.status_code != httpx.codes.OK:
            raise _error(response)
        return response


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
        return UnexpectedAnswerError(response.status_code)
