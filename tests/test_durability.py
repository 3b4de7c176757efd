"""What was acknowledged is kept, also when every process is killed at once."""

import os
import signal
import threading
import time

import httpx
import pytest

from config import BASE_DIR

from .databases import a_database, database_url
from .support import Process, credentials, run

COMMAND = (
    "gunicorn",
    "server:app",
    "-c",
    "tests/gunicorn_conf.py",
    "--workers=2",
    "--threads=8",
    "--no-control-socket",
)
CLIENTS, SIGNUPS = 16, 64


@pytest.fixture
def settings(tmp_path):
    """The settings of a service on a database of its own."""
    name = f"demo_user_durability_{os.getpid()}"
    with a_database(name):
        settings = {
            "DATABASE_URL": database_url(name, tmp_path),
            "SECRET_KEY": "k" * 50,
            "UTILMETA_PRODUCTION": "0",
        }
        assert run("meta", "migrate", **settings).returncode == 0
        yield settings


def user_of(client: httpx.Client, key: str) -> str | None:
    """Return the name of the user whose session a key opens."""
    name: str | None = client.get("/api/user", headers={"Cookie": f"sessionid={key}"}).json().get("username")
    return name


def test_acknowledged_signup_and_its_session_survive_a_kill(settings, tmp_path):
    process = Process(COMMAND, BASE_DIR, tmp_path / "log", settings)
    process.wait_until_it_serves()
    acknowledged: dict[str, str] = {}
    others: list[int] = []

    def sign_up(number):
        with httpx.Client(base_url=process.url, timeout=10) as client:
            for turn in range(SIGNUPS):
                name = f"user{number}-{turn}"
                client.cookies.clear()  # a signup ends the earlier session of its browser
                try:
                    response = client.post("/api/user/signup", json=credentials(name))
                except httpx.TransportError:
                    return
                if response.status_code == 200:
                    acknowledged[name] = response.cookies.get("sessionid") or ""
                else:
                    others.append(response.status_code)

    threads = [threading.Thread(target=sign_up, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    while len(acknowledged) < SIGNUPS:
        time.sleep(0.01)
    for child in process.children():
        child.send_signal(signal.SIGKILL)
    process.process.kill()
    process.process.wait()
    for thread in threads:
        thread.join()

    again = Process(COMMAND, BASE_DIR, tmp_path / "log-again", settings).wait_until_it_serves()
    try:
        with httpx.Client(base_url=again.url) as client:
            kept = {name: user_of(client, key) for name, key in acknowledged.items()}
    finally:
        again.stop()
    assert kept == {name: name for name in acknowledged}
    assert set(others) <= {429, 503}
