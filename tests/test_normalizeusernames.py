"""`meta normalizeusernames` and `meta renameuser`: names that came from elsewhere become names of a login."""

import io
import sys
from typing import NamedTuple

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from user.management import base
from user.management.commands import normalizeusernames, renameuser
from user.models import User
from user.passwords import hash_password
from user.schema import Username

from .databases import SERVER
from .support import PASSWORD, assert_problem, login, run
from .test_commands import Terminal, call, refusal


class Result(NamedTuple):
    """What the command said."""

    summary: str
    lines: list[str]
    error: str
    code: int


def normalise() -> Result:
    """Run `normalizeusernames`."""
    stdout, stderr, error, code = io.StringIO(), io.StringIO(), "", 0
    try:
        call_command("normalizeusernames", stdout=stdout, stderr=stderr)
    except CommandError as caught:
        error, code = str(caught), caught.returncode
    return Result(stdout.getvalue(), stderr.getvalue().splitlines(), error, code)


def store(*names: str) -> None:
    """Store accounts under names as they are, as another system would."""
    for name in names:
        User.objects.create(username=name, password=hash_password(PASSWORD))


def stored() -> list[str]:
    """Return the names of all accounts, the older ones first."""
    return list(User.objects.order_by("pk").values_list("username", flat=True))


# normalizeusernames


@pytest.mark.parametrize(
    "name",
    [
        "Bob",
        "BOB",
        "\N{FULLWIDTH LATIN SMALL LETTER B}ob",
        "\N{MATHEMATICAL BOLD CAPITAL B}ob",
        "b\N{CIRCLED LATIN SMALL LETTER O}b",
    ],
)
def test_owner_of_a_normalised_name_can_log_in_by_both_of_its_forms(client, name):
    store(name)
    assert_problem(login(client, name), 403, "invalid_credentials")

    result = normalise()

    assert result == ("Normalised: 1. Left: 0.\n", [], "", 0)
    assert stored() == ["bob"]
    for form in (name, "bob"):
        assert login(client, form).status_code == 200


def test_names_that_are_normalised_stay():
    store("bob", "b", "0_.-", "x" * 20)

    assert normalise() == ("Normalised: 0. Left: 0.\n", [], "", 0)
    assert stored() == ["bob", "b", "0_.-", "x" * 20]


def test_nobody_is_no_error():
    assert normalise() == ("Normalised: 0. Left: 0.\n", [], "", 0)


def test_taken_name_is_not_given_away(client):
    store("Bob", "Eve", "bob")

    result = normalise()

    assert result == (
        "Normalised: 1. Left: 1.\n",
        ["'Bob' was left. bob is taken. Run: meta renameuser Bob NEW"],
        "Accounts that nobody can log in to: 1.",
        1,
    )
    assert stored() == ["Bob", "eve", "bob"]
    user = User.objects.get(username="bob")
    assert login(client, "bob").json()["id"] == user.pk


@pytest.mark.parametrize("batch_size", [1, 2, 5000])
def test_older_account_gets_the_name_that_two_become(monkeypatch, batch_size):
    monkeypatch.setattr(normalizeusernames, "BATCH_SIZE", batch_size)
    store("BOB", "eve", "Bob", "boB")

    result = normalise()

    assert result.summary == "Normalised: 1. Left: 2.\n"
    assert result.lines == [
        "'Bob' was left. bob is taken. Run: meta renameuser Bob NEW",
        "'boB' was left. bob is taken. Run: meta renameuser boB NEW",
    ]
    assert stored() == ["bob", "eve", "Bob", "boB"]


