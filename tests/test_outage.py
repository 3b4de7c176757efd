"""An outage of the database in the log: one line a request, with the cause and without a trace."""

import pytest
from django.db import OperationalError, connection

from .databases import SERVER
from .support import assert_problem, credentials, login


@pytest.fixture
def away(monkeypatch):
    """Lead to a database that is not there."""
    connection.close()
    with monkeypatch.context() as patch:
        if SERVER:
            patch.setitem(connection.settings_dict, "PORT", "1")
        else:
            patch.setitem(connection.settings_dict, "NAME", "/nowhere/db.sqlite3")
        yield
    connection.close()


@pytest.mark.usefixtures("away")
def test_outage_is_one_line_with_its_cause(make_client, records):
    for response in (login(make_client()), make_client().post("/api/user/signup", json=credentials())):
        assert_problem(response, 503, "service_unavailable")

    assert [record["event"] for record in records] == ["service_unavailable"] * 2
    for record in records:
        assert "trace" not in record
        assert ("port 1" if SERVER else "unable to open database file") in record["cause"]
        assert "\n" not in record["cause"]


def test_defect_keeps_its_trace(bob, records, monkeypatch):
    def fail(*_):
        raise RuntimeError("a defect")

    monkeypatch.setattr("user.queries.session_by_key._fetch", fail)

    assert_problem(bob.get("/api/user"), 500, "internal_error")

    [record] = [record for record in records if record["event"] == "unhandled_error"]
    assert "a defect" in record["trace"]
    assert "cause" not in record


def test_cause_is_the_first_line_of_what_the_database_said(bob, records, monkeypatch):
    def fail(*_):
        raise OperationalError("it broke\nDETAIL: a value of somebody")

    monkeypatch.setattr("user.queries.session_by_key._fetch", fail)

    assert_problem(bob.get("/api/user"), 503, "service_unavailable")

    assert records[-1]["cause"] == "it broke"
