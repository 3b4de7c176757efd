"""The files of deploy/, tried: nginx with TLS before two groups of processes, each of two workers."""

import itertools
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import psutil
import pytest
from dotenv import dotenv_values
from granian.cli import cli as granian_cli

from client import UserClient
from config import BASE_DIR, EXIT_CODE
from framework.machine_slots import MachineSlots
from web.pages import openapi

from .authenticator import Authenticator, options_to_create, send_new
from .databases import a_database, database_url
from .nginx import needs_nginx, nginx
from .support import OTHER_PASSWORD, Process, assert_problem, credentials, free_port, login, run, until

DEPLOY = BASE_DIR / "deploy"
HOST = "users.example.com"
GRANIAN = {name: value or "" for name, value in dotenv_values(DEPLOY / "granian.conf").items()}
READS_ONLY = {name: value or "" for name, value in dotenv_values(DEPLOY / "granian-reads.conf").items()}
# The groups of processes, by their place in `Site.processes`, and what granian is told in each.
PASSWORDS, READS = 0, 1
GROUPS = [GRANIAN, GRANIAN | READS_ONLY]
UNITS = ["demo-user.service", "demo-user-reads.service"]
# The port is the one that the test has chosen.
COMMAND = ("sh", "-c", 'exec granian --port "$PORT" tests.granian_app:app')
PRODUCTION = {
    "UTILMETA_PRODUCTION": "true",
    "SECRET_KEY": "a-key-of-the-tests-that-is-long-enough-for-production",
    "ALLOWED_HOSTS": HOST,
    "TRUSTED_PROXIES": "1",
    "THROTTLE": "on",
    "PASSKEYS": "on",
}
numbers = itertools.count()
# Takes seconds of a core.
SLOW_HASH = "10000000"


class Site:
    """nginx as deploy/nginx.conf has it, before the two groups of processes."""

    def __init__(self, folder: Path, processes: list[Process], changes: dict[str, str]) -> None:
        self.folder = folder
        self.changes = changes
        self.processes = processes
        self.cookies = httpx.Cookies()
        self.port, self.plain_port = free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"

    def write_configuration(self) -> None:
        """Write the site file with ports, paths and certificate of the test, and what includes it."""
        site = (DEPLOY / "nginx.conf").read_text()
        for pattern, replacement in {
            r"listen \[::\]:.*\n": "",
            r"listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            r"listen 443 ": f"listen 127.0.0.1:{self.port} ",
            r"127\.0\.0\.1:8001": self.processes[0].url.removeprefix("http://"),
            r"127\.0\.0\.1:8002": self.processes[1].url.removeprefix("http://"),
            r"/etc/ssl/demo-user": str(self.folder),
            r"/var/log/nginx": str(self.folder),
            r"/run/demo-user": str(self.folder),
            **self.changes,
        }.items():
            site, count = re.subn(pattern, replacement, site)
            assert count, pattern
        (self.folder / "site.conf").write_text(site)

    def browser(self, address: str = "127.0.0.1", **headers: str | bytes) -> httpx.Client:
        """Return a client that talks to nginx over TLS, from an address of this machine."""
        return httpx.Client(
            base_url=self.url,
            headers={"Host": HOST, **headers},
            transport=httpx.HTTPTransport(verify=False, local_address=address, http2=False),
            timeout=60,
        )

    def ask(self, method: str, path: str, body: str = "") -> httpx.Response:
        """Send a request over TLS whose path is written just so; return the response."""
        connection = HTTPSConnection("127.0.0.1", self.port, context=ssl._create_unverified_context())
        return ask(connection, method, path, body)

    def group_of(self, response: httpx.Response) -> int:
        """Return which group of processes a response came from, as nginx has logged it."""
        request_id, found = response.headers["X-Request-ID"], []
        # nginx writes the record after it has sent the response.
        until(lambda: found.extend(r for r in self.records() if r["request_id"] == request_id) or found)
        # Where it has asked several, the last one responded.
        address = found[0]["upstream"].split(", ")[-1]
        return [process.url.removeprefix("http://") for process in self.processes].index(address)

    def records(self) -> list[dict[str, Any]]:
        """Return what nginx has logged."""
        return [json.loads(line) for line in (self.folder / "demo-user.access.log").read_text().splitlines()]

    def prepare_stop(self, group: int) -> None:
        """Do what the unit of a group does before it stops the service."""
        done = run("sh", "-c", self.command_of(group, "ExecStop"))
        assert done.returncode == 0, done.stderr

    def finish_start(self, group: int) -> None:
        """Do what the unit of a group does after it has started the service."""
        settings = {"GRANIAN_HOST": "127.0.0.1", "GRANIAN_PORT": self.processes[group].environment["PORT"]}
        done = run("sh", "-c", self.command_of(group, "ExecStartPost"), **settings)
        assert done.returncode == 0, done.stderr

    def command_of(self, group: int, setting: str) -> str:
        """Return a command of the unit of a group, with this site's folder in place of the example's."""
        return command_of(UNITS[group], setting).replace("/run/demo-user", str(self.folder))

    def raw(self, request: bytes, port: int | None = None) -> httpx.Response:
        """Send bytes over a plain connection; return the response."""
        with socket.create_connection(("127.0.0.1", port or self.plain_port), timeout=60) as connection:
            connection.sendall(request)
            received = b"".join(iter(lambda: connection.recv(65_536), b""))
        head, _, body = received.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = [tuple(line.split(": ", 1)) for line in lines]
        return httpx.Response(int(status.split()[1]), headers=headers, content=body)  # type: ignore[arg-type]


