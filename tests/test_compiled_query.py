"""Queries compiled once: they find what Django's own would."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from framework.compiled_query import CompiledQuery
from user.models import Session, User
from user.passwords import EncodedPassword
from user.queries import live_session, live_sessions, user_by_name


def columns(row) -> dict[str, object]:
    """Return all that a row holds."""
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


@pytest.mark.usefixtures("bob")
def test_session_and_its_user_are_those_that_django_finds():
    expected = live_sessions().select_related("user").get()

    with CaptureQueriesContext(connection) as queries:
        found = live_session.first(expected.session_key, timezone.now())
        assert columns(found) == columns(expected)
        assert columns(found.user) == columns(expected.user)

    assert len(queries) == 1
    assert isinstance(found.user.password, EncodedPassword)


def test_user_is_the_one_that_django_finds(make_user):
    make_user("alice")
    make_user("bob")

    for name in ("alice", "bob"):
        assert columns(user_by_name.first(name)) == columns(User.objects.get(username=name))
    assert user_by_name.first("eve") is None


@pytest.mark.usefixtures("bob")
def test_row_that_was_found_can_be_saved():
    user = user_by_name.first("bob")
    user.username = "robert"
    user.save()

    assert User.objects.get().username == "robert"
    assert User.objects.get().password == user.password


@pytest.mark.usefixtures("bob")
def test_session_without_a_user_has_none():
    Session.objects.update(user=None)

    assert live_session.first(Session.objects.get().session_key, timezone.now()).user is None


@pytest.mark.usefixtures("bob")
def test_parameters_are_compared_with_their_own_columns():
    key = Session.objects.get().session_key

    assert live_session.first(key, timezone.now() + timedelta(days=6))
    assert not live_session.first(key, timezone.now() + timedelta(days=8))
    assert not live_session.first(key[::-1], timezone.now())


@pytest.mark.usefixtures("bob")
def test_threads_share_a_compiled_query_and_not_a_connection(in_threads):
    found = in_threads(4, lambda number: user_by_name.first("bob").pk)

    assert set(found) == {User.objects.get().pk}


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
