"""COOKIE_NAME: two services on one host name, whose cookies a browser keeps together whatever the port."""

import sys

import httpx
import pytest

from config import BASE_DIR

from .support import assert_problem, credentials, run

SERVER = str(BASE_DIR / "server.py")


def test_two_services_on_one_host_name_keep_their_sessions(start, tmp_path):
    first, second = (
        start(
            sys.executable,
            SERVER,
            UTILMETA_PRODUCTION="false",
            COOKIE_NAME=name,
            DATABASE_URL=f"sqlite:///{tmp_path}/{name}.sqlite3",
        ).wait_until_it_serves()
        for name in ("sessionid", "other-session")
    )

    with httpx.Client() as browser:
        for service, username in ((first, "ada"), (second, "grace")):
            response = browser.post(f"{service.url}/api/user/signup", json=credentials(username))
            assert response.status_code == 200, response.text

        assert set(browser.cookies) == {"sessionid", "other-session"}
        assert browser.get(f"{first.url}/api/user").json()["username"] == "ada"
        assert browser.get(f"{second.url}/api/user").json()["username"] == "grace"

        document = browser.get(f"{second.url}/api/openapi.json").json()
        (scheme,) = document["components"]["securitySchemes"].values()
        assert scheme["name"] == "other-session"

        browser.post(f"{second.url}/api/user/logout")
        assert set(browser.cookies) == {"sessionid"}
        assert_problem(browser.get(f"{second.url}/api/user"), 401, "not_logged_in")


@pytest.mark.parametrize(("production", "name"), [("1", "__Host-other"), ("0", "other")])
def test_prefix_is_added_in_production_only(production, name):
    code = (
        "import utilmeta; utilmeta._cmd_env = True\n"  # as under `meta`, which needs no database
        "import server, user.auth; print(user.auth.session_config.cookie_name)"
    )

    result = run(sys.executable, "-c", code, COOKIE_NAME="other", UTILMETA_PRODUCTION=production)

    assert result.stdout.strip() == name, result.stderr
