"""The image that `.ci/image` has built, run as an engine does: with a read-only root, and as its own user.

IMAGE_ROOT is the folder of its file system, and IMAGE_CONFIG what `buildah inspect` prints about it.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from config import EXIT_CODE

from .support import PASSWORD, credentials, free_port, login, run, until

pytestmark = pytest.mark.skipif(
    "IMAGE_ROOT" not in os.environ, reason="IMAGE_ROOT names no image: .ci/image builds one and runs this"
)
ROOT = Path(os.environ.get("IMAGE_ROOT", "/nowhere"))
UID = 10001
# The grace of docs/deployment.md. granian may take 30 seconds when a worker has only just started.
SECONDS_TO_STOP = 40
PRODUCTION = {
    "SECRET_KEY": "a-key-of-the-tests-that-is-long-enough-for-production",
    "DATABASE_URL": "sqlite:////data/db.sqlite3",
}
# All that can be written to is a volume and /tmp.
MOUNTS = """
mount --bind "$ROOT" "$ROOT"
mount --bind "$DATA" "$ROOT/data"
mount -t tmpfs -o mode=1777 tmpfs "$ROOT/tmp"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
mount -o remount,bind,ro "$ROOT"
exec chroot "$ROOT" "$@"
"""


def configuration() -> dict[str, Any]:
    """Return what the image says about how it is run."""
    config: dict[str, Any] = json.loads(Path(os.environ["IMAGE_CONFIG"]).read_text())["Docker"]["config"]
    return config


class Container:
    """The image with a volume at /data, and a port of this machine."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder, self.data = folder, folder / "data"
        self.data.mkdir()
        os.chown(self.data, UID, UID)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = {"GRANIAN_PORT": str(self.port)} | PRODUCTION | settings

    def command(self, *command: str, **settings: str) -> list[str]:
        """Return the command of this machine that runs one in the container."""
        config = configuration()
        user, group = config["User"].split(":")
        variables = dict(each.split("=", 1) for each in config["Env"]) | self.settings | settings
        return [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", MOUNTS, "sh"),
            *("/usr/bin/setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"),
            *("--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"),
            *("/usr/bin/env", "--ignore-environment", f"--chdir={config['WorkingDir']}"),
            *(f"{name}={value}" for name, value in variables.items()),
            *(command or config["Cmd"]),
        ]

    def run(self, *command: str, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command, or the image's own, to its end."""
        environment = os.environ | {"ROOT": str(ROOT), "DATA": str(self.data)}
        return subprocess.run(
            self.command(*command, **settings),
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def start(self) -> None:
        """Start what the image starts, and wait until it serves."""
        environment = os.environ | {"ROOT": str(ROOT), "DATA": str(self.data)}
        with (self.folder / "log").open("wb") as output:
            self.process = subprocess.Popen(self.command(), env=environment, stdout=output, stderr=output)
        until(self.serves)

    def serves(self) -> bool:
        """Tell whether both workers of the service have started and one responds."""
        assert self.process.poll() is None, self.log
        try:
            return httpx.get(f"{self.url}/api/health").is_success and self.log.count("Started worker") == 2
        except httpx.TransportError:
            return False

    @property
    def log(self) -> str:
        """What the container has written."""
        return (self.folder / "log").read_text()

    def stop(self) -> int:
        """Tell the first process of the container to stop; return its exit code when it has ended."""
        os.kill(self.processes()[0], signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(SECONDS_TO_STOP)
        raise AssertionError(f"it has not stopped; {self.log}")

    def processes(self) -> list[int]:
        """Return the ids of the container's processes, as this machine has them, the first one first."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        assert children, self.log
        first = int(children[0])
        found = [first]
        for pid in psutil.pids():
            with suppress(OSError):  # it has ended
                if pid != first and os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(
                    f"/proc/{first}/ns/pid"
                ):
                    found.append(pid)
        return found

    def kill(self) -> None:
        """End the container: without its first process, the kernel ends the others."""
        if self.process.poll() is None:
            # `--kill-child` has no effect on a process that has changed its user.
            os.kill(self.processes()[0], signal.SIGKILL)
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A container in production, on SQLite, which has been migrated, with everything that it can do."""
    optional = {"METRICS": "on", "PASSKEYS": "on", "PASSKEY_RP_ID": "localhost"}
    container = Container(tmp_path_factory.mktemp("container"), **optional)
    migrated = container.run("meta", "migrate")
    assert migrated.returncode == 0, migrated.stderr
    container.start()
    yield container
    container.kill()


def test_tutorial_is_told_to_a_container(tmp_path):
    container = Container(tmp_path, UTILMETA_PRODUCTION="0")
    assert container.run("meta", "migrate").returncode == 0
    container.start()
    try:
        for _ in range(2):
            told = run(sys.executable, "test.py", PORT=str(container.port), UTILMETA_PRODUCTION="0")
            assert told.returncode == 0, told.stdout + told.stderr
    finally:
        container.kill()


def test_commands_work_beside_the_service(container):
    made = container.run("meta", "createuser", "bob", stdin=f"{PASSWORD}\n")

    assert made.returncode == 0, made.stderr
    with httpx.Client(base_url=container.url, headers={"Host": "localhost"}) as client:
        assert login(client).status_code == 200
    assert container.run("meta", "showuser", "bob").stdout
    assert container.run("meta", "createuser", "bob", stdin=f"{PASSWORD}\n").returncode != 0


def test_everything_optional_works(container):
    metrics = httpx.get(f"{container.url}/metrics").text
    passkeys = httpx.post(f"{container.url}/api/passkeys/authentication", headers={"Host": "localhost"})

    assert "demo_user_workers 2.0" in metrics
    assert passkeys.status_code == 200, passkeys.text


def test_every_process_is_one_of_a_user_without_rights(container):
    processes = container.processes()

    assert len(processes) >= 3
    for pid in processes:
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        assert fields["Uid"].split() == fields["Gid"].split() == [str(UID)] * 4
        assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
        assert fields["NoNewPrivs"] == "1"


@pytest.mark.parametrize(
    ("folder", "works"),
    [("/srv/demo-user", False), ("/opt/venv", False), ("/run", False), ("/tmp", True), ("/data", True)],
)
def test_container_writes_to_its_volume_and_to_tmp_alone(container, folder, works):
    done = container.run("python", "-c", f"open('{folder}/written', 'w').write('x')")

    assert (done.returncode == 0) == works, done.stderr
    assert works or "Read-only file system" in done.stderr


def test_service_could_change_none_of_its_files_if_it_were_allowed_to():
    for folder in ("srv/demo-user", "opt/venv"):
        for path in (ROOT / folder).rglob("*"):
            status = path.lstat()
            assert status.st_uid == 0, path
            assert path.is_symlink() or not status.st_mode & 0o022, path


def test_new_volume_is_the_users_alone():
    status = (ROOT / "data").stat()

    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (UID, UID, 0o700)


def test_database_is_readable_by_its_owner_alone(container):
    files = list(container.data.glob("db.sqlite3*"))

    assert files
    assert {(path.stat().st_uid, path.stat().st_mode & 0o777) for path in files} == {(UID, 0o600)}


def test_image_says_how_it_is_run(container):
    config = configuration()

    assert config["User"] == f"{UID}:{UID}"
    assert config["StopSignal"] == "SIGTERM"
    assert config["ExposedPorts"] == {"8001/tcp": {}}
    assert config["Volumes"] == {"/data": {}}
    assert not config["Entrypoint"]
    labels = {name.rpartition(".")[2] for name in config["Labels"] if "opencontainers" in name}
    assert labels == {"title", "description", "version", "revision", "name"}
    kind, *check = config["Healthcheck"]["Test"]
    assert kind == "CMD"
    assert container.run(*check).returncode == 0
    assert container.run(*check, GRANIAN_PORT=str(free_port())).returncode == 1


def test_request_under_way_is_answered_when_the_container_stops(tmp_path):
    container = Container(tmp_path)
    assert container.run("meta", "migrate").returncode == 0
    container.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            # Each hashes a password, on the cores that there are.
            answers = [
                pool.submit(httpx.post, f"{container.url}/api/user/signup", json=credentials(f"user{number}"))
                for number in range(8)
            ]
            until(lambda: any(answer.done() for answer in answers))
            code = container.stop()
            statuses = {answer.result().status_code for answer in answers}
    finally:
        container.kill()

    assert (statuses, code) == ({200}, 0)
    assert "Shutting down granian" in container.log


@pytest.mark.parametrize(
    ("settings", "named"), [({"SECRET_KEY": ""}, "SECRET_KEY"), ({"ALLOWED_HOSTS": "a b"}, "ALLOWED_HOSTS")]
)
@pytest.mark.parametrize("command", [(), ("meta", "migrate")])
def test_container_with_wrong_settings_ends_with_their_exit_code(container, settings, named, command):
    ended = container.run(*command, **settings)

    assert ended.returncode == EXIT_CODE
    assert f"demo-user cannot start: {named}" in ended.stderr


def test_image_has_no_compiler_and_no_pip():
    folders = [ROOT / folder for folder in ("opt/venv/bin", "usr/bin", "usr/local/bin")]
    programs = {path.name for folder in folders if folder.is_dir() for path in folder.iterdir()}

    assert "granian" in programs
    assert not programs & {"cc", "gcc", "g++", "c++", "clang", "cpp", "as", "ld", "make", "cargo", "rustc"}
    assert not (ROOT / "opt/venv/bin/pip").exists()


def test_image_has_only_what_it_serves():
    service = ROOT / "srv/demo-user"
    names = {path.name for path in service.iterdir()}

    assert names == {
        *("server.py", "config.py", "meta.ini", "user", "web", "framework", "deploy", "__pycache__")
    } | {path.name for path in service.glob("*") if (path / "__init__.py").exists()}
    assert {path.name for path in (service / "deploy").iterdir()} == {
        *("check-health", "granian.conf", "make-secrets", "serve")
    }


def test_nothing_is_compiled_at_the_start():
    sources = [
        *(ROOT / "srv/demo-user").rglob("*.py"),
        *(ROOT / "opt/venv").rglob("site-packages/django/**/*.py"),
    ]

    assert len(sources) > 500
    for source in sources:
        # Django's templates of files are no Python.
        if source.suffix == ".py":
            assert (source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc").exists(), source


def test_image_adds_less_than_it_stands_on():
    def size(folder: Path) -> int:
        return sum(path.lstat().st_size for path in folder.rglob("*"))

    added = size(ROOT / "opt") + size(ROOT / "srv")
    print(f"\nThe image adds {added / 1e6:.0f} MB to its base.")
    assert added < 200e6
