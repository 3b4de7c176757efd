"""Database connections: few for many threads, and none while a request waits for a hash."""

import socket
import threading
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections, transaction

from framework.compiled_query import CompiledQuery
from framework.connections import ConnectionPool, is_cut, is_end_of_session, pool
from framework.fair_queue import FairQueue
from user import passwords

from .support import assert_problem, login


@pytest.fixture
def own_pool(monkeypatch):
    """A pool of two connections that this test alone uses."""
    own = ConnectionPool(size=2, seconds=0.05)
    monkeypatch.setattr(connections, "create_connection", own.create_connection)
    yield own
    for each in own.connections:
        each.close()


def in_a_thread(function):
    """Call a function in a thread, which has no connection yet; return what it returns, or raises."""
    results = []

    def run():
        try:
            results.append(function())
        except Exception as error:  # noqa: BLE001  (the test looks at it)
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    return results[0]


def use(own_pool):
    """Ask the database something within a request; return the connection that was borrowed."""
    with own_pool.request():
        connection.ensure_connection()
        return connections[DEFAULT_DB_ALIAS]


def test_connection_is_used_by_one_thread_after_another(own_pool):
    borrowed = [in_a_thread(lambda: use(own_pool)) for _ in range(3)]

    assert borrowed == own_pool.connections * 3
    assert len(own_pool.connections) == 1


def test_thread_that_serves_no_request_has_a_connection_of_its_own(own_pool):
    def ask():
        with ExitStack() as stack:
            stack.callback(connection.close)
            connection.ensure_connection()
            return connections[DEFAULT_DB_ALIAS]

    assert in_a_thread(ask) not in own_pool.connections


def test_connection_of_a_threads_own_is_kept_by_a_request_until_it_is_too_old(own_pool):
    def ask():
        with ExitStack() as stack:
            stack.callback(connection.close)
            connection.ensure_connection()
            opened = []
            for close_at in (None, 0):
                connection.close_at = close_at
                use(own_pool)
                opened.append(connection.connection is not None)
            return opened

    assert in_a_thread(ask) == [True, False]


def test_request_that_finds_all_connections_in_use_is_told_so_in_bounded_time(own_pool):
    def hold_both():
        with own_pool.request():
            connection.ensure_connection()
            return in_a_thread(hold_the_other)

    def hold_the_other():
        with own_pool.request():
            connection.ensure_connection()
            return in_a_thread(lambda: use(own_pool))

    assert isinstance(in_a_thread(hold_both), OperationalError)
    assert in_a_thread(lambda: use(own_pool)) in own_pool.connections


def test_connection_stays_with_a_transaction(own_pool):
    def give_back_in_a_transaction():
        with own_pool.request(), transaction.atomic():
            mine = connections[DEFAULT_DB_ALIAS]
            own_pool.give_back()
            return connections[DEFAULT_DB_ALIAS] is mine

    assert in_a_thread(give_back_in_a_transaction) is True


def test_connection_on_which_something_failed_is_not_used_again(own_pool):
    def fail():
        with own_pool.request(), connection.cursor() as cursor:
            cursor.execute("SELECT * FROM no_such_table")

    in_a_thread(fail)

    [connection_that_failed] = own_pool.connections
    assert connection_that_failed.connection is None


def test_request_that_waits_for_a_hash_holds_no_connection(bob, make_client, monkeypatch):
    queue = FairQueue(slots=1, length=20, seconds=30)
    monkeypatch.setattr(passwords, "hashing_queue", lambda: queue)
    statuses = []
    threads = [
        threading.Thread(target=lambda: statuses.append(login(make_client()).status_code))
        for _ in range(2 * pool.size)
    ]

    with queue.slot("somebody"):
        for thread in threads:
            thread.start()
        while len(queue) < len(threads):
            threading.Event().wait(0.01)
        assert in_a_thread(lambda: bob.get("/api/user").status_code) == 200
    for thread in threads:
        thread.join(60)

    assert statuses == [200] * len(threads)
    assert len(pool.connections) <= pool.size


def test_request_without_a_connection_to_be_had_is_unavailable(make_client, bob, monkeypatch):
    full = ConnectionPool(size=1, seconds=0.01)
    monkeypatch.setattr("web.middleware.pool", full)
    monkeypatch.setattr(connections, "create_connection", full.create_connection)
    key = dict(bob.cookies)

    def ask_while_another_request_has_it():
        with full.request():
            connection.ensure_connection()
            return in_a_thread(lambda: make_client(cookies=key).get("/api/user"))

    assert_problem(in_a_thread(ask_while_another_request_has_it), 503, "service_unavailable")
    for each in full.connections:
        each.close()


def wrapper_of(end: socket.socket, closed: bool = False) -> SimpleNamespace:
    """Return what is looked at of a connection to PostgreSQL, on one end of a socket."""
    raw = SimpleNamespace(closed=closed, fileno=end.fileno)
    return SimpleNamespace(vendor="postgresql", connection=raw, close=lambda: None)


def test_connection_is_cut_when_its_other_end_has_said_something_or_is_gone():
    here, there = socket.socketpair()
    with here, there:
        assert not is_cut(wrapper_of(here))
        assert is_cut(wrapper_of(here, closed=True))
        there.close()
        assert is_cut(wrapper_of(here))


def test_error_that_ends_the_session_is_told_from_others():
    fatal, other = OperationalError("fatal"), OperationalError("other")
    fatal.__cause__ = Exception()
    fatal.__cause__.diag = SimpleNamespace(severity_nonlocalized="FATAL")

    assert is_end_of_session(fatal)
    assert not is_end_of_session(other)


def test_cut_connection_is_closed_before_it_is_lent(own_pool, monkeypatch):
    first = in_a_thread(lambda: use(own_pool)).connection
    monkeypatch.setattr("framework.connections.is_cut", lambda _: True)

    second = in_a_thread(lambda: use(own_pool)).connection

    assert second is not first


def test_read_on_a_connection_that_breaks_is_sent_once_more(bob, monkeypatch):
    fetch, failures = CompiledQuery._fetch, [OperationalError("broken")]

    def break_once(query, *arguments):
        if failures:
            raise failures.pop()
        return fetch(query, *arguments)

    monkeypatch.setattr(CompiledQuery, "_fetch", break_once)
    monkeypatch.setattr("framework.compiled_query.is_cut", lambda _: True)

    assert bob.get("/api/user").status_code == 200
