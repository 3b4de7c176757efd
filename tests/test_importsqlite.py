"""`meta importsqlite`: a service moves from SQLite to PostgreSQL, with all that it has."""

import json
import os
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from config import BASE_DIR
from framework import time_limits
from user.models import User

from .conftest import NAME
from .databases import SERVER, a_database, database_url
from .markdown import code, section
from .support import (
    COOKIE,
    OTHER_PASSWORD,
    assert_problem,
    call,
    credentials,
    damage,
    login,
    refusal,
    run,
    until,
    with_key,
)

postgresql = pytest.mark.skipif(not SERVER, reason="TEST_DATABASE_URL names no PostgreSQL server")
# Has a service on SQLite be used, and prints what its users hold.
STORY = """
import json
import httpx, utilmeta
utilmeta._cmd_env = True
from tests.support import BASE_URL, app, credentials, login, session_key
from django.core.management import call_command
from user.passwords import PBKDF2PasswordHasher
PBKDF2PasswordHasher.iterations = 1
call_command("migrate", verbosity=0)

def browser(name, path="signup"):
    client = httpx.Client(transport=httpx.WSGITransport(app=app), base_url=BASE_URL)
    client.post(f"/api/user/{path}", json=credentials(name)).raise_for_status()
    return client

from passkey.models import Passkey, UserHandle
from user.models import User

ada, bob, gone = map(browser, ("ada", "bob", "gone"))
gone.delete("/api/user").raise_for_status()
other = browser("bob", "login")
logged_out = session_key(other)
other.post("/api/user/logout").raise_for_status()
code = bob.post("/api/user/recovery-code").json()["recovery_code"]
user = User.objects.get(username="ada")
UserHandle.objects.create(user=user, handle="h" * 43)
Passkey.objects.create(
    user=user, credential_id="c" * 43, public_key=bytes(range(256)), name="Phone", sign_count=2**32 - 1,
    backup_eligible=True, backed_up=False,
)
keys = {key: client.get("/api/user").json() for client in (ada, bob) for key in [session_key(client)]}
print(json.dumps({"keys": keys, "logged_out": logged_out, "code": code}))
"""
# Another app, which is the same in both databases.
APP = """
import datetime, decimal, uuid
import server
from django.core import serializers
from django.core.management import call_command
from django.db import connection, models
from user.models import User

class Tag(models.Model):
    name = models.CharField(primary_key=True, max_length=20)

    class Meta:
        app_label = "user"

class Note(models.Model):
    id = models.UUIDField(primary_key=True)
    owner = models.ForeignKey(User, on_delete=models.CASCADE)
    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE)
    tags = models.ManyToManyField(Tag)
    done = models.BooleanField()
    size = models.DecimalField(max_digits=12, decimal_places=3)
    ratio = models.FloatField()
    took = models.DurationField()
    day = models.DateField()
    at = models.TimeField()
    seen = models.DateTimeField(null=True)
    data = models.JSONField(null=True)
    raw = models.BinaryField()
    address = models.GenericIPAddressField()
    text = models.TextField(db_column="a text")

    class Meta:
        app_label = "user"

call_command("migrate", verbosity=0)
with connection.schema_editor() as editor:
    editor.create_model(Tag)
    editor.create_model(Note)

def add(number, **fields):
    defaults = {
        "id": uuid.UUID(int=2**128 - number), "owner": User.objects.get(), "done": number % 2 == 0,
        "size": decimal.Decimal("123456789.125") / number, "ratio": 1 / number,
        "took": datetime.timedelta(days=-number, microseconds=number),
        "day": datetime.date(2024, 2, 29), "at": datetime.time(23, 59, 59, number),
        "seen": datetime.datetime(2024, 1, 29, 12, 29, 33, 684594 % number, tzinfo=datetime.timezone.utc),
        "data": {"a": [number, None, "\\u00e9"]}, "raw": bytes(range(256)), "address": "2001:db8::1",
        "text": "tab\\t, line\\n, backslash \\\\ \\\\N \\\\. \\r and \\U0001f600",
    }
    note = Note.objects.create(**defaults | fields)
    note.tags.set(Tag.objects.all())
    return note

def show():
    for model in (User, Tag, Note, Note.tags.through):
        rows = sorted(model.objects.all(), key=lambda row: str(row.pk))
        print(serializers.serialize("json", rows, fields=[each.name for each in model._meta.concrete_fields]))
    print(Note.objects.filter(data__isnull=True).count())
"""
FILL = f"""{APP}
from django.db.models import Value
User(username="ada", password="correct horse battery").save()
Tag.objects.bulk_create(Tag(name=name) for name in ("b", "_x", "\\u00e9cu", "Bold", "a-b a"))
first = add(1)
add(2, parent=first, data=None, seen=None)
add(3, parent=first, data=Value(None, models.JSONField()))
show()
"""
IMPORT = f"""{APP}
import sys
call_command("importsqlite", sys.argv[1], stdout=sys.stderr)
show()
"""


