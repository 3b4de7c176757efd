"""docs/from-the-tutorial.md: its commands, run on the database of a service like the tutorial's."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import psycopg
import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.db import connection

from config import BASE_DIR

from .databases import SERVER, a_database, database_url
from .support import FIND_ANNOTATIONS, Process, assert_problem, credentials, run
from .test_database import EXAMPLE, SCHEMA, rows

ITERATIONS = PBKDF2PasswordHasher.iterations  # before a test makes hashing cheap
PAGE = (BASE_DIR / "docs/from-the-tutorial.md").read_text()

# What a reader of the tutorial has, as far as it makes the database: its models, its sessions and its signup.
TUTORIAL = {
    "meta.ini": "[utilmeta]\nname = demo-user\nmain = server\nservice = server.service\napp = server.app\n",
    "user/__init__.py": "",
    "user/migrations/__init__.py": "",
    "server.py": FIND_ANNOTATIONS
    + """
import django
from utilmeta import UtilMeta
from utilmeta.core import api
from utilmeta.core.orm import Database, DatabaseConnections
from utilmeta.core.server.backends.django import DjangoSettings

service = UtilMeta(__name__, name='demo-user', backend=django)
service.use(DjangoSettings(secret_key='YOUR_SECRET_KEY', apps=['user']))
service.use(DatabaseConnections({'default': Database(DATABASE)}))
service.setup()

from user.api import UserAPI


class RootAPI(api.API):
    user: UserAPI


service.mount(RootAPI, route='/api')
app = service.application()
""",
    "user/models.py": """
from django.db import models
from utilmeta.core.orm.backends.django.models import AbstractSession, PasswordField


class User(models.Model):
    username = models.CharField(max_length=20, unique=True)
    password = PasswordField(max_length=100)
    signup_time = models.DateTimeField(auto_now_add=True)


class Session(AbstractSession):
    user = models.ForeignKey(User, related_name='sessions', null=True, default=None, on_delete=models.CASCADE)
""",
    "user/auth.py": """
from utilmeta.core import auth
from utilmeta.core.auth.session.db import DBSession, DBSessionSchema
from .models import Session, User

USER_ID = '_user_id'


class SessionSchema(DBSessionSchema):
    def get_session_data(self):
        return super().get_session_data() | {'user_id': self.get(USER_ID)}


session_config = DBSession(
    session_model=Session,
    engine=SessionSchema,
    cookie=DBSession.Cookie(name='sessionid', age=7 * 24 * 3600, http_only=True),
)
user_config = auth.User(
    user_model=User,
    authentication=session_config,
    key=USER_ID,
    login_fields=User.username,
    password_field=User.password,
)
""",
    "user/api.py": """
from datetime import datetime

import utype
from utilmeta.core import api, orm, request
from utilmeta.utils import exceptions
from . import auth
from .models import User


class SignupSchema(orm.Schema[User]):
    username: str
    password: str


class LoginSchema(utype.Schema):
    username: str
    password: str


class UserSchema(orm.Schema[User]):
    id: int
    username: str
    signup_time: datetime


@auth.session_config.plugin
class UserAPI(api.API):
    @api.post
    def signup(self, data: SignupSchema = request.Body) -> UserSchema:
        if User.objects.filter(username=data.username).exists():
            raise exceptions.BadRequest('Username exists')
        data.save()
        auth.user_config.login_user(request=self.request, user=data.get_instance())
        return UserSchema.init(data.pk)

    @api.post
    def login(self, data: LoginSchema = request.Body) -> UserSchema:
        user = auth.user_config.login(request=self.request, ident=data.username, password=data.password)
        if not user:
            raise exceptions.PermissionDenied('Username of password wrong')
        return UserSchema.init(user)
""",
    # Asks the service what standard input says, and prints what it answers.
    "ask.py": """
import json
import sys

from server import service

path, bodies = json.load(sys.stdin)
for body in bodies:
    with service.get_client(live=False, base_url=service.origin) as client:
        response = client.post(path, data=body)
        assert response.status == 200, body
        print(json.dumps(response.data))
""",
}
COLUMNS = """
    SELECT table_name, column_name, data_type, character_maximum_length, is_nullable
    FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2
"""
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
# A "password" that the tutorial's service stores as it stands.
FORGED = f"pbkdf2_sha256$1${'s' * 22}${'h' * 43}="
# Who signed up there, with which password, and the name by which they log in here.
USERS = [
    ("bob", "123123", "bob"),
    ("Carol", "x", "Carol"),
    ("ada@home", "p" * 100, "ada"),
    ("DAVE", "5 µm² is a small area", "DAVE"),
    ("\N{FULLWIDTH LATIN CAPITAL LETTER A}lice", "pässwörd 密码 🔑", "alice"),
    ("eve", "cafe\N{COMBINING ACUTE ACCENT}", "eve"),
    ("Eve", " another one ", "eve2"),
    ("Frank_1", "\N{ACUTE ACCENT}", "frank_1"),
]


def commands_of(heading: str) -> list[str]:
    """Return the blocks of commands under a heading of the page."""
    [section] = re.findall(rf"^### [0-9]\. {heading}\n(.*?)(?=^##)", PAGE, re.DOTALL | re.MULTILINE)
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def tutorials_database(url: str) -> str:
    """Return how the tutorial's server.py names its database."""
    if not SERVER:
        return "name='db', engine='sqlite3'"
    parts = psycopg.conninfo.conninfo_to_dict(url)
    names = {"dbname": "name", "user": "user", "password": "password", "host": "host", "port": "port"}
    given = [f"{name}={str(parts[part])!r}" for part, name in names.items() if part in parts]
    return ", ".join(["engine='postgresql'", *given])