def ask(connection: HTTPConnection, method: str, path: str, body: str = "") -> httpx.Response:
    """Send one request over a connection, and close it; return the response."""
    with closing(connection):
        headers = {"Host": HOST, "X-Forwarded-Proto": "https", "Content-Type": "application/json"}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return httpx.Response(response.status, headers=response.getheaders(), content=response.read())


def kill(process: Process) -> None:
    """End a process and its workers at once."""
    # Itself first: it would replace a worker that is gone.
    family = [psutil.Process(process.process.pid), *process.children()]
    for each in family:
        each.kill()
    process.process.wait()
    psutil.wait_procs(family)


def records(process: Process) -> list[dict[str, Any]]:
    """Return what a process of the service has logged about requests."""
    return [json.loads(line) for line in process.log.splitlines() if line.startswith('{"time"')]


@contextmanager
def services(folder: Path, **settings: str) -> Iterator[list[Process]]:
    """Have both groups of processes, as the files of deploy/ have them, on one database."""
    name = f"demo_user_deploy_{os.getpid()}_{next(numbers)}"
    settings = PRODUCTION | {"DATABASE_URL": database_url(name, folder)} | settings
    with a_database(name), ExitStack() as stack:
        assert run("meta", "migrate", **settings).returncode == 0
        processes = []
        for number, group in enumerate(GROUPS):
            process = Process(COMMAND, BASE_DIR, folder / f"service{number}", group | settings)
            stack.callback(lambda process=process: process.process.poll() is None and kill(process))
            processes.append(process)
        for process in processes:
            process.wait_until_granian_has_started()
        yield processes


