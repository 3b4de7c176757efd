"""README.md, held against the code."""

import dataclasses
import json
import re
import shutil
import subprocess

import pytest

from config import BASE_DIR, Settings
from server import RootAPI
from web.endpoint import Addresses
from web.pages.middleware import DOCUMENT

from .markdown import code, pages, read, section, table
from .support import Process

README = "README.md"
MAX_LINES = 150


def test_ten_minutes_are_enough_to_read_it():
    assert len(read(README).splitlines()) <= MAX_LINES


def test_settings_are_some_of_the_service():
    defaults = {field.name.upper(): field.metadata["default"] for field in dataclasses.fields(Settings)}
    listed = {name: default for name, default, _ in table(README, "Settings")}

    assert listed
    assert listed.items() <= defaults.items()


def test_endpoints_are_those_of_the_service():
    listed = [request.split() for request, _, _ in table(README, "Endpoints")]
    listed += [request.split() for request, _, _ in table("docs/passkeys.md", "The API")]

    assert {path for _, path in listed} == {*Addresses(RootAPI, "/api").templates, "/api/docs", DOCUMENT}


@pytest.mark.parametrize(
    ("method", "path"),
    [row[0].split() for row in (*table(README, "Endpoints"), *table("docs/passkeys.md", "The API"))],
)
def test_listed_endpoint_exists(client, method, path):
    assert client.request(method, path.replace("{id}", "1")).status_code not in (404, 405)


def test_layout_names_what_is_there():
    for name, _ in table(README, "Layout"):
        assert (BASE_DIR / name).exists(), name


def test_every_folder_and_module_of_the_project_is_in_the_layout():
    listed = {name for name, _ in table(README, "Layout")}
    modules = {path.name for path in BASE_DIR.glob("*.py")}
    packages = {f"{path.parent.name}/" for path in BASE_DIR.glob("*/__init__.py")}

    assert modules | packages <= listed


@pytest.mark.parametrize("title", ["Run", "Test"])
def test_commands_are_one_line_each_and_pinned(title):
    command = code(section(README, title), "sh")[0].rstrip("\n")

    assert "\n" not in command
    assert "--constraint constraints.txt" in command


def test_constraints_are_exact():
    lines = read("constraints.txt").splitlines()

    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in lines)
    assert {"django==5.2", "utilmeta==2.8", "utype==0.6"} <= {
        line.lower().rpartition(".")[0] for line in lines
    }


@pytest.fixture
def service(start, tmp_path) -> Process:
    """The service in development, as the README has it."""
    url = f"sqlite:///{tmp_path}/db.sqlite3"
    server = ("python", str(BASE_DIR / "server.py"))
    return start(*server, UTILMETA_PRODUCTION="false", DATABASE_URL=url).wait_until_it_serves()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_prints_what_it_shows(service, tmp_path):
    shown = "".join(code(section(README, "Use"), "console"))
    commands = [line.removeprefix("$ ") for line in shown.splitlines() if line.startswith("$ ")]
    expected = [line for line in shown.splitlines() if not line.startswith("$ ")]
    script = "\n".join(f"{command}\necho" for command in commands)
    assert "http://127.0.0.1:8000" in script

    done = subprocess.run(
        ["bash", "-euc", script.replace("http://127.0.0.1:8000", service.url)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    printed = [line for line in done.stdout.splitlines() if line]
    assert [kind_of(line) for line in printed] == [kind_of(line) for line in expected]
    assert len(expected) == 5


def kind_of(line: str) -> str:
    """Return a response without what is another one each time."""
    assert json.loads(line)
    times = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "a time", line)
    return re.sub(r"[0-9a-f]{32}", "an id", times)


def test_every_page_is_in_the_list():
    listed = section(README, "Read on")

    assert [page for page in pages() if page != README and f"]({page})" not in listed] == []
