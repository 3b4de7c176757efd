"""Starting the service, in every way it is started, and being told when that cannot be."""

import json
import os
import socket
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing

import httpx
import psutil
import pytest

from config import BASE_DIR, EXIT_CODE, settings

from .support import Process, credentials, free_port, run

PYTHON = sys.executable
SERVER = str(BASE_DIR / "server.py")
SECRET_KEY = "a-key-of-the-tests-that-is-long-enough-for-production"
development = pytest.mark.skipif(settings.production, reason="the development server is for development")


def assert_refused(process: Process, *words: str) -> None:
    """Check that a process ended with one line that says why."""
    assert process.exit_code() == EXIT_CODE
    (line,) = process.log.splitlines()
    assert line.startswith("demo-user cannot start: ")
    for word in words:
        assert word in line


@development
@pytest.mark.parametrize("command", [("meta", "run"), (PYTHON, SERVER)], ids=["meta run", "server.py"])
def test_development_server_makes_its_database_and_serves(start, tmp_path, command):
    process = start(*command, cwd=BASE_DIR).wait_until_it_serves()

    assert httpx.get(f"{process.url}/api/user").status_code == 401
    assert (tmp_path / "db.sqlite3").exists()
    assert process.log.count("Brought the database up to date: ") == 1
    assert f"development server at {process.url}/" in process.log


@development
@pytest.mark.parametrize("command", [("meta", "run"), (PYTHON, SERVER)], ids=["meta run", "server.py"])
def test_development_server_takes_a_body_in_chunks(start, command):
    process = start(*command, cwd=BASE_DIR).wait_until_it_serves()
    body = json.dumps(credentials()).encode()

    with httpx.Client(headers={"Content-Type": "application/json"}) as client:
        signed_up = client.post(f"{process.url}/api/user/signup", content=iter([body[:9], body[9:]]))
        malformed = client.post(f"{process.url}/api/user/login", content=iter([b"{"]))
        too_large = client.post(f"{process.url}/api/user/login", content=iter([b" " * 40_000] * 2))

        assert signed_up.json()["username"] == "bob"
        assert (malformed.status_code, too_large.status_code) == (400, 413)
        assert client.get(f"{process.url}/api/user").json() == signed_up.json()
        assert client.get(f"{process.url}/api/health", headers={"Host": "10.1.2.3"}).status_code == 200


@development
def test_copied_example_needs_no_migration_whatever_the_directory(start, tmp_path):
    (tmp_path / "db.sqlite3").write_bytes((BASE_DIR / "db.sqlite3.example").read_bytes())

    process = start(PYTHON, SERVER, cwd=tmp_path, DJANGO_SETTINGS_MODULE="server").wait_until_it_serves()

    assert "Brought the database up to date" not in process.log


@development
def test_taken_port_is_refused(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert_refused(
            start("meta", "run", cwd=BASE_DIR, PORT=port), f"127.0.0.1:{port}", "Address already in use"
        )


@development
def test_file_that_is_no_database_is_refused_and_kept(start, tmp_path):
    (tmp_path / "db.sqlite3").write_text("my diary, which is not a database\n" * 100)

    assert_refused(start("meta", "run", cwd=BASE_DIR), str(tmp_path / "db.sqlite3"), "file is not a database")

    assert (tmp_path / "db.sqlite3").read_text() == "my diary, which is not a database\n" * 100


@development
def test_missing_folder_is_refused(start, tmp_path):
    database = f"sqlite:///{tmp_path}/missing/db.sqlite3"

    assert_refused(start(PYTHON, SERVER, DATABASE_URL=database), "unable to open database file")
    assert not (tmp_path / "missing").exists()


@development
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_written_is_refused(start, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)

    assert_refused(
        start(PYTHON, SERVER, DATABASE_URL=f"sqlite:///{folder}/db.sqlite3"), "unable to open database file"
    )


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        (("meta", "run"), "PORT", "http"),
        (("meta", "migrate"), "DATABASE_URL", "x"),
        ((PYTHON, SERVER), "UTILMETA_PRODUCTION", "maybe"),
    ],
)
def test_wrong_setting_is_refused_by_name(start, command, name, value):
    assert_refused(start(*command, cwd=BASE_DIR, **{name: value}), f"{name} takes ")


def test_production_without_a_secret_key_is_refused(start):
    key = "too-short-a-secret"

    process = start(PYTHON, "-c", "import server", cwd=BASE_DIR, UTILMETA_PRODUCTION="1", SECRET_KEY=key)

    assert_refused(process, "SECRET_KEY takes 50 characters or more")
    assert key not in process.log


