"""The body of a request: a JSON object, read strictly and checked against its schema."""

import json
import re
from datetime import date, time, timedelta
from decimal import Decimal
from encodings import normalize_encoding
from encodings.aliases import aliases
from functools import cache
from math import inf, isfinite
from typing import Any, NoReturn
from uuid import UUID

import utype
from utilmeta.core import request
from utilmeta.core.request import Request
from utype.parser.field import ParserField
from utype.utils.exceptions import ParseError
from utype.utils.transform import TypeTransformer

from .faults import FaultError, faults_of
from .problems import Problem
from .request import HttpRequest

MAX_BODY_BYTES = 64 * 1024
MAX_FAULTS = 100
# Python makes no int of more than 4,300 digits.
MAX_DIGITS = 4300
LENGTH = re.compile(f"[0-9]{{1,{MAX_DIGITS}}}")
NOT_STORABLE = re.compile("[\0\ud800-\udfff]")
UNUSABLE_TEXT = "This has a character that cannot be stored."
UNUSABLE_VALUE = "This cannot be stored."
RESERVED = "No name in this object may be _d or _obj_self, or begin with two underscores."
# What utype takes for its own when it makes an object of one: its parameters, and what it keeps in the class.
UTYPES_OWN = re.compile(r"__|(_d|_obj_self)$")
# Name and value of each parameter of a media type (RFC 9110, section 5.6.6).
PARAMETERS = re.compile(r';([^;=]*)=?("(?:[^"\\]|\\.)*"|[^;]*)')
# What Python knows UTF-8 by. `codecs.lookup` would remember every name that it does not find.
UTF_8 = {"utf_8"} | {alias for alias, codec in aliases.items() if codec == "utf_8"}


class JsonTransformer(TypeTransformer):
    """utype's casts, less those that JSON leaves no need for.

    With `no_explicit_cast` alone, utype takes true for 1, 1 for true, 1.5 for 1 and a number for a date.
    """

    def __call__(self, data: Any, t: Any) -> Any:
        """Return a value of JSON as a type; raise TypeError if it is not written as one."""
        check_json_type(data, t)
        return super().__call__(data, t)

    def apply(self, data: Any, t: Any, func: Any = None) -> Any:
        """Return a value of JSON as a type, by a function that is known already."""
        check_json_type(data, t)
        return super().apply(data, t, func)


def _strict(*, addition: bool) -> utype.Options:
    return utype.Options(
        no_explicit_cast=True,
        no_data_loss=True,  # or each Union would try its types twice, and those in it each time again
        addition=addition,
        collect_errors=True,
        transformer_cls=JsonTransformer,
        override=True,
    )


# Nothing is coerced, nothing unknown is taken, and every fault is reported at once; so also further inside.
STRICT = _strict(addition=False)
# For an inner object whose format somebody else defines, and may add to: what is unknown is taken.
OPEN = _strict(addition=True)


class JsonBody(request.Json):
    """`request.Body`, but nothing other than a JSON object in UTF-8 is taken for one.

    UtilMeta takes forms, XML, query strings and Python literals for a body too, and casts what it
    finds.
    """

    absent = b""

    def getter(self, request: Request, field: ParserField) -> Any:
        """Return the body as an instance of the schema that the parameter is annotated with.

        Raises Problem `unsupported_media_type`, `payload_too_large`, `malformed_json` or
        `invalid_request`, the last with every field at fault.
        """
        http: HttpRequest = request.adaptor.request
        chunked = bool(http.META.get("HTTP_TRANSFER_ENCODING"))
        empty = http.META.get("CONTENT_LENGTH") in (None, "", "0") and not chunked
        text = b"" if empty else read(http, chunked)
        if text:
            check_media_type(http)
        return parse_fields(text or self.absent, field.type)


class OptionalJsonBody(JsonBody):
    """A JsonBody that takes no body at all for `{}`."""

    absent = b"{}"


def check_media_type(http: HttpRequest) -> None:
    """Raise Problem `unsupported_media_type` unless a request says that it carries JSON in UTF-8.

    Parameters of `application/json` have no effect (RFC 8259, section 11), but for a charset other than
    UTF-8, which the body cannot be in. The refusal of a compressed body says so in Accept-Encoding (RFC 9110,
    section 15.5.16).
    """
    codings = http.META.get("HTTP_CONTENT_ENCODING", "").lower().split(",")
    if any(coding.strip(" \t") not in ("", "identity") for coding in codings):
        raise Problem(
            "unsupported_media_type",
            "The body must not be compressed.",
            headers={"Accept-Encoding": "identity"},
        )
    parameters = PARAMETERS.findall(http.META.get("CONTENT_TYPE", ""))
    # As RFC 2231 has it, a name may go on behind a star.
    charsets = [
        value for name, value in parameters if name.strip(" \t").lower().partition("*")[0] == "charset"
    ]
    if http.content_type != "application/json" or not all(map(is_utf_8, charsets)):
        raise Problem("unsupported_media_type")


def is_utf_8(charset: str) -> bool:
    """Tell whether a charset, quoted or not, is UTF-8 by one of its names."""
    name = charset.strip(' \t"').lower()
    return name.isascii() and normalize_encoding(name) in UTF_8


