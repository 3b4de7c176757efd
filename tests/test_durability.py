"""What was acknowledged is kept: from a crowd that signs up at once, and when every process is killed."""

import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from config import BASE_DIR

from .databases import SERVER, a_database, database_url
from .support import Process, assert_problem, credentials, run

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


def names_in(url: str) -> list[str]:
    """Return the names of the users in a database."""
    connection = psycopg.connect(url) if SERVER else sqlite3.connect(url.removeprefix("sqlite:///"))
    try:
        return sorted(name for (name,) in connection.execute("SELECT username FROM user_user"))
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("iterations", "concurrency", "all_at_once"),
    [("1", "8", True), ("200000", "1", False)],
    ids=["room for all", "room for few"],
)
def test_crowd_that_signs_up_at_once_is_answered_honestly(
    settings, tmp_path, iterations, concurrency, all_at_once
):
    command = ("granian", "--interface=wsgi", "--workers=2", "--blocking-threads=8", "--no-ws")
    settings |= {"UTILMETA_PRODUCTION": "1", "TRUSTED_PROXIES": "1"}
    settings |= {"TEST_HASH_ITERATIONS": iterations, "HASH_CONCURRENCY": concurrency}
    settings |= {"HASH_QUEUE_LENGTH": "100" if all_at_once else "2"}
    process = Process(
        ("sh", "-c", f'exec {" ".join(command)} --port "$PORT" tests.granian_app:app'),
        BASE_DIR,
        tmp_path / "log",
        settings,
    )
    process.wait_until_granian_has_started()
    ready = threading.Barrier(CLIENTS)

    def sign_up(number: int) -> list[tuple[str, httpx.Response]]:
        # Four browsers behind each address.
        headers = {"X-Forwarded-For": f"192.0.2.{number // 4}"}
        with httpx.Client(base_url=process.url, timeout=60, headers=headers) as client:
            ready.wait()
            answers = []
            for turn in range(SIGNUPS // CLIENTS):
                client.cookies.clear()
                name = f"crowd{number}-{turn}"
                answers.append((name, client.post("/api/user/signup", json=credentials(name))))
            return answers

    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = [each for answers in pool.map(sign_up, range(CLIENTS)) for each in answers]
        with httpx.Client(base_url=process.url) as client:
            for name, response in answers:
                if response.status_code != 200:
                    assert_problem(response, 503, "service_unavailable")
                    assert int(response.headers["Retry-After"]) > 0
                else:
                    cookie = response.headers["Set-Cookie"].partition(";")[0]
                    assert client.get("/api/user", headers={"Cookie": cookie}).json()["username"] == name
    finally:
        process.stop()

    assert len(answers) == SIGNUPS
    assert Counter(names_in(settings["DATABASE_URL"])) == Counter(
        name for name, response in answers if response.status_code == 200
    )
    assert all_at_once == all(response.status_code == 200 for _, response in answers)