@pytest.fixture(scope="module")
def used(tmp_path_factory) -> tuple[Path, dict]:
    """A database of a service that has been used, and what its users hold."""
    path = tmp_path_factory.mktemp("sqlite") / "db.sqlite3"
    done = run("python", "-c", STORY, DATABASE_URL=f"sqlite:///{path}", PASSKEYS="on")
    assert done.returncode == 0, done.stderr
    return path, json.loads(done.stdout)


@pytest.fixture
def file(used, tmp_path) -> Path:
    """A copy of that database."""
    shutil.copy(used[0], tmp_path / "db.sqlite3")
    return tmp_path / "db.sqlite3"


def execute(file: Path, *statements: str) -> None:
    """Change the database, as somebody with a shell does."""
    with closing(sqlite3.connect(file)) as database, database:
        for statement in statements:
            database.execute(statement)


@postgresql
def test_users_notice_nothing(used, file, make_client):
    held = used[1]

    said = call("importsqlite", file)

    assert said == (
        f"Copied {file}, and compared each row with its original. "
        "Rows: django_content_type 7, user_user 2, user_session 3, user_recoverycode 1, "
        "passkey_userhandle 1, passkey_passkey 1, passkey_usedchallenge 0.\n"
    )
    for key, user in held["keys"].items():
        assert with_key(make_client(), key).json() == user
        assert login(make_client(), user["username"]).json() == user
    ada = next(key for key, user in held["keys"].items() if user["username"] == "ada")
    [passkey] = make_client().get("/api/passkeys", headers={"Cookie": f"{COOKIE}={ada}"}).json()
    assert passkey["name"] == "Phone"
    assert_problem(with_key(make_client(), held["logged_out"]), 401, "not_logged_in")
    bob = {"username": "bob", "recovery_code": held["code"], "password": OTHER_PASSWORD}
    assert make_client().post("/api/user/recover", json=bob).status_code == 200
    # The account with the id 3 was deleted, and its id is nobody else's.
    assert make_client().post("/api/user/signup", json=credentials("new")).json()["id"] == 4


@postgresql
def test_move_is_what_the_document_says(file):
    [commands] = code(section("docs/operations.md", "From SQLite to PostgreSQL"), "sh")
    name = f"demo_user_move_{os.getpid()}"
    url = database_url(name, None)
    assert commands.count("postgresql://postgres@127.0.0.1/users") == commands.count("db.sqlite3") == 1
    commands = commands.replace("postgresql://postgres@127.0.0.1/users", url).replace("db.sqlite3", str(file))

    with a_database(name):
        done = run("bash", "-euc", f"systemctl() {{ :; }}; createdb() {{ :; }}\n{commands}", PASSKEYS="on")

        assert done.returncode == 0, done.stderr
        assert "user_user 2, user_session 3, user_recoverycode 1, passkey_userhandle 1, " in done.stdout