@contextmanager
def a_site(folder: Path, changes: dict[str, str] | None = None, **settings: str) -> Iterator[Site]:
    """Have nginx before both groups of processes, perhaps with changes to its file (by pattern)."""
    with services(folder, **settings) as processes:
        site = Site(folder, processes, changes or {})
        site.write_configuration()
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "1", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}",
             "-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
        with nginx(folder, f"include {folder}/site.conf;", site.plain_port):
            yield site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that the tests leave as it is."""
    with a_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Site]:
    """A site of which a test ends a part."""
    with a_site(tmp_path) as site:
        yield site


def sign_up(client: httpx.Client, name: str, **headers: str) -> httpx.Response:
    """Sign up; return the response."""
    return client.post("/api/user/signup", json=credentials(name), headers=headers)


def assert_headers_of_a_problem(response: httpx.Response) -> None:
    """Check that a response of nginx's own has the headers that the service's have."""
    assert response.headers["Server"] == "nginx"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert response.headers["Referrer-Policy"] == "same-origin"
    assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"


@needs_nginx
def test_session_made_in_one_group_works_in_the_other(site):
    with site.browser() as client:
        made = sign_up(client, "both")
        read = client.get("/api/user")

    assert read.json() == made.json()
    assert (site.group_of(made), site.group_of(read)) == (PASSWORDS, READS)


def takes_a_password(operation: dict[str, Any], schemas: dict[str, Any]) -> bool:
    """Tell whether the body of an operation of the OpenAPI document has a field for a password."""
    content = operation.get("requestBody", {}).get("content", {})
    reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    fields = schemas[reference.rpartition("/")[2]]["properties"] if reference else {}
    return any("password" in field for field in fields)


def operations() -> list[tuple[str, str, int]]:
    """Return the method and path of every operation of the API, and the group that is to serve it."""
    document = openapi.build()  # with passkeys, which openapi.json leaves out
    return [
        (
            method.upper(),
            f"/api{path}".replace("{id}", "1"),
            PASSWORDS if takes_a_password(operation, document["components"]["schemas"]) else READS,
        )
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


@needs_nginx
@pytest.mark.parametrize("suffix", ["", "/", "?a=b", "/?a=/api/user"])
@pytest.mark.parametrize(("method", "path", "group"), operations())
def test_operation_that_takes_a_password_goes_to_the_group_that_hashes(site, method, path, group, suffix):
    response = site.ask(method, path + suffix, "{}" if method in ("POST", "PUT") else "")

    assert response.status_code in (200, 400, 401)
    assert site.group_of(response) == group


@needs_nginx
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api/docs"),
        ("HEAD", "/api/user"),
        ("OPTIONS", "/api/user/login"),
        ("GET", "/api/user/login"),
        ("PUT", "/api/user/login"),
        ("POST", "/api/user"),
        ("DELETE", "/api/user"),
        ("POST", "/api/user/logins"),
        ("POST", "/api/user/login/x"),
        ("POST", "/api/users/login"),
        ("POST", "/api/user/LOGIN"),
        ("PUT", "/api/user/x"),
    ],
)
def test_request_that_hashes_nothing_goes_to_the_other_group(site, method, path):
    response = site.ask(method, path)

    assert site.group_of(response) == READS


LOGIN_SPELLINGS = [
    "/api/user/login",
    "/api/user/login/",
    "/api/user/login//",
    "//api/user/login",
    "/api//user/login",
    "/api/user//login",
    "/api/./user/login",
    "/api/user/login/.",
    "/api/user/x/../login",
    "/x/../api/user/login",
    "/api/user/login/../login",
    "/api/user/login/..",
    "/api/user/%6cogin",
    "/api/user/%6Cogin/",
    "/%61pi/user/login",
    "/api%2Fuser%2Flogin",
    "/api/user/login%2f",
    "/api/user%2flogin%2F",
    "/api/user/%2e/login",
    "/api/user/%2E%2E/user/login",
    "/api/user/%256cogin",
    "/api/user/login%0a",
    "/api/user/login%0D%0A",
    "/%0a/api/user/login",
    "/api/user/login%20",
    "/api/user/login%3F",
    "/api/user/login%3fa=b",
    "/api/user/login?",
    "/api/user/login?/../x",
    "/api/user/login%23",
    "/api/user/login#x",
    "/api/user/login#/../x",
    "/api/user/login;x=y",
    "/api/user/login%3bx",
    "/api/user/login.",
    "/api/user/login%5c",
    "/api/user\\login",
    "/api/user/log%C4%B1n",
    "/api/user/%EF%BD%8Cogin",
    "/api/user/login%FF",
    "/api/user/+login",
    f"https://{HOST}/api/user/login",
    f"https://{HOST}//api/user/login",
]


@needs_nginx
@pytest.mark.parametrize("path", LOGIN_SPELLINGS)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_no_spelling_of_an_address_gets_a_hash_past_the_map(site, method, path):
    """Ask a process itself as well: what it takes for a login, the other group must not get."""
    path = path if method == "POST" else path.replace("/login", "").replace("%2flogin", "")
    port = int(site.processes[PASSWORDS].environment["PORT"])
    direct = ask(HTTPConnection("127.0.0.1", port), method, path, "{}")

    response = site.ask(method, path, "{}")

    assert (response.status_code, response.json()["code"]) == (direct.status_code, direct.json()["code"])
    if direct.status_code not in (404, 405):
        assert site.group_of(response) == PASSWORDS


@needs_nginx
def test_passkey_logs_its_user_in_and_takes_no_thread_for_passwords(site):
    phone, origin = Authenticator(rp_id=HOST), f"https://{HOST}"
    with site.browser() as client:
        user = sign_up(client, "passkey").json()
        new = phone.create(options_to_create(client), origin=origin)
        assert send_new(client, new).status_code == 200

    with site.browser() as client:
        options = client.post("/api/passkeys/authentication")
        [[name, token]] = client.cookies.items()
        client.cookies.clear()
        body = {"credential": phone.get(options.json(), origin=origin)}
        for cookies in (f"{name}={token}; {name}=other", f"a=b; \u2003{name}={token}"):
            refused = client.post("/api/passkeys/login", json=body, headers={"Cookie": cookies.encode()})
            assert_problem(refused, 403, "invalid_credentials")
        cookies = f"language=français; {name}={token}; theme=dark".encode()
        response = client.post("/api/passkeys/login", json=body, headers={"Cookie": cookies})
        assert response.json() == user
        assert [site.group_of(each) for each in (options, response)] == [READS, READS]

        again = client.post("/api/passkeys/authentication")
        body = {"credential": phone.get(again.json(), origin=origin)}
        assert client.post("/api/passkeys/reauthenticate", json=body).json() == user


@needs_nginx
def test_cookie_of_another_page_keeps_nobody_out(site):
    with site.browser() as client:
        user = sign_up(client, "cookies").json()
        key = client.cookies["__Host-sessionid"]
        client.cookies.clear()

        for cookies in (
            "language=français; __Host-sessionid={key}",
            "__Host-sessionid={key}; language=français",
            "theme=dark;__Host-sessionid={key};language=français; x",
            "x__Host-sessionid=other; language=__Host-sessionid=other; __Host-sessionid={key}",
        ):
            response = client.get("/api/user", headers={"Cookie": cookies.format(key=key).encode()})
            assert response.json() == user
        assert_problem(client.get("/api/user", headers={"Cookie": "language=en"}), 401, "not_logged_in")


@needs_nginx
def test_cookie_that_is_not_surely_ours_is_not_sent_on(site):
    with site.browser() as client:
        sign_up(client, "twice")
        key = client.cookies["__Host-sessionid"]
        client.cookies.clear()

        for cookies in (
            "__Host-sessionid={key}; __Host-sessionid=other",
            "__Host-sessionid=other; a=b; __Host-sessionid={key}",
            "\u2003__Host-sessionid={key}",
            "a=b; \u2003__Host-sessionid={key}",
            "__Host-sessionid\u2003={key}",
        ):
            response = client.get("/api/user", headers={"Cookie": cookies.format(key=key).encode()})
            assert_problem(response, 401, "not_logged_in")


@needs_nginx
@pytest.mark.parametrize("host", ["10.1.2.3", "127.0.0.1:8443"])
def test_health_is_told_by_address(site, host):
    with site.browser(Host=host) as client:
        assert client.get("/api/health").json() == client.get("/api/health/ready").json() == {"status": "ok"}
        assert_problem(client.get("/api/user"), 400, "invalid_request")


@needs_nginx
@pytest.mark.parametrize("forwarded", [b"203.0.113.9", b"\xff", b"\xff, 203.0.113.9", b""])
def test_client_address_is_right_and_cannot_be_forged(site, forwarded):
    forged = {"X-Forwarded-For": forwarded, "X_Forwarded_For": "203.0.113.9"}
    with site.browser("127.0.0.2", **forged, Forwarded="for=203.0.113.9") as client:
        request_id = client.get("/api/user").headers["X-Request-ID"]

    [record] = [
        record
        for process in site.processes
        for record in records(process)
        if record["request_id"] == request_id
    ]
    assert record["client"] == "127.0.0.2"


@needs_nginx
def test_browser_is_served_over_https(site):
    with site.browser() as client:
        response = sign_up(client, "secure", Origin=f"https://{HOST}")

        assert response.status_code == 200
        assert response.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert response.headers["Server"] == "nginx"
        value, *flags = response.headers["Set-Cookie"].split("; ")
        assert value.startswith("__Host-sessionid=")
        assert "Secure" in flags
        for origin in ("https://evil.example", f"http://{HOST}"):
            assert_problem(sign_up(client, "other", Origin=origin), 403, "cross_site_request")


@needs_nginx
@pytest.mark.parametrize("forged", [{}, {"X-Forwarded-Proto": "https"}])
def test_http_redirects_to_https(site, forged):
    response = httpx.get(
        f"http://127.0.0.1:{site.plain_port}/api/user?a=b", headers={"Host": "evil.example"} | forged
    )

    assert response.status_code == 308
    assert response.headers["Location"] == f"https://{HOST}/api/user?a=b"


@needs_nginx
def test_body_that_is_too_large_is_a_problem(site):
    with site.browser() as client:
        fits, too_large, chunked = (
            client.post("/api/user/login", content=content, headers={"Content-Type": "application/json"})
            for content in (
                json.dumps(credentials("nobody")).ljust(65_536),
                b" " * 65_537,
                iter([b" " * 65_537]),
            )
        )

    assert_problem(fits, 403, "invalid_credentials")
    for each in (too_large, chunked):
        assert_problem(each, 413, "payload_too_large")
        # The service has not seen it.
        assert not any(
            record["request_id"] == each.headers["X-Request-ID"]
            for process in site.processes
            for record in records(process)
        )
        assert_headers_of_a_problem(each)
        assert each.headers["Strict-Transport-Security"] == "max-age=31536000"


@needs_nginx
@pytest.mark.skipif(not shutil.which("curl"), reason="curl, which speaks HTTP/2, is not installed")
def test_body_that_is_too_large_is_a_problem_over_http2(site):
    done = subprocess.run(
        ["curl", "-ksi", "--http2", "-H", f"Host: {HOST}", "--data-binary", "@-", site.url],
        input=b" " * 65_537, capture_output=True, check=True,
    )  # fmt: skip

    head, _, body = done.stdout.decode().partition("\r\n\r\n")
    status, *lines = head.splitlines()
    assert status.split() == ["HTTP/2", "413"]
    response = httpx.Response(413, headers=[line.split(": ", 1) for line in lines], text=body)
    assert_problem(response, 413, "payload_too_large")


@needs_nginx
@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.1\r\nHost: users.example.com\r\n\r\n",
        b"GET /%s HTTP/1.1\r\nHost: users.example.com\r\n\r\n" % (b"a" * 9000),
        b"GET / HTTP/1.1\r\nHost: users.example.com\r\nX-A: %s\r\n\r\n" % (b"a" * 9000),
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: users.example.com\r\nTransfer-Encoding: nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /api/\xff HTTP/1.1\r\nHost: users.example.com\r\nConnection: close\r\n\r\n",
    ],
    ids=[
        "no HTTP",
        "version",
        "long address",
        "long header",
        "no host",
        "coding",
        "two lengths",
        "not ASCII",
    ],
)
def test_request_that_nginx_refuses_is_a_problem(site, request_):
    response = site.raw(request_)

    assert_problem(response, 400, "invalid_request")
    assert_headers_of_a_problem(response)


@needs_nginx
def test_plain_http_on_the_port_of_tls_is_a_problem(site):
    response = site.raw(b"GET / HTTP/1.1\r\nHost: users.example.com\r\nConnection: close\r\n\r\n", site.port)

    assert_problem(response, 400, "invalid_request")


@needs_nginx
def test_trace_is_a_problem(site):
    response = site.raw(b"TRACE / HTTP/1.1\r\nHost: users.example.com\r\nConnection: close\r\n\r\n")

    assert_problem(response, 405, "method_not_allowed")
    assert "GET" in response.headers["Allow"]


@needs_nginx
def test_address_of_the_problems_is_none(site):
    with site.browser() as client:
        assert_problem(client.get("/_problem"), 404, "not_found")


@needs_nginx
def test_logs_hold_nothing_that_a_client_said(site):
    with site.browser(
        **{"User-Agent": "marked-1", "Referer": "https://marked-2/", "Cookie": "a=marked-3"}
    ) as client:
        answered = client.get("/marked-4?marked-5")
        client.request("MARKED", "/api/user/signup", json=credentials("marked-6"))
        refused = client.post("/marked-7", content=b"marked" + b" " * 65_536)
    site.raw(b"GET /marked-8 HTTP/9.1\r\nX-A: marked-9\r\n\r\n")

    ids = {response.headers["X-Request-ID"] for response in (answered, refused)}
    until(lambda: ids <= {line["request_id"] for line in site.records()})
    methods = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "other"}
    assert {line["method"] for line in site.records()} <= methods
    written = "".join(path.read_text() for path in site.folder.glob("*.log"))
    written += (site.folder / "nginx").read_text() + "".join(process.log for process in site.processes)
    assert "marked" not in written.lower()


PREFIX = "/accounts"
UNDER_A_PATH = {
    r"location / \{": "location = /.well-known/change-password { return 302 /accounts/#password; }\n"
    "location /accounts/ {",
}
BY_NGINX = UNDER_A_PATH | {
    r"proxy_pass http://\$demo_user;": "rewrite ^/accounts(/.*)$ $1 break;\nproxy_pass http://$demo_user;"
}


@pytest.fixture(scope="module", params=["taken off by nginx", "taken off by granian"])
def site_under_a_path(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A site that has the service under a path."""
    folder = tmp_path_factory.mktemp("path")
    if request.param == "taken off by nginx":
        changes, settings = BY_NGINX, {}
    else:
        changes, settings = UNDER_A_PATH, {"GRANIAN_URL_PATH_PREFIX": PREFIX}
    with a_site(folder, changes, **settings) as site:
        yield site


