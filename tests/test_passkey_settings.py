"""Passkeys, turned on and off: what the settings take, and what each leaves of the other."""

import os
import sys

import pytest

from config import EXIT_CODE, ConfigError, Settings

from .databases import a_database, database_url
from .support import run

ON = {"PASSKEYS": "on"}
PRODUCTION = {"UTILMETA_PRODUCTION": "1", "SECRET_KEY": "k" * 50}
# Starts the service as a command does, which needs no up-to-date database.
START = """
import utilmeta
utilmeta._cmd_env = True
import sys, server
from django.core.management import call_command
from django.db import connection
"""
OFF = f"""{START}
assert not [name for name in sys.modules if name.split(".")[0] in ("passkey", "fido2", "cryptography")]
import httpx
client = httpx.Client(transport=httpx.WSGITransport(app=server.app), base_url="https://localhost")
for path in ("passkeys", "passkeys/1", "passkeys/accepted", "passkeys/login", "passkeys/authentication"):
    for method in ("GET", "POST", "PUT", "DELETE"):
        assert client.request(method, f"/api/{{path}}").json()["code"] == "not_found"
assert client.get("/.well-known/passkey-endpoints").status_code == 404
assert "passkey" not in client.get("/api/openapi.json").text.lower()
call_command("migrate", verbosity=0)
assert not [name for name in connection.introspection.table_names() if name.startswith("passkey")]
"""
ADD = f"""{START}
call_command("migrate", verbosity=0)
from passkey.models import Passkey, UserHandle
from user.models import User
for name in ("bob", "eve"):
    user = User.objects.create(username=name)
    UserHandle.objects.create(user=user, handle=name)
    Passkey.objects.create(
        user=user, credential_id=name, public_key=b"", sign_count=0, backup_eligible=False, backed_up=False
    )
"""
OFF_AGAIN = f"""{START}
call_command("showuser", "bob")
call_command("deleteuser", "bob", "--yes")
with connection.cursor() as cursor:
    for table, column in (("passkey", "credential_id"), ("userhandle", "handle")):
        cursor.execute(f"SELECT {{column}} FROM passkey_{{table}}")
        print(cursor.fetchall())
"""


