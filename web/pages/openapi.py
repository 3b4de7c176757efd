"""The API's document: what UtilMeta knows of the service, made valid and complete (OpenAPI 3.1)."""

import json
import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import groupby
from typing import Any

from utilmeta import service
from utilmeta.core.api.specs.openapi import OpenAPI
from utilmeta.utils import json_dumps

from web.middleware import API_PREFIX
from web.openapi_operations import Cookie, Operation
from web.problems import ALL_PROBLEMS, CONTENT_TYPE, MORE_PROBLEMS, Problem

JsonObject = dict[str, Any]

DESCRIPTION = """\
Accounts: sign up, log in, log out, see and change who you are.

Signing up and logging in set the cookie of a session, which a browser sends by itself from then on. A session
ends 7 days after its login, on logout, and when its user's password changes elsewhere.

A body is a JSON object in UTF-8 of at most 64 KiB, sent as `application/json`. It is taken strictly: no value
is coerced, and a field that is not described here is refused.

Every response of 400 and above is a problem of [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457). Its `code`
says why, and is what a program should look at. Beyond those that an operation lists, an address that is not
here gets 404 `not_found`, and a method that an address does not take 405 `method_not_allowed`.

In a browser, only pages of this service, and of origins that it trusts, may send what changes something.
"""

# What may go wrong with every request, with one whose host is checked, with one that may change something,
# and with one that has a body.
ANY = ("internal_error",)
HOST = ("invalid_request",)
UNSAFE = ("cross_site_request",)
BODY = ("malformed_json", "payload_too_large", "unsupported_media_type")
ORDER = sorted(ALL_PROBLEMS, key=lambda code: ALL_PROBLEMS[code][0])

SESSION = (
    "The session that signing up and logging in begin. In a browser there is nothing to enter: "
    "it keeps the cookie, sends it by itself, and shows it to no script."
)
# Examples of strings by their format.
FORMATS = {
    "date-time": "2024-01-29T12:29:33.684594Z",
    "date": "2024-01-29",
    "time": "12:29:33",
    "uuid": "0d0b1dcb-5c2d-4b5f-8f4e-0c6f1a2b3c4d",
}
REQUEST_ID = "0123456789abcdef0123456789abcdef"
HEADERS: JsonObject = {
    "X-Request-ID": {
        "description": "Names the request in the service's log; also the `request_id` of a problem.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "example": REQUEST_ID,
    },
    "Retry-After": {
        "description": "How many seconds to wait before another try.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
        "example": 5,
    },
}


@cache
def operations() -> dict[str, Operation]:
    """Return all operations by UtilMeta's name: those of `openapi_operations` beside each mounted API."""
    found: dict[str, Operation] = {}
    for package in packages_of(service.resolve()):
        if package and find_spec(f"{package}.openapi_operations"):
            found |= import_module(f"{package}.openapi_operations").OPERATIONS
    return found


def packages_of(api: Any) -> set[str]:
    """Return the packages of an API class and of those that are mounted under it."""
    mounted = [each.handler for each in api._routes if not each.is_endpoint]
    return {api.__module__.rpartition(".")[0]}.union(*map(packages_of, mounted))


def build() -> JsonObject:
    """Return the document of the service as it is set up.

    UtilMeta's own is not valid (its licence has no name), calls every error "default", and holds what only
    its own client generator understands.
    """
    known = without_internals(json.loads(json_dumps(OpenAPI(service)())))
    components = known["components"]
    schemes = {
        name: scheme | {"description": SESSION} for name, scheme in components["securitySchemes"].items()
    }
    tags: list[JsonObject] = []
    paths: JsonObject = {}
    problems: JsonObject = {}
    for path, item in known["paths"].items():
        # What UtilMeta says of an address is the docstring of a class, whose operations have a tag in common.
        if "description" in item:
            tags.append({"name": path.strip("/"), "description": item.pop("description")})
        paths[path] = {
            key: operation(key, path, value, components, problems) if "responses" in value else value
            for key, value in item.items()
        }
    used = {code for name in problems for code in name.split(".")}
    components["schemas"]["Problem"]["properties"]["code"]["enum"] += [
        code for code in MORE_PROBLEMS if code in used
    ]
    document = {
        "openapi": OpenAPI.__version__,
        "info": {
            "title": service.title,
            "version": service.version_str,
            "description": unwrapped(DESCRIPTION),
        },
        # Beside the document's own address, whatever path a proxy has put the service under.
        "servers": [{"url": f"..{API_PREFIX}"}],
        "tags": tags,
        "paths": paths,
        "components": {
            "securitySchemes": schemes,
            "schemas": components["schemas"],
            "responses": problems,
            "headers": HEADERS,
            "examples": {code: {"value": example_of_problem(code)} for code in ALL_PROBLEMS},
        },
    }
    return without_unused(document)