@needs_nginx
def test_account_under_a_path_is_one(site_under_a_path):
    with site_under_a_path.browser() as client:
        client.base_url = f"{site_under_a_path.url}{PREFIX}"
        user = sign_up(client, "under")
        assert user.status_code == 200, user.text
        assert "Path=/;" in user.headers["Set-Cookie"]

        read = client.get("/api/user")
        assert read.json() == user.json()
        groups = [site_under_a_path.group_of(response) for response in (user, read)]
        assert groups == [PASSWORDS, READS]
        assert client.post("/api/user/logout").status_code == 200
        assert_problem(client.get("/api/user"), 401, "not_logged_in")
        assert_problem(client.get("/api/nothing"), 404, "not_found")
        assert_problem(client.get(f"{site_under_a_path.url}/api/user"), 404, "not_found")


@needs_nginx
@pytest.mark.parametrize("page", ["", "/", "/api/docs", "/api/docs/"])
def test_what_a_page_under_a_path_loads_is_there(site_under_a_path, page):
    with site_under_a_path.browser() as client:
        response = client.get(f"{PREFIX}{page}", follow_redirects=False)
        while response.has_redirect_location:
            # nginx's own names the site, and the port that it listens on.
            path = response.url.join(response.headers["Location"]).path
            response = client.get(path)

        assert response.status_code == 200
        links = re.findall(r'(?:href|src)="([^"#:]+)"', response.text)
        assert len(links) >= 4
        for link in links:
            assert client.get(response.url.join(link)).status_code == 200, link


