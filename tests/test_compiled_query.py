"""Queries compiled once find what Django's own would, which run in their place on an untested version."""

from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from framework.compiled_query import CompiledQuery, report_untested_version
from user.models import Session, User
from user.passwords import EncodedPassword
from user.queries import live_sessions, session_by_key, user_by_name


@pytest.fixture
def untested_version(monkeypatch):
    """Be on a version of Django that nothing is compiled with."""
    monkeypatch.setattr("django.VERSION", (9, 0, 0, "final", 0))
    forget_what_was_compiled()
    yield
    forget_what_was_compiled()


def forget_what_was_compiled() -> None:
    """Have the next run of each query compile it, if the version is one to do so with."""
    for query in (session_by_key, user_by_name):
        vars(query).pop("_compiled", None)
    report_untested_version.cache_clear()


@pytest.fixture(params=[True, False], ids=["compiled", "Django's own"])
def _both_ways(request):
    """Run a test with compiled queries, and with those of an untested version."""
    if not request.param:
        request.getfixturevalue("untested_version")


def columns(row) -> dict[str, object]:
    """Return all that a row holds."""
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


@pytest.mark.usefixtures("_both_ways", "bob")
def test_session_and_its_user_are_those_that_django_finds():
    expected = live_sessions().select_related("user").get()

    with CaptureQueriesContext(connection) as queries:
        found = session_by_key.first(expected.session_key, timezone.now())
        assert columns(found) == columns(expected)
        assert columns(found.user) == columns(expected.user)

    assert len(queries) == 1
    assert isinstance(found.user.password, EncodedPassword)


@pytest.mark.usefixtures("_both_ways")
def test_user_is_the_one_that_django_finds(make_user):
    make_user("alice")
    make_user("bob")

    for name in ("alice", "bob"):
        assert columns(user_by_name.first(name)) == columns(User.objects.get(username=name))
    assert user_by_name.first("eve") is None


@pytest.mark.usefixtures("_both_ways", "bob")
def test_row_that_was_found_can_be_saved():
    user = user_by_name.first("bob")
    user.username = "robert"
    user.save()

    assert User.objects.get().username == "robert"
    assert User.objects.get().password == user.password


@pytest.mark.usefixtures("_both_ways", "bob")
def test_session_without_a_user_has_none():
    Session.objects.update(user=None)

    with CaptureQueriesContext(connection) as queries:
        found = session_by_key.first(Session.objects.get().session_key, timezone.now())
        assert found.user is None

    assert len(queries) == 2


@pytest.mark.usefixtures("_both_ways", "bob")
def test_parameters_are_compared_with_their_own_columns():
    key = Session.objects.get().session_key

    assert session_by_key.first(key, timezone.now() + timedelta(days=6))
    assert not session_by_key.first(key, timezone.now() + timedelta(days=8))
    assert not session_by_key.first(key[::-1], timezone.now())


@pytest.mark.usefixtures("_both_ways", "bob")
def test_threads_share_a_compiled_query_and_not_a_connection(in_threads):
    found = in_threads(4, lambda number: user_by_name.first("bob").pk)

    assert set(found) == {User.objects.get().pk}


@pytest.mark.usefixtures("_both_ways", "bob")
def test_query_on_a_broken_connection_is_sent_once_more(monkeypatch):
    failures = [OperationalError("broken"), OperationalError("broken")]

    def break_once(execute, *arguments):
        if len(failures) > 1:
            raise failures.pop()
        return execute(*arguments)

    with connection.execute_wrapper(break_once):
        with pytest.raises(OperationalError):
            user_by_name.first("bob")  # this connection does not look broken
        failures.append(OperationalError("broken"))
        monkeypatch.setattr("framework.compiled_query.is_cut", lambda _: True)

        assert user_by_name.first("bob").username == "bob"


@pytest.mark.usefixtures("untested_version")
def test_logout_on_an_untested_version_is_one_statement(bob):
    with CaptureQueriesContext(connection) as queries:
        assert bob.post("/api/user/logout").status_code == 200

    assert len(queries) == 1
    assert not live_sessions().exists()


@pytest.mark.usefixtures("untested_version")
def test_untested_version_of_django_is_logged_once(records):
    user_by_name.first("bob")
    session_by_key.first("A" * 43, timezone.now())

    (record,) = (each for each in records if each["event"] == "queries_not_compiled")
    assert record["version"] == "9.0"


def test_threads_that_compile_at_once_have_a_queryset_each():
    # To compile a queryset changes it, and from Python 3.12 on cached_property has no lock.
    querysets = []

    def build(username):
        querysets.append(User.objects.filter(username=username))
        return querysets[-1]

    query = CompiledQuery(build, User.username)
    first, second = (vars(CompiledQuery)["_compiled"].func(query) for _ in range(2))

    assert first.sql == second.sql
    assert len(querysets) == 2
