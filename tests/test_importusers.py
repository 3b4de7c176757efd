"""`meta importusers`: accounts of another system, a line each."""

import io
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

import argon2
import bcrypt
import pytest
from django.contrib.auth import hashers
from django.core.management import CommandError, call_command
from django.utils import timezone as clock

from config import BASE_DIR
from user.management.commands import importusers
from user.models import Session, User
from user.schema import Username

from .support import OTHER_PASSWORD, PASSWORD, assert_problem, login, run
from .test_commands import Terminal

HASH = hashers.PBKDF2PasswordHasher().encode(PASSWORD, "s" * 22, 1)
BCRYPT_SALT = b"$2b$04$abcdefghijklmnopqrstuu"
ARGON2 = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(
    PASSWORD, salt=bytes(range(16))
)
BCRYPT = bcrypt.hashpw(PASSWORD.encode(), BCRYPT_SALT).decode()
TIME = "2024-01-29T12:29:33.684594Z"
HEADER_FAULT = (
    "Line 1 must name the columns: username, password and, if there is one, signup_time; with commas."
)


class Result(NamedTuple):
    """What an import said."""

    summary: str
    lines: list[str]
    error: str
    code: int


@pytest.fixture
def do_import(tmp_path):
    """Return a function that imports the users of a file."""

    def run_command(content: str | bytes) -> Result:
        file = tmp_path / "users.csv"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return import_file(str(file))

    return run_command


def import_file(name: str) -> Result:
    """Import the users of a file that is there already, or is not."""
    stdout, stderr, error, code = io.StringIO(), io.StringIO(), "", 0
    try:
        call_command("importusers", name, stdout=stdout, stderr=stderr)
    except CommandError as caught:
        error, code = str(caught), caught.returncode
    assert "\n" not in error
    return Result(stdout.getvalue(), stderr.getvalue().splitlines(), error, code)


def assert_refused(result: Result, number: int, reason: str) -> None:
    """Check that one line of an import was refused, and why."""
    assert result.lines == [f"Line {number} was refused. {reason}"]
    assert result.error == "Lines refused: 1."
    assert result.code == 1


def test_imported_users_can_log_in_and_are_as_old_as_they_were(do_import, client):
    result = do_import(f'username,password,signup_time\nbob,{HASH},{TIME}\neve,{BCRYPT},\nada,"{ARGON2}",\n')

    assert result == ("Imported: 3. Existing: 0. Refused: 0.\n", [], "", 0)
    assert login(client, "bob").json()["signup_time"] == TIME
    for name in ("eve", "ada"):
        assert login(client, name).status_code == 200
        assert User.objects.get(username=name).password.startswith("pbkdf2_sha256$")
        assert clock.now() - User.objects.get(username=name).signup_time < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2024-01-29T12:29:33Z", datetime(2024, 1, 29, 12, 29, 33, tzinfo=timezone.utc)),
        ("2024-01-29 12:29:33.5+02:00", datetime(2024, 1, 29, 10, 29, 33, 500_000, tzinfo=timezone.utc)),
        ("1999-12-31T23:00:00-05:00", datetime(2000, 1, 1, 4, tzinfo=timezone.utc)),
    ],
)
def test_time_of_any_zone_is_read(do_import, text, time):
    do_import(f"signup_time,password,username\n{text},{HASH},bob\n")

    assert User.objects.get().signup_time == time


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-29T12:29:33",
        "2024-01-29",
        "yesterday",
        "2024-13-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "1706531373",
    ],
)
def test_time_that_could_be_another_is_refused(do_import, text):
    result = do_import(f"username,password,signup_time\nbob,{HASH},{text}\n")

    assert_refused(result, 2, "The signup_time of bob is not one like 2024-01-29T12:29:33Z.")
    assert not User.objects.exists()


@pytest.mark.parametrize("password", ["", f"!{'x' * 40}", "!"])
def test_account_without_a_password_waits_for_one(do_import, client, password):
    assert do_import(f"username,password\nbob,{password}\n").code == 0

    for guess in ("!", "x" * 15, password or "?"):
        assert_problem(login(client, password=guess), 403, "invalid_credentials")

    assert run("meta", "setpassword", "bob", stdin=PASSWORD).returncode == 0
    assert login(client).status_code == 200


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD,
        "hunter2",
        "5f4dcc3b5aa765d61d8327deb882cf99",
        "md5$salt$5f4dcc3b5aa765d61d8327deb882cf99",
        HASH[:-1],
        f" {HASH}",
        HASH.replace("pbkdf2_sha256", "pbkdf2_md4"),
        "pbkdf2_sha256$1$\N{SNOWMAN}$" + "h" * 43 + "=",
    ],
)
def test_password_that_is_no_hash_is_neither_stored_nor_shown(do_import, password):
    result = do_import(f"username,password\nbob,{password}\neve,{HASH}\n")

    assert_refused(result, 2, "The password of bob is not a hash that is known here.")
    assert password not in str(result)
    assert User.objects.get().username == "eve"


