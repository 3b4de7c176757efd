"""What the image is made of and starts, tried without an image."""

import os
import re
import signal
from collections.abc import Callable, Iterator

import psutil
import pytest
from dotenv import dotenv_values

from config import BASE_DIR, EXIT_CODE

from .databases import a_database, database_url
from .support import Process, run, until

DOCKERFILE = (BASE_DIR / "Dockerfile").read_text()
INCLUDED = re.findall("^!(.+)$", (BASE_DIR / ".dockerignore").read_text(), re.MULTILINE)
GRANIAN = {name: value or "" for name, value in dotenv_values(BASE_DIR / "deploy/granian.conf").items()}
SERVE, CHECK_HEALTH = "deploy/serve", "deploy/check-health"
PRODUCTION = {
    "UTILMETA_PRODUCTION": "true",
    "SECRET_KEY": "a-key-of-the-tests-that-is-long-enough-for-production",
    "GRANIAN_HOST": "127.0.0.1",
}
# Development code of the project, and what is copied elsewhere.
LEFT_OUT = {"benchmarks", "tests", "client.py", "test.py"}


def environment() -> dict[str, str]:
    """Return the variables that the Dockerfile sets."""
    block = re.search(r"^ENV (.*?[^\\])$", DOCKERFILE, re.MULTILINE | re.DOTALL)[1]
    return dict(re.findall(r"(\w+)=(\S+)", block))


def test_image_has_every_module_of_the_service():
    modules = {path.name for path in BASE_DIR.glob("*.py")}
    packages = {path.parent.name for path in BASE_DIR.glob("*/__init__.py")}

    assert modules | packages - LEFT_OUT <= set(INCLUDED) | LEFT_OUT
    assert [name for name in INCLUDED if not (BASE_DIR / name).exists()] == []


def test_image_has_no_other_file_of_the_folder():
    first = (BASE_DIR / ".dockerignore").read_text().splitlines()[1]

    assert first == "*"
    assert not {".env", ".git", ".venv", "db.sqlite3", "tests", "benchmarks", "docs"} & set(INCLUDED)


def test_label_has_the_version_of_the_project():
    project = (BASE_DIR / "pyproject.toml").read_text()
    version = re.search('^version = "(.+)"$', project, re.MULTILINE)[1]

    assert f'org.opencontainers.image.version="{version}"' in DOCKERFILE


def test_image_is_in_production_by_default():
    assert environment()["UTILMETA_PRODUCTION"] == "1"
    assert environment()["GRANIAN_PORT"] == GRANIAN["GRANIAN_PORT"]
    assert f"EXPOSE {GRANIAN['GRANIAN_PORT']}\n" in DOCKERFILE


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a database with tables."""
    name = f"demo_user_container_{os.getpid()}"
    with a_database(name):
        url = database_url(name, tmp_path_factory.mktemp("database"))
        assert run("meta", "migrate", **PRODUCTION, DATABASE_URL=url).returncode == 0
        yield url


@pytest.fixture
def serve(start: Callable[..., Process], migrated: str) -> Callable[..., Process]:
    """Return a function that starts what the image starts."""

    def begin(**settings: str) -> Process:
        command = ("sh", "-c", f'GRANIAN_PORT="$PORT" exec {SERVE}')
        return start(*command, cwd=BASE_DIR, **PRODUCTION | {"DATABASE_URL": migrated} | settings)

    return begin


def test_container_serves_as_granian_conf_says_unless_it_is_told_otherwise(serve):
    process = serve(GRANIAN_WORKERS="1").wait_until_granian_has_started(1)

    variables = psutil.Process(process.process.pid).environ()
    told = {"GRANIAN_WORKERS": "1", "GRANIAN_HOST": "127.0.0.1", "GRANIAN_PORT": process.environment["PORT"]}
    assert {name: variables[name] for name in GRANIAN} == GRANIAN | told


@pytest.mark.parametrize("path", [{}, {"GRANIAN_URL_PATH_PREFIX": "/accounts"}], ids=["root", "path"])
def test_health_is_that_of_the_service(serve, path):
    process = serve(**path).wait_until_granian_has_started()
    there = run(CHECK_HEALTH, GRANIAN_PORT=process.environment["PORT"], **path)
    process.stop()
    gone = run(CHECK_HEALTH, GRANIAN_PORT=process.environment["PORT"], **path)

    assert (there.returncode, gone.returncode) == (0, 1), there.stderr
    assert f'CMD ["./{CHECK_HEALTH}"]' in DOCKERFILE


def test_container_that_is_told_to_stop_stops(serve):
    process = serve().wait_until_granian_has_started()

    process.process.send_signal(signal.SIGTERM)

    assert process.exit_code() == 0
    assert "Shutting down granian" in process.log


def test_container_that_is_told_to_stop_while_it_starts_stops(serve, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import time\nprint('starting', flush=True)\ntime.sleep(60)\n")
    process = serve(PYTHONPATH=str(tmp_path))
    until(lambda: "starting" in process.log)

    process.process.send_signal(signal.SIGTERM)

    assert process.exit_code() == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"SECRET_KEY": "short"}, "SECRET_KEY"),
        ({"SECRET_KEY": "", "SECRET_KEY_FILE": "/nowhere"}, "SECRET_KEY_FILE"),
        ({}, "meta migrate"),
    ],
)
def test_container_with_wrong_settings_ends_with_their_exit_code(settings, named, tmp_path):
    without_tables = {"DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3"}

    ended = run(SERVE, **PRODUCTION | without_tables | settings)

    assert ended.returncode == EXIT_CODE
    assert named in ended.stderr