@cache
def to_json() -> bytes:
    """Return the text of the document, which people read too; it is made once."""
    return json.dumps(build(), indent=2, ensure_ascii=False).encode() + b"\n"


def without_internals(node: Any) -> Any:
    """Return UtilMeta's document without its extensions, its schemas named as others know them."""
    if isinstance(node, dict):
        return {
            public_name(name): without_internals(value)
            for name, value in node.items()
            if not name.startswith("x-")
        }
    if isinstance(node, list):
        return [without_internals(each) for each in node]
    return public_name(node) if isinstance(node, str) else node


def public_name(text: str) -> str:
    """Return the name of a schema, or a reference to it, without what our Python has at its end."""
    return re.sub(r"^((#/components/schemas/)?[A-Z][A-Za-z]*)Schema(_O)?$", r"\1", text)


def without_unused(document: JsonObject) -> JsonObject:
    """Return a document without the schemas and examples that nothing in it refers to."""
    text = json.dumps(document)
    for kind in ("schemas", "examples"):
        document["components"][kind] = {
            name: value
            for name, value in document["components"][kind].items()
            if f'"#/components/{kind}/{name}"' in text
        }
    return document


def operation(
    method: str, path: str, known: JsonObject, components: JsonObject, problems: JsonObject
) -> JsonObject:
    """Return an operation, given what UtilMeta knows of it, and add the problems it may respond with to all.

    Its docstring is one line, and then more.
    """
    required = security(known["security"])
    more = operations().get(known["operationId"]) or added(method, path, known, required)
    summary, _, description = unwrapped(known.get("description", "")).partition("\n\n")
    done = "204" if "204" in known["responses"] else "200"
    complete = {
        "operationId": more.id,
        "summary": summary.removesuffix("."),
        "description": description or summary,
        **{name: value for name, value in known.items() if name not in ("operationId", "description")},
        "security": required,
        "responses": {done: success(known["responses"][done], more.cookie, components)},
    }
    for parameter in known.get("parameters", []):
        # UtilMeta says of one with a default that it is not, which no path can have.
        parameter["required"] = parameter["required"] or parameter["in"] == "path"
    codes = [*ANY, *more.problems]
    if not more.any_host:
        codes += HOST
    if method != "get":
        codes += UNSAFE
    if "requestBody" in known:
        codes += BODY
        complete["requestBody"] = request_body(known["requestBody"], components["schemas"])
    for status, group in groupby(sorted(codes, key=ORDER.index), lambda code: ALL_PROBLEMS[code][0]):
        of_status = list(group)
        name = ".".join(of_status)
        problems.setdefault(name, problem(status, of_status))
        complete["responses"][str(status)] = {"$ref": f"#/components/responses/{name}"}
    return complete


def added(method: str, path: str, known: JsonObject, required: list[JsonObject]) -> Operation:
    """Describe an endpoint that no app describes by what it takes."""
    problems = ["service_unavailable"]
    if required and {} not in required:
        problems.append("not_logged_in")
    if "{" in path:
        problems.append("not_found")
    if method != "get":
        problems.append("conflict")
    return Operation(known["operationId"], tuple(problems))


