"""What an endpoint that somebody adds, declared as in UtilMeta's documentation, does by itself."""

import json
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import httpx
import pytest
import utype
from django.core.exceptions import PermissionDenied
from django.core.handlers.wsgi import WSGIHandler
from django.db import DataError, IntegrityError, connection
from django.db.models import ProtectedError, RestrictedError
from django.http import Http404
from django.shortcuts import get_object_or_404
from openapi_spec_validator import OpenAPIV31SpecValidator
from utilmeta.core import api, orm, request
from utilmeta.utils import exceptions

from framework.integrity_errors import taken_columns
from server import RootAPI
from user.accounts import unique_username
from user.auth import SessionSchema, session_config, user_config
from user.models import Session, User
from user.schema import UserSchema
from web.faults import FaultError
from web.json_body import parse_fields
from web.pages import openapi
from web.problems import Problem
from web.request import HttpRequest

from .support import BASE_URL, assert_problem

TIME = "2024-01-29T12:29:33Z"
JSON = {"Content-Type": "application/json"}


class Color(Enum):
    """What an Enum of a schema may be."""

    red = "red"
    blue = "blue"


class Even(int, utype.Rule):
    """A rule with words of its own."""

    @classmethod
    def post_validate(cls, value: int, context: Any = None) -> int:
        """Refuse an odd number."""
        if value % 2:
            raise FaultError("This must be even.")
        return value


class Part(utype.Schema):
    """An object in another."""

    size: int
    name: str = utype.Field(required=False, alias_from=["_name"])


class Branch(utype.Schema):
    """An object that has others of its kind."""

    name: str
    main: "Branch | None" = None
    others: list["Branch"] = utype.Field(required=False)
    next: "Branch" = utype.Field(required=False)


class Thing(utype.Schema):
    """A field of every type."""

    text: str = utype.Field(required=False, min_length=2, max_length=5)
    whole: int = utype.Field(required=False, ge=0, le=10)
    number: float = utype.Field(required=False)
    exact: Decimal = utype.Field(required=False)
    yes: bool = utype.Field(required=False)
    at: datetime = utype.Field(required=False)
    on: date = utype.Field(required=False)
    key: UUID = utype.Field(required=False)
    color: Color = utype.Field(required=False)
    even: Even = utype.Field(required=False, example=2)
    maybe: str | None = utype.Field(required=False)
    words: list[str] = utype.Field(required=False, max_length=2)
    part: Part = utype.Field(required=False)
    parts: list[Part] = utype.Field(required=False)
    anything: dict = utype.Field(required=False)
    branch: Branch = utype.Field(required=False)
    made: int = utype.Field(required=False, no_input=True)


class UserInput(orm.Schema[User]):
    """A row, as UtilMeta's documentation writes one."""

    username: str
    password: str


class OwnedAPI(api.API):
    """Below a parameter of the path."""

    owner: int = request.PathParam()

    def get(self) -> dict:
        """Return the parameter."""
        return {"owner": self.owner}

    @api.get("{name}")
    def named(self, name: str) -> dict:
        """Return a parameter that is further down the path."""
        return {"owner": self.owner, "name": name}


@session_config.plugin
class ThingAPI(api.API):
    """Things."""

    owned: OwnedAPI = api.route("of/{owner}")

    def get(self, page: int = 1, color: Color = Color.red) -> dict:
        """Return what a query says."""
        return {"page": page, "color": color.value}

    def post(self, data: Thing = request.Body) -> Thing:
        """Return a body."""
        return data

    def put(self, data: UserInput = request.Json) -> UserSchema:
        """Create a row."""
        data.save()
        return UserSchema.init(User.objects.get(pk=data.pk))

    @api.get("{number}")
    def by_number(self, number: int) -> dict:
        """Return a number."""
        return {"number": number}

    @api.get
    def literal(self) -> dict:
        """Stand beside a parameter."""
        return {"literal": True}

    @api.delete("{key}")
    def by_key(self, key: UUID) -> dict:
        """Return a key."""
        return {"key": str(key)}

    @api.post("pages/{first}/{last}")
    def pages(self, first: int, last: int = 9) -> dict:
        """Return two parameters, the second of which may be left out."""
        return {"first": first, "last": last}

    @api.get
    def mine(self, user: User = user_config, session: SessionSchema = session_config) -> UserSchema:
        """Return the row of a user, or nothing."""
        return UserSchema.init(get_object_or_404(user.sessions, pk=0).user)

    @api.get("value/{name}")
    def value(self, name: str) -> Any:
        """Return a value that is not an object."""
        return VALUES[name]

    @api.post("raise/{name}")
    def fail(self, name: str) -> None:
        """Raise an exception."""
        raise RAISED[name]

    @api.post
    def twice(self) -> None:
        """Insert a row that is there already."""
        User.objects.create(username="bob", password="x")

    @api.post
    def orphan(self) -> None:
        """Insert a row that refers to one that is not there."""
        Session.objects.create(session_key="x", user_id=2**31 - 1)
        connection.check_constraints()

    @api.post
    def nameless(self) -> None:
        """Insert a row without what it must have."""
        User.objects.create(username=None, password="x")


