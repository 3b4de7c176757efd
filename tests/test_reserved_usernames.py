"""Usernames that speak for the service, which nobody can have in production."""

import io
import sys

import pytest
from django.core.management import call_command

from config import settings
from user.models import Session, User

from .support import OTHER_PASSWORD, PASSWORD, assert_problem, credentials, login


@pytest.fixture
def in_production(monkeypatch):
    """Apply the rules of production that are not fixed at the start."""
    monkeypatch.setattr(settings, "utilmeta_production", True)


@pytest.mark.parametrize("name", ["admin", "Support", "NO-REPLY", "ＲＯＯＴ"])
@pytest.mark.usefixtures("in_production")
def test_signup_with_a_reserved_name_is_refused_as_if_it_were_taken(client, make_user, name):
    make_user("bob")

    refusal = client.post("/api/user/signup", json=credentials(name))
    taken = client.post("/api/user/signup", json=credentials("bob"))

    assert_problem(refusal, 400, "username_exists", "username")
    assert {**refusal.json(), "request_id": ""} == {**taken.json(), "request_id": ""}
    assert User.objects.count() == 1
    assert Session.objects.count() == 1


@pytest.mark.usefixtures("in_production")
def test_change_to_a_reserved_name_is_refused(bob):
    response = bob.put("/api/user", json={"username": "Admin", "password": OTHER_PASSWORD})

    assert_problem(response, 400, "username_exists", "username")
    assert bob.get("/api/user").json()["username"] == "bob"
    assert login(bob).status_code == 200


def test_operator_may_create_one_and_its_user_may_keep_it(client, monkeypatch, in_production):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PASSWORD.encode())))
    call_command("createuser", "support", stdout=io.StringIO())

    assert login(client, "support").status_code == 200
    assert client.put("/api/user", json={"username": "Support"}).json()["username"] == "support"


@pytest.mark.usefixtures("in_production")
def test_list_is_a_setting(client, monkeypatch):
    monkeypatch.setattr(settings, "reserved_usernames", ["bob"])

    assert client.post("/api/user/signup", json=credentials("admin")).status_code == 200
    assert client.post("/api/user/signup", json=credentials("bob")).status_code == 400


@pytest.mark.skipif(settings.production, reason="it is about development")
def test_development_takes_any_name(client):
    assert client.post("/api/user/signup", json=credentials("admin")).status_code == 200
