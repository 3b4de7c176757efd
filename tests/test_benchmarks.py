"""The benchmarks, at a size at which their figures say nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from benchmarks.__main__ import BENCHMARKS
from config import BASE_DIR

from .databases import SERVER
from .support import run

SIZES = {
    "rush": ("--clients", "2"),
    "passkeys": ("--clients", "2"),
    "cpu": ("--requests", "10"),
    "statements": (),
    "load": ("--seconds", "1", "--connections", "2"),
    "storm": ("--seconds", "1"),
    "growth": ("--users", "0", "10", "20", "--requests", "5", "--rounds", "1"),
    "memory": ("--requests", "20"),
    "startup": ("--rounds", "1"),
}
NEED_WRK = ("load", "storm")


def benchmark(*arguments: str, **settings: str):
    """Run a benchmark; return what became of it."""
    return run("python", "-m", "benchmarks", *arguments, cwd=BASE_DIR, **settings)


def left_behind(folder: Path) -> list[Path]:
    """Return what is in a folder, but for the locks that all processes of the service on a machine share."""
    return [path for path in folder.iterdir() if not path.name.startswith("demo-user-")]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_prints_a_table_and_leaves_nothing_behind(tmp_path, name):
    if name in NEED_WRK and not shutil.which("wrk"):
        pytest.skip("wrk is not installed")
    (tmp_path / "temporary").mkdir()
    files = ("--json", str(tmp_path / "figures.json"), "--plot", str(tmp_path / "plot.svg"))
    database = ("--database-url", SERVER) if SERVER else ()

    done = benchmark(name, *SIZES[name], *files, *database, TMPDIR=str(tmp_path / "temporary"))

    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert f"| {' | '.join(figures['header'])} |" in done.stdout
    assert len(done.stdout.splitlines()) == 4 + len(figures["rows"])
    assert all(row[1] >= 0 for row in figures["rows"])
    assert (tmp_path / "plot.svg").read_text().count("<text") == 1 + 2 * len(figures["rows"])
    assert left_behind(tmp_path / "temporary") == []


def test_requests_of_a_load_are_answered_without_errors(tmp_path):
    if not shutil.which("wrk"):
        pytest.skip("wrk is not installed")
    # As many connections as may hash and wait: more may be turned away.
    benchmark("load", "--seconds", "1", "--connections", "2", "--json", str(tmp_path / "figures.json"))

    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [row[0] for row in figures["rows"]] == ["get", "401", "login", "signup", "put"]
    assert all(row[1] > 0 and row[4] == 0 for row in figures["rows"])


def test_more_logins_than_a_user_has_sessions_do_not_stop_the_benchmark(tmp_path):
    benchmark("cpu", "--requests", "500", "--json", str(tmp_path / "figures.json"))

    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [row[0] for row in figures["rows"]] == ["get", "401", "login", "signup", "put", "logout"]


def test_statements_are_those_that_the_suite_asserts(tmp_path):
    benchmark("statements", "--json", str(tmp_path / "figures.json"))

    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {name: count for name, count, _ in figures["rows"]} == {
        "get": 1, "401": 0, "login": 3, "signup": 2, "put": 2, "logout": 1,
    }  # fmt: skip


def test_imports_are_listed():
    done = benchmark("startup", "--imports")

    assert len(done.stdout.splitlines()) == 4 + 20
    assert "sqlalchemy" not in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("cpu", "--database-url", "postgresql://postgres@127.0.0.1:1/postgres"),
        ("cpu", "--database-url", "sqlite:////nowhere/db.sqlite3"),
        ("cpu", "--json", "/nowhere/figures.json", "--requests", "5"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments):
    done = benchmark(*arguments)

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("benchmarks: ")


def test_what_a_request_was_answered_instead_is_said():
    done = benchmark("cpu", "--requests", "5", PASSWORD_MIN_LENGTH="40")

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "/api/user/signup was answered 400" in line


# Python sets out to run wrk, and is stopped before it can say which process that is.
SLOW_START = """
import subprocess, time
from benchmarks.__main__ import main

class Popen(subprocess.Popen):
    def __init__(self, command, **options):
        super().__init__(command, **options)
        time.sleep(300 if command[0] == "wrk" else 0)

subprocess.Popen = Popen
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("name", "program"), [*((name, ("-m", "benchmarks")) for name in NEED_WRK), ("load", ("-c", SLOW_START))]
)
def test_benchmark_that_is_stopped_stops_what_it_started(tmp_path, name, program, number):
    if not shutil.which("wrk"):
        pytest.skip("wrk is not installed")
    # A session of its own: at a terminal Ctrl-C reaches every process, here only the first.
    process = subprocess.Popen(
        [sys.executable, *program, name, "--seconds", "300"],
        cwd=BASE_DIR,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    started: list[psutil.Process] = []
    try:
        for _ in range(1200):
            started = psutil.Process(process.pid).children(recursive=True)
            if any(child.name() == "wrk" for child in started):
                break
            time.sleep(0.05)
        assert any(child.name() == "wrk" for child in started)

        process.send_signal(number)

        assert process.wait(60) == 128 + number
        assert not psutil.wait_procs(started, timeout=10)[1]
        assert left_behind(tmp_path) == []
    finally:
        process.kill()
        process.wait()
        for child in started:
            with suppress(psutil.NoSuchProcess):
                child.kill()


@pytest.mark.skipif(not SERVER, reason="TEST_DATABASE_URL names no server")
def test_database_that_the_url_names_is_not_touched():
    def tables():
        with psycopg.connect(SERVER) as connection:
            return connection.execute("SELECT oid, relname FROM pg_class ORDER BY oid").fetchall()

    before = tables()

    # A slash in the query is no part of the name.
    done = benchmark("statements", "--database-url", f"{SERVER}?application_name=a/b")

    assert done.returncode == 0, done.stderr
    assert tables() == before


def test_without_wrk_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    done = run("python", "-m", "benchmarks", "load", cwd=BASE_DIR)

    assert done.returncode == 1
    assert done.stderr.startswith("benchmarks: wrk is not installed")


@pytest.mark.parametrize(
    "arguments", [(), ("nothing",), ("cpu", "--requests", "0"), ("growth", "--users", "x")]
)
def test_wrong_arguments_are_said(arguments):
    done = benchmark(*arguments)

    assert done.returncode == 2
    assert "usage: python -m benchmarks" in done.stderr


def test_every_benchmark_is_explained():
    text = (BASE_DIR / "benchmarks/README.md").read_text()

    for name in BENCHMARKS:
        assert f"\n| `{name}` |" in text


def test_database_of_the_checkout_is_not_touched():
    before = {path: path.stat().st_mtime_ns for path in BASE_DIR.glob("*.sqlite3*")}

    benchmark("cpu", "--requests", "5", DATABASE_URL=f"sqlite:///{Path(tempfile.gettempdir())}/none.sqlite3")

    assert {path: path.stat().st_mtime_ns for path in BASE_DIR.glob("*.sqlite3*")} == before
    assert not (Path(tempfile.gettempdir()) / "none.sqlite3").exists()
