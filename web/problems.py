"""Every error response of the service, in RFC 9457 form: one table defines status, code and text."""

import json
import re
from collections.abc import Collection
from http.client import responses
from typing import Any

import utype
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, ValidationError
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError
from django.db.models import ProtectedError, RestrictedError
from django.http import Http404, HttpResponse
from utilmeta.core import api
from utilmeta.core.orm.exceptions import EmptyQueryset
from utilmeta.core.request import var
from utilmeta.core.response import Response
from utilmeta.utils import Error, exceptions
from utype.utils.exceptions import ParseError

from framework.integrity_errors import taken_columns

from .faults import faults_of
from .logs import Record

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5

# PostgreSQL's code for a write to a server that takes none, as one that is a standby now.
READ_ONLY = "25006"
MAX_CAUSE = 200  # characters of it that are logged

# Python has RFC 9110's name of 413 from 3.13 on.
TITLES = responses | {413: "Content Too Large"}
# code: (status, the sentence for people)
PROBLEMS: dict[str, tuple[int, str]] = {
    "malformed_json": (400, "The body is not a JSON text in UTF-8 without duplicate names."),
    "invalid_request": (400, "The request is not valid."),
    "username_exists": (400, "Username exists"),
    "not_logged_in": (401, "Log in first."),
    "invalid_credentials": (403, "Username or password wrong"),
    "reauthentication_required": (403, "Your login is too long ago. Enter your password again."),
    "cross_site_request": (403, "Requests from other sites are not accepted."),
    "not_found": (404, "There is nothing at this address."),
    "method_not_allowed": (405, "This address does not allow this method."),
    "account_in_use": (409, "The account cannot be deleted: other data depend on it."),
    "payload_too_large": (413, "The body is larger than 64 KiB."),
    "unsupported_media_type": (415, "The body must be application/json in UTF-8."),
    "too_many_requests": (429, "Too many attempts. Try again later."),
    "internal_error": (500, "Something went wrong here. Quote the request_id when you report it."),
    "service_unavailable": (503, "The service is not available now. Try again soon."),
}
# Not for the endpoints under /api/user: for passkeys, and for endpoints that are added.
MORE_PROBLEMS: dict[str, tuple[int, str]] = {
    "forbidden": (403, "This is not allowed."),
    "conflict": (409, "This does not fit what there is: a value is taken, or something depends on it."),
}
ALL_PROBLEMS = PROBLEMS | MORE_PROBLEMS
# What a status means when nothing more is known; 400 may mean anything.
CODES = {status: code for code, (status, _) in ALL_PROBLEMS.items() if status != 400}
# Exceptions of Django and of UtilMeta, and the status of the response.
STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (ObjectDoesNotExist, 404),
    (EmptyQueryset, 404),
    (Http404, 404),
    (PermissionDenied, 403),
    (ProtectedError, 409),
    (RestrictedError, 409),
    (ValidationError, 400),  # of a model's field
    (DataError, 400),  # a value that does not go into its column
)


class Problem(exceptions.HttpError):
    """An error response; raise it anywhere below the API.

    `errors` are the invalid fields, each {"field": …, "message": …}. The texts never contain what the client
    sent, except for names of fields.
    """

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        errors: list[dict[str, str]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        status, text = ALL_PROBLEMS[code]
        super().__init__(detail or text, status=status)
        self.code = code
        self.errors = errors
        self.headers = dict(headers or {})
        if code == "service_unavailable":
            self.headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))

    def body(self, request_id: str) -> bytes:
        """Return the JSON of the response."""
        members: dict[str, Any] = {
            "type": "about:blank",
            "title": TITLES[self.status],
            "status": self.status,
            "code": self.code,
            "detail": self.message,
        }
        if self.errors:
            members["errors"] = self.errors
        return json.dumps(members | {"request_id": request_id}).encode()


class FieldError(utype.Schema):
    """An invalid field."""

    field: str
    message: str


class ProblemSchema(utype.Schema):
    """An error response in RFC 9457 form."""

    type: str = utype.Field(example="about:blank")
    title: str = utype.Field(example="Bad Request")
    status: int = utype.Field(ge=400, le=599, example=400)
    code: str = utype.Field(enum=list(PROBLEMS), description="Stable: programs should look at this.")
    detail: str = utype.Field(description="A sentence for people.")
    errors: list[FieldError] = utype.Field(required=False, description="The invalid fields.")
    request_id: str = utype.Field(description="Also the X-Request-ID header of the response.")


