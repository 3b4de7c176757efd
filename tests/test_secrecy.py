"""What a real process writes, in each mode and under each server: nothing that a client meant to keep."""

import os
import socket
import sys
from contextlib import suppress

import httpx
import pytest

from config import BASE_DIR

from .databases import a_database, database_url
from .support import Process, credentials, run

MARK = "marked-S3cret"
PASSWORD, NEW_PASSWORD = f"{MARK} of bob's", f"{MARK} of bob's, new"
PRODUCTION = {
    "UTILMETA_PRODUCTION": "true",
    "SECRET_KEY": f"{MARK}-" + "k" * 50,
    "ALLOWED_HOSTS": "users.example",
    "TRUSTED_PROXIES": "1",
}
SERVICES = {
    "development": ((sys.executable, "server.py"), {"UTILMETA_PRODUCTION": "0"}),
    "gunicorn": (
        (
            "gunicorn",
            "server:app",
            "-c",
            "tests/gunicorn_conf.py",
            "--log-level=error",
            "--no-control-socket",
        ),
        PRODUCTION,
    ),
    "granian": (
        ("sh", "-c", 'set -a; . deploy/granian.conf; exec granian --port "$PORT" tests.granian_app:app'),
        PRODUCTION,
    ),
}


@pytest.fixture(params=SERVICES)
def service(request, tmp_path):
    """A process of the service that writes all that it ever writes."""
    command, settings = SERVICES[request.param]
    name = f"demo_user_secrecy_{os.getpid()}_{request.param}"
    settings = settings | {"DATABASE_URL": database_url(name, tmp_path), "LOG_LEVEL": "DEBUG"}
    with a_database(name):
        assert run("meta", "migrate", **settings).returncode == 0
        process = Process(command, BASE_DIR, tmp_path / "log", settings)
        if request.param == "granian":
            process.wait_until_granian_has_started()
        yield process.wait_until_it_serves()
        process.stop()


def send(service: Process, request: bytes) -> None:
    """Send bytes that may be no HTTP; wait until the server has had enough of them."""
    port = int(service.url.rpartition(":")[2])
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass


def test_no_password_no_cookie_and_no_body_is_written(service):
    production = service.environment["UTILMETA_PRODUCTION"] == "true"
    headers = {"Host": "users.example", "X-Forwarded-Proto": "https"} if production else {}
    keys = []
    with httpx.Client(base_url=service.url, headers=headers, timeout=60) as client:

        def ask(method: str, path: str, cookie: str = "", **kwargs) -> httpx.Response:
            client.cookies.clear()
            response = client.request(method, path, headers={"Cookie": cookie} if cookie else {}, **kwargs)
            if "Max-Age=604800" in response.headers.get("Set-Cookie", ""):
                keys.append(response.headers["Set-Cookie"].partition(";")[0])
            return response

        assert ask("POST", "/api/user/signup", json=credentials("bob", PASSWORD)).status_code == 200
        assert ask("POST", "/api/user/login", json=credentials("bob", PASSWORD)).status_code == 200
        session = keys[-1]
        change = {"password": NEW_PASSWORD, "current_password": PASSWORD}
        assert ask("PUT", "/api/user", session, json=change).status_code == 200
        session = keys[-1]
        assert ask("GET", f"/api/user?password={MARK}", session).status_code == 200
        for body in (
            credentials("bob", MARK),
            credentials(MARK, MARK),
            {"username": MARK, MARK: MARK},
            {"password": MARK, "current_password": MARK},
            [MARK],
        ):
            for method, path in (
                ("POST", "/api/user/signup"),
                ("POST", "/api/user/login"),
                ("POST", "/api/user/logout"),
                ("PUT", "/api/user"),
                ("PUT", f"/api/{MARK}"),
                ("GET", "/api/health"),
            ):
                ask(method, path, session, json=body)
                ask(method, path, f"sessionid={MARK}", json=body)
        ask("POST", "/api/user/login", content=f"{{{MARK}".encode())
        ask("POST", "/api/user/logout", session)
    # On a connection of its own: granian closes one whose body it has not read.
    httpx.post(f"{service.url}/api/user/login", headers=headers, content=MARK.encode() * 10_000)
    for head in (
        f"{MARK} /api/user HTTP/1.1\r\nHost: {MARK}",
        f"GET /{MARK} HTTP/9.1\r\nHost: 127.0.0.1",
        f"GET /api/user HTTP/1.1\r\n{MARK}\r\nHost: 127.0.0.1",
        f"GET /api/user HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: sessionid={MARK}\r\nX: {MARK * 10_000}",
        f"POST /api/user/login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {MARK}",
        f"POST /api/user/login HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: {MARK}",
        MARK,
    ):
        send(service, head.encode() + b"\r\n\r\n")
    service.stop()

    assert "signup" in service.log
    assert "password_change" in service.log
    assert MARK not in service.log
    assert len(keys) >= 3
    for key in keys:
        assert key.partition("=")[2] not in service.log
