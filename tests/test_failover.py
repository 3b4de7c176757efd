"""PostgreSQL goes and comes back: a restart, a failover to a standby, and PgBouncer in between."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psycopg
import pytest

from config import BASE_DIR

from .support import Process, assert_problem, credentials, free_port, login, run, until

BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/nowhere"))
USER = "postgres"
PRODUCTION = {
    "UTILMETA_PRODUCTION": "true",
    "SECRET_KEY": "a-key-of-the-tests-that-is-long-enough-for-production",
    "TRUSTED_PROXIES": "1",
    "THROTTLE": "off",
}
GRANIAN = ("sh", "-c", 'set -a; . deploy/granian.conf; exec granian --port "$PORT" tests.granian_app:app')

pytestmark = pytest.mark.skipif(
    not (BIN / "pg_basebackup").exists() or not shutil.which("runuser"),
    reason="a PostgreSQL server of Debian's package is not installed",
)


def as_postgres(*command: object) -> list[str]:
    """Return a command that runs as the user whom PostgreSQL's programs insist on: anybody but root."""
    words = [str(word) for word in command]
    return ["runuser", "-u", USER, "--", *words] if os.geteuid() == 0 else words


class Cluster:
    """A PostgreSQL server of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.data = folder / "data"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c max_connections=60"
        command = as_postgres(
            BIN / "pg_ctl", "-w", "-D", self.data, "-l", self.folder / "log", "-o", options, "start"
        )
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server."""
        command = as_postgres(BIN / "pg_ctl", "-w", "-m", mode, "-D", self.data, "stop")
        subprocess.run(command, check=False, cwd="/", capture_output=True)

    def kill(self) -> None:
        """End every process of the server at once, as a crash does."""
        os.kill(int((self.data / "postmaster.pid").read_text().splitlines()[0]), signal.SIGQUIT)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Execute a statement; return the rows."""
        url = f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


def new_folder(stack: list[Path]) -> Path:
    """Return a folder that PostgreSQL can use."""
    folder = Path(tempfile.mkdtemp())
    stack.append(folder)
    folder.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(folder, USER)
    return folder


@pytest.fixture
def primary() -> Iterator[Cluster]:
    """A server with an empty database for the service."""
    folders: list[Path] = []
    cluster = Cluster(new_folder(folders))
    command = as_postgres(BIN / "initdb", "-D", cluster.data, "-U", USER, "-A", "trust", "-E", "UTF8")
    subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)
    try:
        cluster.start()
        cluster.execute("CREATE DATABASE users")
        yield cluster
    finally:
        cluster.stop("immediate")
        for folder in folders:
            shutil.rmtree(folder)


@pytest.fixture
def standby(primary: Cluster) -> Iterator[Cluster]:
    """A standby that has whatever the primary acknowledges."""
    folders: list[Path] = []
    cluster = Cluster(new_folder(folders))
    source = f"host=127.0.0.1 port={primary.port} user={USER} application_name=standby"
    command = as_postgres(
        BIN / "pg_basebackup", "-D", cluster.data, "-R", "-X", "stream", "-c", "fast", "-d", source
    )
    subprocess.run(command, check=True, cwd="/", capture_output=True)
    try:
        cluster.start()
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        primary.execute("SELECT pg_reload_conf()")
        until(lambda: primary.execute("SELECT sync_state FROM pg_stat_replication") == [("sync",)])
        yield cluster
    finally:
        cluster.stop("immediate")
        for folder in folders:
            shutil.rmtree(folder)


@contextmanager
def a_service(tmp_path: Path, url: str) -> Iterator[Process]:
    """Have the service under granian, as deploy/granian.conf has it."""
    settings = PRODUCTION | {"DATABASE_URL": url}
    migrated = run("meta", "migrate", **settings)
    assert migrated.returncode == 0, migrated.stderr
    process = Process(GRANIAN, BASE_DIR, tmp_path / "service", settings)
    try:
        process.wait_until_granian_has_started()
        yield process
    finally:
        process.stop()


def sign_up(url: str, name: str) -> httpx.Response:
    """Sign up in a browser of its own."""
    return httpx.post(f"{url}/api/user/signup", json=credentials(name), timeout=60)


def who(url: str, cookie: str) -> httpx.Response:
    """Ask who is logged in."""
    return httpx.get(f"{url}/api/user", headers={"Cookie": cookie}, timeout=60)


def cookie_of(response: httpx.Response) -> str:
    """Return the session's cookie as a browser sends it back."""
    assert response.status_code == 200, response.text
    return response.headers["Set-Cookie"].partition(";")[0]