VALUES = {"list": [], "dict": {}, "true": True, "false": False, "whole": 0, "number": 1.5, "users": [1]}
RAISED = {
    "missing": User.DoesNotExist(),
    "empty": orm.exceptions.EmptyQueryset() if hasattr(orm, "exceptions") else Http404(),
    "404": Http404(),
    "not_found": exceptions.NotFound(),
    "protected": ProtectedError("", set()),
    "restricted": RestrictedError("", set()),
    "conflict": exceptions.Conflict(),
    "own": Problem("conflict", "It is locked."),
    "denied": PermissionDenied("secret"),
    "forbidden": exceptions.PermissionDenied("secret"),
    "data": DataError("secret"),
    "bad": exceptions.BadRequest("secret"),
    "defect": ValueError("secret"),
}


@pytest.fixture
def added() -> Iterator[Callable[..., httpx.Response]]:
    """Mount the API below the root API; return what sends a request to it."""
    # UtilMeta gives the hooks of a class to the routes that are declared in it.
    RootAPI.__mount__(ThingAPI, route="things", error_hooks=RootAPI._routes[0].error_hooks)
    handler = WSGIHandler()
    handler.request_class = HttpRequest
    transport = httpx.WSGITransport(app=handler)
    with httpx.Client(transport=transport, base_url=f"{BASE_URL}/api/things") as client:
        yield client.request
    RootAPI._routes.pop()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {
            "text": "word",
            "whole": 3,
            "number": 1.5,
            "yes": True,
            "key": "0d0b1dcb-5c2d-4b5f-8f4e-0c6f1a2b3c4d",
        },
        {"whole": 0, "yes": False, "color": "blue", "even": 4, "maybe": None, "on": "2024-01-29"},
        {"maybe": "x", "words": ["a", "b"], "part": {"size": 1}, "parts": [{"size": 1, "name": "x"}]},
        {"anything": {"a": [1, "x", None, {"b": True}]}},
    ],
)
def test_body_that_fits_its_schema_is_taken(added, body):
    response = added("POST", "", json=body)

    assert response.status_code == 200, response.text
    assert response.json() == body


def test_number_may_be_written_in_another_way(added):
    body = {"number": 2, "whole": 2.0, "exact": 1, "at": "2024-01-29T12:29:33Z"}

    response = added("POST", "", json=body).json()

    assert (response["number"], response["whole"]) == (2.0, 2)
    assert response["at"] == "2024-01-29T12:29:33.000000Z"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        *(("text", value, "This must be a string.") for value in (None, 1, True, ["abc"], {})),
        ("text", "x", "Use at least 2 characters."),
        ("text", "x" * 6, "Use at most 5 characters."),
        ("text", "ab\0", "This has a character that cannot be stored."),
        ("text", "ab\ud800", "This has a character that cannot be stored."),
        *(("whole", value, "This must be a whole number.") for value in (None, "1", True, 1.5, [1])),
        ("whole", -1, "This must be at least 0."),
        ("whole", 11, "This must be at most 10."),
        *(("number", value, "This must be a number.") for value in ("1", True, None)),
        *(("exact", value, "This must be a number.") for value in ("x", True, None)),
        *(("yes", value, "This must be true or false.") for value in (0, 1, "true", None)),
        *(
            ("at", value, "This must be a date and time like 2024-01-29T12:29:33Z.")
            for value in (1, "x", True)
        ),
        *(("on", value, "This must be a date like 2024-01-29.") for value in (1, "x", True)),
        *(("key", value, "This must be a UUID.") for value in (1, "x", True)),
        *(("color", value, "This is not valid.") for value in (1, "green", None)),
        ("even", 3, "This must be even."),
        ("maybe", 1, "This is not valid."),
        *(("words", value, "This must be an array.") for value in ("a", None, {"a": 1})),
        ("words", ["a", "b", "c"], "Use at most 2 items."),
        *(("part", value, "This must be an object.") for value in (None, "a", 1)),
        *(
            ("part", value, "No name in this object may be _d or _obj_self, or begin with two underscores.")
            for value in ({"_d": {"size": 1}}, {"size": 1, "_obj_self": 1}, {"size": 1, "__parser__": 1})
        ),
        *(("anything", value, "This must be an object.") for value in (None, "a", [["a", 1]])),
        *(("anything", {"a": [value]}, "This cannot be stored.") for value in ("\0", 10**400, 2**63)),
        ("made", 1, "There is no such field."),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(added, field, value, message):
    response = added("POST", "", content=json.dumps({field: value}).encode(), headers=JSON)

    body = assert_problem(response, 400, "invalid_request", field)
    assert body["errors"][0]["message"] == message


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"text": 1, "whole": "1", "other": 1}, ["text", "whole", "other"]),
        ({"part": {"size": "1"}}, ["part.size"]),
        ({"part": {}}, ["part.size"]),
        ({"part": {"size": 1, "weight": 1}}, ["part.weight"]),
        ({"part": {"size": True, "name": 2}}, ["part.size", "part.name"]),
        ({"parts": [{"size": 1}, {"size": 1.5}]}, ["parts.1.size"]),
        ({"words": ["a", 1]}, ["words.1"]),
    ],
)
def test_every_field_at_fault_is_named_also_further_inside(added, body, fields):
    assert_problem(added("POST", "", json=body), 400, "invalid_request", *fields)


