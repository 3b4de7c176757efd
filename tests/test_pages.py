"""The files that a browser gets."""

import re

import pytest

from config import settings
from web.pages.middleware import PAGE

from .support import assert_problem, run

FILES = {
    "/": "text/html",
    "/style.css": "text/css",
    "/api.js": "text/javascript",
    "/page.js": "text/javascript",
    "/passkeys.js": "text/javascript",
    "/icon.svg": "image/svg+xml",
    "/docs/docs.js": "text/javascript",
    "/docs/swagger-ui.css": "text/css",
    "/docs/swagger-ui-bundle.js": "text/javascript",
}


@pytest.mark.parametrize(("path", "media_type"), FILES.items())
def test_file_is_served_whole_and_asked_for_again(client, path, media_type):
    response = client.get(path, headers={"Range": "bytes=0-1"})
    again = client.get(path, headers={"If-None-Match": response.headers["ETag"]})

    assert response.status_code == 200
    assert response.headers["Content-Type"].partition(";")[0] == media_type
    assert response.headers["Cache-Control"] == "max-age=0, public"
    assert int(response.headers["Content-Length"]) == len(response.content) > 10
    assert (again.status_code, again.content) == (304, b"")
    for name in ("Content-Security-Policy", "Cache-Control", "ETag"):
        assert again.headers[name] == response.headers[name]


def test_documentation_is_a_page_that_is_not_kept(client):
    response = client.get("/api/docs")

    assert response.status_code == 200
    assert response.headers["Content-Type"] == 'text/html; charset="utf-8"'
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/api/docs"])
def test_every_link_is_relative_and_leads_somewhere(client, path):
    page = client.get(path)

    links = re.findall(r'(?:href|src)="([^"#:]+)"', page.text)
    assert len(links) >= 4
    for link in links:
        assert not link.startswith("/")
        assert client.get(str(page.url.join(link))).status_code == 200


def test_address_of_the_documentation_with_a_slash_leads_to_the_one_without(client):
    response = client.get("/api/docs/")

    assert (response.status_code, response.headers["Location"]) == (302, "../docs")
    assert response.next_request.url.path == "/api/docs"


@pytest.mark.parametrize("path", [*FILES, "/api/docs"])
def test_file_may_load_only_what_is_here(client, path):
    headers = client.get(path).headers

    policy = dict(each.split(" ", 1) for each in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert not [name for name, value in policy.items() if "unsafe" in value or "http" in value]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "Access-Control-Allow-Origin" not in headers
    assert headers["X-Request-ID"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_password_managers_are_led_to_the_form(client, records, method):
    response = client.request(method, "/.well-known/change-password")

    assert (response.status_code, response.headers["Location"]) == (302, "../#password")
    assert response.next_request.url.raw_path == b"/"
    assert records[-1]["route"] == "/.well-known/change-password"


def test_page_says_where_passkeys_may_be_used(client):
    [origins] = re.findall('<meta name="passkey-origins" content="([^"]*)">', client.get("/").text)

    assert origins.split() == settings.passkey_origins


def test_every_file_of_the_page_is_tested():
    assert {"/" + path.name.replace("index.html", "") for path in PAGE.iterdir()} <= set(FILES)


def test_head_has_the_headers_and_no_body(client):
    head, get = client.head("/"), client.get("/")

    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


@pytest.mark.parametrize(
    "path", ["/", "/api/docs", "/api/docs/", "/api/openapi.json", "/.well-known/change-password"]
)
def test_other_method_is_a_problem(client, path):
    response = client.post(path, json={})

    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/nothing.css", "/../config.py", "/%2e%2e/config.py", "/page/", "/api"])
def test_nothing_else_is_a_file(client, path):
    assert_problem(client.get(path), 404, "not_found")


def test_pages_are_not_in_the_way_of_the_api(client):
    response = client.get("/api/user")

    assert_problem(response, 401, "not_logged_in")
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert response.headers["Cache-Control"] == "no-store"


def test_file_is_named_in_the_log(client, records):
    client.get("/style.css")

    assert (records[-1]["route"], records[-1]["status"]) == ("/style.css", 200)


ASK = """
import utilmeta
utilmeta._cmd_env = True  # as under `meta`: there is no database
import httpx
from server import app
client = httpx.Client(transport=httpx.WSGITransport(app=app), base_url="http://127.0.0.1")
paths = ("/", "/style.css", "/api/docs", "/api/openapi.json", "/docs/docs.js", "/api/health", "/passkeys.js")
for path in paths:
    print(client.get(path).status_code)
"""


@pytest.mark.parametrize(("switch", "expected"), [("on", [200] * 6 + [404]), ("off", [404] * 5 + [200, 404])])
def test_pages_can_be_switched_off(switch, expected):
    throttle = "on" if settings.throttle else "off"
    done = run("python", "-c", ASK, PAGES=switch, PASSKEYS="off", THROTTLE=throttle)

    assert [int(line) for line in done.stdout.split()] == expected