@postgresql
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_interrupted_copy_leaves_nothing_and_can_be_repeated(used, file, make_client, start, name):
    url = database_url(NAME, None)
    with psycopg.connect(url) as other, psycopg.connect(SERVER, autocommit=True) as server:
        # The copy has to wait for this after the last row, and before anything is compared.
        other.execute("ALTER SEQUENCE user_user_id_seq INCREMENT 1")
        copying = start("meta", "importsqlite", str(file), cwd=BASE_DIR, DATABASE_URL=url, PASSKEYS="on")
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
        until(lambda: server.execute(waiting, [NAME]).fetchone())

        copying.process.send_signal(getattr(signal, name))
        code = copying.exit_code()
        other.rollback()

    if name == "SIGKILL":
        assert code == -signal.SIGKILL
    else:
        assert (code, copying.log) == (130, "CommandError: Interrupted.\n")
    assert not User.objects.exists()
    assert "user_user 2, user_session 3," in call("importsqlite", file)
    for key, user in used[1]["keys"].items():
        assert with_key(make_client(), key).json() == user


@postgresql
def test_tables_of_other_apps_are_copied_value_by_value(tmp_path):
    name = f"demo_user_import_{os.getpid()}"
    path = tmp_path / "db.sqlite3"
    mode = {"UTILMETA_PRODUCTION": "0"}

    filled = run("python", "-c", FILL, **mode, DATABASE_URL=f"sqlite:///{path}")
    assert filled.returncode == 0, filled.stderr
    with a_database(name):
        done = run("python", "-c", IMPORT, str(path), **mode, DATABASE_URL=database_url(name, None))

    assert "user_tag 5, user_note_tags 15, user_note 3." in done.stderr, done.stderr
    assert done.stdout == filled.stdout


@postgresql
def test_database_with_accounts_is_kept(bob, file):
    assert refusal("importsqlite", file) == (
        "Nothing was copied. The new database has rows in user_user. It must be empty, but migrated."
    )

    assert bob.get("/api/user").json()["username"] == "bob"
    assert User.objects.count() == 1


@postgresql
def test_database_that_was_migrated_with_other_apps_is_refused(tmp_path):
    name, path = f"demo_user_apps_{os.getpid()}", tmp_path / "db.sqlite3"
    url = database_url(name, None)
    assert run("meta", "migrate", DATABASE_URL=f"sqlite:///{path}").returncode == 0
    with a_database(name):
        assert run("meta", "migrate", DATABASE_URL=url, PASSKEYS="on").returncode == 0

        done = run("meta", "importsqlite", str(path), DATABASE_URL=url)

    assert done.returncode == 1
    assert "run this with the settings with which it was migrated" in done.stderr


@postgresql
def test_database_that_somebody_uses_is_refused(file, monkeypatch):
    monkeypatch.setitem(time_limits.LIFTED_IN_TRANSACTION, "lock_timeout", "10ms")
    with psycopg.connect(database_url(NAME, None)) as other:
        other.execute("SELECT * FROM user_session")

        said = refusal("importsqlite", file)

    assert said == "Nothing was copied. The new database is in use: stop the service first."


@postgresql
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("username = 'a' || char(0)", "PostgreSQL text fields cannot contain NUL (0x00) bytes."),
        (f"username = '{'x' * 21}'", "value too long for type character varying(20)."),
        ("signup_time = 'yesterday'", "signup_time is no DateTimeField."),
        ("signup_time = '2024-02-30 00:00:00'", "signup_time is no DateTimeField."),
        ("signup_time = 2024", "signup_time is no DateTimeField."),
    ],
)
def test_value_that_postgresql_cannot_store_is_named(file, change, reason):
    execute(file, f"UPDATE user_user SET {change} WHERE id = 2")

    assert refusal("importsqlite", file) == (
        f"Nothing was copied. The row of user_user with id 2 cannot be copied: {reason}"
    )
    assert not User.objects.exists()


