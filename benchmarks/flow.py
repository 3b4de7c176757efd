"""The requests that are measured, and the service driven without a socket."""

from __future__ import annotations

import io
import itertools
import json
import os
import sys
from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Any, NamedTuple

PASSWORD = "correct horse battery"  # noqa: S105  (of accounts that exist for a few seconds)
HOST = "127.0.0.1"
# How often a user logs in at most, while the CPU of logins is measured.
LOGINS_EACH = 10

_addresses = itertools.count(1)


def new_address() -> str:
    """Return an address that no other user of this process has: the rate limits are on."""
    return str(IPv4Address("10.0.0.0") + next(_addresses))


class Request(NamedTuple):
    """A request; NAME in its body is the user's own name, NEW one that nobody has."""

    method: str
    path: str
    body: dict[str, str] | None = None
    # Whether a session comes along, and whether it is a new one each time.
    session: bool = False
    fresh: bool = False

    def text(self, name: str, new: str) -> str:
        """Return the body for a user."""
        return json.dumps(self.body).replace("NAME", name).replace("NEW", new) if self.body else ""


REQUESTS = {
    "get": Request("GET", "/api/user", session=True),
    "401": Request("GET", "/api/user"),
    "login": Request("POST", "/api/user/login", {"username": "NAME", "password": PASSWORD}),
    "signup": Request("POST", "/api/user/signup", {"username": "NEW", "password": PASSWORD}),
    "put": Request("PUT", "/api/user", {"username": "NEW"}, session=True),
    "logout": Request("POST", "/api/user/logout", session=True, fresh=True),
}


class Service:
    """The service in this process, with one user who is logged in."""

    def __init__(self) -> None:
        """Import the service, and sign a user up."""
        from django.contrib.auth.hashers import PBKDF2PasswordHasher

        from server import app

        # A hash costs a thousand times the rest of a request, on purpose, and would hide it.
        PBKDF2PasswordHasher.iterations = 1
        self.app = app
        self._numbers = itertools.count()
        self.name, self.cookie = self.sign_up()
        self._logins: list[str] = []
        self._users = itertools.cycle([self.name])

    def new_name(self) -> str:
        """Return a name that nobody has."""
        return f"b{os.getpid():x}-{next(self._numbers):x}"

    def prepare(self, request: Request, times: int) -> None:
        """Make the sessions and the users that a request will need."""
        if request.fresh:
            self._logins = [self.sign_up()[1] for _ in range(times)]
        if request == REQUESTS["login"]:
            # An ordinary user has few sessions, and nobody more than a hundred.
            users = [self.sign_up()[0] for _ in range(max(times // LOGINS_EACH, 1))]
            self._users = itertools.cycle(users)

    def sign_up(self) -> tuple[str, str]:
        """Sign up a user; return the name and the session's cookie."""
        name = self.new_name()
        signup = Request("POST", "/api/user/signup", {"username": name, "password": PASSWORD})
        return name, self.call(signup)

    def call(self, request: Request) -> str:
        """Send a request; return the session's cookie that the response sets, if any.

        Raises RuntimeError when the service answers other than it should.
        """
        name = next(self._users) if request == REQUESTS["login"] else getattr(self, "name", "")
        body = request.text(name, self.new_name()).encode()
        environ = {
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path,
            "QUERY_STRING": "",
            "SERVER_NAME": HOST,
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": HOST,
            "HTTP_X_FORWARDED_FOR": HOST if request.session else new_address(),
            "HTTP_HOST": HOST,
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
        }
        if request.session:
            environ["HTTP_COOKIE"] = self._logins.pop() if request.fresh else self.cookie
        started: list[Any] = []
        answer: Iterable[bytes] = self.app(environ, lambda *arguments: started.extend(arguments))
        content = b"".join(answer)
        answer.close()  # type: ignore[attr-defined]
        status, headers = started[:2]
        if status[:3] != ("401" if request == REQUESTS["401"] else "200"):
            raise RuntimeError(f"{request.method} {request.path} was answered {status}: {content!r}")
        if request.path == "/api/user" and request.method == "PUT":
            self.name = json.loads(content)["username"]
        cookies = [value for name, value in headers if name == "Set-Cookie"]
        return cookies[0].partition(";")[0] if cookies else ""
