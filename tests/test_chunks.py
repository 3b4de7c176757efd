"""Bodies that come in chunks, to the development server."""

import io
import json
import socket
import threading
from collections.abc import Iterator
from socketserver import ThreadingMixIn

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import app
from web.chunks import MAX_LINE_BYTES, MAX_TRAILER_LINES, ChunkError, read_chunked
from web.development_server import Server
from web.json_body import MAX_BODY_BYTES

from .support import assert_problem, credentials

LIMIT = 20
HEAD = b"POST /api/user/logout HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"
HEALTH = b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
MALFORMED = {
    "no size": b"\r\nab\r\n0\r\n\r\n",
    "empty": b"",
    "no number": b"x\r\nab\r\n0\r\n\r\n",
    "negative": b"-2\r\nab\r\n0\r\n\r\n",
    "plus": b"+2\r\nab\r\n0\r\n\r\n",
    "prefix": b"0x2\r\nab\r\n0\r\n\r\n",
    "underscore": b"0_2\r\nab\r\n0\r\n\r\n",
    "space before": b" 2\r\nab\r\n0\r\n\r\n",
    "space behind": b"2 \r\nab\r\n0\r\n\r\n",
    "size of many digits": b"0" * 17 + b"2\r\nab\r\n0\r\n\r\n",
    "bare LF": b"2\nab\n0\n\n",
    "bare CR": b"2\rab\r0\r\r",
    "no CRLF behind the data": b"2\r\nab0\r\n\r\n",
    "more data than said": b"2\r\nabc\r\n0\r\n\r\n",
    "less data than said": b"3\r\nab\r\n0\r\n\r\n",
    "LF behind the data": b"2\r\nab\n0\r\n\r\n",
    "end in a size": b"2",
    "end in the data": b"3\r\nab",
    "end behind the data": b"2\r\nab",
    "end before the last chunk": b"2\r\nab\r\n",
    "end before the trailers": b"2\r\nab\r\n0\r\n",
    "end in a trailer": b"2\r\nab\r\n0\r\nA: b",
    "end behind a trailer": b"2\r\nab\r\n0\r\nA: b\r\n",
    "trailer without a name": b"0\r\n: b\r\n\r\n",
    "trailer that is none": b"0\r\nGET / HTTP/1.1\r\n\r\n",
    "control character in an extension": b"2;a=\x00\r\nab\r\n0\r\n\r\n",
    "LF in an extension": b"2;a\nb\r\nab\r\n0\r\n\r\n",
    "long extension": b"2;" + b"a" * MAX_LINE_BYTES + b"\r\nab\r\n0\r\n\r\n",
    "long trailer": b"0\r\nA:" + b"b" * MAX_LINE_BYTES + b"\r\n\r\n",
    "many trailers": b"0\r\n" + b"A: b\r\n" * MAX_TRAILER_LINES + b"\r\n",
}


