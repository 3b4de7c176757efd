"""The API's document: valid, complete, and right in what it says."""

import json
import sys
from urllib.parse import urljoin

import pytest
from django.db import OperationalError, connection
from django.db.models import ProtectedError
from django.middleware.common import CommonMiddleware
from jsonschema import Draft202012Validator
from limits import parse
from openapi_spec_validator import OpenAPIV31SpecValidator

from config import BASE_DIR, settings
from passkey.models import Passkey
from passkey.passkeys import MAX_PASSKEYS
from server import RootAPI
from user import rate_limits
from user.models import RecoveryCode, Session, User
from user.recovery_codes import hash_code
from web.endpoint import Addresses
from web.pages import openapi
from web.problems import ALL_PROBLEMS

from .authenticator import Authenticator, options_to_create, options_to_get
from .support import COOKIE, OTHER_PASSWORD, PASSWORD, assert_problem, credentials, login, run

DOCUMENT = openapi.build()
CODE = "7ZQ4-0M1K-9F2W-XT8D-C5RB-VH3N-6P"
# By operationId: the method, the path and what the document says.
OPERATIONS = {
    operation["operationId"]: (method, f"/api{path}", operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
}
PHONE = Authenticator()
# Of some, a function makes the body for a client.
BODIES = {
    "signup": credentials("ada"),
    "login": credentials("bob"),
    "logout": {},
    "updateUser": {"username": "ada", "password": OTHER_PASSWORD},
    "reauthenticate": {"password": PASSWORD},
    "recover": {"username": "bob", "recovery_code": CODE, "password": OTHER_PASSWORD},
    "addPasskey": lambda client: {"credential": Authenticator().create(options_to_create(client))},
    "renamePasskey": {"name": "My phone"},
    "loginWithPasskey": lambda client: {"credential": PHONE.get(options_to_get(client))},
    "reauthenticateWithPasskey": lambda client: {"credential": PHONE.get(options_to_get(client))},
}
WRONG = {
    "signup": credentials("ada"),
    "login": credentials("bob", "wrong"),
    "updateUser": {"current_password": "wrong"},
    "reauthenticate": {"password": "wrong"},
    "recover": BODIES["recover"] | {"recovery_code": CODE[::-1]},
    "addPasskey": lambda client: {
        "credential": Authenticator(rp_id="example.net").create(options_to_create(client))
    },
    "loginWithPasskey": lambda client: {"credential": Authenticator().get(options_to_get(client))},
    "reauthenticateWithPasskey": lambda client: {"credential": Authenticator().get(options_to_get(client))},
}


def resolved(node):
    """Return the part of the document that a reference is to, or the node itself."""
    if "$ref" in node:
        found = DOCUMENT
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return found
    return node


def faults(value, schema):
    """Return what is wrong with a value by a schema of the document."""
    validator = Draft202012Validator(schema | {"components": DOCUMENT["components"]})
    return [error.message for error in validator.iter_errors(value)]


def documented_codes(operation):
    """Return the codes that the document lists for an operation."""
    found = []
    for response in map(resolved, operation["responses"].values()):
        content = response.get("content", {}).get("application/problem+json")
        found += content["schema"]["allOf"][1]["properties"]["code"]["enum"] if content else []
    return found


def body_of(client, name, bodies=BODIES):
    """Return the body of an operation."""
    body = bodies.get(name)
    return body(client) if callable(body) else body


def example_of(name):
    """Return the body that the document has for an operation, None for one without."""
    body = OPERATIONS[name][2].get("requestBody")
    return body and body["content"]["application/json"]["example"]


def send(client, name, body=None, **kwargs):
    """Send the request of an operation, by default one that succeeds for bob."""
    method, path, _ = OPERATIONS[name]
    path = path.replace("{id}", kwargs.pop("id", "1"))
    if name in BODIES and "content" not in kwargs:
        kwargs["json"] = body_of(client, name) if body is None else body
    return client.request(method.upper(), path, **kwargs)


def assert_documented(name, response):
    """Check a response against what the document says of it."""
    documented = resolved(OPERATIONS[name][2]["responses"][str(response.status_code)])
    headers = {header.lower(): resolved(each) for header, each in documented["headers"].items()}
    assert {"set-cookie", "retry-after", "x-request-id"} & set(response.headers) <= set(headers)
    for header, each in headers.items():
        value = response.headers.get(header)
        assert value is not None or not each["required"], header
        if value is not None:
            assert not faults(int(value) if each["schema"]["type"] == "integer" else value, each["schema"])
    if "content" in documented:
        schema = documented["content"][response.headers["Content-Type"]]["schema"]
        assert not faults(response.json(), schema)
    else:
        assert response.content == b""


def test_document_is_valid():
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_document_is_served_as_it_was_built(client):
    response, head = client.get("/api/openapi.json"), client.head("/api/openapi.json")

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert int(response.headers["Content-Length"]) == len(response.content)
    assert response.json() == DOCUMENT
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == response.headers["Content-Length"]


def test_document_that_cannot_be_made_stops_nothing_else(client, monkeypatch):
    monkeypatch.setattr(openapi, "to_json", lambda: {}["nothing"])

    assert_problem(client.get("/api/openapi.json"), 500, "internal_error")
    assert client.get("/api/health").status_code == 200


def test_committed_document_is_the_one_that_is_served_by_default():
    code = "import sys, server; from web.pages import openapi; sys.stdout.buffer.write(openapi.to_json())"
    result = run(sys.executable, "-c", code, UTILMETA_PRODUCTION="0", PASSKEYS="off")

    committed = (BASE_DIR / "openapi.json").read_text()
    assert result.stdout == committed, "CONTRIBUTING.md says how to make a new one"


def test_every_endpoint_is_described():
    assert {path for _, path, _ in OPERATIONS.values()} == set(Addresses(RootAPI, "/api").templates)
    assert set(OPERATIONS) == {each.id for each in openapi.operations().values()}
    for _, _, operation in OPERATIONS.values():
        assert operation["summary"]
        assert operation["summary"] not in operation["description"]
        assert operation["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}


def test_server_is_found_from_where_the_document_is():
    [server] = DOCUMENT["servers"]

    for prefix in ("https://users.example", "https://users.example/accounts"):
        assert urljoin(f"{prefix}/api/openapi.json", server["url"]) == f"{prefix}/api"


def test_nothing_of_the_framework_is_left():
    text = json.dumps(DOCUMENT)

    assert '"x-' not in text
    for internal in ("Schema", "QuietResponse", "default", "aliases", "UtilMeta"):
        assert internal not in text


def test_cookie_has_its_name():
    scheme = DOCUMENT["components"]["securitySchemes"]["session"]

    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "cookie", COOKIE)
    security = {name: operation["security"] for name, (_, _, operation) in OPERATIONS.items()}
    anonymous = {"signup", "login", "logout", "recover", "health", "ready"}
    anonymous |= {"beginPasskeyAuthentication", "loginWithPasskey"}
    assert {name for name, needs in security.items() if needs == [{"session": []}]} == {
        *OPERATIONS
    } - anonymous
    assert [name for name, needs in security.items() if needs == [{"session": []}, {}]] == ["logout"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_examples_are_what_they_are_examples_of(name):
    operation = OPERATIONS[name][2]
    parts = [operation.get("requestBody", {}), *map(resolved, operation["responses"].values())]

    contents = [content for part in parts for content in part.get("content", {}).values()]
    assert contents
    for content in contents:
        examples = [resolved(each)["value"] for each in content.get("examples", {}).values()]
        for example in examples or [content["example"]]:
            assert not faults(example, content["schema"])


@pytest.fixture
def recovery_code(bob):
    """The recovery code of the examples, as bob's."""
    RecoveryCode.objects.create(user=User.objects.get(username="bob"), code_hash=hash_code(CODE))


@pytest.fixture
def id_for(bob, make_client):
    """Return a function that prepares an operation, and gives the id for its path."""

    def prepare(name):
        if "Passkey" in name:
            return str(
                send(bob, "addPasskey", {"credential": PHONE.create(options_to_create(bob))}).json()["id"]
            )
        login(make_client())
        return str(Session.objects.order_by("pk").last().pk)

    return prepare


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.usefixtures("recovery_code")
def test_success_is_as_documented(bob, id_for, name):
    response = send(bob, name, id=id_for(name))

    assert response.status_code in (200, 204)
    assert_documented(name, response)


def crash(*args, **kwargs):
    raise RuntimeError


def in_use_by_others(user):
    raise ProtectedError("", set())


def database_away(*args, **kwargs):
    raise OperationalError


@pytest.fixture
def provoke(client, bob, make_user, id_for, monkeypatch):
    """Return a function that has an operation answer with a code."""

    def throttled(name):
        id_for(name)
        monkeypatch.setattr(settings, "throttle", True)
        limits = ("FAILURES_PER_ADDRESS" if "Passkey" in name else "FAILURES_PER_PAIR", "SIGNUPS_PER_ADDRESS")
        for limit in limits:
            monkeypatch.setattr(rate_limits, limit, parse("1/hour"))
        send(bob, name, body_of(bob, name, WRONG))
        return send(bob, name, body_of(bob, name, WRONG))

    def crashed(name):
        id_for(name)
        body = body_of(bob, name)
        monkeypatch.setattr(CommonMiddleware, "process_request", crash)
        return send(bob, name, body)

    def cut_off(name):
        id_for(name)
        body = body_of(bob, name)
        with connection.execute_wrapper(database_away):
            return send(bob, name, body)

    def crowded(name):
        id_for(name)
        body = body_of(bob, name)
        user = User.objects.get(username="bob")
        Passkey.objects.bulk_create(
            Passkey(user=user, credential_id=str(number), sign_count=0, backup_eligible=True, backed_up=True)
            for number in range(1, MAX_PASSKEYS)
        )
        return send(bob, name, body)

    def taken(name):
        make_user("ada")
        return send(bob, name)

    def late(name):
        row_id = id_for(name)
        monkeypatch.setattr(settings, "reauthentication_minutes", 0)
        return send(bob, name, example_of(name) if callable(BODIES.get(name)) else None, id=row_id)

    def in_use(name):
        monkeypatch.setattr("user.accounts.delete_user", in_use_by_others)
        return send(bob, name)

    as_json = {"Content-Type": "application/json"}
    ways = {
        "malformed_json": lambda name: send(bob, name, content=b"{", headers=as_json),
        "invalid_request": lambda name: send(bob, name, headers={"Host": "evil.example"}),
        "username_exists": taken,
        "not_logged_in": lambda name: send(client, name, example_of(name)),
        "invalid_credentials": lambda name: send(bob, name, body_of(bob, name, WRONG)),
        "reauthentication_required": late,
        "not_found": lambda name: send(bob, name, id="0"),
        "account_in_use": in_use,
        "conflict": crowded,
        "cross_site_request": lambda name: send(bob, name, headers={"Sec-Fetch-Site": "cross-site"}),
        "payload_too_large": lambda name: send(bob, name, content=b" " * 70_000, headers=as_json),
        "unsupported_media_type": lambda name: send(
            bob, name, content=b"{}", headers={"Content-Type": "a/b"}
        ),
        "too_many_requests": throttled,
        "internal_error": crashed,
        "service_unavailable": cut_off,
    }
    return lambda name, code: ways[code](name)


@pytest.mark.parametrize(
    ("name", "code"),
    [(name, code) for name, (_, _, operation) in OPERATIONS.items() for code in documented_codes(operation)],
)
def test_problem_that_is_listed_can_occur_and_is_as_documented(provoke, name, code):
    response = provoke(name, code)

    assert_problem(
        response, ALL_PROBLEMS[code][0], code, *(["username"] if code == "username_exists" else [])
    )
    assert_documented(name, response)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("username", name) for name in ("a", "0._-", "Ada", "ＡＤＡ", "\u212a", "ﬁne", "a" * 20)),
        # One character that is 18 when it is normalised, and 200 that are 100.
        *(("password", password) for password in ("\ufdfa", "e\u0301" * 100, " leading and trailing ")),
    ],
)
def test_schema_has_nothing_against_what_is_accepted(client, field, value):
    body = credentials("ada") | {field: value}

    assert client.post("/api/user/signup", json=body).status_code == 200
    assert not faults(body, {"$ref": "#/components/schemas/Signup"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("username", name) for name in ("", ".a", "a b", "a@b", "a\nb", "a\0", "a" * 21, None, 1, ["a"])),
        *(("password", password) for password in ("", "x" * 401, "correct\0horse battery", None, 1, {})),
        ("more", "than is known"),
    ],
)
def test_what_the_schema_refuses_is_refused(client, field, value):
    body = credentials("ada") | {field: value}

    assert faults(body, {"$ref": "#/components/schemas/Signup"})
    assert_problem(client.post("/api/user/signup", json=body), 400, "invalid_request", field)
