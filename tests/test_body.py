"""The body of a request: what is taken for one, and what is not."""

import encodings
import gzip
import io
import json
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from user.models import Session, User
from web.json_body import MAX_BODY_BYTES

from .support import MIN_LENGTH, assert_problem, credentials, send

JSON = {"Content-Type": "application/json"}
FIELDS = ("username", "password")
GOOD = json.dumps(credentials()).encode()

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=5,
)


def signup(body: bytes, **environ):
    return send("POST", "/api/user/signup", body=body, **environ)


def padded(length: int) -> bytes:
    """Return a good body, padded to a length in bytes."""
    return GOOD + b" " * (length - len(GOOD))


def nothing_was_written() -> bool:
    return not User.objects.exists() and not Session.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"nul",
        b"'username'",
        b"{'username': 'bob'}",
        b"username=bob&password=correct",
        b"<user/>",
        GOOD + b"x",
        GOOD + GOOD,
        b"\xef\xbb\xbf" + GOOD,
        GOOD.decode().encode("utf-16"),
        GOOD.replace(b"bob", b"b\xffb"),
        GOOD.replace(b"bob", b"b\xc0\xafb"),
        GOOD.replace(b"bob", b"b\nb"),
        b'{"username": "bob", "username": "eve", "password": "correct horse battery"}',
        b'{"username": "bob", "password": {"a": 1, "a": 2}}',
        b'{"username": "bob", "password": NaN}',
        b'{"username": "bob", "password": Infinity}',
        b'{"username": "bob", "password": -Infinity}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
    ],
)
def test_what_is_not_strict_json_is_malformed(body):
    assert_problem(signup(body, CONTENT_TYPE="application/json"), 400, "malformed_json")
    assert nothing_was_written()


@pytest.mark.parametrize("body", [b"[]", b"null", b"true", b"1", b'"x"', b'["username", "password"]'])
def test_json_that_is_no_object_is_invalid(body):
    assert_problem(signup(body), 400, "invalid_request")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [None, True, False, 0, 1, 1.5, 10**30, [], ["bob"], {}, {"$ne": ""}])
def test_wrong_type_is_never_coerced(field, value):
    response = signup(json.dumps(credentials() | {field: value}).encode())

    assert_problem(response, 400, "invalid_request", field)
    assert nothing_was_written()


@pytest.mark.parametrize("digits", [b"1" * 60_000, b"-" + b"9" * 5000, b"1e999", b"0." + b"1" * 5000])
def test_number_of_any_length_is_a_wrong_type(digits):
    response = signup(GOOD.replace(b'"bob"', digits))

    assert_problem(response, 400, "invalid_request", "username")


@pytest.mark.parametrize("path", ["signup", "login"])
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    "body", [{}, {"username": "bob", "password": ""}, {"username": "", "password": "long enough for all"}]
)
def test_missing_or_empty_field_is_named(path, field, body):
    response = send("POST", f"/api/user/{path}", body=json.dumps(body).encode())

    fields = [name for name in FIELDS if not body.get(name)]
    assert_problem(response, 400, "invalid_request", *fields)


@pytest.mark.parametrize("path", ["signup", "login"])
@pytest.mark.parametrize(
    "name",
    [
        "email",
        "",
        " ",
        "USERNAME",
        "username ",
        "pk",
        "id",
        "self",
        "clear",
        "update",
        "pop",
        "__class__",
        "__options__",
        "__init__",
        "_row",
        "\ud800",
        "a" * 1000,
    ],
)
def test_unknown_field_is_named(path, name):
    response = send("POST", f"/api/user/{path}", body=json.dumps(credentials() | {name: "x"}).encode())

    assert_problem(response, 400, "invalid_request", name)
    assert nothing_was_written()


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/json; charset=utf8",
        "application/json; charset=UTF_8",
        'application/json ;\tCharset="UTF8" ; version=1',
        "application/json;",
        "application/json; version=1",
        "application/json; charset=utf-8; version=1",
        'application/json; odata.metadata="a; charset=latin-1\\"; charset=latin-1"',
        "application/json; charset=utf-8; charset=utf8",
        "application/json; x*=idna''%ff.%41",
        "application/json; x",
    ],
)
def test_json_in_utf_8_is_taken_however_it_is_spelled(content_type):
    assert signup(GOOD, CONTENT_TYPE=content_type).status_code == 200