def test_production_is_not_served_by_the_development_server(start):
    process = start(PYTHON, SERVER, UTILMETA_PRODUCTION="1", SECRET_KEY=SECRET_KEY)

    assert_refused(process, "granian --interface wsgi server:app")


@pytest.fixture
def env_file(tmp_path):
    """Return a function that starts `config.py` as a process, with a file `.env` beside it."""
    for name in ("config.py", "meta.ini"):
        (tmp_path / name).write_text((BASE_DIR / name).read_text())

    def start_with(content: bytes | None, **environment: str) -> subprocess.CompletedProcess[str]:
        if content is not None:
            (tmp_path / ".env").write_bytes(content)
        code = "from config import settings as s; print(s.production, s.port, s.throttle, s.secret_key)"
        without = [name for name in os.environ if hasattr(settings, name.lower())]
        return run(PYTHON, "-c", code, cwd=tmp_path, without=without, **environment)

    return start_with


def assert_not_started(result: subprocess.CompletedProcess[str], line: str) -> None:
    """Check that a process ended with one line, before it did anything."""
    assert result.returncode == EXIT_CODE
    assert result.stdout == ""
    assert result.stderr == f"demo-user cannot start: {line}\n"


def test_env_file_is_read_after_the_environment(env_file):
    content = b'# a comment\nexport PORT="8123"  # another\nTHROTTLE=off\nSECRET_KEY="a=b#c"\n'

    result = env_file(content, THROTTLE="on")

    assert result.stdout == "False 8123 True a=b#c\n", result.stderr


KEY_LINE = f"SECRET_KEY={SECRET_KEY}\n"


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfUTILMETA_PRODUCTION=1\n" + KEY_LINE.encode(),
        f"UTILMETA_PRODUCTION=1\r\n{KEY_LINE}".encode(),
        f"UTILMETA_PRODUCTION=1\r{KEY_LINE}".encode(),
        f"export UTILMETA_PRODUCTION=1\n{KEY_LINE}".encode(),
        f"UTILMETA_PRODUCTION = 1\n{KEY_LINE}".encode(),
        f"\n\n  UTILMETA_PRODUCTION='true'  # for real users\n{KEY_LINE}".encode(),
    ],
    ids=["byte order mark", "CRLF", "CR", "export", "spaces", "quotes"],
)
def test_env_file_of_any_editor_starts_production(env_file, content):
    result = env_file(content)

    assert result.stdout.startswith("True "), result.stderr


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"SECRET_KEY=hunter2\nUTILMETA_PRODUCTION: hunter2\n", "line 2 of .env is not NAME=value."),
        (b"utilmeta_production=1\n", "line 1 of .env must have the name UTILMETA_PRODUCTION."),
        (b"UTILMETA_PRODUCTION=\n", "UTILMETA_PRODUCTION takes true, false, 1 or 0."),
        ("UTILMETA_PRODUCTION=1\n".encode("utf-16"), ".env is not a text in UTF-8."),
    ],
)
def test_env_file_that_cannot_be_read_as_one_is_refused(env_file, content, line):
    assert_not_started(env_file(content), line)


def test_folder_in_the_place_of_the_env_file_is_refused(env_file, tmp_path):
    (tmp_path / ".env").mkdir()  # as Docker makes one for a file that is not there

    assert_not_started(env_file(None), ".env cannot be read: Is a directory.")


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("UTILMETA_PRODUCTION", "", "UTILMETA_PRODUCTION takes true, false, 1 or 0."),
        ("utilmeta_production", "1", "the environment must have the name UTILMETA_PRODUCTION."),
        ("UTILMETA_PRODUCTION ", "1", "the environment must have the name UTILMETA_PRODUCTION."),
        ("\ufeffUTILMETA_PRODUCTION", "1", "the environment must have the name UTILMETA_PRODUCTION."),
    ],
)
def test_environment_that_seems_to_say_production_does_not_start_development(env_file, name, value, line):
    content = f"UTILMETA_PRODUCTION=1\n{KEY_LINE}".encode()

    assert_not_started(env_file(content, **{name: value}), line)


@development
@pytest.mark.parametrize(
    "command",
    [
        ("sh", "-c", 'exec granian --interface wsgi --port "$PORT" server:app'),
        ("sh", "-c", 'exec gunicorn --bind "127.0.0.1:$PORT" --no-control-socket server:app'),
    ],
    ids=["granian", "gunicorn"],
)
def test_server_of_production_says_that_this_is_development(start, command):
    process = start(*command, cwd=BASE_DIR).wait_until_it_serves()

    notice = "demo-user: this is development mode; real users need UTILMETA_PRODUCTION=1."
    assert process.log.splitlines().count(notice) == 1


