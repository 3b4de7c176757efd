"""Operations from the command line: what each command does, says and refuses."""

import io
import os
import pty
import subprocess
import sys
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from config import BASE_DIR, settings
from user import queries
from user.management import base
from user.management.commands import purgesessions, setpassword
from user.models import RecoveryCode, Session, User
from user.queries import live_sessions
from user.schema import Username

from .authenticator import register
from .support import MIN_LENGTH, OTHER_PASSWORD, PASSWORD, assert_problem, call, login, refusal, run

TIME_LIMIT = 60


class Terminal(io.StringIO):
    """A stream that a person sits at."""

    def isatty(self):
        return True


@pytest.fixture
def stdin(monkeypatch):
    """Return a function that puts a text on standard input, in UTF-8 whatever the locale says."""

    def put(text: str | bytes) -> None:
        content = text if isinstance(text, bytes) else text.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="latin-1"))

    return put


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that has a person at a terminal give answers, to prompts with and without echo."""

    def sit(*answers: str) -> list[str]:
        prompts = []
        left = iter(answers)

        def answer(prompt: str) -> str:
            prompts.append(prompt)
            return next(left)

        monkeypatch.setattr(sys, "stdin", Terminal())
        monkeypatch.setattr(base, "getpass", answer)
        monkeypatch.setattr("builtins.input", answer)
        return prompts

    return sit


def add_sessions(count: int, user: User | None = None, **columns: timedelta | None) -> list[int]:
    """Add rows of sessions whose columns are as long from now as said; return their primary keys."""
    times = {"expiry_time": timedelta(days=7)} | columns
    values = {name: None if age is None else timezone.now() + age for name, age in times.items()}
    start = Session.objects.count()
    return [
        Session.objects.create(session_key=f"key{start + number}", user=user, **values).pk
        for number in range(count)
    ]


def days(number: float) -> timedelta:
    """Return a number of days."""
    return timedelta(days=number)


# createuser


def test_created_user_can_log_in(client, stdin):
    stdin(f"{PASSWORD}\n")

    said = call("createuser", "Bob")

    assert said == "Created bob.\n"
    assert login(client, "bob").status_code == 200


def test_created_user_has_no_session(stdin):
    stdin(PASSWORD)

    call("createuser", "bob")

    assert not Session.objects.exists()


@pytest.mark.usefixtures("bob")
def test_taken_name_is_refused(stdin):
    stdin(PASSWORD)

    assert refusal("createuser", "bob") == "username: Username exists"
    assert User.objects.count() == 1


@pytest.mark.parametrize("username", ["", "a b", "x" * 21, "\udcff"])
def test_name_that_signup_refuses_is_refused(stdin, username):
    stdin(PASSWORD)

    assert refusal("createuser", username) == f"username: {Username.message}"
    assert not User.objects.exists()


TOO_SHORT = f"password: Use at least {MIN_LENGTH} characters."
UNUSABLE = "password: This has a character that cannot be stored."


@pytest.mark.parametrize(
    ("password", "message"),
    [
        ("", TOO_SHORT),
        ("x" * (MIN_LENGTH - 1), TOO_SHORT),
        ("x" * 101, "password: Use at most 100 characters."),
        ("\0" * MIN_LENGTH, UNUSABLE),
    ],
)
def test_password_that_signup_refuses_is_refused(stdin, password, message):
    stdin(f"{password}\n")

    assert refusal("createuser", "bob") == message
    assert not User.objects.exists()


def test_every_fault_is_named(stdin):
    stdin("")

    assert refusal("createuser", "-") == f"username: {Username.message} {TOO_SHORT}"


@pytest.mark.skipif(not settings.production, reason="development takes any password")
@pytest.mark.parametrize("command", ["createuser", "setpassword"])
def test_name_as_password_is_refused_in_production(make_user, stdin, command):
    name = "a-long-name-of-bobs"
    if command == "setpassword":
        make_user(name)
    stdin(name.upper())

    assert refusal(command, name) == "password: Choose a password that is not your username."


def test_only_the_line_end_is_removed_from_a_password(client, stdin):
    stdin(f" {PASSWORD} \nanother line\n")

    call("createuser", "bob")

    assert login(client, password=f" {PASSWORD} ").status_code == 200


def test_line_of_another_system_ends_with_its_line_end(client, stdin):
    stdin(f"{PASSWORD}\r\n")

    call("createuser", "bob")

    assert login(client).status_code == 200


def test_password_that_cannot_be_read_is_asked_for(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)  # as with `<&-` in a shell

    assert refusal("createuser", "bob") == "There is no standard input to read a password from."


@pytest.mark.parametrize(
    "content", [b"\xff" * 20, "größe und länge\n".encode("latin-1"), PASSWORD.encode("utf-16")]
)
def test_password_that_is_no_text_in_utf_8_is_refused(stdin, content):
    stdin(content)

    assert refusal("createuser", "bob") == "The password is not a text in UTF-8."
    assert not User.objects.exists()


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_password_in_utf_16_is_refused_without_its_mark(stdin, encoding):
    stdin(PASSWORD.encode(encoding))

    assert refusal("createuser", "bob") == UNUSABLE
    assert not User.objects.exists()


def test_byte_order_mark_is_no_part_of_a_password(client, stdin):
    stdin(b"\xef\xbb\xbf" + f"{PASSWORD}\r\n".encode())
    call("createuser", "bob")
    stdin(b"\xef\xbb\xbf" + OTHER_PASSWORD.encode())

    assert login(client, password=PASSWORD).status_code == 200

    call("setpassword", "bob")

    assert login(client, password=OTHER_PASSWORD).status_code == 200


def test_password_is_utf_8_in_every_locale(client, stdin):
    stdin("größe und länge und ärger\n")

    call("createuser", "bob")

    assert login(client, password="größe und länge und ärger").status_code == 200


def test_password_is_typed_twice_at_a_terminal(client, terminal):
    prompts = terminal(PASSWORD, PASSWORD)

    call("createuser", "bob")

    assert prompts == ["Password: ", "Password (again): "]
    assert login(client).status_code == 200


def test_passwords_that_differ_are_refused(terminal):
    terminal(PASSWORD, OTHER_PASSWORD)

    assert refusal("createuser", "bob") == "The two passwords differ."
    assert not User.objects.exists()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, EOFError])
def test_interrupted_prompt_is_an_error_of_one_line(monkeypatch, terminal, interruption):
    def interrupt(prompt: str) -> str:
        raise interruption

    terminal()
    monkeypatch.setattr(base, "getpass", interrupt)

    assert refusal("createuser", "bob") == "Interrupted."


# setpassword


def test_set_password_replaces_the_old_one_and_ends_sessions(bob, make_user, client, stdin):
    eve = make_user("eve")
    login(client)
    stdin(f"{OTHER_PASSWORD}\n")

    said = call("setpassword", "BOB")

    assert said == "Set the password of bob. Sessions ended: 2.\n"
    assert_problem(bob.get("/api/user"), 401, "not_logged_in")
    assert_problem(login(client, password=PASSWORD), 403, "invalid_credentials")
    assert login(client, password=OTHER_PASSWORD).status_code == 200
    assert eve.get("/api/user").status_code == 200


def test_new_password_that_signup_refuses_is_refused(bob, stdin):
    stdin("x" * (MIN_LENGTH - 1))

    assert refusal("setpassword", "bob") == TOO_SHORT
    assert bob.get("/api/user").status_code == 200


def test_sessions_are_revoked_also_when_their_rows_cannot_be_ended(bob, client, monkeypatch, stdin):
    def fail(sessions):
        raise DatabaseError("the disk is full\nand more")

    monkeypatch.setattr(queries, "end_sessions", fail)
    stdin(OTHER_PASSWORD)

    said = io.StringIO()
    with pytest.raises(CommandError, match=r"^The database cannot be used: the disk is full$"):
        call_command("setpassword", "bob", stdout=said)

    assert said.getvalue() == "Set the password of bob. "
    assert Session.objects.get().deleted_time is None
    assert_problem(bob.get("/api/user"), 401, "not_logged_in")
    assert login(client, password=OTHER_PASSWORD).status_code == 200


def test_new_password_of_an_operator_deletes_the_recovery_code(bob, client, stdin):
    code = bob.post("/api/user/recovery-code").json()["recovery_code"]
    stdin(OTHER_PASSWORD)

    said = call("setpassword", "bob")

    assert said == "Set the password of bob. Sessions ended: 1. The recovery code was deleted.\n"
    body = {"username": "bob", "recovery_code": code, "password": PASSWORD}
    assert_problem(client.post("/api/user/recover", json=body), 403, "invalid_credentials")


@pytest.mark.usefixtures("bob")
def test_sessions_of_a_changed_password_end_in_batches(monkeypatch, stdin):
    monkeypatch.setattr(queries.in_batches, "__defaults__", (2,))
    add_sessions(4, User.objects.get())
    stdin(OTHER_PASSWORD)

    assert call("setpassword", "bob") == "Set the password of bob. Sessions ended: 5.\n"


@pytest.mark.usefixtures("bob")
def test_account_that_is_deleted_meanwhile_is_reported(monkeypatch):
    def delete() -> str:
        User.objects.all().delete()
        return OTHER_PASSWORD

    monkeypatch.setattr(setpassword, "read_password", delete)

    assert refusal("setpassword", "bob") == "The account bob was deleted meanwhile."


@pytest.mark.parametrize("command", ["setpassword", "endsessions", "deleteuser", "showuser"])
@pytest.mark.parametrize("username", ["eve", "", "a b", "\udcff"])
@pytest.mark.usefixtures("bob")
def test_unknown_name_is_refused(stdin, command, username):
    stdin(OTHER_PASSWORD)

    assert refusal(command, username) == f"There is no user {username}."


# endsessions


def test_sessions_of_one_user_end(bob, make_user):
    eve = make_user("eve")
    add_sessions(1, User.objects.get(username="bob"), expiry_time=days(-1))

    assert call("endsessions", "bob") == "Sessions ended: 1.\n"
    assert_problem(bob.get("/api/user"), 401, "not_logged_in")
    assert eve.get("/api/user").status_code == 200
    assert call("endsessions", "bob") == "Sessions ended: 0.\n"


def test_sessions_of_all_users_end_in_batches(bob, make_user, monkeypatch):
    monkeypatch.setattr(queries.in_batches, "__defaults__", (2,))
    eve = make_user("eve")
    add_sessions(3)
    add_sessions(1, expiry_time=days(-1))
    add_sessions(1, deleted_time=days(-1))

    assert call("endsessions", "--all") == "Sessions ended: 5.\n"
    assert not live_sessions().exists()
    for browser in (bob, eve):
        assert_problem(browser.get("/api/user"), 401, "not_logged_in")


@pytest.mark.parametrize("arguments", [(), ("bob", "--all")])
def test_either_a_user_or_all_must_be_named(bob, arguments):
    assert "--all" in refusal("endsessions", *arguments)
    assert bob.get("/api/user").status_code == 200


# deleteuser


def test_deleted_account_is_gone_with_its_sessions(bob, make_user, client):
    eve = make_user("eve")
    login(client)

    said = call("deleteuser", "Bob", "--yes")

    assert said == "Deleted bob. Sessions deleted: 2.\n"
    assert_problem(bob.get("/api/user"), 401, "not_logged_in")
    assert eve.get("/api/user").status_code == 200
    assert Session.objects.get().user == User.objects.get()


@pytest.mark.usefixtures("bob")
def test_account_without_sessions_is_deleted():
    Session.objects.all().delete()

    assert call("deleteuser", "bob", "--yes") == "Deleted bob. Sessions deleted: 0.\n"


@pytest.mark.parametrize("answer", ["y", "Yes"])
@pytest.mark.usefixtures("bob")
def test_confirmed_account_is_deleted(terminal, answer):
    prompts = terminal(answer)

    call("deleteuser", "bob")

    assert prompts == ["Delete bob and all sessions of that account? [y/N] "]
    assert not User.objects.exists()


@pytest.mark.parametrize("answer", ["", "n", "bob"])
def test_account_is_kept_without_a_yes(bob, terminal, answer):
    terminal(answer)

    assert refusal("deleteuser", "bob") == "Nothing was deleted."
    assert bob.get("/api/user").status_code == 200


@pytest.mark.usefixtures("bob")
def test_account_that_is_deleted_during_the_question_is_reported(monkeypatch, terminal):
    def delete(prompt: str) -> str:
        User.objects.all().delete()
        return "y"

    terminal()
    monkeypatch.setattr("builtins.input", delete)

    assert refusal("deleteuser", "bob") == "There is no user bob."


@pytest.mark.usefixtures("bob")
def test_account_without_sessions_or_code_is_shown():
    Session.objects.all().delete()

    said = call("showuser", "bob")

    assert said.endswith("live sessions: 0\nlast activity: none\nrecovery code: none\npasskeys: 0\n")


def test_account_is_shown(bob):
    bob.post("/api/user/recovery-code")
    register(bob)
    user = User.objects.get()
    add_sessions(2, user)
    add_sessions(1, user, expiry_time=days(-1))

    said = call("showuser", "BOB")

    form = "%Y-%m-%d %H:%M:%S UTC"
    assert said.splitlines() == [
        f"id: {user.pk}",
        "username: bob",
        f"signed up: {user.signup_time.strftime(form)}",
        "live sessions: 3",
        f"last activity: {Session.objects.get(last_activity__isnull=False).last_activity.strftime(form)}",
        f"recovery code: {RecoveryCode.objects.get().created_time.strftime(form)}",
        "passkeys: 1",
    ]


# purgesessions


@pytest.mark.parametrize(
    ("columns", "purged"),
    [
        ({"expiry_time": days(7)}, False),
        ({"expiry_time": days(-29.9)}, False),
        ({"expiry_time": days(-30.1)}, True),
        ({"expiry_time": None}, False),
        ({"deleted_time": days(-29.9)}, False),
        ({"deleted_time": days(-30.1)}, True),
        ({"deleted_time": days(-30.1), "expiry_time": None}, True),
        ({"deleted_time": days(-1), "expiry_time": days(-30.1)}, True),
        ({"deleted_time": days(-40), "expiry_time": days(-35)}, True),
    ],
)
def test_session_is_purged_30_days_after_it_was_over(columns, purged):
    add_sessions(1, **columns)

    assert call("purgesessions") == f"Sessions deleted: {int(purged)}.\n"
    assert Session.objects.exists() != purged


def test_purge_leaves_those_who_are_logged_in_alone(bob):
    add_sessions(1, deleted_time=days(-0.1))

    assert call("purgesessions", "--days", "0") == "Sessions deleted: 1.\n"
    assert bob.get("/api/user").status_code == 200


def test_days_to_keep_can_be_said():
    kept = add_sessions(1, deleted_time=days(-2.9))
    add_sessions(2, deleted_time=days(-3.1))

    assert call("purgesessions", "--days", "3") == "Sessions deleted: 2.\n"
    assert [session.pk for session in Session.objects.all()] == kept


def test_each_batch_is_a_transaction_of_its_own():
    add_sessions(5, deleted_time=days(-31))
    add_sessions(3, expiry_time=days(-31))

    with CaptureQueriesContext(connection) as queries:
        said = call("purgesessions", "--batch-size", "2")

    words = [query["sql"].split()[0] for query in queries]
    assert said == "Sessions deleted: 8.\n"
    assert words.count("DELETE") == 5
    assert words.count("BEGIN") == words.count("COMMIT") == 5
    between = [word for word in words if word in ("BEGIN", "DELETE", "COMMIT")]
    assert between == ["BEGIN", "DELETE", "COMMIT"] * 5


def test_sessions_that_were_over_at_the_same_time_are_all_purged():
    add_sessions(5)
    Session.objects.update(expiry_time=timezone.now() - days(31))

    assert call("purgesessions", "--batch-size", "2") == "Sessions deleted: 5.\n"


def test_interrupted_purge_keeps_what_it_has_done(monkeypatch):
    def interrupt(*arguments):
        for batch in batches(*arguments):
            yield batch
            raise KeyboardInterrupt

    batches = purgesessions.in_batches
    monkeypatch.setattr(purgesessions, "in_batches", interrupt)
    add_sessions(3, deleted_time=days(-31), expiry_time=days(-31))

    assert refusal("purgesessions", "--batch-size", "2") == "Interrupted."
    assert Session.objects.count() == 1


def test_progress_is_shown_on_a_terminal_only(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    add_sessions(3, deleted_time=days(-31))
    add_sessions(1, expiry_time=days(-31))
    add_sessions(1)

    said = call("purgesessions")

    assert said == "Sessions deleted: 4.\n"
    assert "4/4" in screen.getvalue()


def test_nothing_but_the_number_is_said_without_a_terminal(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    add_sessions(1, deleted_time=days(-31))

    call("purgesessions")

    assert log.getvalue() == ""


@pytest.mark.parametrize(
    ("option", "value", "takes"),
    [
        *(("--days", value, "0 to 36500") for value in ("-1", "36501", "x", "1.5", "²", "")),
        *(("--batch-size", value, "1 to 10000") for value in ("0", "10001")),
    ],
)
def test_number_out_of_range_is_refused(option, value, takes):
    add_sessions(1, expiry_time=days(-50))

    assert refusal("purgesessions", f"{option}={value}").endswith(f"it takes a whole number, {takes}")
    assert Session.objects.exists()


@pytest.mark.parametrize("column", ["expiry_time", "deleted_time"])
@pytest.mark.parametrize("further", [False, True], ids=["first batch", "further batch"])
def test_purge_finds_its_rows_by_an_index(column, further):
    now = timezone.now()
    condition = purgesessions.over_before(now)[column] & (Q(**{f"{column}__gte": now}) if further else Q())

    with transaction.atomic():
        if connection.vendor == "postgresql":  # a table of no rows is quicker to read from end to end
            for way in ("enable_seqscan", "enable_bitmapscan", "enable_sort"):
                connection.cursor().execute(f"SET LOCAL {way} = off")
        rows = Session.objects.filter(condition).order_by(column).values_list("pk", column)
        plan = rows[:1000].explain()

    assert f"session_{column}" in plan
    assert "SCAN" not in plan
    assert "SORT" not in plan.upper()
    assert "TEMP B-TREE" not in plan


# As processes


def test_command_of_meta_takes_its_password_from_standard_input(client):
    result = run("meta", "createuser", "bob", stdin=f"{PASSWORD}\n")

    assert (result.returncode, result.stdout, result.stderr) == (0, "Created bob.\n", "")
    assert login(client).status_code == 200


def test_password_file_of_another_system_makes_a_password_that_can_be_typed(client):
    result = run("meta", "createuser", "bob", stdin=f"\N{BYTE ORDER MARK}{PASSWORD}\r\n")

    assert (result.returncode, result.stderr) == (0, "")
    assert login(client).status_code == 200


def test_refused_command_exits_with_one_line(bob):
    result = run(sys.executable, "-m", "django", "deleteuser", "bob", "--settings", "server")

    assert result.returncode == 1
    assert result.stderr == "CommandError: Without a terminal to ask at, it takes --yes.\n"
    assert bob.get("/api/user").status_code == 200


def test_database_without_tables_is_an_error_of_one_line(tmp_path):
    result = run("meta", "purgesessions", DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3")

    assert result.returncode == 1
    assert result.stderr == "CommandError: The database cannot be used: no such table: user_session\n"


def test_typed_password_is_not_echoed(client):
    screen, stdin = pty.openpty()
    shown = ""
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "createuser", "bob", "--settings", "server"],
        cwd=BASE_DIR,
        stdin=stdin,
        stdout=stdin,
        stderr=stdin,
        start_new_session=True,
    )
    os.close(stdin)

    for prompt in ("Password: ", "Password (again): "):
        while not shown.endswith(prompt):
            shown += os.read(screen, 1000).decode()
        os.write(screen, f"{PASSWORD}\n".encode())

    assert process.wait(TIME_LIMIT) == 0
    shown += os.read(screen, 1000).decode()
    os.close(screen)
    assert "Created bob." in shown
    assert PASSWORD not in shown
    assert login(client).status_code == 200