@pytest.mark.parametrize("coding", ["identity", "Identity", "", "identity, IDENTITY"])
def test_body_that_is_not_compressed_may_say_so(coding):
    assert signup(GOOD, HTTP_CONTENT_ENCODING=coding).status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "identity, gzip", "zstd,identity", "nonsense"])
@pytest.mark.parametrize("path", ["signup", "login", "logout"])
def test_compressed_body_is_refused_and_told_what_is_taken(path, coding):
    body = gzip.compress(GOOD)

    response = send("POST", f"/api/user/{path}", body=body, HTTP_CONTENT_ENCODING=coding)

    assert_problem(response, 415, "unsupported_media_type")
    assert response.headers["Accept-Encoding"] == "identity"
    assert nothing_was_written()


def test_coding_of_no_body_does_not_matter():
    assert send("POST", "/api/user/logout", HTTP_CONTENT_ENCODING="gzip").status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_names_of_charsets_are_not_kept(method):
    kept = len(encodings._cache)

    for number in range(20):
        content_type = f"application/json; charset=nonsense-{method}-{number}"
        send(method, "/api/user/login", body=GOOD, CONTENT_TYPE=content_type)

    assert len(encodings._cache) == kept


@pytest.mark.parametrize("semicolons", ['"' + ";" * 1000, ";" * 1000, '";' * 500])
def test_parameters_of_any_number_are_read_by_our_own_parser_alone(monkeypatch, semicolons):
    monkeypatch.setattr("django.http.request.parse_header_parameters", None)

    assert signup(GOOD, CONTENT_TYPE=f"application/json;x={semicolons}").status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "text/json",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "application/json; charset=nonsense",
        "application/jsonx",
        "application/json, text/plain",
        "application/json; charset=utf-8-sig",
        "application/json; charset=us-ascii",
        "application/json; charset=utf-8; charset=latin-1",
        "application/json; charset=latin-1; charset=utf-8",
        "application/json; version=1;CHARSET=latin-1",
        "application/json; charset=utf-8\xe9",
        "application/json; charset=",
        "application/json; charset*=utf-16''x",
        "json",
        "\x00",
        "é",
        "a/b; x*=BOGUS''%41",
        "application/json; charset*=BOGUS''%41",
        "application/json; charset*0*=BOGUS''a; charset*1=b",
    ],
)
def test_other_media_types_are_unsupported(content_type):
    assert_problem(signup(GOOD, CONTENT_TYPE=content_type), 415, "unsupported_media_type")
    assert nothing_was_written()


def test_body_of_the_largest_size_is_taken():
    assert signup(padded(MAX_BODY_BYTES)).status_code == 200


def test_larger_body_is_refused_before_it_is_read():
    class Unread(io.BytesIO):
        def read(self, *args):
            raise AssertionError("the body was read")

    response = signup(
        b"",
        CONTENT_TYPE="application/json",
        CONTENT_LENGTH=str(MAX_BODY_BYTES + 1),
        **{"wsgi.input": Unread()},
    )

    assert_problem(response, 413, "payload_too_large")


@pytest.mark.parametrize(
    ("body", "status"),
    [(GOOD, 200), (padded(MAX_BODY_BYTES), 200), (padded(MAX_BODY_BYTES + 1), 413), (b"{", 400)],
)
def test_chunked_body_is_read_where_the_server_can(body, status):
    response = signup(
        body, CONTENT_LENGTH=None, HTTP_TRANSFER_ENCODING="chunked", **{"wsgi.input_terminated": True}
    )

    assert response.status_code == status


@pytest.mark.parametrize("path", ["signup", "logout"])
def test_chunked_body_that_the_server_cannot_read_is_malformed(path):
    response = send(
        "POST", f"/api/user/{path}", body=GOOD, CONTENT_LENGTH=None, HTTP_TRANSFER_ENCODING="chunked"
    )

    assert_problem(response, 400, "malformed_json")