@needs_nginx
def test_document_under_a_path_leads_to_the_service(site_under_a_path):
    with site_under_a_path.browser() as client:
        document = client.get(f"{PREFIX}/api/openapi.json")

        server = document.url.join(document.json()["servers"][0]["url"])
        assert_problem(client.get(f"{server}/user"), 401, "not_logged_in")


@needs_nginx
@pytest.mark.parametrize("path", ["", PREFIX])
def test_password_managers_find_the_form_under_a_path(site_under_a_path, path):
    with site_under_a_path.browser() as client:
        response = client.get(f"{path}/.well-known/change-password")

        form = response.url.join(response.headers["Location"])
        assert (response.status_code, form.path, form.fragment) == (302, f"{PREFIX}/", "password")


@needs_nginx
def test_typed_client_works_under_a_path(site_under_a_path):
    url = f"{site_under_a_path.url}{PREFIX}"
    with UserClient(url, verify=False, headers={"Host": HOST}) as client:
        assert client.signup("typed", "correct horse battery") == client.get()


def test_gunicorn_takes_a_path_off(start, tmp_path):
    settings = {"UTILMETA_PRODUCTION": "0", "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3"}
    assert run("meta", "migrate", **settings).returncode == 0
    command = ("gunicorn", "--env", f"SCRIPT_NAME={PREFIX}", "--no-control-socket", "server:app")
    process = start(*command, cwd=BASE_DIR, **settings).wait_until_it_serves()

    response = httpx.get(f"{process.url}{PREFIX}/api/user")

    assert_problem(response, 401, "not_logged_in")


