"""The typed client, against a running service."""

import http.server
import os
import re
import socket
import sys
import threading
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import httpx
import pytest

from client import (
    InsecureAddressError,
    NoResponseError,
    Passkey,
    ProblemError,
    Session,
    UnexpectedResponseError,
    User,
    UserClient,
)
from config import BASE_DIR
from server import app

from .authenticator import Authenticator, options_to_create, send_new
from .databases import a_database, database_url
from .markdown import code, section
from .support import BASE_URL, OTHER_PASSWORD, PASSWORD, Process, run

COMMAND = ("sh", "-c", 'exec granian --interface=wsgi --no-ws --port "$PORT" tests.granian_app:app')
SERVICES = {
    "development": {"UTILMETA_PRODUCTION": "false", "THROTTLE": "off", "PASSKEYS": "on"},
    "throttled": {
        "UTILMETA_PRODUCTION": "true",
        "SECRET_KEY": "a-key-of-the-tests-that-is-long-enough-for-production",
        "THROTTLE": "on",
    },
}


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """A running service of each kind, started when it is asked for."""
    started, databases = {}, []

    def start(kind):
        if kind not in started:
            folder = tmp_path_factory.mktemp(kind)
            name = f"demo_user_client_{os.getpid()}_{kind}"
            settings = SERVICES[kind] | {"DATABASE_URL": database_url(name, folder)}
            databases.append(a_database(name))
            databases[-1].__enter__()
            assert run("meta", "migrate", **settings).returncode == 0
            process = Process(COMMAND, BASE_DIR, folder / "log", settings)
            started[kind] = process.wait_until_granian_has_started(workers=1)
        return started[kind]

    yield start
    for process in started.values():
        process.stop()
    for database in databases:
        database.__exit__(None, None, None)


@pytest.fixture
def service(services):
    """A running service that counts no attempts."""
    return services("development")


@pytest.fixture
def client(service, request):
    """A client of the service, and a name of the test's own."""
    with UserClient(service.url) as client:
        client.name = f"c{abs(hash(request.node.name)) % 10**9}"
        yield client


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """Something that is no service: it answers everything alike."""

    def do_GET(self):
        # What is not read resets the connection when it is closed.
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.content)

    def do_POST(self):
        self.do_GET()

    def log_message(self, *args):
        """Write nothing."""


@contextmanager
def client_of_something_else(status, content, **headers):
    """Have a client whose address is not the service's."""
    with http.server.HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        server.status, server.content, server.headers = status, content, headers
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with UserClient(f"http://127.0.0.1:{server.server_port}") as client:
            yield client
        server.shutdown()


def test_story_of_the_tutorial(client):
    before = datetime.now(timezone.utc)

    user = client.signup(client.name, PASSWORD)
    assert isinstance(user, User)
    assert user.username == client.name
    assert before - timedelta(seconds=1) < user.signup_time < datetime.now(timezone.utc)
    assert client.get() == user

    client.logout()
    with pytest.raises(ProblemError, match=r"^not_logged_in \(401\): Log in first\.$"):
        client.get()

    assert client.login(client.name, PASSWORD) == user
    renamed = client.put(username=f"{client.name}-updated", password=OTHER_PASSWORD)
    assert (renamed.id, renamed.username) == (user.id, f"{client.name}-updated")
    assert client.get() == renamed
    assert client.put() == renamed


def test_clients_have_sessions_of_their_own(client, service):
    client.signup(client.name, PASSWORD)

    with UserClient(service.url) as other, pytest.raises(ProblemError) as raised:
        other.get()

    assert raised.value.code == "not_logged_in"
    assert client.get().username == client.name


def test_sessions_are_listed_and_revoked(client, service):
    client.signup(client.name, PASSWORD)
    with (
        UserClient(service.url, headers={"User-Agent": "curl/8.5.0"}) as other,
        UserClient(service.url) as third,
    ):
        other.login(client.name, PASSWORD)
        third.login(client.name, PASSWORD)

        listed = client.sessions()
        assert [each.current for each in listed].count(True) == 1
        assert len(listed) == 3
        curl = next(each for each in listed if each.client == "curl")
        assert isinstance(curl, Session)
        assert curl.created_time <= curl.last_activity + timedelta(seconds=1) < curl.expiry_time

        client.revoke_session(curl.id)
        assert client.revoke_other_sessions() == 1
        for each in (other, third):
            with pytest.raises(ProblemError, match="not_logged_in"):
                each.get()
    with pytest.raises(ProblemError, match="not_found"):
        client.revoke_session(curl.id)
    assert client.get().username == client.name


def test_passkeys_are_listed_renamed_and_deleted(client, service):
    client.signup(client.name, PASSWORD)
    phone = Authenticator(rp_id="localhost")
    with httpx.Client(base_url=service.url, cookies=client._http.cookies) as browser:
        origin = service.url.replace("127.0.0.1", "localhost")
        added = send_new(browser, phone.create(options_to_create(browser), origin=origin), name="Phone")
        assert added.status_code == 200, added.text

    [passkey] = client.passkeys()

    assert isinstance(passkey, Passkey)
    assert (passkey.name, passkey.last_used_time, passkey.backed_up) == ("Phone", None, True)
    assert passkey.created_time.utcoffset() == timedelta(0)
    assert client.rename_passkey(passkey.id, "Old phone").name == "Old phone"
    client.delete_passkey(passkey.id)
    assert client.passkeys() == []
    with pytest.raises(ProblemError, match="not_found"):
        client.delete_passkey(passkey.id)


def test_passkeys_that_are_off_are_not_found(services):
    with UserClient(services("throttled").url) as client, pytest.raises(ProblemError, match="not_found"):
        client.passkeys()


