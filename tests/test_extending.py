"""The recipes of docs/extending.md: each is applied to a copy of the project, and called."""

import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.hashers import make_password
from openapi_spec_validator import OpenAPIV31SpecValidator

from config import Settings
from web.problems import MORE_PROBLEMS

from .databases import a_database, database_url
from .recipes import SECTIONS, apply, blocks, copy_project
from .support import OTHER_PASSWORD, PASSWORD, Process, assert_problem, credentials, login, run

FIELD = "A field of the account"
ENDPOINT = "An endpoint of the account"
APP = "An app whose rows belong to a user"
POLICY = "Another password policy"
FRONT_END = "A front end on a development server"
EVERY_ENDPOINT = "What every endpoint does by itself"
FILES = "Files that follow"
# Another app, whose rows need a note.
REMINDER = '''

class Reminder(models.Model):
    """What a note is needed for."""

    note = models.ForeignKey(Note, on_delete=models.PROTECT)
'''
# Prints the response to a signup with each password.
SIGN_UP = """
import sys
from server import app
import httpx
client = httpx.Client(transport=httpx.WSGITransport(app=app), base_url="https://localhost")
for number, password in enumerate(sys.argv[1:]):
    print(client.post("/api/user/signup", json={"username": f"user{number}", "password": password}).text)
"""
numbers = itertools.count()