def test_lines_for_a_path_are_those_of_the_document():
    document = (BASE_DIR / "docs/operations.md").read_text()

    for lines in BY_NGINX.values():
        for line in lines.splitlines():
            assert line in document
    assert f"GRANIAN_URL_PATH_PREFIX={PREFIX}" in document
    assert f"--env SCRIPT_NAME={PREFIX}" in document


BEHIND_TLS = {
    r"map \$scheme \$client_scheme": "map $http_x_forwarded_proto $client_scheme",
    r"listen 127\.0\.0\.1:\d+ ssl http2;": "",
    r"ssl_\w+ [^;]+;": "",
}


@pytest.fixture(scope="module")
def site_behind_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site behind a proxy that ends TLS, as deploy/nginx.conf says that it is changed for one."""
    with a_site(tmp_path_factory.mktemp("tls"), BEHIND_TLS, TRUSTED_PROXIES="2") as site:
        yield site


@pytest.fixture
def through_a_proxy(site_behind_tls: Site) -> Iterator[httpx.Client]:
    """A client whose TLS a proxy before nginx has ended."""
    headers = {"Host": HOST, "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
    with httpx.Client(base_url=f"http://127.0.0.1:{site_behind_tls.plain_port}", headers=headers) as client:
        yield client


@needs_nginx
def test_request_that_a_proxy_took_over_tls_is_served(site_behind_tls, through_a_proxy):
    response = sign_up(through_a_proxy, "tls", Origin=f"https://{HOST}")

    assert response.status_code == 200, response.text
    assert "Secure" in response.headers["Set-Cookie"].split("; ")
    assert response.headers["Strict-Transport-Security"] == "max-age=31536000"
    [record] = [
        record
        for process in site_behind_tls.processes
        for record in records(process)
        if record.get("request_id") == response.headers["X-Request-ID"]
    ]
    assert record["client"] == "203.0.113.9"


@needs_nginx
def test_problem_of_nginx_behind_tls_is_for_https(through_a_proxy):
    too_large = through_a_proxy.post("/api/user/login", content=b" " * 65_537)

    assert_problem(too_large, 413, "payload_too_large")
    assert too_large.headers["Strict-Transport-Security"] == "max-age=31536000"


@needs_nginx
@pytest.mark.parametrize("scheme", ["http", "", "gopher", None])
def test_request_that_a_proxy_took_over_http_is_redirected(through_a_proxy, scheme):
    del through_a_proxy.headers["X-Forwarded-Proto"]

    response = through_a_proxy.get(
        "/api/user?a=b", headers={} if scheme is None else {"X-Forwarded-Proto": scheme}
    )

    assert (response.status_code, response.headers["Location"]) == (308, f"https://{HOST}/api/user?a=b")


@needs_nginx
@pytest.mark.parametrize("group", [PASSWORDS, READS])
def test_one_group_serves_everything_when_the_other_is_killed(own_site, group):
    with own_site.browser() as client:
        user = sign_up(client, "survivor").json()
        kill(own_site.processes[group])

        for turn in range(20):
            assert client.get("/api/user").json() == user
            # A second browser: a signup ends the earlier session of its own.
            with own_site.browser() as other:
                assert sign_up(other, f"later-{turn}").status_code == 200
                assert login(other, f"later-{turn}").status_code == 200
                assert other.put("/api/user", json={"password": OTHER_PASSWORD}).status_code == 200
                assert other.get("/api/health/ready").status_code == 200
                assert other.post("/api/user/logout").status_code == 200


@needs_nginx
@pytest.mark.parametrize("group", [PASSWORDS, READS])
def test_group_that_is_about_to_stop_gets_no_request(own_site, group):
    with own_site.browser() as client:
        own_site.prepare_stop(group)
        meanwhile = [sign_up(client, "moved"), client.get("/api/user")]
        own_site.finish_start(group)
        afterwards = [login(client, "moved"), client.get("/api/user")]

    assert [own_site.group_of(response) for response in meanwhile] == [1 - group] * 2
    assert [own_site.group_of(response) for response in afterwards] == [PASSWORDS, READS]


def send_until(site: Site, stop: Event, name: str) -> list[int]:
    """Sign up, and go on with requests of every kind until told to stop; return all statuses."""
    with site.browser() as client:
        statuses = [sign_up(client, name).status_code]
        while not stop.is_set():
            statuses += [
                client.get("/api/user").status_code,
                client.put("/api/user", json={"username": name}).status_code,
                client.post("/api/user/logout").status_code,
                login(client, name).status_code,
            ]
    return statuses


@needs_nginx
def test_restart_of_one_group_after_the_other_loses_no_request(own_site):
    stop = Event()
    with ThreadPoolExecutor(6) as pool:
        clients = [pool.submit(send_until, own_site, stop, f"busy-{number}") for number in range(6)]
        try:
            for group in (READS, PASSWORDS):
                process = own_site.processes[group]
                until(lambda process=process: len(records(process)) > 20)
                own_site.prepare_stop(group)
                process.process.send_signal(signal.SIGTERM)
                assert process.exit_code() == 0
                process.start()
                own_site.finish_start(group)
                process.wait_until_granian_has_started()
                until(lambda process=process: len(records(process)) > 20)
        finally:
            stop.set()
        statuses = [status for client in clients for status in client.result()]

    assert set(statuses) == {200}


@contextmanager
def a_site_that_cannot_hash(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Site, Any]]:
    """Have a site with a user `reader`, and hold the only core that may hash until told to let go of it."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    core = MachineSlots(f"demo-user-{zlib.crc32(bytes(BASE_DIR)):x}", 1)
    # Attempts that wait are counted as well: one worker may get more of them than the rate limit allows.
    settings = {"TMPDIR": str(folder), "HASH_CONCURRENCY": "1", "THROTTLE": "off"}
    with a_site(folder, **settings) as site, ExitStack() as stack:
        with site.browser() as client:
            assert sign_up(client, "reader").status_code == 200
            site.cookies = client.cookies
        stack.enter_context(core.slot())
        yield site, stack.close