class QuietResponse(Response):
    """The response of a root API, which UtilMeta makes of an error that its hook did not get."""

    def init_error(self, error: Any) -> None:
        """Leave the error to Django, where UtilMeta prints it with its local variables."""
        if error:
            raise error


class NoContent(Response):
    """The request succeeded, and there is nothing to return."""

    status = 204


class ProblemResponse(Response):
    """An error; `code` tells which."""

    name = "Problem"
    content_type = CONTENT_TYPE
    result: ProblemSchema


@api.handle("*", Exception)
def answer_with_problem(self: api.API, error: Error) -> ProblemResponse:
    """Respond to whatever is raised below the root API, of which this is an attribute."""
    problem = from_exception(error.exception, var.path_params.getter(self.request))
    record: Record = self.request.adaptor.request.record
    if problem.status == 503 and is_of_the_database(error.exception):
        record.cause = cause_of(error.exception)  # in an outage, a trace a request would fill the disk
    elif problem is not error.exception and problem.status >= 500:
        record.error = error.exception
    return ProblemResponse(
        content=problem.body(record.request_id),
        status=problem.status,
        headers=problem.headers,
        content_type=CONTENT_TYPE,
        request=self.request,
    )


def from_exception(error: BaseException, path_params: Collection[str] = ()) -> Problem:
    """Return the problem for an exception of ours, of a framework or of the database."""
    if isinstance(error, Problem):
        return error
    if is_of_the_database(error):
        return Problem("service_unavailable")
    if isinstance(error, exceptions.BadRequest) and isinstance(error.__cause__, ParseError):
        return from_parameters(faults_of(error.__cause__), path_params)
    known = next((status for kind, status in STATUSES if isinstance(error, kind)), 500)
    # Those of rows that others need are IntegrityErrors too; UtilMeta's ORM makes BadRequests of the rest.
    integrity = error if isinstance(error, IntegrityError) else error.__cause__
    if known == 500 and isinstance(integrity, IntegrityError):
        return from_integrity(integrity)
    problem = from_status(error.status if isinstance(error, exceptions.HttpError) else known)
    if isinstance(error, exceptions.MethodNotAllowed):
        # UtilMeta takes HEAD for GET, and does not say so (RFC 9110, sections 9.3.2 and 10.2.1).
        problem.headers["Allow"] = re.sub(r"\bGET\b", "GET, HEAD", error.allows.upper())
    return problem


def from_parameters(errors: list[dict[str, str]], path_params: Collection[str]) -> Problem:
    """Return the problem for parameters of another type; for one of the path, nothing is there."""
    if any(each["field"] in path_params for each in errors):
        return Problem("not_found")
    return Problem("invalid_request", errors=errors)


def from_integrity(error: IntegrityError) -> Problem:
    """Return the problem for a rule of the database that a change would break."""
    columns = taken_columns(error)
    if columns is None:
        return Problem("internal_error")
    return Problem("conflict", errors=[{"field": each, "message": "This is taken."} for each in columns])


def is_of_the_database(error: BaseException) -> bool:
    """Tell whether an exception means that the database is not available, and is not a defect of ours."""
    # A plain DatabaseError is SQLite's for a file that is damaged; the other kinds are defects.
    return (
        type(error) in (DatabaseError, OperationalError)
        or isinstance(error, InterfaceError)
        or getattr(error.__cause__, "sqlstate", None) == READ_ONLY
    )


def cause_of(error: BaseException) -> str:
    """Return the first line of what the database said; what follows may quote values."""
    return str(error).strip().partition("\n")[0][:MAX_CAUSE]


def from_status(status: int) -> Problem:
    """Return the problem for an error of which only the status is known."""
    default = "invalid_request" if status < 500 else "internal_error"
    return Problem(CODES.get(status, default))


def to_response(problem: Problem, request_id: str) -> HttpResponse:
    """Return Django's response of a problem, for what stands outside of the API."""
    return HttpResponse(
        problem.body(request_id), status=problem.status, content_type=CONTENT_TYPE, headers=problem.headers
    )