def test_hash_that_the_column_has_no_room_for_is_refused(do_import):
    long_hash = hashers.PBKDF2PasswordHasher().encode(PASSWORD, "s" * 100, 1)

    result = do_import(f"username,password\nbob,{long_hash}\n")

    assert_refused(result, 2, "The hash of bob is longer than 128 characters.")


@pytest.mark.parametrize("username", ["Bob", "BOB", "\N{FULLWIDTH LATIN SMALL LETTER B}ob", '"bob"'])
def test_name_is_normalised_as_at_a_signup(do_import, client, username):
    assert do_import(f"username,password\n{username},{HASH}\n").code == 0

    assert login(client, "bob").status_code == 200


@pytest.mark.parametrize("username", ["", "a b", " bob", "-bob", "x" * 21, "böb", "a\tb", "bob@example.com"])
def test_name_that_signup_refuses_is_refused(do_import, username):
    result = do_import(f"username,password\n{username},{HASH}\n")

    assert_refused(result, 2, f"username: {Username.message}")


def test_two_lines_of_one_name_are_not_one_account(do_import):
    result = do_import(f"username,password\nbob,{HASH}\nBob,{BCRYPT}\n")

    assert_refused(result, 3, "A line above has the username bob, too.")
    assert User.objects.get().password == HASH


def test_account_that_exists_is_counted_and_stays(bob, client, do_import):
    row = User.objects.values().get()

    result = do_import(f"username,password,signup_time\nBob,{BCRYPT},{TIME}\neve,{HASH},{TIME}\n")

    assert result == ("Imported: 1. Existing: 1. Refused: 0.\n", [], "", 0)
    assert User.objects.values().get(username="bob") == row
    assert bob.get("/api/user").status_code == 200


def test_import_can_be_repeated(do_import):
    content = "username,password\n" + "".join(f"user{number},{HASH}\n" for number in range(5))
    do_import(content)
    rows = list(User.objects.order_by("pk").values())

    assert do_import(content).summary == "Imported: 0. Existing: 5. Refused: 0.\n"
    assert list(User.objects.order_by("pk").values()) == rows


def test_interrupted_import_keeps_what_it_has_done_and_goes_on(do_import, monkeypatch):
    def interrupt(accounts):
        if User.objects.exists():
            raise KeyboardInterrupt
        return add_users(accounts)

    add_users = importusers.add_users
    monkeypatch.setattr(importusers, "BATCH_SIZE", 2)
    monkeypatch.setattr(importusers, "add_users", interrupt)
    content = "username,password\n" + "".join(f"user{number},{HASH}\n" for number in range(5))

    result = do_import(content)

    assert result == ("Imported: 2. Existing: 0. Refused: 0.\n", [], "Interrupted.", 130)
    assert User.objects.count() == 2

    monkeypatch.setattr(importusers, "add_users", add_users)

    assert do_import(content).summary == "Imported: 3. Existing: 2. Refused: 0.\n"
    assert User.objects.count() == 5