def read(http: HttpRequest, chunked: bool) -> bytes:
    """Return the bytes of a body; raise Problem `payload_too_large` before reading a declared excess."""
    text = read_chunks(http) if chunked else read_declared(http)
    if len(text) > MAX_BODY_BYTES:
        raise Problem("payload_too_large")
    return text


def read_declared(http: HttpRequest) -> bytes:
    """Return a body whose length was declared.

    Raises Problem `payload_too_large` before reading, and `malformed_json` when less came.
    """
    length = declared_length(http)
    if length > MAX_BODY_BYTES:
        raise Problem("payload_too_large")
    try:
        text = http.body
    except OSError:  # the client went away, or is too slow
        raise Problem("malformed_json") from None
    if len(text) < length:
        raise Problem("malformed_json")
    return text


def declared_length(http: HttpRequest) -> int:
    """Return the Content-Length; raise Problem `malformed_json` if it is no number."""
    text = http.META["CONTENT_LENGTH"]
    if not LENGTH.fullmatch(text):
        raise Problem("malformed_json")
    return int(text)


def read_chunks(http: HttpRequest) -> bytes:
    """Return a body whose length nobody declared, of which Django reads nothing.

    Raises Problem `malformed_json` when the server could not tell where it ends.
    """
    if not http.environ.get("wsgi.input_terminated"):
        raise Problem("malformed_json")
    try:
        text: bytes = http.environ["wsgi.input"].read(MAX_BODY_BYTES + 1)
    except Exception:  # noqa: BLE001  (each server has its own for chunks that are none)
        raise Problem("malformed_json") from None
    return text


def parse_json(text: bytes) -> Any:
    """Return the value of a JSON text in UTF-8; raise Problem `malformed_json` if it is none.

    Stricter than `json.loads`: no NaN and no Infinity, which are not JSON, and no name twice in an
    object, which parsers read differently (RFC 8259, section 4).
    """
    try:
        return json.loads(
            text.decode(),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse,
            parse_int=_whole_number,
        )
    except (ValueError, RecursionError):
        raise Problem("malformed_json") from None


def parse_fields(text: bytes, schema: Any) -> Any:
    """Return an instance of a schema; raise Problem `invalid_request` with every field at fault."""
    data = parse_json(text)
    if not isinstance(data, dict):
        raise Problem("invalid_request", "The body must be a JSON object.")
    names = input_names(schema)
    known = {name: value for name, value in data.items() if name in names}
    unknown = [name for name in data if name not in known]
    errors = []
    try:
        instance = schema.__from__(known, strict_options(schema))
    except ParseError as error:
        errors = faults_of(error)
    at_fault = {each["field"].partition(".")[0] for each in errors}
    errors += [
        {"field": name, "message": UNUSABLE_TEXT if isinstance(value, str) else UNUSABLE_VALUE}
        for name, value in known.items()
        if name not in at_fault and not can_be_stored(value)
    ]
    errors += [{"field": name, "message": "There is no such field."} for name in unknown]
    if errors:
        raise Problem(
            "invalid_request", "A field is missing, unknown or not valid.", errors=errors[:MAX_FAULTS]
        )
    return instance


@cache
def strict_options(schema: Any) -> utype.Options:
    """Return the options of a schema, made strict whatever they were."""
    return schema.__options__ & STRICT


@cache
def input_names(schema: Any) -> frozenset[str]:
    """Return the names of the fields that a client may send."""
    options = strict_options(schema)
    fields = schema.__parser__.fields.items()
    return frozenset(name for name, field in fields if not field.always_no_input(options))


def check_json_type(value: Any, type_: Any) -> None:
    """Raise TypeError for a value of JSON that is never written for a type.

    Raises FaultError for an inner object with a name like `_d`, which utype takes for its own.
    """
    if isinstance(type_, type) and not may_be_written(value, type_):
        raise TypeError
    if isinstance(value, dict) and hasattr(type_, "__parser__"):
        get_field = type_.__parser__.get_field
        if any(UTYPES_OWN.match(name) and not get_field(name) for name in value):
            raise FaultError(RESERVED)


def may_be_written(value: Any, type_: type) -> bool:
    """Tell whether JSON may have a value for a type, by what utype does not look at."""
    if issubclass(type_, bool):
        return isinstance(value, bool)
    if isinstance(value, bool):
        return not issubclass(type_, (int, float, Decimal, date, time, timedelta))
    if issubclass(type_, int):
        return not isinstance(value, float) or value.is_integer()
    return isinstance(value, str) or not issubclass(type_, (date, time, timedelta, UUID))


def can_be_stored(value: Any) -> bool:
    """Tell whether every text and number in a value of JSON can go into a database and out again.

    A lone surrogate has no encoding, PostgreSQL takes no NUL, both databases have 64 bits for a whole number,
    and what is beyond a float is infinite here.
    """
    left = [value]  # a stack of its own, as values may be nested deeper than Python calls
    while left:
        each = left.pop()
        if isinstance(each, str):
            fits = not NOT_STORABLE.search(each)
        elif isinstance(each, float):
            fits = isfinite(each)
        else:
            fits = not isinstance(each, int) or -(2**63) <= each < 2**63
        if not fits:
            return False
        if isinstance(each, dict):
            left += [*each, *each.values()]
        elif isinstance(each, list):
            left += each
    return True


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else inf


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
