"""`meta backup` and `meta restore`, and what docs/operations.md says of both databases."""

import os
import re
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest
from django.db import connection

from config import BASE_DIR

from .databases import SERVER, a_database, database_url
from .support import Process, call, credentials, damage, refusal, run

COMMAND = ("sh", "-c", 'exec granian --interface=wsgi --no-ws --port "$PORT" tests.granian_app:app')
DOCUMENT = (BASE_DIR / "docs/operations.md").read_text()
DEVELOPMENT = {"UTILMETA_PRODUCTION": "0"}
sqlite = pytest.mark.skipif(bool(SERVER), reason="it is about SQLite's files")


@pytest.fixture(scope="module")
def migrated(tmp_path_factory) -> Path:
    """An empty database with every migration that the commands know: those of passkeys, too."""
    path: Path = tmp_path_factory.mktemp("migrated") / "db.sqlite3"
    assert run("meta", "migrate", DATABASE_URL=f"sqlite:///{path}", PASSKEYS="on").returncode == 0
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = DELETE")  # one file, as the example is
    return path


@pytest.fixture
def path(tmp_path, monkeypatch, migrated) -> Path:
    """The database of the commands: an empty one, in a folder of its own."""
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "db.sqlite3"
    shutil.copy(migrated, path)
    monkeypatch.setitem(connection.settings_dict, "NAME", str(path))
    return path


@pytest.fixture
def file(tmp_path) -> Path:
    """Where a backup may go."""
    return tmp_path / "backup.sqlite3"


def add_user(path: Path, name: str) -> None:
    """Add a user to a database file."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "INSERT INTO user_user (username, password, signup_time) VALUES (?, '!', '')", [name]
        )


def names_in(path: Path) -> list[str]:
    """Return the names of the users in a database file."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return sorted(name for (name,) in database.execute("SELECT username FROM user_user"))


def replaced(path: Path) -> list[Path]:
    """Return the files that stand beside a database, which are those of the replaced one."""
    return sorted(each for each in path.parent.iterdir() if each != path)


@pytest.fixture
def service(path, tmp_path):
    """A running service on the database, with a user, and a log beside the file."""
    settings = DEVELOPMENT | {"DATABASE_URL": f"sqlite:///{path}"}
    process = Process(COMMAND, BASE_DIR, tmp_path / "log", settings)
    process.wait_until_granian_has_started(workers=1)
    sign_up(process, "earlier")
    yield process
    process.stop()


def sign_up(process: Process, name: str) -> None:
    """Sign up at a running service."""
    response = httpx.post(f"{process.url}/api/user/signup", json=credentials(name))
    assert response.status_code == 200, response.text


def can_log_in(process: Process, name: str) -> bool:
    """Tell whether somebody has an account with a running service."""
    return httpx.post(f"{process.url}/api/user/login", json=credentials(name)).status_code == 200


@sqlite
def test_backup_of_a_running_service_is_one_whole_file_for_its_owner_alone(service, path, file):
    assert path.with_name("db.sqlite3-wal").stat().st_size > 0

    result = run("meta", "backup", str(file), **DEVELOPMENT, DATABASE_URL=f"sqlite:///{path}")

    assert (result.returncode, result.stdout) == (0, f"Backed up to {file}. Users: 1.\n"), result.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.glob("*backup*")] == [file.name]
    sign_up(service, "later")
    assert names_in(file) == ["earlier"]
    assert [each.name for each in file.parent.glob("*backup*")] == [file.name]


@sqlite
def test_backup_replaces_no_file_unless_it_is_told_to(path, file):
    add_user(path, "bob")
    file.write_text("my diary")

    assert refusal("backup", file) == f"{file} exists already."
    assert file.read_text() == "my diary"

    call("backup", file, "--force")
    assert names_in(file) == ["bob"]


@sqlite
@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_backup_never_replaces_the_database_itself(path, end):
    before = path.read_bytes()
    file = path.parent / ".." / "data" / f"db.sqlite3{end}"

    assert refusal("backup", file, "--force") == f"{file} is the database itself."
    assert path.read_bytes() == before


@sqlite
def test_backup_needs_a_folder_and_a_name_for_its_file(path, tmp_path):
    assert refusal("backup", tmp_path / "none" / "a") == f"There is no folder {tmp_path}/none."
    assert refusal("backup", path.parent, "--force") == f"{path.parent}: Is a directory"


@sqlite
def test_damaged_database_is_not_backed_up(path, file):
    damage(path)

    assert refusal("backup", file).startswith(f"{path} is damaged: ")
    assert list(file.parent.iterdir()) == [path.parent]


@sqlite
def test_database_that_is_missing_is_not_made_by_a_backup(path, file):
    path.unlink()

    assert refusal("backup", file) == "The database cannot be used: unable to open database file"
    assert not path.exists()
    assert not file.exists()


@sqlite
def test_running_service_keeps_its_database(service, path, file):
    call("backup", file)
    sign_up(service, "later")

    assert refusal("restore", file) == "The database is in use: stop the service first."
    assert can_log_in(service, "later")
    assert not list(path.parent.glob("*replaced*"))


@sqlite
@pytest.mark.usefixtures("service")
def test_running_service_keeps_the_file_that_was_overwritten(path, file):
    call("backup", file)
    with path.open("r+b") as database:
        database.write(b"my diary, which is not a database" * 100)

    assert refusal("restore", file) == "The database is in use: stop the service first."
    assert path.read_bytes().startswith(b"my diary")