@needs_nginx
def test_many_logins_leave_the_threads_of_the_other_group_alone(tmp_path, monkeypatch):
    body = json.dumps(credentials("reader"))
    # More than the other group has threads.
    crowd = 2 * int(GROUPS[READS]["GRANIAN_WORKERS"]) * int(GROUPS[READS]["GRANIAN_BLOCKING_THREADS"])
    with a_site_that_cannot_hash(tmp_path, monkeypatch) as (site, let_go), ThreadPoolExecutor(crowd) as pool:
        logins = [pool.submit(site.ask, "POST", "/api/user/login", body) for _ in range(crowd)]
        until(lambda: connections_of(site.processes[PASSWORDS]) == crowd)
        with site.browser() as client:
            client.cookies = site.cookies
            reads = [client.get("/api/user") for _ in range(20)]
        waiting = [not each.done() for each in logins]
        let_go()
        entered = [each.result() for each in logins]

    assert [response.status_code for response in reads] == [200] * 20
    assert all(waiting)
    assert [response.status_code for response in entered] == [200] * crowd


@needs_nginx
def test_login_that_a_process_has_begun_is_not_sent_to_another_one(tmp_path, monkeypatch):
    with a_site_that_cannot_hash(tmp_path, monkeypatch) as (site, _), ThreadPoolExecutor(1) as pool:
        begun = pool.submit(site.ask, "POST", "/api/user/login", json.dumps(credentials("reader")))
        until(lambda: connections_of(site.processes[PASSWORDS]) == 1)
        kill(site.processes[PASSWORDS])
        response = begun.result()

        assert_problem(response, 503, "service_unavailable")
        assert site.group_of(response) == PASSWORDS
        assert connections_of(site.processes[READS]) == 0


def connections_of(process: Process) -> int:
    """Return how many connections the workers of a process have taken."""
    connections = [each for worker in process.children() for each in worker.net_connections()]
    port = int(process.environment["PORT"])
    return sum(each.laddr.port == port and each.status == psutil.CONN_ESTABLISHED for each in connections)


@needs_nginx
def test_service_that_is_gone_is_a_problem(own_site):
    for process in own_site.processes:
        kill(process)

    with own_site.browser() as client:
        for response in (client.get("/api/user"), sign_up(client, "bob"), client.get("/api/health")):
            assert_problem(response, 503, "service_unavailable")
            assert_headers_of_a_problem(response)
            assert response.headers["Retry-After"] == "5"
            assert response.headers["Strict-Transport-Security"] == "max-age=31536000"


def processor_time(process: Process) -> float:
    """Return the seconds of a core that the workers of a process have used."""
    return sum(sum(child.cpu_times()[:2]) for child in process.children())


