"""The end of a process: what was written stands in SQLite's file, and not beside it."""

import shutil
import signal
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from django.db import connection

from config import BASE_DIR
from framework.process_end import close_connections

from .databases import SERVER
from .support import Process, credentials, run

GRANIAN = "granian --interface=wsgi --no-ws --workers=2 --blocking-threads=4"
SERVERS = {
    "granian": ("sh", "-c", f'exec {GRANIAN} --port "$PORT" tests.granian_app:app'),
    "gunicorn": ("gunicorn", "server:app", "-c", "tests/gunicorn_conf.py", "--workers=2", "--threads=4",
                 "--no-control-socket"),
    "gunicorn --preload": ("gunicorn", "server:app", "-c", "tests/gunicorn_conf.py", "--workers=2",
                           "--threads=4", "--no-control-socket", "--preload"),
    "development": (sys.executable, "server.py"),
}  # fmt: skip


def names_in(path) -> list[str]:
    """Return the names of the users in a database file."""
    with closing(sqlite3.connect(path)) as database:
        return sorted(name for (name,) in database.execute("SELECT username FROM user_user"))


@pytest.mark.skipif(bool(SERVER), reason="it is about SQLite's files")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("server", SERVERS)
def test_stopped_server_leaves_its_database_in_one_file(tmp_path, server, number):
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3", "UTILMETA_PRODUCTION": "0"}
    assert run("meta", "migrate", **settings).returncode == 0
    process = Process(SERVERS[server], BASE_DIR, tmp_path / "log", settings)
    if server == "granian":
        process.wait_until_granian_has_started()
    process.wait_until_it_serves()
    names = [f"user{number}" for number in range(8)]
    with ThreadPoolExecutor(len(names)) as pool:
        for response in pool.map(
            lambda name: httpx.post(f"{process.url}/api/user/signup", json=credentials(name), timeout=60),
            names,
        ):
            assert response.status_code == 200, response.text
    log = tmp_path / "db.sqlite3-wal"
    assert log.stat().st_size > 0

    process.process.send_signal(number)
    process.exit_code()

    assert not log.exists() or log.stat().st_size == 0
    shutil.copy(tmp_path / "db.sqlite3", tmp_path / "alone.sqlite3")
    assert names_in(tmp_path / "alone.sqlite3") == names


@pytest.mark.skipif(bool(SERVER), reason="it is about SQLite's files")
def test_end_of_a_process_makes_no_database(tmp_path):
    run(
        sys.executable, "-c", "import utilmeta; utilmeta._cmd_env = True; import server",
        DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3",
    )  # fmt: skip

    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(bool(SERVER), reason="it is about SQLite's files")
def test_process_that_cannot_empty_the_log_ends_all_the_same(monkeypatch, tmp_path):
    (tmp_path / "db.sqlite3").mkdir()
    (tmp_path / "db.sqlite3-wal").write_text("a log")

    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "NAME", str(tmp_path / "db.sqlite3"))
        close_connections()

    assert (tmp_path / "db.sqlite3-wal").read_text() == "a log"


@pytest.mark.skipif(bool(SERVER), reason="it is about SQLite's files")
def test_log_is_emptied_while_other_connections_are_open(bob):
    log = Path(f"{connection.settings_dict['NAME']}-wal")
    with closing(sqlite3.connect(connection.settings_dict["NAME"])) as other:
        other.execute("SELECT * FROM user_user").fetchall()
        assert log.stat().st_size > 0

        close_connections()

        assert log.stat().st_size == 0
    assert bob.get("/api/user").status_code == 200


@pytest.mark.skipif(not SERVER, reason="it is about PostgreSQL")
def test_connection_to_a_server_is_closed(bob):
    close_connections()

    assert connection.connection is None
    assert bob.get("/api/user").status_code == 200
