"""Django's `dumpdata` and `loaddata`: what they write and read is the same accounts."""

import json

import pytest
from django.core.management import call_command

from user.models import RecoveryCode, Session, User

from .support import OTHER_PASSWORD, PASSWORD, login, session_key, with_key


@pytest.mark.parametrize("form", ["json", "xml"])
def test_accounts_passwords_codes_and_sessions_are_as_they_were(bob, make_client, tmp_path, form):
    file = f"{tmp_path}/users.{form}"
    user, key = bob.get("/api/user").json(), session_key(bob)
    code = bob.post("/api/user/recovery-code").json()["recovery_code"]
    call_command("dumpdata", "user", format=form, output=file)
    if form == "json":  # in which Django cuts a time after the milliseconds
        user["signup_time"] = f"{user['signup_time'][:-4]}000Z"
    Session.objects.all().delete()
    User.objects.all().delete()

    call_command("loaddata", file, verbosity=0)

    assert with_key(make_client(), key).json() == user
    assert login(make_client()).json() == user
    body = {"username": "bob", "recovery_code": code, "password": OTHER_PASSWORD}
    assert make_client().post("/api/user/recover", json=body).json() == user
    assert RecoveryCode.objects.count() == 0


@pytest.mark.parametrize("password", [PASSWORD, "pbkdf2_sha256$1$salt$hash"])
def test_password_in_the_place_of_a_hash_is_hashed(make_client, tmp_path, password):
    file = tmp_path / "users.json"
    fields = {"username": "bob", "password": password, "signup_time": "2024-01-29T12:29:33.684594Z"}
    file.write_text(json.dumps([{"model": "user.user", "pk": 1, "fields": fields}]))

    call_command("loaddata", file, verbosity=0)

    assert login(make_client(), password=password).status_code == 200