def assert_request_under_way_is_answered(client: httpx.Client, processes: list[Process]) -> None:
    """Tell processes to stop while one of them hashes a password; check that it answers, and stops."""
    before = [processor_time(process) for process in processes]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(sign_up, client, "patient")
        until(lambda: any(processor_time(p) - b > 0.5 for p, b in zip(processes, before, strict=True)))
        for process in processes:
            process.process.send_signal(signal.SIGTERM)
        response = answer.result()

    assert response.status_code == 200, response.text
    assert [process.exit_code() for process in processes] == [0] * len(processes)
    [log] = [process.log for process in processes if '"event": "signup"' in process.log]
    assert log.index("Shutting down granian") < log.index('"event": "signup"')


def test_request_under_way_is_answered_when_the_server_stops(tmp_path):
    with services(tmp_path, TEST_HASH_ITERATIONS=SLOW_HASH) as processes:
        headers = {"Host": HOST, "X-Forwarded-Proto": "https"}
        with httpx.Client(base_url=processes[0].url, headers=headers, timeout=60) as client:
            assert_request_under_way_is_answered(client, processes[:1])


@needs_nginx
def test_request_under_way_is_answered_through_nginx_when_the_servers_stop(tmp_path):
    with a_site(tmp_path, TEST_HASH_ITERATIONS=SLOW_HASH) as site, site.browser() as client:
        assert_request_under_way_is_answered(client, site.processes)


def test_killed_worker_is_replaced(tmp_path):
    with services(tmp_path) as processes:
        # The resource tracker of multiprocessing is a child as well, but takes no connections.
        workers = [child for child in processes[0].children() if child.num_threads() > 1]
        assert len(workers) == int(GRANIAN["GRANIAN_WORKERS"])
        workers[0].kill()

        until(lambda: processes[0].log.count("Started worker-1") == 2)
        assert processes[0].process.poll() is None
        processes[0].wait_until_it_serves()


def test_settings_of_granian_are_its_own():
    assert set(GROUPS[READS]) <= {f"GRANIAN_{option.name.upper()}" for option in granian_cli.params}


def test_reads_group_differs_only_where_it_says():
    assert set(READS_ONLY) == {"GRANIAN_PORT", "GRANIAN_BLOCKING_THREADS", "GRANIAN_BACKPRESSURE"}
    assert set(READS_ONLY) <= set(GRANIAN)


def unit(name: str) -> str:
    """Return the text of a unit, with this project's folders in place of the example's."""
    text = (DEPLOY / name).read_text()
    text = text.replace("/srv/demo-user/.venv/bin", str(Path(sys.executable).parent))
    return text.replace("/srv/demo-user", str(BASE_DIR))


def command_of(name: str, setting: str) -> str:
    """Return what a unit has the shell run, with this project's folders in place of the example's."""
    return re.search(rf"^{setting}=/bin/sh -c '(.*)'$", unit(name), re.MULTILINE)[1]


def test_units_of_the_groups_are_alike():
    added = {
        "JoinsNamespaceOf=demo-user.service",
        f"EnvironmentFile={BASE_DIR}/deploy/granian-reads.conf",
    }
    passwords, reads = (
        [line for line in unit(name).splitlines() if not line.startswith(("#", "Description="))]
        for name in UNITS
    )

    assert added <= set(reads)
    in_common = [line.replace("reads-stopping", "passwords-stopping") for line in reads if line not in added]
    assert in_common == passwords


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong(tmp_path):
    names = [*UNITS, "demo-user-purge.service", "demo-user-purge.timer"]
    for name in names:
        (tmp_path / name).write_text(unit(name))

    verified = run("systemd-analyze", "verify", "--man=no", *names, cwd=tmp_path)

    assert verified.returncode == 0, verified.stderr
    assert not [line for line in verified.stderr.splitlines() if "demo-user" in line]


def test_unit_starts_the_service_only_with_settings_that_are_right(tmp_path):
    command = command_of("demo-user.service", "ExecStart")
    settings = GRANIAN | PRODUCTION | {"DATABASE_URL": f"sqlite:///{tmp_path}/none.sqlite3"}

    wrong = run("sh", "-c", command, **settings | {"SECRET_KEY": "short"})
    without_tables = run("sh", "-c", command, **settings)

    assert (wrong.returncode, without_tables.returncode) == (EXIT_CODE, EXIT_CODE)
    assert "SECRET_KEY" in wrong.stderr
    assert "meta migrate" in without_tables.stderr
    assert f"RestartPreventExitStatus={EXIT_CODE}\n" in unit("demo-user.service")


def test_units_stop_later_than_granian_does():
    timeout = re.search(r"^TimeoutStopSec=(\d+)$", unit("demo-user.service"), re.MULTILINE)[1]

    assert int(timeout) > int(GRANIAN["GRANIAN_WORKERS_KILL_TIMEOUT"])
