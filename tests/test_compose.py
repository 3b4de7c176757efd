"""compose.yaml: checked against the schema, and what it starts, started by hand on this machine.

Each container is a process here, with the command, the variables and the secrets that compose.yaml gives it.
What differs: containers are ports of this machine, volumes are folders, and nginx does not ask Docker's DNS.
"""

import json
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import yaml
from dotenv import dotenv_values
from redis.backoff import NoBackoff
from redis.retry import Retry

from client import ProblemError, UserClient
from config import BASE_DIR, Settings

from .markdown import table
from .nginx import needs_nginx, nginx
from .support import PASSWORD, Process, free_port, run, until
from .test_failover import BIN, as_postgres, new_folder

COMPOSE = yaml.safe_load((BASE_DIR / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVED = ("passwords", "reads")
ENDING = ("make-secrets", "migrate")
SECRETS = "/run/secrets/demo-user"


def interpolate(text: str) -> str:
    """Return a text of compose.yaml with the defaults of its variables."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(text)).replace("$$", "$")


def test_file_is_valid():
    checker = Path(sys.executable).with_name("check-jsonschema")
    if not checker.exists():
        pytest.skip("check-jsonschema, which carries the schema, is not installed")

    checked = run(str(checker), "--builtin-schema", "vendor.compose-spec", "compose.yaml")

    assert checked.returncode == 0, checked.stdout


def test_only_nginx_is_reached_from_outside():
    [ports] = [service["ports"] for service in SERVICES.values() if "ports" in service]

    assert ports == SERVICES["nginx"]["ports"] == ["${DEMO_USER_PORT:-8443}:443"]
    outside = [name for name, service in SERVICES.items() if "outside" in service.get("networks", [])]
    assert outside == ["nginx"]
    assert all(COMPOSE["networks"][name]["internal"] for name in ("service", "data"))


@pytest.mark.parametrize("name", SERVICES)
def test_container_waits_until_what_it_needs_is_ready(name):
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        finished = needed in ENDING
        assert how == {"condition": "service_completed_successfully" if finished else "service_healthy"}
        # That of the image, where there is none here.
        assert finished or needed in SERVED or SERVICES[needed]["healthcheck"]["test"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_in_the_file(name):
    secret = {field for field, each in Settings.__dataclass_fields__.items() if each.metadata["secret"]}
    variables = SERVICES[name].get("environment", {})

    assert not {variable.lower() for variable in variables} & (secret | {"postgres_password"})
    for variable, value in variables.items():
        assert not variable.endswith("_FILE") or value.startswith(SECRETS)


@pytest.mark.parametrize("name", [*SERVED, *ENDING])
def test_container_of_the_service_can_change_nothing(name):
    service = SERVICES[name]

    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "cap_add" not in service
    assert not any(volume.endswith((":/tmp", ":/data")) for volume in service["volumes"])
    assert service.get("tmpfs") == (["/tmp"] if name != "make-secrets" else None)
    assert ("user" in service) == (name == "make-secrets")


@pytest.mark.parametrize("name", SERVED)
def test_container_is_killed_later_than_granian_kills_its_workers(name):
    granian = dotenv_values(BASE_DIR / "deploy/granian.conf")

    seconds = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    assert seconds > int(granian["GRANIAN_WORKERS_KILL_TIMEOUT"])


def test_replica_listens_where_nginx_looks_for_it():
    configuration = (BASE_DIR / "deploy/nginx-compose.sed").read_text()
    [image_port] = re.findall(r"^EXPOSE (\d+)$", (BASE_DIR / "Dockerfile").read_text(), re.MULTILINE)

    for name in SERVED:
        variables = dotenv_values(BASE_DIR / SERVICES[name].get("env_file", "/dev/null"))
        assert f"/server {name}:{variables.get('GRANIAN_PORT', image_port)} " in configuration


def test_document_names_the_containers_and_the_variables():
    rows = table("docs/deployment.md", "Containers")
    names = {name.strip(" `") for row in rows if len(row) == 2 for name in row[0].split(",")}
    variables = {row[0]: row[1] for row in rows if len(row) == 3}
    text = (BASE_DIR / "compose.yaml").read_text()

    assert names >= set(SERVICES)
    assert set(re.findall(r"\$\{(\w+):-", text)) == set(variables)
    for name in ("DEMO_USER_HOST", "DEMO_USER_PORT"):
        assert f"${{{name}:-{variables[name]}}}" in text


class Composition:
    """What `docker compose up` starts, as processes of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"database": free_port(), "redis": free_port(), "nginx": free_port()}
        self.processes: dict[str, Process] = {}

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables of a container, with the folders of the test."""
        service = SERVICES[name]
        variables = dotenv_values(BASE_DIR / service["env_file"]) if "env_file" in service else {}
        variables |= {key: interpolate(value) for key, value in service.get("environment", {}).items()}
        return {key: self.here(name, value or "") for key, value in variables.items()}

    def here(self, name: str, text: str) -> str:
        """Return a text of a container with the folder of its secrets in the test."""
        [*volumes] = (v.split(":") for v in SERVICES[name]["volumes"] if f":{SECRETS}" in v)
        for volume, _, _ in volumes:
            text = text.replace(SECRETS, str(self.folder / volume.removesuffix("-secrets")))
        return text

    def make_secrets(self) -> subprocess.CompletedProcess[str]:
        """Run the container that makes the secrets."""
        service = SERVICES["make-secrets"]
        for volume in service["volumes"]:
            (self.folder / volume.rpartition("/")[2]).mkdir(exist_ok=True)
        command, target = service["command"]
        assert all(volume.split(":")[1].startswith(f"{target}/") for volume in service["volumes"])
        variables = {key: interpolate(value) for key, value in service["environment"].items()}
        return run(command, str(self.folder), **variables)

    def secret(self, path: str) -> str:
        """Return a secret."""
        return (self.folder / path).read_text().strip()

    def find_the_servers_here(self) -> None:
        """Have the URLs among the secrets name the servers of this machine."""
        for name in ("database", "redis"):
            path = self.folder / "service" / f"{name}_url"
            url = path.read_text()
            assert f"@{name}/" in url
            path.write_text(url.replace(f"@{name}/", f"@127.0.0.1:{self.ports[name]}/"))

    def settings(self, name: str) -> dict[str, str]:
        """Return what a container of the service is started with; the image says that it is production."""
        unset = {"DATABASE_URL": "", "SECRET_KEY": "", "THROTTLE": "on"}
        return {"UTILMETA_PRODUCTION": "1"} | unset | self.environment(name)

    @contextmanager
    def database(self) -> Iterator[None]:
        """Have a PostgreSQL like the image's, with its user, password and database."""
        folders: list[Path] = []
        data = new_folder(folders) / "data"
        service = self.environment("database")
        password = data.parent / "password"
        shutil.copy(service["POSTGRES_PASSWORD_FILE"], password)
        options = f"-p {self.ports['database']} -k {data.parent} -c listen_addresses=127.0.0.1"
        initdb = [BIN / "initdb", "-D", data, "-U", service["POSTGRES_USER"], "--pwfile", password]
        pg_ctl = [BIN / "pg_ctl", "-w", "-D", data, "-l", data.parent / "log"]
        try:
            subprocess.run(
                as_postgres(*initdb, "-A", "scram-sha-256", "--no-sync"),
                check=True,
                cwd="/",
                capture_output=True,
            )
            subprocess.run(
                as_postgres(*pg_ctl, "-o", options, "start"), check=True, cwd="/", stdout=subprocess.DEVNULL
            )
            with psycopg.connect(
                self.url("database").rpartition("/")[0] + "/postgres", autocommit=True
            ) as server:
                server.execute(f"CREATE DATABASE {service['POSTGRES_DB']}")
            yield
        finally:
            subprocess.run(as_postgres(*pg_ctl, "-m", "immediate", "stop"), cwd="/", capture_output=True)
            shutil.rmtree(data.parent)

    def url(self, name: str) -> str:
        """Return the URL of a server, as the service reads it."""
        return self.secret(f"service/{name}_url")

    @contextmanager
    def redis(self) -> Iterator[None]:
        """Have a Redis with the command of the container."""
        command = [self.here("redis", word) for word in SERVICES["redis"]["command"]]
        server = subprocess.Popen(
            [*command, "--port", str(self.ports["redis"]), "--dir", str(self.folder)],
            stdout=subprocess.DEVNULL,
        )
        try:
            with redis.Redis.from_url(self.url("redis")) as connection:
                until(lambda: answers(connection))
            yield
        finally:
            server.terminate()
            server.wait()

    def serve(self, name: str) -> Process:
        """Start a container of the service."""
        command = ("sh", "-c", 'GRANIAN_HOST=127.0.0.1 GRANIAN_PORT="$PORT" exec deploy/serve')
        return Process(command, BASE_DIR, self.folder / f"{name}.log", self.settings(name))

    def nginx_configuration(self) -> str:
        """Return nginx's site as its container makes it, but for ports and paths."""
        [script] = SERVICES["nginx"]["command"]
        sed = interpolate(script).splitlines()[0].partition(" >")[0]
        made = run("sh", "-euc", sed, cwd=BASE_DIR / "deploy", **self.environment("nginx"))
        assert made.returncode == 0, made.stderr
        site = made.stdout
        for pattern, replacement in {
            " resolve ": " ",  # nginx 1.27.3 has it
            r"listen 80;": "",
            "listen 443 ": f"listen 127.0.0.1:{self.ports['nginx']} ",
            "passwords:8001": self.processes["passwords"].url.removeprefix("http://"),
            "reads:8002": self.processes["reads"].url.removeprefix("http://"),
            "/etc/ssl/demo-user": str(self.folder / "certificate"),
            "/dev/stdout": str(self.folder / "access.log"),
            "/dev/stderr": str(self.folder / "error.log"),
        }.items():
            site, count = re.subn(pattern, replacement, site)
            assert count, pattern
        (self.folder / "site.conf").write_text(site)
        return f"include {self.folder}/site.conf;"


def answers(connection: redis.Redis) -> bool:
    """Tell whether Redis answers."""
    try:
        return bool(connection.ping())
    except redis.ConnectionError:
        return False


needs_servers = pytest.mark.skipif(
    not (BIN / "initdb").exists() or not shutil.which("runuser") or not shutil.which("redis-server"),
    reason="PostgreSQL's server or Redis's is not installed",
)


@pytest.fixture(scope="module")
def composition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """Everything that compose.yaml starts, in its order."""
    composition = Composition(tmp_path_factory.mktemp("compose"))
    made = composition.make_secrets()
    assert made.returncode == 0, made.stderr
    composition.find_the_servers_here()
    with ExitStack() as stack:
        stack.enter_context(composition.database())
        stack.enter_context(composition.redis())
        migrated = run(*SERVICES["migrate"]["command"], **composition.settings("migrate"))
        assert migrated.returncode == 0, migrated.stderr
        for name in SERVED:
            composition.processes[name] = composition.serve(name)
            stack.callback(composition.processes[name].stop)
        for process in composition.processes.values():
            process.wait_until_granian_has_started()
        port = composition.ports["nginx"]
        stack.enter_context(nginx(composition.folder, composition.nginx_configuration(), port))
        yield composition


@pytest.fixture
def browser(composition: Composition) -> Iterator[UserClient]:
    """A client that trusts the certificate that was made."""
    trusted = ssl.create_default_context(cafile=str(composition.folder / "certificate/fullchain.pem"))
    with UserClient(f"https://localhost:{composition.ports['nginx']}", verify=trusted) as client:
        yield client


def upstreams(composition: Composition) -> set[str]:
    """Return the names of the containers that nginx has sent requests to."""
    names = {each.url.removeprefix("http://"): name for name, each in composition.processes.items()}
    lines = (composition.folder / "access.log").read_text().splitlines()
    # Where it has asked several, the last one responded.
    return {names[json.loads(line)["upstream"].split(", ")[-1]] for line in lines}


@needs_nginx
@needs_servers
def test_everybody_can_sign_up_and_come_back(composition, browser):
    user = browser.signup("visitor", PASSWORD)
    assert browser.get() == user
    browser.logout()
    assert browser.login("visitor", PASSWORD) == user
    assert len(browser.sessions()) == 1

    until(lambda: upstreams(composition) == set(SERVED))
    with psycopg.connect(composition.url("database")) as database:
        assert database.execute("SELECT 1 FROM user_user WHERE id = %s", [user.id]).fetchall()


@needs_nginx
@needs_servers
def test_failures_are_counted_in_redis(composition, browser):
    with redis.Redis.from_url(composition.url("redis")) as counts:
        counts.flushdb()
        with pytest.raises(ProblemError, match="invalid_credentials"):
            browser.login("nobody", PASSWORD)

        assert counts.dbsize() > 0


@needs_servers
def test_redis_and_postgresql_want_their_passwords(composition):
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=composition.ports["redis"], retry=Retry(NoBackoff(), 0)).ping()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(re.sub(":[^:@]+@", ":wrong@", composition.url("database")))


