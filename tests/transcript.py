"""What the service answers to every method at every path, printed: python -m tests.transcript.

Two runs print the same unless they behave differently: what differs by nature is replaced by its name.
"""

import json
import re
from itertools import product

import httpx
import utilmeta
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.core.management import call_command

utilmeta._cmd_env = True  # as under `meta`: the database is made below
PBKDF2PasswordHasher.iterations = 1

from server import app  # noqa: E402

PASSWORD = "correct horse battery"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "NONSENSE")
PATHS = (
    "/api/user",
    "/api/user/",
    "/api/user/signup",
    "/api/user/login",
    "/api/user/logout",
    "/api/health",
    "/api/health/ready",
    "/api",
    "/api/",
    "/api/nothing",
    "/api/user/nothing",
    "/nothing",
)
BODIES: tuple[object, ...] = (
    {},
    {"username": "bob", "password": PASSWORD},
    {"username": "bob", "password": "wrong"},
    {"username": "nobody", "password": PASSWORD},
    {"username": "Not a name", "password": None},
    {"username": 1},
    {"nothing": 1},
    [],
    {"username": "robert"},
    {"password": "staple correct horse", "current_password": "wrong"},
    {"password": "staple correct horse", "current_password": PASSWORD},
    {"username": "bob", "password": PASSWORD},
)
HEADERS: tuple[dict[str, str], ...] = (
    {"Host": "elsewhere"},
    {"Origin": "https://elsewhere"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/json; charset=latin-1"},
    {"Access-Control-Request-Method": "PUT", "Origin": "https://elsewhere"},
    {"Accept": "text/html"},
    {"Cookie": "sessionid=" + "A" * 43},
    {"X-Forwarded-For": "nonsense"},
)
DIFFERENT_BY_NATURE = {
    r'"request_id": "[0-9a-f]{32}"': "request_id",
    r"x-request-id: [0-9a-f]{32}": "x-request-id",
    r"sessionid=[\w-]{43}": "key",
    r'"signup_time": "[^"]+"': "signup_time",
}


def ask(client: httpx.Client, method: str, path: str, **kwargs: object) -> None:
    """Send a request; print the response."""
    response = client.request(method, path, **kwargs)  # type: ignore[arg-type]
    lines = [f"{method} {path} {json.dumps(kwargs, default=repr)}", str(response.status_code)]
    lines += sorted(f"{name}: {value}" for name, value in response.headers.items())
    text = "\n".join([*lines, response.text, ""])
    for pattern, name in DIFFERENT_BY_NATURE.items():
        text = re.sub(pattern, f"<{name}>", text)
    print(text)


def main() -> None:
    """Print the transcript, on the database of this environment."""
    call_command("migrate", verbosity=0)
    with httpx.Client(transport=httpx.WSGITransport(app=app), base_url="https://127.0.0.1") as client:
        for method, path in product(METHODS, PATHS):
            ask(client, method, path)
        ask(client, "POST", "/api/user/signup", json=BODIES[1])
        for method, path, body in product(("POST", "PUT"), PATHS[:5], BODIES):
            ask(client, method, path, json=body)
            ask(client, "GET", "/api/user")
        for method, path in product(METHODS, PATHS):
            ask(client, method, path)
        for content in (b"", b"{", b"\xff", b'{"a": 1, "a": 1}', b"[" * 100_000, b"{}" + b" " * 70_000):
            for method, path in (("PUT", "/api/user"), ("POST", "/api/user/login")):
                ask(client, method, path, content=content, headers={"Content-Type": "application/json"})
        for headers, path in product(HEADERS, PATHS):
            for method in ("GET", "OPTIONS", "POST"):
                ask(client, method, path, headers=headers, content=b"{}")


if __name__ == "__main__":
    main()