def in_production(tmp_path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in production mode on a database that nobody has made yet."""
    return run(
        *command,
        UTILMETA_PRODUCTION="1",
        SECRET_KEY=SECRET_KEY,
        DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3",
    )


def test_production_never_migrates_and_says_what_to_run(tmp_path):
    refused = in_production(tmp_path, PYTHON, "-c", "import server")

    assert refused.returncode == EXIT_CODE
    (line,) = refused.stderr.splitlines()
    assert line.startswith("demo-user cannot start: the database lacks ")
    assert line.endswith("Run: meta migrate")
    with closing(sqlite3.connect(tmp_path / "db.sqlite3")) as database:
        assert database.execute("SELECT * FROM sqlite_master").fetchall() == []

    migrated = in_production(tmp_path, "meta", "migrate")

    assert migrated.returncode == 0, migrated.stderr


def test_production_starts_while_the_database_is_away(tmp_path):
    (tmp_path / "db.sqlite3").mkdir()

    result = in_production(tmp_path, PYTHON, "-c", "import server")

    assert result.returncode == 0
    assert result.stderr == "demo-user: the database cannot be reached now: unable to open database file\n"


@development
def test_daemon_is_left_to_utilmeta(tmp_path):
    port = str(free_port())

    result = run(
        "meta",
        "run",
        "-d",
        f"--log={tmp_path}/log",
        PORT=port,
        DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3",
    )

    assert result.returncode == 0, result.stderr
    assert "nohup" in result.stdout
    for process in psutil.process_iter(["cmdline"]):
        if SERVER in (process.info["cmdline"] or []) and process.environ().get("PORT") == port:
            process.terminate()
            process.wait(60)


def warnings_with(origins: str, hosts: str, *command: str) -> list[str]:
    """Return what a start writes with trusted origins and allowed hosts."""
    result = run(
        *(command or (PYTHON, "-c", "import server")),
        TRUSTED_ORIGINS=origins,
        ALLOWED_HOSTS=hosts,
        UTILMETA_PRODUCTION="0",
        LOG_LEVEL="WARNING",
    )
    assert result.returncode == 0, result.stderr
    return [line for line in result.stderr.splitlines() if "origin_on_another_site" in line]


@pytest.mark.parametrize(
    ("origin", "hosts"),
    [
        ("https://app.example.org", "users.example.com"),
        ("https://example.org", ".example.com,example.net"),
        ("capacitor://localhost", "users.example.com"),
        ("http://localhost:5173", "users.example.com"),
        ("http://10.0.0.1", "127.0.0.1"),
        ("http://[::2]", "[::1]"),
    ],
)
def test_trusted_origin_on_another_site_is_warned_of_once(origin, hosts):
    (line,) = warnings_with(origin, hosts)

    assert "WARNING" in line
    assert f"origin={origin} " in line
    assert f"allowed_hosts={hosts} " in line


@pytest.mark.parametrize(
    ("origin", "hosts"),
    [
        ("https://app.example.com", "users.example.com"),
        ("https://example.com:8443", ".example.com"),
        ("https://app.example.com", "users.example.org,users.example.com"),
        ("https://app.example.com", "*"),
        ("http://localhost:5173", "localhost,127.0.0.1,[::1]"),
        ("http://127.0.0.1:5173", "localhost,127.0.0.1,[::1]"),
        ("http://[::1]:5173", "localhost,127.0.0.1,[::1]"),
        ("http://app.localhost:5173", "localhost"),
        ("http://intranet:81", "intranet"),
        ("", "users.example.com"),
    ],
)
def test_trusted_origin_that_may_be_on_the_same_site_is_not_warned_of(origin, hosts):
    assert warnings_with(origin, hosts) == []


def test_command_does_not_warn_of_origins():
    assert warnings_with("https://example.org", "example.com", "meta", "migrate", "--check") == []


def test_plain_http_is_another_site_than_a_service_in_production(tmp_path):
    (tmp_path / "db.sqlite3").mkdir()  # it starts without a database, but not without its migrations

    result = run(
        PYTHON,
        "-c",
        "import server",
        TRUSTED_ORIGINS="http://app.example.com,https://app.example.com",
        ALLOWED_HOSTS="users.example.com",
        UTILMETA_PRODUCTION="1",
        SECRET_KEY=SECRET_KEY,
        DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3",
    )

    (record,) = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert (record["event"], record["level"]) == ("origin_on_another_site", "WARNING")
    assert record["origin"] == "http://app.example.com"