@sqlite
@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_restored_database_has_the_earlier_accounts_alone(service, path, file, tmp_path, kill):
    call("backup", file)
    sign_up(service, "later")
    if kill:
        family = [psutil.Process(service.process.pid), *service.children()]
        for each in family:
            each.kill()
        service.process.wait()
        psutil.wait_procs(family)
        assert path.with_name("db.sqlite3-wal").stat().st_size > 0
    service.stop()

    said = call("restore", file)

    (kept,) = replaced(path)
    assert said == (
        f"Restored {file}. Users: 1.\nThe replaced database is {kept}.\n"
        "Sessions that ended since the backup are live again. Run: meta endsessions --all\n"
    )
    assert names_in(kept) == ["earlier", "later"]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    settings = DEVELOPMENT | {"DATABASE_URL": f"sqlite:///{path}"}
    again = Process(COMMAND, BASE_DIR, tmp_path / "again", settings)
    try:
        again.wait_until_granian_has_started(workers=1)
        assert can_log_in(again, "earlier")
        assert not can_log_in(again, "later")
    finally:
        again.stop()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@sqlite
def test_restored_database_is_the_same_file(path, file):
    call("backup", file)
    path.chmod(0o640)
    before = path.stat()

    call("restore", file)

    assert (path.stat().st_ino, path.stat().st_mode) == (before.st_ino, before.st_mode)


@sqlite
@pytest.mark.parametrize("harm", [damage, lambda path: path.write_bytes(b"no database at all" * 1000)])
@pytest.mark.parametrize("log", [False, True], ids=["", "with a log"])
def test_damaged_database_is_kept_as_it_is_and_replaced(path, file, harm, log):
    add_user(path, "bob")
    call("backup", file)
    harm(path)
    damaged = path.read_bytes()
    if log:
        path.with_name("db.sqlite3-wal").write_bytes(b"a log")

    call("restore", file)

    assert names_in(path) == ["bob"]
    kept = replaced(path)[0]
    # SQLite says in the header's bytes 18 and 19 whether there is a log.
    assert kept.read_bytes()[100:] == damaged[100:]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


@sqlite
@pytest.mark.parametrize("present", [False, True], ids=["missing", "empty"])
def test_backup_is_restored_where_there_is_no_database(path, file, present):
    add_user(path, "bob")
    call("backup", file)
    path.unlink()
    if present:
        path.touch()

    said = call("restore", file)

    assert said.startswith(f"Restored {file}. Users: 1.\nSessions")
    assert names_in(path) == ["bob"]
    assert replaced(path) == []


@sqlite
def test_database_that_cannot_be_opened_is_an_error_of_one_line(path, file):
    call("backup", file)
    path.unlink()
    path.mkdir()

    assert refusal("restore", file) == "The database cannot be used: unable to open database file"


@sqlite
def test_backup_of_an_older_version_is_named_so(path, file):
    call("backup", file)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("DELETE FROM django_migrations WHERE app = 'user' AND name LIKE '0002%'")

    assert "older version. Run: meta migrate\n" in call("restore", file)


@sqlite
def test_backup_with_a_log_of_its_own_is_restored_with_it(path, file):
    shutil.copy(path, file)
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("SELECT * FROM user_user").fetchall()
        add_user(file, "bob")
        assert file.with_name("backup.sqlite3-wal").stat().st_size > 0

        call("restore", file)

    assert names_in(path) == ["bob"]


def text(file: Path) -> None:
    file.write_text("my diary, which is not a database\n" * 100)


def of_something_else(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE django_migrations (id)")


def of_ours_that_is_damaged(file: Path) -> None:
    shutil.copy(BASE_DIR / "db.sqlite3.example", file)
    damage(file)


@sqlite
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda file: None, "There is no file {file}."),
        (text, "{file} cannot be read: file is not a database."),
        (of_something_else, "{file} is not a database of this service: it has no table user_user."),
        (Path.touch, "{file} is not a database of this service: it has no table django_migrations."),
        (of_ours_that_is_damaged, "{file} is damaged: "),
    ],
)
def test_file_that_is_no_whole_backup_is_refused(path, file, make, reason):
    add_user(path, "bob")
    make(file)

    assert refusal("restore", file).startswith(reason.format(file=file))
    assert names_in(path) == ["bob"]
    assert replaced(path) == []


@sqlite
def test_database_is_not_restored_from_itself(path):
    assert refusal("restore", path) == f"{path} is the database itself."


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_postgresql_is_left_to_its_own_tools(tmp_path, command):
    result = run("meta", command, f"{tmp_path}/file", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")

    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "pg_dump" in line
    assert "pg_restore" in line
    assert list(tmp_path.iterdir()) == []


def commands_of(database: str) -> list[str]:
    """Return the commands under the headings of a database: to back up, and to restore."""
    return re.findall(
        r"```sh\n(.*?)```", DOCUMENT.split(f"\n## {database}\n")[1].split("\n## ")[0], re.DOTALL
    )


def test_backup_and_restore_do_what_the_document_says(tmp_path):
    name = f"demo_user_backup_{os.getpid()}"
    settings = DEVELOPMENT | {"DATABASE_URL": database_url(name, tmp_path)}
    back_up, restore = commands_of("PostgreSQL" if SERVER else "SQLite")

    def shell(commands: str) -> None:
        commands = commands.replace("/var/backups", str(tmp_path))
        done = run("bash", "-euc", f"systemctl() {{ :; }}\n{commands}", **settings)
        assert done.returncode == 0, done.stderr

    def create(user: str) -> None:
        done = run("meta", "createuser", user, stdin="correct horse battery", **settings)
        assert done.returncode == 0, done.stderr

    with a_database(name):
        shell("meta migrate")
        create("earlier")
        shell(back_up)
        create("later")
        shell(restore)

        create("later")  # the name is free again
        assert run("meta", "createuser", "earlier", stdin="correct horse battery", **settings).returncode == 1
        assert [stat.S_IMODE(each.stat().st_mode) for each in tmp_path.glob("demo-user.*")] == [0o600]