def test_chunks_that_are_none_are_malformed():
    class InvalidChunkSizeError(Exception):
        """As gunicorn has it."""

    class Broken(io.BytesIO):
        def read(self, *args):
            raise InvalidChunkSizeError("the client's words")

    response = signup(
        GOOD,
        CONTENT_LENGTH=None,
        HTTP_TRANSFER_ENCODING="chunked",
        **{"wsgi.input_terminated": True, "wsgi.input": Broken()},
    )

    assert_problem(response, 400, "malformed_json")


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "²", "5_3", " 5", "9" * 5000])
def test_length_that_is_none_is_a_bad_request(length):
    assert_problem(signup(GOOD, CONTENT_LENGTH=length), 400, "malformed_json")


def test_body_that_breaks_off_is_a_bad_request():
    class Broken(io.BytesIO):
        def read(self, *args):
            raise OSError("the client went away")

    assert_problem(signup(GOOD, **{"wsgi.input": Broken()}), 400, "malformed_json")


def test_body_that_ends_before_its_length_is_malformed():
    assert_problem(signup(GOOD, CONTENT_LENGTH=str(len(GOOD) + 1)), 400, "malformed_json")


@pytest.mark.usefixtures("bob")
def test_query_string_is_no_body(client):
    response = client.post("/api/user/login?username=bob&password=correct+horse+battery", headers=JSON)

    assert_problem(response, 400, "malformed_json")


class NormalizeShort:
    """`unicodedata` for texts of a bounded length: it takes seconds for 64 KiB."""

    @staticmethod
    def normalize(form, text):
        assert len(text) <= 400
        return unicodedata.normalize(form, text)


@pytest.mark.parametrize("field", FIELDS)
def test_text_that_is_too_long_is_not_normalised_first(monkeypatch, field):
    body = {name: "\u0344" * 5000 if name == field else "x" for name in FIELDS}
    monkeypatch.setattr("user.schema.unicodedata", NormalizeShort)

    assert_problem(
        send("POST", "/api/user/login", body=json.dumps(body).encode()), 400, "invalid_request", field
    )


def test_password_that_becomes_short_enough_by_normalising_is_taken():
    composed = "\u1f82" * 100  # an alpha with three marks, each

    decomposed = unicodedata.normalize("NFD", composed)

    assert len(decomposed) == 400
    assert signup(json.dumps(credentials(password=decomposed)).encode()).status_code == 200
    response = send("POST", "/api/user/login", body=json.dumps(credentials(password=composed)).encode())
    assert response.status_code == 200


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=anything)
def test_any_json_gets_a_clear_response(body):
    response = send("POST", "/api/user/login", body=json.dumps(body).encode())

    assert response.status_code in (400, 403)
    assert_problem(
        response,
        response.status_code,
        response.json()["code"],
        *[e["field"] for e in response.json().get("errors", [])],
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200))
def test_any_bytes_get_a_clear_response(body):
    response = send("POST", "/api/user/signup", body=body, CONTENT_TYPE="application/json")

    assert response.status_code == 400
    assert nothing_was_written()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(username=st.text(max_size=25), password=st.text(max_size=120))
def test_any_text_is_an_account_or_a_field_at_fault(username, password):
    response = send("POST", "/api/user/signup", body=json.dumps(credentials(username, password)).encode())

    if response.status_code == 200:
        kept = response.json()["username"]
        assert 1 <= len(kept) <= 20
        assert set(kept) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
        assert kept[0] not in "._-"
        assert len(password) >= MIN_LENGTH or not password.isascii()
        again = send("POST", "/api/user/login", body=json.dumps(credentials(kept.upper(), password)).encode())
        assert again.status_code == 200
    elif response.json()["code"] != "username_exists":
        fields = {error["field"] for error in response.json()["errors"]}
        assert fields <= set(FIELDS)
        assert_problem(response, 400, "invalid_request", *fields)
