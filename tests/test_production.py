"""Production mode from outside: each server with two workers, over a real connection."""

import json
import os
import socket
from collections.abc import Callable, Iterator

import httpx
import pytest

from config import BASE_DIR

from .databases import a_database, database_url
from .support import OTHER_PASSWORD, PASSWORD, Process, assert_problem, credentials, login, run

COOKIE = "__Host-sessionid"
COMMANDS = {
    "gunicorn": (
        "gunicorn",
        "server:app",
        "-c",
        "tests/gunicorn_conf.py",
        "--workers=2",
        "--threads=4",
        "--forwarded-allow-ips=",
        "--no-control-socket",
    ),
    "granian": (
        "sh",
        "-c",
        'set -a; . deploy/granian.conf; exec granian --port "$PORT" tests.granian_app:app',
    ),
}
PRODUCTION = {
    "UTILMETA_PRODUCTION": "true",
    "SECRET_KEY": "a-key-of-the-tests-that-is-long-enough-for-production",
    "ALLOWED_HOSTS": "users.example",
    "TRUSTED_PROXIES": "1",
}


@pytest.fixture(scope="module", params=COMMANDS)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The service as it runs for real users."""
    folder = tmp_path_factory.mktemp("production")
    name = f"demo_user_production_{os.getpid()}_{request.param}"
    settings = PRODUCTION | {"DATABASE_URL": database_url(name, folder)}
    with a_database(name):
        assert run("meta", "migrate", **settings).returncode == 0
        process = Process(COMMANDS[request.param], BASE_DIR, folder / "log", settings)
        if request.param == "granian":
            process.wait_until_granian_has_started()
        yield process.wait_until_it_serves()
        process.stop()


@pytest.fixture
def browser(service: Process) -> Iterator[Callable[[], httpx.Client]]:
    """Return a function that opens a browser, which the TLS of a proxy stands before."""
    clients = []

    def open_browser() -> httpx.Client:
        headers = {"Host": "users.example", "X-Forwarded-Proto": "https"}
        clients.append(httpx.Client(base_url=service.url, headers=headers))
        return clients[-1]

    yield open_browser
    for client in clients:
        client.close()


def cookie_of(response: httpx.Response) -> dict[str, str]:
    """Return the header that sends the cookie of a response back, which a client does over HTTPS only."""
    return {"Cookie": response.headers["Set-Cookie"].partition(";")[0]}


def test_story_of_an_account(service, browser):
    client = browser()
    signed_up = client.post("/api/user/signup", json=credentials())
    assert signed_up.status_code == 200
    value, *flags = signed_up.headers["Set-Cookie"].split("; ")
    assert value.startswith(f"{COOKIE}=")
    assert set(flags) == {"HttpOnly", "Max-Age=604800", "Path=/", "SameSite=Lax", "Secure"}
    assert signed_up.headers["Strict-Transport-Security"] == "max-age=31536000"

    for _ in range(10):  # whichever worker it is
        assert client.get("/api/user", headers=cookie_of(signed_up)).json() == signed_up.json()
    changed = client.put("/api/user", json={"password": OTHER_PASSWORD}, headers=cookie_of(signed_up))
    assert changed.status_code == 200
    assert_problem(client.get("/api/user", headers=cookie_of(signed_up)), 401, "not_logged_in")
    assert_problem(login(client), 403, "invalid_credentials")

    logged_out = client.post("/api/user/logout", headers=cookie_of(changed))
    assert set(logged_out.headers["Set-Cookie"].split("; ")) == {
        f'{COOKIE}=""', "HttpOnly", "Max-Age=0", "Path=/", "SameSite=Lax", "Secure",
    }  # fmt: skip
    assert_problem(client.get("/api/user", headers=cookie_of(changed)), 401, "not_logged_in")

    records = [json.loads(line) for line in service.log.splitlines() if line.startswith("{")]
    events = [record["event"] for record in records if record.get("user_id") == signed_up.json()["id"]]
    assert [event for event in events if event != "request"] == [
        "signup", "password_change", "login_failure", "logout",
    ]  # fmt: skip
    assert PASSWORD not in service.log
    assert OTHER_PASSWORD not in service.log


@pytest.mark.parametrize("headers", [{"X-Forwarded-Ssl": "off"}, {"Script_Name": "/prefix"}])
def test_header_that_the_service_does_not_ask_for_is_not_believed(browser, headers):
    response = browser().get("/api/user", headers=headers)

    assert_problem(response, 401, "not_logged_in")
    assert response.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_rules_of_production_hold(browser):
    client = browser()

    assert_problem(
        client.post("/api/user/signup", json=credentials(password="fourteen chars")),
        400,
        "invalid_request",
        "password",
    )
    assert_problem(
        client.post("/api/user/signup", json=credentials(password="manchesterunited")),
        400,
        "invalid_request",
        "password",
    )
    assert_problem(client.get("/api/user", headers={"Host": "127.0.0.1"}), 400, "invalid_request")
    assert_problem(client.get("/nope"), 404, "not_found")
    assert (
        client.post("/api/user/login", json={}, headers={"Origin": "https://users.example"}).status_code
        == 400
    )
    assert (
        client.post("/api/user/login", json={}, headers={"Origin": "http://users.example"}).status_code == 403
    )


@pytest.mark.parametrize("path", ["/api/health", "/api/health/ready"])
@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1\r\nHost: 10.1.2.3:8001",
        "HTTP/1.1\r\nHost: [fd00::1]:8001",
        "HTTP/1.1\r\nHost: ",
        "HTTP/1.1",
        "HTTP/1.0",
    ],
)
def test_health_is_told_whatever_the_host(service, head, path):
    port = int(service.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"GET {path} {head}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))

    assert answer.split(b" ", 2)[1] == b"200", answer
    assert answer.endswith(b'{"status": "ok"}')


@pytest.mark.parametrize(
    ("padding", "status", "code"), [(0, 403, "invalid_credentials"), (65_536, 413, "payload_too_large")]
)
def test_chunked_body_is_read_up_to_its_bound(browser, padding, status, code):
    def chunks() -> Iterator[bytes]:
        yield json.dumps(credentials()).encode()
        yield b" " * padding

    response = browser().post(
        "/api/user/login", content=chunks(), headers={"Content-Type": "application/json"}
    )

    assert_problem(response, status, code)


def test_declared_excess_is_refused_before_it_is_sent(service):
    with socket.create_connection(
        ("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=10
    ) as connection:
        connection.sendall(
            b"POST /api/user/login HTTP/1.1\r\nHost: users.example\r\n"
            b"Content-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