@pytest.mark.parametrize(
    ("name", "shown", "argument"),
    [
        ("bob@example.com", "'bob@example.com'", "bob@example.com"),
        (" bob", "' bob'", "' bob'"),
        ("", "''", "''"),
        ("it's $HOME", '"it\'s $HOME"', "'it'\"'\"'s $HOME'"),
        ("-bob", "'-bob'", None),
        ("--id", "'--id'", None),
        ("straße", "'straße'", None),
        ("bob\n\x1b[31m", "'bob\\n\\x1b[31m'", None),
        ("\N{RIGHT-TO-LEFT OVERRIDE}bob", "'\\u202ebob'", None),
        ("\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}", "'\ufdfa'", None),
    ],
)
def test_name_of_which_none_can_be_made_is_listed_with_a_command_that_works(name, shown, argument):
    store(name)
    key = User.objects.get().pk

    result = normalise()

    command = f"meta renameuser {argument or f'--id {key}'} NEW"
    assert result.lines == [f"{shown} was left. No username can be made of it. Run: {command}"]
    assert result.code == 1
    assert stored() == [name]

    renamed = run("sh", "-c", command.replace("NEW", "robert"))

    assert renamed.returncode == 0, renamed.stderr
    assert stored() == ["robert"]


@pytest.mark.skipif(bool(SERVER), reason="PostgreSQL stores no NUL")
def test_name_with_a_nul_is_listed():
    store("bob\0")

    assert normalise().lines[0].startswith("'bob\\x00' was left.")


def test_second_run_changes_nothing_and_says_the_same_of_what_is_left():
    store("Bob", "BOB", "a b", "eve")
    first = normalise()
    names = stored()

    second = normalise()

    assert first.summary == "Normalised: 1. Left: 2.\n"
    assert second == first._replace(summary="Normalised: 0. Left: 2.\n")
    assert stored() == names


def test_renamed_user_stays_logged_in(bob):
    User.objects.update(username="Bob")

    normalise()

    assert bob.get("/api/user").json()["username"] == "bob"


def test_name_that_is_signed_up_for_meanwhile_is_not_given_away(monkeypatch, make_user):
    def rename_after_a_signup(command, renames):
        if not User.objects.filter(username="bob").exists():
            make_user("bob")
        rename(command, renames)

    rename = normalizeusernames.Command.rename
    monkeypatch.setattr(normalizeusernames.Command, "rename", rename_after_a_signup)
    store("Ada", "Bob", "Eve", "Zoe")

    result = normalise()

    assert result.summary == "Normalised: 3. Left: 1.\n"
    assert result.lines == ["'Bob' was left. bob is taken. Run: meta renameuser Bob NEW"]
    assert stored() == ["ada", "Bob", "eve", "zoe", "bob"]


def test_user_who_is_renamed_meanwhile_keeps_the_new_name(monkeypatch):
    def rename_after_another(renames):
        User.objects.filter(username="Bob").update(username="robert")
        return rename(renames)

    rename = normalizeusernames.rename_users
    monkeypatch.setattr(normalizeusernames, "rename_users", rename_after_another)
    store("Bob", "Eve")

    result = normalise()

    assert result == ("Normalised: 1. Left: 0.\n", [], "", 0)
    assert stored() == ["robert", "eve"]


def test_each_batch_is_a_transaction_of_its_own(monkeypatch):
    monkeypatch.setattr(normalizeusernames, "BATCH_SIZE", 2)
    store("A", "B", "c", "d", "E")

    with CaptureQueriesContext(connection) as queries:
        assert normalise().summary == "Normalised: 3. Left: 0.\n"

    words = [query["sql"].split()[0] for query in queries]
    assert words.count("BEGIN") == words.count("COMMIT") == 2


def test_interrupted_command_says_what_it_has_done_and_goes_on(monkeypatch):
    def interrupt(renames):
        if User.objects.filter(username="a").exists():
            raise KeyboardInterrupt
        return rename(renames)

    rename = normalizeusernames.rename_users
    monkeypatch.setattr(normalizeusernames, "BATCH_SIZE", 2)
    monkeypatch.setattr(normalizeusernames, "rename_users", interrupt)
    store("A", "B", "C", "D")

    assert normalise() == ("Normalised: 2. Left: 0.\n", [], "Interrupted.", 130)
    assert stored() == ["a", "b", "C", "D"]

    monkeypatch.setattr(normalizeusernames, "rename_users", rename)

    assert normalise() == ("Normalised: 2. Left: 0.\n", [], "", 0)
    assert stored() == ["a", "b", "c", "d"]