def test_other_name_of_a_field_further_inside_may_begin_with_an_underscore(added):
    response = added("POST", "", json={"part": {"size": 1, "_name": "x"}})

    assert response.json()["part"] == {"size": 1, "name": "x"}


def test_fault_far_inside_optional_objects_is_named_once(added):
    branch = {"name": "leaf", "main": 5}
    for _ in range(40):
        branch = {"name": "branch", "main": branch}

    response = added("POST", "", json={"branch": branch})

    assert_problem(response, 400, "invalid_request", f"branch{'.main' * 41}")


@pytest.mark.parametrize("depth", [10, 100, 500, 900, 5000])
def test_body_of_any_depth_gets_a_response(added, depth):
    for start, end in ('{"a":', "}"), ("[", "]"):
        body = f'{{"anything": {start * depth}1{end * depth}}}'.encode()

        assert added("POST", "", content=body, headers=JSON).status_code in (200, 400)


def test_schema_of_a_row_takes_its_limits_from_the_model(added):
    body = {"username": "x" * 21, "password": None, "id": 1, "pk": 1, "signup_time": "2024-01-29T12:29:33Z"}

    assert_problem(added("PUT", "", json=body), 400, "invalid_request", *body)
    assert added("PUT", "", json={"username": "ada", "password": "x"}).json()["username"] == "ada"
    assert_problem(added("PUT", "", json={"username": "ada", "password": "x"}), 409, "conflict", "username")


@pytest.mark.parametrize("content_type", ["", "application/x-www-form-urlencoded", "text/plain"])
def test_body_of_another_kind_is_refused(added, content_type):
    response = added("POST", "", content=b"text=word", headers={"Content-Type": content_type})

    assert_problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(("query", "fields"), [("page=x", ["page"]), ("color=green", ["color"])])
def test_parameter_of_a_query_at_fault_is_named(added, query, fields):
    assert_problem(added("GET", f"?{query}"), 400, "invalid_request", *fields)


def test_parameters_of_a_query_are_optional(added):
    assert added("GET", "").json() == {"page": 1, "color": "red"}
    assert added("GET", "?page=2&color=blue&other=1").json() == {"page": 2, "color": "blue"}


@pytest.mark.parametrize(
    ("method", "path", "expected", "route"),
    [
        ("GET", "/7", {"number": 7}, "/{number}"),
        ("GET", "/7/", {"number": 7}, "/{number}"),
        ("GET", "/-7", {"number": -7}, "/{number}"),
        ("GET", "/literal", {"literal": True}, "/literal"),
        ("DELETE", f"/{UUID(int=1)}", {"key": str(UUID(int=1))}, "/{key}"),
        ("POST", "/pages/1/2", {"first": 1, "last": 2}, "/pages/{first}/{last}"),
        ("POST", "/pages/1", {"first": 1, "last": 9}, "/pages/{first}/{last}"),
        ("GET", "/of/3", {"owner": 3}, "/of/{owner}"),
        ("GET", "/of/3/x", {"owner": 3, "name": "x"}, "/of/{owner}/{name}"),
    ],
)
def test_path_with_parameters_has_an_endpoint_and_a_route_in_the_log(
    added, records, method, path, expected, route
):
    response = added(method, path)

    assert response.json() == expected
    assert response.headers["Cache-Control"] == "no-store"
    assert records[-1]["route"] == f"/api/things{route}"