def test_recovery_code_gets_a_user_back_in(client, service):
    user = client.signup(client.name, PASSWORD)
    assert client.recovery_code_time() is None

    code = client.create_recovery_code()

    assert client.recovery_code_time() == code.created_time
    assert code.recovery_code not in repr(code)
    with UserClient(service.url) as other:
        assert other.recover(client.name, code.recovery_code, OTHER_PASSWORD) == user
        assert other.recovery_code_time() is None
        other.create_recovery_code()
        other.delete_recovery_code()
        assert other.recovery_code_time() is None


def test_reauthentication_and_deletion(client):
    user = client.signup(client.name, PASSWORD)

    with pytest.raises(ProblemError, match="invalid_credentials"):
        client.reauthenticate("wrong")
    assert client.reauthenticate(PASSWORD) == user
    client.delete()

    with pytest.raises(ProblemError, match="not_logged_in"):
        client.get()
    with pytest.raises(ProblemError, match="invalid_credentials"):
        client.login(client.name, PASSWORD)


def test_wrong_fields_are_named(client):
    with pytest.raises(ProblemError) as raised:
        client.signup("Not a name", "short")

    problem = raised.value
    assert (problem.status, problem.code) == (400, "invalid_request")
    assert set(problem.errors) == {"username", "password"}
    assert len(problem.request_id) == 32
    assert problem.retry_after is None
    assert "username: Use 1 to 20 letters" in str(problem)


def test_current_password_is_sent(client):
    client.signup(client.name, PASSWORD)

    with pytest.raises(ProblemError) as raised:
        client.put(password=OTHER_PASSWORD, current_password="wrong")
    assert raised.value.code == "invalid_credentials"
    client.put(password=OTHER_PASSWORD, current_password=PASSWORD)
    client.login(client.name, OTHER_PASSWORD)


def test_throttled_call_says_how_long_to_wait(services):
    with UserClient(services("throttled").url) as client:
        problem = None
        for _ in range(12):
            with pytest.raises(ProblemError) as raised:
                client.login("nobody", PASSWORD)
            problem = raised.value

    assert (problem.status, problem.code) == (429, "too_many_requests")
    assert 0 < problem.retry_after <= 600


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (502, b"<h1>Bad Gateway</h1>"),
        (200, b"<h1>Sign in to this network</h1>"),
        (200, b"[]"),
        (200, b"[" * 100_000),
        (400, b"[" * 100_000),
        (200, b'{"id": 1, "username": "bob", "signup_time": null}'),
        (400, b'{"detail": "something else"}'),
        (400, b'{"code": "a", "detail": "b", "request_id": "c", "errors": [1]}'),
        (302, b""),
    ],
)
def test_response_of_something_else_is_an_error(status, content):
    with client_of_something_else(status, content) as client:
        with pytest.raises(UnexpectedResponseError, match=f"^unexpected response with status {status}$"):
            client.get()
        with pytest.raises(UnexpectedResponseError):
            client.login("bob", PASSWORD)


def test_logout_that_something_else_answers_is_an_error():
    with (
        client_of_something_else(200, b"<h1>Sign in to this network</h1>") as client,
        pytest.raises(UnexpectedResponseError),
    ):
        client.logout()


def test_wait_that_is_a_date_is_no_number_of_seconds():
    content = b'{"code": "service_unavailable", "detail": "b", "request_id": "c"}'
    with (
        client_of_something_else(503, content, **{"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}) as client,
        pytest.raises(ProblemError) as raised,
    ):
        client.get()

    assert raised.value.retry_after is None


def test_cookie_of_either_mode_is_kept():
    with UserClient(BASE_URL, transport=httpx.WSGITransport(app=app)) as client:
        user = client.signup("bob", PASSWORD)

        assert client.get() == user


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_login_that_cannot_last_over_http_is_an_error(services, host):
    url = services("throttled").url.replace("127.0.0.1", host)
    with UserClient(url) as client:
        name = f"plain-{host}"
        with pytest.raises(InsecureAddressError, match="https://"):
            client.signup(name, PASSWORD)
        with pytest.raises(InsecureAddressError, match="https://"):
            client.login(name, PASSWORD)


def test_no_response_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with UserClient(url, timeout=0.2) as client, pytest.raises(NoResponseError, match=url):
            client.get()
    with UserClient(url) as client, pytest.raises(NoResponseError, match=url):
        client.get()


def test_response_that_cannot_be_unpacked_is_no_response():
    with (
        client_of_something_else(200, b"no gzip", **{"Content-Encoding": "gzip"}) as client,
        pytest.raises(NoResponseError),
    ):
        client.get()


def test_text_that_cannot_be_sent_is_an_error(service):
    with UserClient(service.url) as client, pytest.raises(ValueError, match="surrogates"):
        client.login("bob", "\ud800")


def test_client_needs_nothing_of_the_service(tmp_path):
    (tmp_path / "client.py").write_text((BASE_DIR / "client.py").read_text())

    done = run(sys.executable, "-c", "import client; print(client.UserClient)", cwd=tmp_path)

    assert "client.UserClient" in done.stdout


def test_example_of_the_page_does_what_it_says(service, capsys):
    (example,) = code(section("docs/api.md", "In Python"), "python")
    assert "http://127.0.0.1:8000" in example

    exec(example.replace("http://127.0.0.1:8000", service.url), {})

    printed = capsys.readouterr().out.splitlines()
    expected = re.findall(r"  # (.+)$", example, re.MULTILINE)
    assert [re.sub(r"datetime\(.*?\)|id=\d+", "…", line) for line in printed] == [
        re.sub(r"datetime\(.*?\)|id=\d+", "…", line) for line in expected
    ]