class Project:
    """A copy of the project, with a recipe applied, and a database of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = copy_project(folder / "project")
        self.settings = {"UTILMETA_PRODUCTION": "false", "DATABASE_URL": database_url(name, folder)}
        self.process: Process | None = None
        self.browsers = ExitStack()

    def start(self) -> None:
        """Start the development server."""
        log = self.folder.parent / "log"
        self.process = Process(("python", "server.py"), self.folder, log, self.settings)
        self.process.wait_until_it_serves()

    def stop(self) -> None:
        """Close the browsers and stop the server."""
        self.browsers.close()
        if self.process:
            self.process.stop()

    def apply(self, title: str, before_commands: Callable[[], None] = lambda: None) -> None:
        """Do what a recipe says."""
        apply(title, self.folder, before_commands, **self.settings)

    def run(self, *command: str, **settings: str) -> str:
        """Run a command, and return what it prints."""
        result = run(*command, cwd=self.folder, **self.settings | settings)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def browser(self, username: str = "", **fields: Any) -> httpx.Client:
        """Return a browser, in which a new user has signed up if there is a name."""
        client = self.browsers.enter_context(httpx.Client(base_url=self.process.url, timeout=30))
        if username:
            response = client.post("/api/user/signup", json=credentials(username) | fields)
            assert response.status_code == 200, response.text
        return client


@pytest.fixture(scope="module")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Project]]:
    """Return a function that applies a recipe to a copy of the project, and starts it."""
    with ExitStack() as stack:

        def make(title: str, before_commands: Callable[[Path], None] = lambda folder: None) -> Project:
            name = f"demo_user_extending_{next(numbers)}_{os.getpid()}"
            stack.enter_context(a_database(name))
            folder = tmp_path_factory.mktemp("extending")
            project = Project(folder, name)
            project.apply(title, lambda: before_commands(project.folder))
            stack.callback(project.stop)
            project.start()
            return project

        yield make


@pytest.fixture(scope="module")
def with_field(make_project):
    return make_project(FIELD)


@pytest.fixture(scope="module")
def with_app(make_project):
    def add_reminders(folder: Path) -> None:
        with (folder / "note/models.py").open("a") as models:
            models.write(REMINDER)

    return make_project(APP, add_reminders)


def assert_files_follow(project: Project) -> dict[str, Any]:
    """Check the OpenAPI document of a project, and the page's commands for files; return the document."""
    document: dict[str, Any] = project.browser().get("/api/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    project.apply(FILES)
    assert json.loads((project.folder / "openapi.json").read_text()) == document
    # What is not about the service as it comes holds for the extended one, too.
    project.run(
        "pytest", "-q", "tests/test_database.py", "tests/test_container.py", "-k", "example or module"
    )
    return document


def test_every_section_of_the_page_is_tested():
    assert list(SECTIONS) == [FIELD, ENDPOINT, APP, POLICY, FRONT_END, EVERY_ENDPOINT, FILES]


def test_new_field_is_set_at_signup_shown_and_changed(with_field):
    ada, bob = with_field.browser("ada", display_name="Ada Lovelace"), with_field.browser("bob")

    assert ada.get("/api/user").json()["display_name"] == "Ada Lovelace"
    assert bob.get("/api/user").json()["display_name"] == ""
    assert ada.put("/api/user", json={"display_name": "Countess"}).json()["display_name"] == "Countess"
    assert ada.put("/api/user", json={"username": "lovelace"}).json()["display_name"] == "Countess"
    assert ada.put("/api/user", json={"password": OTHER_PASSWORD}).status_code == 200
    assert login(ada, "lovelace", OTHER_PASSWORD).json()["display_name"] == "Countess"
    assert login(with_field.browser(), "lovelace").status_code == 403
    assert_files_follow(with_field)


@pytest.mark.parametrize("value", [None, 1, ["x"], "x" * 51, "x\0"])
def test_new_field_is_checked(with_field, value):
    client = with_field.browser("carol" if value is None else f"carol{len(str(value))}")

    assert_problem(
        client.put("/api/user", json={"display_name": value}), 400, "invalid_request", "display_name"
    )
    signup = client.post("/api/user/signup", json=credentials("dan") | {"display_name": value})
    assert_problem(signup, 400, "invalid_request", "display_name")


def test_new_field_has_its_default_where_an_operator_creates_the_account(with_field):
    with_field.run("meta", "createuser", "erin", stdin=f"{PASSWORD}\n")
    users = with_field.folder / "users.csv"
    users.write_text(f"username,password\nfrank,{make_password(PASSWORD)}\n")
    with_field.run("meta", "importusers", str(users))

    assert login(with_field.browser(), "erin").json()["display_name"] == ""
    assert login(with_field.browser(), "frank").json()["display_name"] == ""


def test_new_endpoint_needs_a_login(make_project):
    project = make_project(ENDPOINT)

    times = project.browser("ada").get("/api/user/times").json()

    assert times["created_time"] < times["expiry_time"]
    assert_problem(project.browser().get("/api/user/times"), 401, "not_logged_in")
    assert_problem(project.browser().get("/api/user/timesx"), 404, "not_found")
    document = assert_files_follow(project)
    assert document["paths"]["/user/times"]["get"]["security"] == [{"session": []}]


def test_rows_of_another_app_belong_to_a_user(with_app):
    ada, bob = with_app.browser("ada"), with_app.browser("bob")

    note = ada.post("/api/notes", json={"text": "buy milk"}).json()
    path = f"/api/notes/{note['id']}"

    assert note == {"id": note["id"], "text": "buy milk"}
    assert ada.get("/api/notes").json() == [note]
    assert ada.get(path).json() == ada.get(f"{path}/").json() == note
    assert ada.head(path).status_code == 200
    assert ada.put(path, json={"text": "buy bread"}).json() == note | {"text": "buy bread"}
    assert bob.get("/api/notes").json() == []
    for response in (bob.get(path), bob.put(path, json={"text": "mine"}), bob.delete(path)):
        assert_problem(response, 404, "not_found")
    assert ada.get(path).json()["text"] == "buy bread"
    assert ada.delete(path).status_code == 204
    assert_problem(ada.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/notes"), ("POST", "/api/notes"), ("GET", "/api/notes/1")]
)
def test_app_needs_a_login(with_app, method, path):
    response = with_app.browser().request(method, path, content=b"{" if method == "POST" else None)

    assert_problem(response, 401, "not_logged_in")
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["text"]),
        ({"text": 1}, ["text"]),
        ({"text": None, "title": "x", "pk": 1}, ["text", "title", "pk"]),
        ({"text": "x", "id": 2, "owner": 1, "owner_id": 1}, ["id", "owner", "owner_id"]),
        ({"text": "x" * 1001}, ["text"]),
        ({"text": "\0"}, ["text"]),
        ({"text": "\ud800"}, ["text"]),
    ],
)
def test_app_takes_only_what_fits_its_schema(with_app, body, fields):
    client = with_app.browser(f"u{abs(hash(str(body))) % 10**9}")
    headers = {"Content-Type": "application/json"}

    response = client.post("/api/notes", content=json.dumps(body).encode(), headers=headers)

    assert_problem(response, 400, "invalid_request", *fields)


