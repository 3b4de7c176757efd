"""The files of deploy/, tried: nginx with TLS before two processes of the service, each of two workers."""

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from dotenv import dotenv_values
from granian.cli import cli as granian_cli

from client import UserClient
from config import BASE_DIR, EXIT_CODE

from .databases import a_database, database_url
from .nginx import needs_nginx, nginx
from .support import Process, assert_problem, credentials, free_port, login, run, until

DEPLOY = BASE_DIR / "deploy"
HOST = "users.example.com"
GRANIAN = {name: value or "" for name, value in dotenv_values(DEPLOY / "granian.conf").items()}
# The port is the one that the test has chosen.
COMMAND = ("sh", "-c", 'exec granian --port "$PORT" tests.granian_app:app')
PRODUCTION = {
    "UTILMETA_PRODUCTION": "true",
    "SECRET_KEY": "a-key-of-the-tests-that-is-long-enough-for-production",
    "ALLOWED_HOSTS": HOST,
    "TRUSTED_PROXIES": "1",
    "THROTTLE": "on",
}
numbers = itertools.count()
# Takes seconds of a core.
SLOW_HASH = "10000000"


class Site:
    """nginx as deploy/nginx.conf has it, before two processes of the service."""

    def __init__(self, folder: Path, processes: list[Process], changes: dict[str, str]) -> None:
        self.folder = folder
        self.changes = changes
        self.processes = processes
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

    def raw(self, request: bytes, port: int | None = None) -> httpx.Response:
        """Send bytes over a plain connection; return the answer."""
        with socket.create_connection(("127.0.0.1", port or self.plain_port), timeout=60) as connection:
            connection.sendall(request)
            received = b"".join(iter(lambda: connection.recv(65_536), b""))
        head, _, body = received.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = [tuple(line.split(": ", 1)) for line in lines]
        return httpx.Response(int(status.split()[1]), headers=headers, content=body)  # type: ignore[arg-type]


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
    """Have two processes of the service, as deploy/granian.conf has them, on one database."""
    name = f"demo_user_deploy_{os.getpid()}_{next(numbers)}"
    settings = GRANIAN | PRODUCTION | {"DATABASE_URL": database_url(name, folder)} | settings
    with a_database(name), ExitStack() as stack:
        assert run("meta", "migrate", **settings).returncode == 0
        processes = []
        for number in range(2):
            process = Process(COMMAND, BASE_DIR, folder / f"service{number}", settings)
            stack.callback(lambda process=process: process.process.poll() is None and kill(process))
            processes.append(process)
        for process in processes:
            process.wait_until_granian_has_started()
        yield processes


@contextmanager
def a_site(folder: Path, changes: dict[str, str] | None = None, **settings: str) -> Iterator[Site]:
    """Have nginx before two processes of the service, perhaps with changes to its file (by pattern)."""
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
    """Sign up; return the answer."""
    return client.post("/api/user/signup", json=credentials(name), headers=headers)


def assert_headers_of_a_problem(response: httpx.Response) -> None:
    """Check that an answer of nginx's own has the headers that the service's have."""
    assert response.headers["Server"] == "nginx"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert response.headers["Referrer-Policy"] == "same-origin"
    assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"


@needs_nginx
def test_session_made_through_one_process_works_through_the_other(site):
    with site.browser() as client:
        user = sign_up(client, "both").json()

        def both_have_answered():
            assert client.get("/api/user").json() == user
            return all(
                any(record.get("user_id") == user["id"] for record in records(process))
                for process in site.processes
            )

        until(both_have_answered)


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

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in (site.folder / "demo-user.access.log").read_text().splitlines()]

    ids = {response.headers["X-Request-ID"] for response in (answered, refused)}
    until(lambda: ids <= {line["request_id"] for line in lines()})
    assert {line["method"] for line in lines()} <= {"GET", "POST", "other"}
    written = "".join(path.read_text() for path in site.folder.glob("*.log"))
    written += (site.folder / "nginx").read_text() + "".join(process.log for process in site.processes)
    assert "marked" not in written.lower()


PREFIX = "/accounts"
UNDER_A_PATH = {
    r"location / \{": "location = /.well-known/change-password { return 302 /accounts/#password; }\n"
    "location /accounts/ {",
}
BY_NGINX = UNDER_A_PATH | {r"proxy_pass http://demo_user;": "proxy_pass http://demo_user/;"}


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

        assert client.get("/api/user").json() == user.json()
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
def test_killed_process_loses_nothing(own_site):
    with own_site.browser() as client:
        user = sign_up(client, "survivor").json()
        kill(own_site.processes[0])

        for turn in range(20):
            assert client.get("/api/user").json() == user
            # A second browser: a signup ends the earlier session of its own.
            with own_site.browser() as other:
                assert sign_up(other, f"later-{turn}").status_code == 200
                assert login(other, f"later-{turn}").status_code == 200


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
    assert set(GRANIAN) <= {f"GRANIAN_{option.name.upper()}" for option in granian_cli.params}


def unit(name: str) -> str:
    """Return the text of a unit, with this project's folders in place of the example's."""
    text = (DEPLOY / name).read_text()
    text = text.replace("/srv/demo-user/.venv/bin", str(Path(sys.executable).parent))
    return text.replace("/srv/demo-user", str(BASE_DIR))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong(tmp_path):
    names = ["demo-user.service", "demo-user-purge.service", "demo-user-purge.timer"]
    for name in names:
        (tmp_path / name).write_text(unit(name))

    verified = run("systemd-analyze", "verify", "--man=no", *names, cwd=tmp_path)

    assert verified.returncode == 0, verified.stderr
    assert not [line for line in verified.stderr.splitlines() if "demo-user" in line]


def test_unit_starts_the_service_only_with_settings_that_are_right(tmp_path):
    command = re.search(r"^ExecStart=/bin/sh -c '(.*)'$", unit("demo-user.service"), re.MULTILINE)[1]
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