@pytest.fixture
def urls(tmp_path, monkeypatch):
    """The tutorial's database and an empty one for this service; the environment names both."""
    for name in [name for name in os.environ if name.startswith("COVERAGE")]:
        monkeypatch.delenv(name)  # what runs here are copies
    with ExitStack() as stack:
        urls = []
        for name in ("tutorial", "service"):
            database = f"demo_user_{name}_{os.getpid()}"
            stack.enter_context(a_database(database))
            urls.append(database_url(database, tmp_path / name))
        monkeypatch.setenv("TUTORIAL_DATABASE_URL", urls[0])
        monkeypatch.setenv("DATABASE_URL", urls[1])
        monkeypatch.setenv("UTILMETA_PRODUCTION", "0")
        yield urls


@pytest.fixture
def tutorial(tmp_path, urls) -> Path:
    """The folder of the tutorial's project, with a migrated database."""
    folder = tmp_path / "tutorial"
    for name, text in TUTORIAL.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("DATABASE)", f"{tutorials_database(urls[0])})"))
    for command in ("makemigrations", "migrate"):
        done(run("meta", command, cwd=folder))
    return folder


@pytest.fixture
def service(tmp_path, tutorial) -> Path:
    """The folder of a copy of this service, beside the tutorial's."""
    not_needed = (".*", "tests", "benchmarks", "*.sqlite3", "*.sqlite3-*", "__pycache__")
    return Path(shutil.copytree(BASE_DIR, tmp_path / "service", ignore=shutil.ignore_patterns(*not_needed)))


@pytest.fixture
def shell(service) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs commands of the page in the folder of this service."""

    def execute(commands: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return run("sh", "-e", "-c", commands, cwd=service, stdin=stdin)

    return execute


def done(result: subprocess.CompletedProcess[str]) -> str:
    """Check that a command succeeded; return what it said."""
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def ask(folder: Path, path: str, bodies: list[dict[str, str]]) -> list[dict[str, object]]:
    """Send requests to the tutorial's service; return what it answers."""
    said = done(run("python", "ask.py", cwd=folder, stdin=json.dumps([path, bodies])))
    return [json.loads(line) for line in said.splitlines()]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_page_brings_everybody_here_with_the_password_they_had(tmp_path, tutorial, service, shell, urls):
    people = [*USERS, ("mallory", FORGED, "mallory")]
    accounts = ask(tutorial, "user/signup", [credentials(name, password) for name, password, _ in people])
    [sqlite_copy, postgresql_copy] = commands_of("Copy the database")

    done(shell(postgresql_copy if SERVER else sqlite_copy))
    [migrate] = commands_of("Migrate")
    assert f"Sessions deleted: {len(people)}." in done(shell(migrate))

    [normalise, rename] = commands_of("Normalise the usernames")
    normalised = shell(normalise)
    assert normalised.returncode == 1
    *left, error = normalised.stderr.splitlines()
    assert f"```console\n{chr(10).join([*left, normalised.stdout.strip(), error])}\n```" in PAGE
    done(shell(rename))
    assert done(shell(normalise)) == "Normalised: 0. Left: 0.\n"

    [find] = commands_of("Look for hashes that users chose")
    assert done(shell(find)) == "mallory\n"
    done(shell("meta setpassword mallory", stdin="staple correct horse"))
    assert done(shell(find)) == ""

    process = Process(("python", "server.py"), service, tmp_path / "log", {"DATABASE_URL": urls[1]})
    try:
        process.wait_until_it_serves()
        [check] = commands_of("Start, and check")
        assert '"username": "bob"' in done(shell(check.replace("http://127.0.0.1:8000", process.url)))
        for (_, password, name), account in zip(USERS, accounts, strict=False):
            for again in range(2):
                response = httpx.post(f"{process.url}/api/user/login", json=credentials(name, password))
                assert response.status_code == 200, (name, again, response.text)
            assert response.json()["id"] == account["id"]
            assert response.json()["signup_time"] == account["signup_time"].replace("+00:00", "Z")
        for name, password in (
            ("bob", "123124"),
            ("eve", " another one "),
            ("dave", "5 µm² is a large area"),
        ):
            response = httpx.post(f"{process.url}/api/user/login", json=credentials(name, password))
            assert_problem(response, 403, "invalid_credentials")
        response = httpx.post(
            f"{process.url}/api/user/signup", json=credentials("new", "correct horse battery")
        )
        assert response.json()["id"] > max(account["id"] for account in accounts)
    finally:
        process.stop()

    # The way back.
    bodies = [credentials(name, password) for name, password, _ in USERS]
    assert ask(tutorial, "user/login", bodies) == accounts[: len(USERS)]


def test_tables_are_those_of_a_fresh_database(tutorial, service, shell, urls):
    done(shell(commands_of("Copy the database")[bool(SERVER)]))

    done(shell(commands_of("Migrate")[0]))

    if SERVER:
        with psycopg.connect(urls[1]) as moved, connection.cursor() as fresh:
            for statement in (COLUMNS, INDEXES):
                fresh.execute(statement)
                # The suite's own database has the tables of passkeys, too.
                rows_ = [row for row in fresh.fetchall() if not row[0].startswith("passkey_")]
                assert moved.execute(statement).fetchall() == rows_
    else:
        assert rows(service / "db.sqlite3", SCHEMA) == rows(EXAMPLE, SCHEMA)


def test_page_knows_the_iterations_of_this_django():
    [find] = commands_of("Look for hashes that users chose")

    assert re.search(rf"[(|]{ITERATIONS}[|)]", find)