@postgresql
@pytest.mark.parametrize("body", ["NEW.username := upper(NEW.username); RETURN NEW;", "RETURN NULL;"])
def test_row_that_a_trigger_changes_is_not_taken_for_a_copy(file, body):
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE FUNCTION meddle() RETURNS trigger AS 'BEGIN {body} END' LANGUAGE plpgsql;"
            "CREATE TRIGGER meddle BEFORE INSERT ON user_user FOR EACH ROW EXECUTE FUNCTION meddle()"
        )
    try:
        # Where the rows are missing, PostgreSQL says so first: sessions refer to them.
        assert refusal("importsqlite", file).startswith(
            "Nothing was copied. The row of user_user with id 1 was changed by the new database."
            if "upper" in body
            else "The database cannot be used: insert or update on table"
        )
        assert not User.objects.exists()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION meddle CASCADE")


@pytest.mark.skipif(bool(SERVER), reason="it is about SQLite as the target")
def test_sqlite_is_no_target(file):
    assert (
        refusal("importsqlite", file)
        == "DATABASE_URL names a SQLite database: set it to the PostgreSQL database."
    )


@pytest.fixture
def postgresql_or_not(monkeypatch) -> None:
    """Have the command go as far as it can on either database."""
    monkeypatch.setattr(connection, "vendor", "postgresql")


def missing(file: Path) -> None:
    file.unlink()


def text(file: Path) -> None:
    file.write_text("my diary, which is not a database\n" * 100)


def of_something_else(file: Path) -> None:
    file.unlink()
    execute(file, "CREATE TABLE notes (id)")


def older(file: Path) -> None:
    execute(file, "DELETE FROM django_migrations WHERE app = 'user' AND name LIKE '0005%'")


def newer(file: Path) -> None:
    execute(file, "INSERT INTO django_migrations (app, name, applied) VALUES ('user', '0099_more', '')")


def of_another_app(file: Path) -> None:
    execute(
        file,
        "CREATE TABLE empty (id)",
        "CREATE TABLE note (id)",
        "INSERT INTO note VALUES (1)",
        "ALTER TABLE user_user ADD COLUMN nickname text",
        "ALTER TABLE user_user ADD COLUMN vacant text",
        "UPDATE user_user SET nickname = 'x' WHERE id = 2",
    )


def broken(file: Path) -> None:
    execute(file, "UPDATE user_session SET user_id = 99")


@pytest.mark.usefixtures("postgresql_or_not")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (missing, "There is no file {file}."),
        (text, "The database cannot be used: file is not a database"),
        (damage, "{file} is damaged: "),
        (of_something_else, "{file} is not a database of this service: it has no table django_migrations."),
        (older, "{file} lacks user.0005_recovery_code: run meta migrate with its DATABASE_URL first."),
        (newer, "{file} is of a newer version of the service: it has user.0099_more."),
        (
            of_another_app,
            "No installed app has note, user_user.nickname. Install the app, or leave the data out",
        ),
        (broken, "{file} has rows that refer to missing ones: in user_session."),
    ],
)
def test_file_that_cannot_be_copied_whole_is_refused(file, make, reason):
    make(file)

    assert refusal("importsqlite", file).startswith(reason.format(file=file))
    assert not User.objects.exists()


@pytest.mark.usefixtures("postgresql_or_not")
def test_data_of_no_app_can_be_left_out(file):
    of_another_app(file)
    broken(file)

    said = refusal("importsqlite", file, "--without", "note", "--without", "user_user.nickname")

    assert "has rows that refer to missing ones" in said


@pytest.mark.usefixtures("postgresql_or_not")
def test_database_that_a_service_has_open_is_refused(file):
    with closing(sqlite3.connect(file)) as service:
        service.execute("PRAGMA journal_mode = WAL")
        service.execute("SELECT * FROM user_user").fetchall()

        assert refusal("importsqlite", file) == "The database is in use: stop the service first."


@pytest.mark.usefixtures("postgresql_or_not")
def test_new_database_that_lacks_migrations_is_refused(file):
    row = MigrationRecorder.Migration.objects.filter(app="user").latest("pk")
    row.delete()
    try:
        assert refusal("importsqlite", file) == (
            f"The new database lacks user.{row.name}: run meta migrate with its DATABASE_URL first."
        )
    finally:
        MigrationRecorder.Migration.objects.create(app="user", name=row.name)