@pytest.mark.parametrize("name", ["x", "07", "+7", "7.0", "1e1", "7%20", "7/8/9", "7//", "-0", "7%0A"])
def test_other_texts_than_whole_numbers_have_no_address(added, name):
    assert_problem(added("GET", f"/of/{name}"), 404, "not_found")
    assert_problem(added("POST", f"/pages/1/{name}"), 404, "not_found")


def test_parameter_that_is_no_uuid_has_nothing_at_its_address(added):
    assert_problem(added("DELETE", "/x"), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("PATCH", "", "GET, HEAD, POST, PUT"), ("POST", "/7", "GET, HEAD, DELETE"), ("GET", "/pages/1", "POST")],
)
def test_wrong_method_is_told_the_right_ones(added, method, path, allow):
    response = added(method, path)

    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == allow


def test_head_is_taken_for_get(added):
    response = added("HEAD", "/7")

    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize(("name", "value"), VALUES.items())
def test_value_of_any_kind_is_json(added, name, value):
    response = added("GET", f"/value/{name}")

    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == value


@pytest.mark.parametrize(
    ("names", "status", "code"),
    [
        (("missing", "empty", "404", "not_found"), 404, "not_found"),
        (("protected", "restricted", "conflict", "own"), 409, "conflict"),
        (("denied", "forbidden"), 403, "forbidden"),
        (("data", "bad"), 400, "invalid_request"),
        (("defect",), 500, "internal_error"),
    ],
)
def test_exception_has_its_problem(added, names, status, code):
    for name in names:
        body = assert_problem(added("POST", f"/raise/{name}"), status, code)
        assert "secret" not in str(body)
    assert added("POST", "/raise/own").json()["detail"] == "It is locked."


@pytest.mark.usefixtures("bob")
def test_value_that_is_taken_is_in_conflict(added):
    assert_problem(added("POST", "/twice"), 409, "conflict", "username")


def test_reference_to_nothing_is_in_conflict(added):
    assert_problem(added("POST", "/orphan"), 409, "conflict")


def test_other_rules_of_the_database_are_defects(added, records):
    assert_problem(added("POST", "/nameless"), 500, "internal_error")
    assert records[-1]["event"] == "unhandled_error"


@pytest.mark.parametrize(
    "text", ["duplicate key value violates unique constraint", "UNIQUE constraint failed: index 'lower_name'"]
)
def test_columns_that_the_database_does_not_name_are_left_out(text):
    class ViolationError(Exception):
        sqlstate = "23505"

    error = IntegrityError(text)
    error.__cause__ = ViolationError()

    assert taken_columns(error) == []


def test_other_rule_of_the_database_is_no_username_that_exists():
    with pytest.raises(IntegrityError), unique_username():
        User.objects.create(username=None, password="x")


def test_login_is_asked_for(added):
    assert_problem(added("GET", "/mine"), 401, "not_logged_in")


def test_row_that_is_not_there_is_not_found(added, bob):
    cookie = "; ".join(f"{name}={value}" for name, value in bob.cookies.items())

    assert_problem(added("GET", "/mine", headers={"Cookie": cookie}), 404, "not_found")


@pytest.mark.usefixtures("added")
def test_openapi_document_describes_it():
    document = openapi.build()

    OpenAPIV31SpecValidator(document).validate()
    paths = {path.removeprefix("/things"): item for path, item in document["paths"].items()}
    assert paths["/mine"]["get"]["security"] == [{"session": []}]
    assert "401" in paths["/mine"]["get"]["responses"]
    assert "404" in paths["/of/{owner}"]["get"]["responses"]
    assert paths["/{number}"]["get"]["parameters"][0]["schema"] == {"type": "integer"}
    codes = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    assert "conflict" in codes
    assert "forbidden" not in codes
    assert document["components"]["schemas"]["Part"]["additionalProperties"] is False
    example = paths[""]["post"]["requestBody"]["content"]["application/json"]["example"]
    parse_fields(json.dumps(example).encode(), Thing)


@pytest.mark.parametrize(
    ("annotation", "declared", "reason"),
    [
        (str, request.BodyParam(), "request.Body"),
        (list, request.Body, "annotate"),
        (dict, request.Json(), "annotate"),
    ],
)
def test_body_that_cannot_be_checked_is_refused_when_it_is_declared(annotation, declared, reason):
    def post(self, data=declared):
        """Take something."""

    post.__annotations__["data"] = annotation

    with pytest.raises(TypeError, match=reason):
        type("LooseAPI", (api.API,), {"post": post, "__module__": __name__})