@needs_nginx
@needs_servers
def test_one_replica_serves_while_the_other_is_away(composition, browser):
    process = composition.processes["passwords"]
    process.process.terminate()
    assert process.exit_code() == 0
    try:
        user = browser.signup("meanwhile", PASSWORD)
        assert browser.get() == user
    finally:
        process.start()
        process.wait_until_granian_has_started()


def test_secrets_are_made_once(tmp_path):
    composition = Composition(tmp_path)

    first = composition.make_secrets()
    made = {path: path.read_text() for path in tmp_path.glob("*/*")}
    second = composition.make_secrets()

    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert {path.relative_to(tmp_path).as_posix() for path in made} == {
        "database/password",
        "redis/redis.conf",
        "service/secret_key",
        "service/database_url",
        "service/redis_url",
        "certificate/fullchain.pem",
        "certificate/privkey.pem",
    }
    assert second.stdout == ""
    assert {path: path.read_text() for path in tmp_path.glob("*/*")} == made


def test_secrets_are_those_that_the_service_takes_and_are_not_the_same_twice(tmp_path):
    secrets = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        composition = Composition(tmp_path / name)
        composition.make_secrets()
        settings = Settings.load({"UTILMETA_PRODUCTION": "1"} | composition.environment("passwords"))
        assert settings.database_url["PASSWORD"] == composition.secret("database/password")
        assert settings.redis_url.split("@")[0].split(":")[2] in composition.secret("redis/redis.conf")
        secrets += [settings.secret_key, settings.database_url["PASSWORD"], settings.redis_url]

    assert len(set(secrets)) == len(secrets)