def test_progress_is_shown_on_a_terminal_only(monkeypatch):
    log, screen = io.StringIO(), Terminal()
    store("Bob", "eve")
    monkeypatch.setattr(sys, "stderr", log)
    normalise()
    monkeypatch.setattr(sys, "stderr", screen)

    normalise()

    assert log.getvalue() == ""
    assert "2/2" in screen.getvalue()


def test_database_without_tables_is_an_error_of_one_line(tmp_path):
    result = run("meta", "normalizeusernames", DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3")

    assert result.returncode == 1
    assert result.stderr == "CommandError: The database cannot be used: no such table: user_user\n"


def test_command_of_meta_lists_on_standard_error_and_exits_with_an_error(client):
    store("Bob", "a b")

    result = run("meta", "normalizeusernames")

    assert (result.returncode, result.stdout) == (1, "Normalised: 1. Left: 1.\n")
    assert result.stderr.splitlines() == [
        "'a b' was left. No username can be made of it. Run: meta renameuser 'a b' NEW",
        "CommandError: Accounts that nobody can log in to: 1.",
    ]
    assert login(client).status_code == 200


# renameuser


def test_renamed_user_logs_in_by_the_new_name_and_keeps_the_session(bob, client):
    said = call("renameuser", "bob", "Robert")

    assert said == "Renamed 'bob' to robert.\n"
    assert bob.get("/api/user").json()["username"] == "robert"
    assert_problem(login(client, "bob"), 403, "invalid_credentials")
    assert login(client, "robert").status_code == 200


def test_stored_name_comes_before_the_normalised_one():
    store("bob", "Bob")

    call("renameuser", "Bob", "eve")

    assert stored() == ["bob", "eve"]


@pytest.mark.usefixtures("bob")
def test_name_is_found_in_any_form_of_a_login():
    call("renameuser", "BOB", "robert")

    assert stored() == ["robert"]


def test_account_can_be_named_by_its_id():
    store("\n", "eve")
    key = User.objects.get(username="\n").pk

    assert call("renameuser", "--id", str(key), "bob") == "Renamed '\\n' to bob.\n"
    assert stored() == ["bob", "eve"]


@pytest.mark.usefixtures("bob")
def test_id_is_no_name_unless_it_is_said_to_be_one():
    key = str(User.objects.get().pk)

    assert refusal("renameuser", key, "eve") == f"There is no user {key}."


@pytest.mark.parametrize("key", ["0", "x", "", "-1", "9" * 30])
@pytest.mark.usefixtures("bob")
def test_unknown_id_is_refused(key):
    assert refusal("renameuser", "--id", "--", key, "eve") == f"There is no user with the id {key}."


@pytest.mark.parametrize("name", ["eve", "", "a b", "\udcff"])
@pytest.mark.usefixtures("bob")
def test_unknown_name_is_refused(name):
    assert refusal("renameuser", name, "robert") == f"There is no user {name}."


@pytest.mark.parametrize("new", ["eve", "Eve"])
def test_taken_name_is_refused_and_nothing_changes(new):
    store("bob", "eve")

    assert refusal("renameuser", "bob", new) == "username: Username exists"
    assert stored() == ["bob", "eve"]


@pytest.mark.parametrize("new", ["", "a b", "x" * 21, "bob@example.com", "\udcff"])
@pytest.mark.usefixtures("bob")
def test_name_that_signup_refuses_is_refused(new):
    assert refusal("renameuser", "bob", new) == f"username: {Username.message}"
    assert stored() == ["bob"]


@pytest.mark.usefixtures("bob")
def test_renaming_to_the_same_name_changes_nothing():
    assert call("renameuser", "bob", "Bob") == "Renamed 'bob' to bob.\n"
    assert stored() == ["bob"]


@pytest.mark.usefixtures("bob")
def test_account_that_is_deleted_meanwhile_is_reported(monkeypatch):
    def find_and_delete(name):
        user = base.find_user(name)
        User.objects.all().delete()
        return user

    monkeypatch.setattr(renameuser, "find_user", find_and_delete)

    assert refusal("renameuser", "bob", "robert") == "The account bob was deleted meanwhile."


@pytest.mark.usefixtures("bob")
def test_refused_rename_exits_with_one_line():
    result = run("meta", "renameuser", "bob", "a b")

    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == f"CommandError: username: {Username.message}\n"