@pytest.mark.parametrize(
    ("environment", "rp_id", "origins"),
    [
        ({}, "localhost", ["http://localhost:8000"]),
        ({"PORT": "8123"}, "localhost", ["http://localhost:8123"]),
        (PRODUCTION, "localhost", ["https://localhost"]),
        ({"ALLOWED_HOSTS": "users.example.com,10.0.0.1"}, "users.example.com", ["https://users.example.com"]),
        (
            {"ALLOWED_HOSTS": "users.example.com", "PASSKEY_RP_ID": "example.com"},
            "example.com",
            ["https://users.example.com"],
        ),
        (
            {
                "ALLOWED_HOSTS": ".example.com",
                "PASSKEY_RP_ID": "example.com",
                "PASSKEY_ORIGINS": "https://example.com,https://a.b.example.com:8443",
            },
            "example.com",
            ["https://example.com", "https://a.b.example.com:8443"],
        ),
        (
            {
                "ALLOWED_HOSTS": "users.example.com",
                "TRUSTED_ORIGINS": "https://app.example.com",
                "PASSKEY_RP_ID": "example.com",
                "PASSKEY_ORIGINS": "https://app.example.com",
            },
            "example.com",
            ["https://app.example.com"],
        ),
        (
            {"ALLOWED_HOSTS": "*", "PASSKEY_RP_ID": "intranet", "PASSKEY_ORIGINS": "https://intranet"},
            "intranet",
            ["https://intranet"],
        ),
    ],
)
def test_relying_party_is_derived_or_set(environment, rp_id, origins):
    settings = Settings.load(ON | environment)

    assert (settings.passkey_rp_id, settings.passkey_origins) == (rp_id, origins)


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"ALLOWED_HOSTS": "a.example,b.example"}, "PASSKEY_RP_ID is required"),
        ({"ALLOWED_HOSTS": ".example.com"}, "PASSKEY_RP_ID is required"),
        ({"ALLOWED_HOSTS": "*"}, "PASSKEY_RP_ID is required"),
        ({"ALLOWED_HOSTS": "127.0.0.1,[::1]"}, "PASSKEY_RP_ID is required"),
        ({"ALLOWED_HOSTS": "users.example.com,*"}, "PASSKEY_RP_ID is required"),
        *(
            (
                {"ALLOWED_HOSTS": "users.example.com", "PASSKEY_RP_ID": domain},
                "PASSKEY_RP_ID takes a domain of",
            )
            for domain in ("example.net", "ple.com", "com", "a.users.example.com", "localhost")
        ),
        ({"ALLOWED_HOSTS": ".example.com", "PASSKEY_RP_ID": "example.com"}, "PASSKEY_ORIGINS is required"),
        *(
            (
                {"ALLOWED_HOSTS": "*", "PASSKEY_RP_ID": "example.com", "PASSKEY_ORIGINS": origin},
                "PASSKEY_ORIGINS takes origins on PASSKEY_RP_ID",
            )
            for origin in ("https://example.net", "https://notexample.com", "https://example.com.example.net")
        ),
        (
            {"ALLOWED_HOSTS": "*", "PASSKEY_RP_ID": "localhost", "PASSKEY_ORIGINS": "https://a.localhost"},
            "PASSKEY_ORIGINS takes origins on PASSKEY_RP_ID",
        ),
        (
            {
                "ALLOWED_HOSTS": "users.example.com",
                "PASSKEY_RP_ID": "example.com",
                "PASSKEY_ORIGINS": "https://app.example.com",
            },
            "PASSKEY_ORIGINS takes origins of ALLOWED_HOSTS",
        ),
        *(
            ({"PASSKEY_ORIGINS": origin}, "PASSKEY_ORIGINS takes https://")
            for origin in (
                "http://example.com",
                "capacitor://localhost",
                "example.com",
                "http://127.0.0.1:8000",
            )
        ),
        *(
            ({"PASSKEY_RP_ID": domain}, "PASSKEY_RP_ID takes a domain like")
            for domain in (
                "https://example.com",
                "example.com:80",
                ".example.com",
                "127.0.0.1",
                "Example.com",
                "*",
            )
        ),
        ({"PASSKEYS": "yes"}, "PASSKEYS takes on or off"),
    ],
)
def test_relying_party_that_does_not_fit_is_refused(environment, name):
    with pytest.raises(ConfigError, match=f"^{name}"):
        Settings.load(ON | environment)


def test_settings_that_do_not_fit_do_not_matter_while_passkeys_are_off():
    assert not Settings.load({"ALLOWED_HOSTS": "a.example,b.example"}).passkeys


def test_passkeys_need_their_extra(monkeypatch):
    monkeypatch.setattr("config.find_spec", lambda name: None)

    with pytest.raises(ConfigError, match="on only with the extra `passkeys` installed"):
        Settings.load(ON)


def test_passkeys_can_be_turned_on_later_and_off_again(tmp_path):
    name = f"demo_user_passkeys_{os.getpid()}"
    settings = {"UTILMETA_PRODUCTION": "0", "DATABASE_URL": database_url(name, tmp_path)}

    def python(code, **more):
        return run(sys.executable, "-c", code, **settings | more)

    with a_database(name):
        off = python(OFF)
        assert off.returncode == 0, off.stderr

        refused = python("import server", **ON, **PRODUCTION)
        assert refused.returncode == EXIT_CODE
        assert "the database lacks passkey.0001_initial. Run: meta migrate" in refused.stderr

        added = python(ADD, **ON)
        assert added.returncode == 0, added.stderr

        off_again = python(OFF_AGAIN, PASSKEYS="off")
        assert off_again.returncode == 0, off_again.stderr
        assert "passkeys" not in off_again.stdout
        assert off_again.stdout.endswith("Deleted bob. Sessions deleted: 0.\n[('eve',)]\n[('eve',)]\n")