def test_app_responds_like_the_service(with_app):
    client = with_app.browser("carol")
    path = f"/api/notes/{client.post('/api/notes', json={'text': 'x'}).json()['id']}"

    cross_site = client.post("/api/notes", json={"text": "x"}, headers={"Sec-Fetch-Site": "cross-site"})
    form = client.post("/api/notes", data={"text": "x"})
    wrong_method = client.patch(path)

    assert_problem(cross_site, 403, "cross_site_request")
    assert_problem(form, 415, "unsupported_media_type")
    assert_problem(wrong_method, 405, "method_not_allowed")
    assert wrong_method.headers["Allow"] == "GET, HEAD, PUT, DELETE"
    assert "route=/api/notes/{note_id} status=405" in with_app.process.log
    assert f"route={path}" not in with_app.process.log
    for name in ("x", "01", "1.0", "+1", "1e0", "9" * 30, "1/2", "\u0661", "1%0A"):
        assert_problem(client.get(f"/api/notes/{name}"), 404, "not_found")
    document = assert_files_follow(with_app)
    assert {"/notes", "/notes/{note_id}"} <= set(document["paths"])
    assert {"401", "404", "409"} <= set(document["paths"]["/notes/{note_id}"]["put"]["responses"])


def test_row_that_others_need_is_in_conflict(with_app):
    client = with_app.browser("dan")
    note = client.post("/api/notes", json={"text": "x"}).json()
    with_app.run(
        "python",
        "-c",
        f"import server; from note.models import Reminder; Reminder(note_id={note['id']}).save()",
    )

    response = client.delete(f"/api/notes/{note['id']}")

    assert_problem(response, 409, "conflict")
    assert client.get("/api/notes").json() == [note]


def test_password_of_another_list_is_refused_in_production(tmp_path):
    name = f"demo_user_policy_{os.getpid()}"
    project = Project(tmp_path, name)
    project.apply(POLICY)
    [word] = [text.splitlines()[1] for language, text in blocks(POLICY) if language == "text"]
    production = {"UTILMETA_PRODUCTION": "true", "SECRET_KEY": "k" * 50}

    with a_database(name):
        project.run("meta", "migrate", **production)
        printed = project.run("python", "-c", SIGN_UP, word.title(), PASSWORD, **production)

    refused, taken = map(json.loads, printed.splitlines()[-2:])
    assert refused["errors"] == [{"field": "password", "message": "This password is too common."}]
    assert taken["username"] == "user1"


def test_setting_of_the_password_policy_is_one():
    [(low, high)] = re.findall(r"`PASSWORD_MIN_LENGTH` \((\d+) to (\d+)\)", SECTIONS[POLICY])

    for length in (low, high):
        assert Settings.load({"PASSWORD_MIN_LENGTH": length}).password_min_length == int(length)


@pytest.mark.parametrize("host", ["localhost:5173", "127.0.0.1:8000"])
def test_front_end_behind_a_proxy_needs_no_setting(make_client, host):
    # As Chromium sends it to Vite, which keeps Host or changes it.
    headers = {"Host": host, "Origin": "http://localhost:5173", "Sec-Fetch-Site": "same-origin"}
    client = make_client(headers=headers)

    assert client.post("/api/user/signup", json=credentials("ada")).status_code == 200
    cookie = {"Cookie": client.cookies and "; ".join(f"{n}={v}" for n, v in client.cookies.items())}
    assert client.put("/api/user", json={"username": "lovelace"}, headers=cookie).status_code == 200
    assert client.post("/api/user/logout", headers=cookie).status_code == 200


def test_proxy_of_the_front_end_leads_to_the_service():
    [config] = [text for language, text in blocks(FRONT_END) if language == "js"]
    default = Settings.load({})

    assert f'"/api": "http://{default.host}:{default.port}"' in config


def test_codes_for_added_endpoints_are_on_the_page():
    rows = re.findall(r"^\|.*\| (\d+) \| `(\w+)`", SECTIONS[EVERY_ENDPOINT], re.MULTILINE)

    listed = {code: int(status) for status, code in rows}
    assert {code: status for code, (status, _) in MORE_PROBLEMS.items()}.items() <= listed.items()