def unwrapped(text: str) -> str:
    """Return a text with one line a paragraph: Swagger UI would show where ours are broken."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text.strip())


def security(known: list[JsonObject]) -> list[JsonObject]:
    """Return what an operation asks for; UtilMeta gives a scope where a user must be logged in."""
    required: list[JsonObject] = [
        {name: []} for name in dict.fromkeys(name for each in known for name in each)
    ]
    login = any(scopes for each in known for scopes in each.values())
    return required if login or not known else [*required, {}]


def request_body(known: JsonObject, schemas: JsonObject) -> JsonObject:
    """Return the body of a request with an example; one that has no fields may be left out."""
    schema = known["content"]["application/json"]["schema"]
    for each in objects_in(schema, schemas):
        each.setdefault("additionalProperties", False)
    example = example_of(schema, schemas)
    return {
        "required": example != {},
        "content": {"application/json": {"schema": schema, "example": example}},
    }


def success(known: JsonObject, cookie: Cookie | None, components: JsonObject) -> JsonObject:
    """Return the response of a successful operation."""
    response = components["responses"][known["$ref"].rpartition("/")[2]]
    schema, schemas = response["content"]["application/json"]["schema"], components["schemas"]
    complete: JsonObject = {"headers": {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}}
    if cookie:
        (scheme,) = components["securitySchemes"].values()
        name = cookie.name or scheme["name"]
        complete["headers"]["Set-Cookie"] = {
            "description": cookie.description,
            "required": cookie.always,
            "schema": {"type": "string", "pattern": f"^{name}={cookie.value};"},
        }
    if not schema:
        return {"description": "Done. There is no body.", **complete}
    for each in objects_in(schema, schemas):
        # A response has all of its fields; UtilMeta does not say so of those that it reads from a row.
        each["required"] = list(each["properties"])
        each.pop("additionalProperties", None)
    example = example_of(schema, schemas)
    return {
        "description": "Done.",
        **complete,
        "content": {"application/json": {"schema": schema, "example": example}},
    }


def problem(status: int, codes: list[str]) -> JsonObject:
    """Return the response of an operation for some codes of one status."""
    headers = ["X-Request-ID", *(["Retry-After"] if status in (429, 503) else [])]
    schema = {
        "allOf": [
            {"$ref": "#/components/schemas/Problem"},
            {"properties": {"status": {"const": status}, "code": {"enum": codes}}},
        ]
    }
    examples = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
    return {
        "description": "\n".join(f"- `{code}`: {ALL_PROBLEMS[code][1]}" for code in codes),
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
        "content": {CONTENT_TYPE: {"schema": schema, "examples": examples}},
    }


def example_of_problem(code: str) -> Any:
    """Return the body of a problem."""
    errors = {
        "invalid_request": [{"field": "username", "message": "This field is required."}],
        "username_exists": [{"field": "username", "message": ALL_PROBLEMS["username_exists"][1]}],
    }
    return json.loads(Problem(code, errors=errors.get(code)).body(REQUEST_ID))


def objects_in(schema: JsonObject, schemas: JsonObject) -> list[JsonObject]:
    """Return the schemas of the objects that a value of a schema is, or is made of."""
    found: list[JsonObject] = []
    left = [schema]
    while left:
        each = resolved(left.pop(), schemas)
        if "properties" in each and not any(each is known for known in found):
            found.append(each)
            left += each["properties"].values()
        left += [*each.get("anyOf", []), *([each["items"]] if "items" in each else [])]
    return found


def example_of(schema: JsonObject, schemas: JsonObject, around: frozenset[str] = frozenset()) -> Any:
    """Return an example of a schema, made of those of its fields, but for the schemas `around` it."""
    if "examples" in schema:
        return schema["examples"][0]
    around |= {schema.get("$ref", "")} - {""}
    schema = resolved(schema, schemas)

    def examples(of: list[JsonObject]) -> list[Any]:
        return [example_of(each, schemas, around) for each in of if each.get("$ref") not in around]

    if "anyOf" in schema:
        return examples(schema["anyOf"])[0]
    kind = schema.get("type")
    if kind == "object":
        fields = schema.get("properties", {})
        return {name: each for name, field in fields.items() for each in examples([field])}
    if kind == "array":
        return examples([schema["items"]]) if "items" in schema else []
    return example_of_value(schema)


def example_of_value(schema: JsonObject) -> Any:
    """Return an example of a schema that is neither an object nor an array."""
    for name in ("examples", "enum"):
        if name in schema:
            return schema[name][0]
    kind = schema.get("type")
    if kind == "string":
        text: str = FORMATS.get(schema.get("format", ""), "text")
        return text.ljust(schema.get("minLength", 0), "t")[: schema.get("maxLength")]
    return schema.get("minimum", {"integer": 1, "number": 1.5, "boolean": True}.get(str(kind)))


def resolved(schema: JsonObject, schemas: JsonObject) -> JsonObject:
    """Return the schema that a schema refers to, or else itself."""
    found: JsonObject = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return found
