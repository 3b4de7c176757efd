"""PostgreSQL: its plans, its time-outs, and what happens while it is away."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest
from django.db import OperationalError, connection

from config import settings
from user.models import Session, User
from user.queries import MAX_SESSIONS, live_sessions

from .conftest import NAME
from .databases import SERVER, database_url
from .support import assert_problem, credentials, login

pytestmark = pytest.mark.skipif(not SERVER, reason="TEST_DATABASE_URL names no PostgreSQL server")


def plan_of(queryset) -> str:
    """Return how PostgreSQL finds the rows of a query in a table that is not small."""
    with connection.cursor() as cursor:
        # Tables of a few rows are read whole otherwise, by whatever index.
        cursor.execute("SET enable_seqscan = off; SET enable_mergejoin = off")
        plan: str = queryset.explain()
        cursor.execute("RESET enable_seqscan; RESET enable_mergejoin")
    return plan


def test_session_is_found_by_its_key(bob):
    sessions = live_sessions().filter(session_key=Session.objects.get().session_key).select_related("user")

    plan = plan_of(sessions)

    assert "Index Scan using user_session_session_key" in plan
    assert "Seq Scan" not in plan


def test_user_is_found_by_name(bob):
    assert "Index Scan using user_user_username" in plan_of(User.objects.filter(username="bob"))


def test_sessions_of_a_user_are_found_by_the_user():
    assert "user_session_user_id" in plan_of(Session.objects.filter(user=1))


def test_session_that_is_one_too_many_is_found_by_the_user():
    sessions = Session.objects.filter(user=1, deleted_time=None).order_by("-pk")

    plan = plan_of(sessions[MAX_SESSIONS : MAX_SESSIONS + 1])

    assert "session_of_user" in plan
    assert "Sort" not in plan


def test_statement_is_given_up_in_bounded_time():
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("10s",)
    assert settings.database_url["OPTIONS"]["connect_timeout"] == 5


@pytest.fixture
def administrator() -> Iterator[psycopg.Connection]:
    """A connection of somebody who may close the database."""
    with psycopg.connect(SERVER, autocommit=True) as server:
        yield server


def close(administrator: psycopg.Connection) -> None:
    """Throw everybody out of the database, and let nobody in."""
    administrator.execute(f"ALTER DATABASE {NAME} ALLOW_CONNECTIONS false")
    administrator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [NAME])


def reopen(administrator: psycopg.Connection) -> None:
    """Let everybody in again."""
    administrator.execute(f"ALTER DATABASE {NAME} ALLOW_CONNECTIONS true")


def test_database_that_goes_away_means_unavailable_and_comes_back_without_a_restart(
    bob, make_client, administrator
):
    requests = [
        lambda: bob.get("/api/user"),
        lambda: login(make_client()),
        lambda: make_client().post("/api/user/signup", json=credentials("eve")),
        lambda: make_client().get("/api/health/ready"),
    ]

    close(administrator)
    try:
        for request in requests:
            start = time.monotonic()
            assert_problem(request(), 503, "service_unavailable")
            assert time.monotonic() - start < 5
        assert make_client().get("/api/health").status_code == 200
        assert make_client().get("/api/user").status_code == 401
    finally:
        reopen(administrator)

    assert [request().status_code for request in requests] == [200, 200, 200, 200]


def cut_every_connection(administrator: psycopg.Connection) -> None:
    """End every connection of the service, and wait until they are gone."""
    ours = "FROM pg_stat_activity WHERE datname = %s"
    administrator.execute(f"SELECT pg_terminate_backend(pid) {ours}", [NAME])
    while administrator.execute(f"SELECT count(*) {ours}", [NAME]).fetchone() != (0,):
        pass


def test_no_request_fails_because_its_connection_was_cut_while_idle(
    bob, make_client, in_threads, administrator
):
    def ask(number):
        if number % 4 == 0:
            return login(make_client()).status_code
        if number % 4 == 1:
            return make_client().post("/api/user/signup", json=credentials(f"user{number}")).status_code
        return make_client(cookies=dict(bob.cookies)).get("/api/user").status_code

    for round_ in range(2):
        in_threads(16, lambda _: make_client(cookies=dict(bob.cookies)).get("/api/user").status_code)
        cut_every_connection(administrator)

        assert in_threads(16, lambda number, base=100 * round_: ask(base + number)) == [200] * 16
    connection.close()  # this thread's own, which was cut as well


def test_request_whose_connection_breaks_as_it_reads_is_tried_again(bob, administrator):
    cut_every_connection(administrator)

    # This thread has a connection of its own, which nobody looks at before it is used.
    assert bob.get("/api/user").status_code == 200


def test_statement_that_may_have_been_committed_is_not_tried_again(bob, administrator):
    bob.get("/api/user")
    user, session = User.objects.get(), Session.objects.get()
    cut_every_connection(administrator)

    with pytest.raises(OperationalError):
        User.objects.filter(pk=user.pk).update(username="robert")

    connection.close()
    assert User.objects.get().username == "bob"
    assert Session.objects.get() == session


def test_lock_that_somebody_holds_means_unavailable_in_bounded_time(bob):
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 200")
    try:
        with psycopg.connect(database_url(NAME, None)) as other:
            other.execute("UPDATE user_user SET username = username")
            assert_problem(bob.put("/api/user", json={"username": "robert"}), 503, "service_unavailable")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '10s'")

    assert bob.put("/api/user", json={"username": "robert"}).status_code == 200


def test_server_that_never_answers_means_unavailable_in_bounded_time(client, monkeypatch):
    connection.close()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
        monkeypatch.setitem(connection.settings_dict, "PORT", silent.getsockname()[1])
        start = time.monotonic()

        assert_problem(login(client), 503, "service_unavailable")

        assert time.monotonic() - start < 10
    monkeypatch.undo()
    assert_problem(login(client), 403, "invalid_credentials")


def test_database_that_takes_no_writes_means_unavailable_to_who_writes(bob, make_client):
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")  # as a standby, after a failover
    try:
        assert bob.get("/api/user").status_code == 200
        assert_problem(bob.put("/api/user", json={"username": "robert"}), 503, "service_unavailable")
        assert_problem(login(make_client()), 503, "service_unavailable")
        answer = make_client().post("/api/user/signup", json=credentials("eve"))
        assert_problem(answer, 503, "service_unavailable")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET default_transaction_read_only")

    assert bob.put("/api/user", json={"username": "robert"}).status_code == 200


class Way:
    """A way to the server on which answers can be held back, as if the server were frozen."""

    def __init__(self) -> None:
        with psycopg.connect(SERVER) as server:
            self.server = (server.info.host, server.info.port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open = threading.Event()
        self.open.set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        """Lead every connection to the server."""
        with suppress(OSError):
            while True:
                client, server = self.listener.accept()[0], socket.create_connection(self.server)
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self.pass_on, args=ends, daemon=True).start()

    def pass_on(self, here: socket.socket, there: socket.socket) -> None:
        """Pass on what comes from one end until it ends; nothing while the way is not open."""
        with suppress(OSError), here, there:
            while data := here.recv(65_536):
                self.open.wait(60)
                there.sendall(data)


@pytest.fixture
def way(monkeypatch) -> Iterator[Way]:
    """The way by which the service reaches its database, for as long as a test."""
    way = Way()
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    monkeypatch.setitem(connection.settings_dict, "PORT", way.port)
    yield way
    way.open.set()
    way.listener.close()
    connection.close()


@pytest.mark.parametrize("body", [None, {"username": "robert"}])
def test_server_that_froze_means_unavailable_in_bounded_time(bob, way, monkeypatch, body):
    monkeypatch.setattr("framework.django_settings.POSTGRESQL_RESPONSE_SECONDS", 1)
    method = "PUT" if body else "GET"
    assert bob.get("/api/user").status_code == 200

    way.open.clear()
    start = time.monotonic()
    assert_problem(bob.request(method, "/api/user", json=body), 503, "service_unavailable")
    assert time.monotonic() - start < 5
    way.open.set()

    assert bob.request(method, "/api/user", json=body).status_code == 200