def in_chunks(*chunks: bytes) -> bytes:
    """Return chunks as they are sent."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"2\r\nab\r\n0\r\n\r\n", b"ab"),
        (b"2\r\nab\r\n3\r\ncde\r\n000\r\n\r\n", b"abcde"),
        (b"0A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b'2;name\r\nab\r\n0 ; a="b;c"\r\n\r\n', b"ab"),
        (b"2\r\nab\r\n0\r\nDigest: x\r\nEmpty:\r\n\r\n", b"ab"),
    ],
)
def test_body_is_read_up_to_its_end_and_not_further(sent, body):
    stream = io.BytesIO(sent + b"next")

    assert read_chunked(stream, LIMIT) == body
    assert stream.read() == b"next"


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_malformed_chunks_are_an_error(sent):
    with pytest.raises(ChunkError):
        read_chunked(io.BytesIO(sent), LIMIT)


@pytest.mark.parametrize("size", [b"15", b"ffffffff", b"f" * 16])
def test_chunk_beyond_the_limit_is_not_read(size):
    stream = io.BytesIO(b"1\r\na\r\n" + size + b"\r\nunread")

    assert read_chunked(stream, LIMIT) is None
    assert stream.read() == b"unread"


@given(chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=5))
def test_any_chunks_are_their_body(chunks):
    body = b"".join(chunks)
    stream = io.BytesIO(in_chunks(*chunks) + b"next")

    assert read_chunked(stream, len(body)) == body
    assert stream.read() == b"next"


@given(sent=st.binary(max_size=60) | st.text("012af;:\r\n-+ ", max_size=30).map(str.encode))
def test_any_bytes_are_a_body_or_an_error(sent):
    try:
        body = read_chunked(io.BytesIO(sent), LIMIT)
    except ChunkError:
        return

    assert body is None or len(body) <= LIMIT


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    """The address of a development server."""

    class ThreadedServer(ThreadingMixIn, Server):
        daemon_threads = True

    server = ThreadedServer(("127.0.0.1", 0), None)
    server.set_app(app)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[:2]
    server.shutdown()
    thread.join()
    server.server_close()


def exchange(address: tuple[str, int], sent: bytes) -> list[httpx.Response]:
    """Send bytes on one connection, and nothing more; return the responses until the server closes it."""
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    answers = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = httpx.Headers([tuple(line.split(": ", 1)) for line in lines])
        length = int(headers.get("Content-Length", 0))
        answers.append(httpx.Response(int(status.split()[1]), headers=headers, content=received[:length]))
        received = received[length:]
    return answers


def statuses(answers: list[httpx.Response]) -> list[int]:
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"{ }" + b" " * (MAX_BODY_BYTES - 3)], ids=["no body", "small", "the largest"]
)
@pytest.mark.parametrize("coding", [b"chunked", b"Chunked "])
def test_development_server_reads_chunks_and_goes_on_with_the_next_request(address, body, coding):
    chunks = in_chunks(*(body[start : start + 1000] for start in range(0, len(body), 1000)))
    request = HEAD + b"Transfer-Encoding: " + coding + b"\r\n\r\n" + chunks

    assert statuses(exchange(address, request + request + HEALTH)) == [200, 200, 200]


def test_body_is_the_one_that_was_sent(address):
    body = json.dumps(credentials() | {"username": 1}).encode()
    request = CHUNKED.replace(b"logout", b"login") + b"\r\n" + in_chunks(body[:7], body[7:])

    (response, health) = exchange(address, request + HEALTH)

    assert_problem(response, 400, "invalid_request", "username")
    assert health.status_code == 200


def test_chunks_that_nobody_asked_for_are_no_request(address):
    request = b"GET /api/nope HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"

    assert statuses(exchange(address, request + in_chunks(HEALTH) + HEALTH)) == [404, 200]


def test_expected_continue_is_answered(address):
    (first, second) = exchange(
        address, CHUNKED + b"Expect: 100-continue\r\nConnection: close\r\n\r\n" + in_chunks(b"{}")
    )

    assert (first.status_code, second.status_code) == (100, 200)


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_malformed_chunks_are_a_bad_request_and_end_the_connection(address, sent):
    (response,) = exchange(address, CHUNKED + b"\r\n" + sent)

    assert_problem(response, 400, "malformed_json")


@pytest.mark.parametrize(
    "headers",
    [
        b"Transfer-Encoding: chunked\r\nContent-Length: 12\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Content-Length: 0_2\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: x\r\n",
    ],
)
def test_body_whose_end_is_in_doubt_is_refused_and_what_follows_is_no_request(address, headers):
    (response,) = exchange(address, HEAD + headers + b"\r\n" + in_chunks(b"{}") + HEALTH)

    assert_problem(response, 400, "malformed_json")


@pytest.mark.parametrize(
    "headers",
    [b"Content-Length: 2\r\nContent-Length: 0\r\n", b"Content-Length: 2\r\nTransfer-Encoding: \r\n"],
)
def test_headers_that_disagree_end_the_connection(address, headers):
    answers = exchange(address, HEAD + headers + b"\r\n{}" + HEALTH)

    assert len(answers) == 1


def test_chunks_in_http_1_0_are_a_bad_request(address):
    (response,) = exchange(
        address, CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n" + in_chunks(b"{}") + HEALTH
    )

    assert_problem(response, 400, "malformed_json")


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 16**16 - 1])
def test_chunks_that_are_too_large_are_refused_and_end_the_connection(address, size):
    rest = b" " * (MAX_BODY_BYTES + 1) + b"\r\n0\r\n\r\n"

    (response,) = exchange(address, CHUNKED + b"\r\n%x\r\n" % size + rest + HEALTH)

    assert_problem(response, 413, "payload_too_large")


def test_head_that_the_server_refuses_is_answered(address):
    (response,) = exchange(address, HEAD + b"A: b\r\n" * 100 + b"\r\n")

    assert response.status_code == 431