@pytest.mark.parametrize(
    ("header", "end"), [("\N{BYTE ORDER MARK}username,password", "\r\n"), ('"password","username"', "\n")]
)
def test_file_of_another_system_is_read(do_import, client, header, end):
    line = f"{HASH},bob" if header.startswith('"') else f"bob,{HASH}"

    result = do_import(f"{header}{end}{end}{line}{end}{end}")

    assert result == ("Imported: 1. Existing: 0. Refused: 0.\n", [], "", 0)
    assert login(client).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "\n",
        "username",
        "password,signup_time",
        "Username,Password",
        "username;password",
        "username, password",
        "username,password,id",
        "username,password,password",
        f"bob,{HASH}",
        "username,password\rbob,x",
    ],
)
def test_file_with_another_header_is_refused_as_a_whole(do_import, header):
    result = do_import(f"{header}\nbob,{HASH}\n" if header else "")

    assert result.summary == ""
    assert result.lines == []
    assert result.code == 1
    if "\r" in header:
        assert result.error.startswith("Line 1 cannot be read. It is not CSV")
    else:
        assert result.error == HEADER_FAULT
    assert not User.objects.exists()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (
            f"username,password\nbob,{HASH}\n".encode("utf-16"),
            "Line 1 cannot be read. It is not a text in UTF-8.",
        ),
        (
            f"username,password\nbob,{HASH}\n".encode("utf-16-le"),
            "Line 1 cannot be read. It has a NUL in it.",
        ),
        (b"x" * 5000, "Line 1 cannot be read. It is longer than 1000 bytes."),
    ],
)
def test_file_that_is_no_csv_in_utf_8_is_refused_as_a_whole(do_import, content, error):
    assert do_import(content) == ("", [], error, 1)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"b\xf6b," + HASH.encode(), "It is not a text in UTF-8."),
        (b"b\0b," + HASH.encode(), "It has a NUL in it."),
        (b"bob," + b"x" * 5000, "It is longer than 1000 bytes."),
        (b"bob," + b"x" * 996, "It is longer than 1000 bytes."),
        (b'"bob,' + HASH.encode(), "It is not CSV: a quote is not closed, say, or a line end stands in it."),
        (b"bob,x\ry", "It is not CSV: a quote is not closed, say, or a line end stands in it."),
        (
            f"bob,{ARGON2}".encode(),
            "It has 4 values for 2 columns. A hash of Argon2 takes quotes, for its commas.",
        ),
        (
            b"bob",
            "It has 1 values for 2 columns. A hash of Argon2 takes quotes, for its commas.",
        ),
    ],
)
def test_line_that_cannot_be_read_is_refused_and_the_others_are_not(do_import, line, reason):
    result = do_import(
        b"username,password\n\nada," + HASH.encode() + b"\n" + line + b"\neve," + HASH.encode()
    )

    assert_refused(result, 4, reason)
    assert result.summary == "Imported: 2. Existing: 0. Refused: 1.\n"
    assert {user.username for user in User.objects.all()} == {"ada", "eve"}


def test_hashes_that_need_a_library_are_imported_and_named(do_import, monkeypatch):
    monkeypatch.setitem(sys.modules, "argon2", None)

    result = do_import(f'username,password\nbob,"{ARGON2}"\neve,{HASH}\n')

    assert result.summary == "Imported: 2. Existing: 0. Refused: 0.\n"
    assert result.lines == ["Accounts with a hash of argon2 can log in with the extra `hashes` only."]
    assert result.code == 0


@pytest.mark.parametrize(
    ("name", "reason"), [("missing.csv", "No such file or directory"), (".", "Is a directory")]
)
def test_file_that_cannot_be_read_is_refused(tmp_path, name, reason):
    file = str(tmp_path / name)

    assert import_file(file) == ("", [], f"{file} cannot be read: {reason}.", 1)


def test_standard_input_that_is_closed_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)  # as with `<&-` in a shell

    assert import_file("-").error == "There is no standard input to read from."


def test_users_are_read_from_standard_input_whatever_the_locale(monkeypatch, client):
    content = f"username,password\n\N{FULLWIDTH LATIN SMALL LETTER B}ob,{HASH}\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="latin-1"))

    assert import_file("-").summary == "Imported: 1. Existing: 0. Refused: 0.\n"
    assert login(client).status_code == 200


def test_progress_is_shown_on_a_terminal_only(do_import, monkeypatch):
    content = f"username,password\nbob,{HASH}\neve,x\n"
    log, screen = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stderr", log)
    do_import(content)
    monkeypatch.setattr(sys, "stderr", screen)

    result = do_import(content)

    assert log.getvalue() == ""
    assert "%|" in screen.getvalue()
    assert_refused(result, 3, "The password of eve is not a hash that is known here.")


def test_import_makes_no_session(do_import):
    do_import(f"username,password\nbob,{HASH}\n")

    assert not Session.objects.exists()


# As processes


def test_command_of_meta_says_what_it_refused_and_exits_with_an_error(client):
    result = run("meta", "importusers", "-", stdin=f"username,password\nbob,{HASH}\neve,{OTHER_PASSWORD}\n")

    assert result.returncode == 1
    assert result.stdout == "Imported: 1. Existing: 0. Refused: 1.\n"
    assert result.stderr.splitlines() == [
        "Line 3 was refused. The password of eve is not a hash that is known here.",
        "CommandError: Lines refused: 1.",
    ]
    assert login(client).status_code == 200


def test_interrupted_process_says_what_it_has_done():
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "importusers", "-", "--settings", "server"],
        cwd=BASE_DIR,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdin.write(b"username,password\n" + b"".join(b"user%d,\n" % number for number in range(5000)))
    process.stdin.write(b"eve,x\n")
    process.stdin.flush()
    assert process.stderr.readline().startswith(b"Line 5002 was refused.")

    process.send_signal(2)

    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == b"Imported: 5000. Existing: 0. Refused: 1.\n"
    assert stderr == b"CommandError: Interrupted.\n"
    assert User.objects.count() == 5000