def test_nobody_notices_a_restart_once_the_database_answers_again(primary, tmp_path):
    with a_service(tmp_path, f"postgresql://{USER}@127.0.0.1:{primary.port}/users") as service:
        cookie = cookie_of(sign_up(service.url, "bob"))
        with ThreadPoolExecutor(32) as pool:
            before = list(pool.map(lambda _: who(service.url, cookie).status_code, range(64)))

            primary.stop()
            assert_problem(who(service.url, cookie), 503, "service_unavailable")
            primary.start()
            after = list(pool.map(lambda _: who(service.url, cookie).status_code, range(64)))
            signups = list(pool.map(lambda n: sign_up(service.url, f"user{n}").status_code, range(16)))

        assert before == after == [200] * 64
        assert signups == [200] * 16
        connections = primary.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = 'users'")
        assert connections <= [(2 * 8,)]
        assert "Traceback" not in service.log


def test_failover_to_a_synchronous_standby_loses_nothing(primary, standby, tmp_path):
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    url = f"postgresql://{USER}@{hosts}/users?target_session_attrs=read-write"
    acknowledged: dict[str, str] = {}
    others: set[int] = set()
    stop = threading.Event()

    with a_service(tmp_path, url) as service:

        def sign_up_all_the_time(number: int) -> None:
            turn = 0
            while not stop.is_set():
                turn += 1
                response = sign_up(service.url, f"user{number}-{turn}")
                if response.status_code == 200:
                    acknowledged[f"user{number}-{turn}"] = cookie_of(response)
                else:
                    others.add(response.status_code)
                    time.sleep(0.05)

        threads = [threading.Thread(target=sign_up_all_the_time, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: len(acknowledged) >= 20)
        primary.kill()
        until(lambda: 503 in others)
        before = len(acknowledged)
        standby.execute("SELECT pg_promote()")
        promoted = time.monotonic()
        until(lambda: len(acknowledged) > before)
        seconds = time.monotonic() - promoted
        until(lambda: len(acknowledged) >= before + 20)
        stop.set()
        for thread in threads:
            thread.join()

        assert others == {503}
        assert seconds < 5
        assert {who(service.url, cookie).json()["username"] for cookie in acknowledged.values()} == set(
            acknowledged
        )


@pytest.fixture
def bouncer(primary: Cluster) -> Iterator[int]:
    """The port of a PgBouncer in transaction mode, as docs/scaling.md has it, which ends idle clients."""
    if not shutil.which("pgbouncer"):
        pytest.skip("pgbouncer is not installed")
    folders: list[Path] = []
    folder, port = new_folder(folders), free_port()
    (folder / "users.txt").write_text(f'"{USER}" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\nusers = host=127.0.0.1 port={primary.port} dbname=users\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = trust\nauth_file = {folder}/users.txt\npool_mode = transaction\n"
        "ignore_startup_parameters = options, statement_timeout, idle_in_transaction_session_timeout\n"
        "client_idle_timeout = 1\n"
    )
    program = shutil.which("pgbouncer") or ""
    process = subprocess.Popen(
        as_postgres(program, folder / "pgbouncer.ini"), cwd="/", stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: answers(port))
        yield port
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder)


def answers(port: int) -> bool:
    """Tell whether a database answers at a port."""
    with suppress(psycopg.Error), psycopg.connect(f"postgresql://{USER}@127.0.0.1:{port}/users"):
        return True
    return False


def test_service_works_through_pgbouncer_and_when_that_ends_idle_connections(bouncer, tmp_path):
    with a_service(tmp_path, f"postgresql://{USER}@127.0.0.1:{bouncer}/users") as service:
        cookie = cookie_of(sign_up(service.url, "bob"))

        for _ in range(2):
            with ThreadPoolExecutor(16) as pool:
                assert set(pool.map(lambda _: who(service.url, cookie).status_code, range(32))) == {200}
            time.sleep(2.5)  # longer than PgBouncer keeps an idle client

        with httpx.Client(base_url=service.url, timeout=60) as client:
            assert login(client).status_code == 200
            changed = client.put("/api/user", json={"username": "robert"}, headers={"Cookie": cookie})
            assert changed.status_code == 200
            assert client.get("/api/health/ready").status_code == 200


def test_several_processes_migrate_through_pgbouncer_one_after_the_other(bouncer):
    url = f"postgresql://{USER}@127.0.0.1:{bouncer}/users"

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: run("meta", "migrate", DATABASE_URL=url), range(4)))

    assert [each.returncode for each in done] == [0] * 4, [each.stderr for each in done]
    assert sum("Applying user.0001_initial... OK" in each.stdout for each in done) == 1
