"""The README's tables and commands, held against the code."""

import dataclasses
import re

import pytest

from config import BASE_DIR, Settings
from server import RootAPI
from user import rate_limits
from web.endpoint import Addresses
from web.pages.middleware import DOCUMENT
from web.problems import PROBLEMS

README = (BASE_DIR / "README.md").read_text()


def section(title: str) -> str:
    """Return the text under a heading."""
    level = re.search(rf"^(#+) {title}$", README, re.MULTILINE)[1]
    return re.split(rf"^#{{1,{len(level)}}} ", README.split(f"\n{level} {title}\n")[1], flags=re.MULTILINE)[0]


def table(title: str) -> list[list[str]]:
    """Return the rows of the table under a heading."""
    rows = [line.strip("|").split("|") for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in row] for row in rows[2:]]


def test_errors_are_those_of_the_service():
    assert [(code, int(status)) for code, status, _ in table("Errors")] == [
        (code, status) for code, (status, _) in PROBLEMS.items()
    ]


def test_settings_are_those_of_the_service():
    assert [(name, default) for name, default, _ in table("Settings")] == [
        (field.name.upper(), field.metadata["default"]) for field in dataclasses.fields(Settings)
    ]


def test_endpoints_are_those_of_the_service():
    listed = [request.split() for request, _, _ in table("Endpoints")]

    assert {path for _, path in listed} == {*Addresses(RootAPI, "/api").templates, "/api/docs", DOCUMENT}


@pytest.mark.parametrize(("method", "path"), [row[0].split() for row in table("Endpoints")])
def test_listed_endpoint_exists(client, method, path):
    assert client.request(method, path).status_code not in (404, 405)


def test_layout_names_what_is_there():
    for name, _ in table("Layout"):
        assert (BASE_DIR / name).exists(), name


def test_every_module_is_in_the_layout():
    listed = {name for name, _ in table("Layout")}
    modules = {path.relative_to(BASE_DIR).as_posix() for path in (BASE_DIR / "user").glob("*.py")}

    assert modules - {"user/__init__.py"} <= listed


def test_listed_commands_are_those_of_the_service():
    listed = [command.split()[0] for command, _ in table("Operations")]
    modules = [path.stem for path in (BASE_DIR / "user/management/commands").glob("[!_]*.py")]

    assert sorted(listed) == sorted(modules)


@pytest.mark.parametrize("title", ["Run", "Test"])
def test_commands_are_one_line_each_and_pinned(title):
    command = re.search(r"```sh\n(.*?)\n```", section(title), re.DOTALL)[1]

    assert "\n" not in command
    assert "--constraint constraints.txt" in command


def test_constraints_are_exact():
    lines = (BASE_DIR / "constraints.txt").read_text().splitlines()

    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in lines)
    assert {"django==5.2", "utilmeta==2.8", "utype==0.6"} <= {
        line.lower().rpartition(".")[0] for line in lines
    }


def test_limits_are_as_said():
    def limit(item):
        return item.amount // rate_limits.SCALE, item.get_expiry() // 60

    assert limit(rate_limits.FAILURES_PER_PAIR) == (10, 10)
    assert limit(rate_limits.FAILURES_PER_ADDRESS) == (50, 10)
    assert limit(rate_limits.FAILURES_PER_USERNAME) == (100, 60)
    assert limit(rate_limits.SIGNUPS_PER_ADDRESS) == (60, 60)
