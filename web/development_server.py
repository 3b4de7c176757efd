"""Django's development server, which here also reads chunked bodies."""

import io
from contextlib import suppress
from typing import Any

from django.core.management.commands import runserver
from django.core.servers import basehttp

from .chunks import ChunkError, read_chunked
from .json_body import LENGTH, MAX_BODY_BYTES

# How long, and how often, to read what a client still sends on a connection that is being closed.
LINGER_SECONDS = 2
LINGER_READS = 100


class RequestHandler(basehttp.WSGIRequestHandler):
    """A connection of the development server.

    Django's handler leaves chunks unread, and then parses them as the next request.
    """

    in_doubt = False

    def handle_one_request(self) -> None:
        """Respond to a request; if its body was chunked, the decoded body replaces the stream meanwhile."""
        stream = self.rfile
        try:
            super().handle_one_request()
        finally:
            self.rfile = stream

    def parse_request(self) -> bool:
        """Read a request's head, and its body if that is chunked; return whether there is a request."""
        if not super().parse_request():
            return False
        lengths = self.headers.get_all("Content-Length", [])
        codings = self.headers.get_all("Transfer-Encoding", [])
        if codings:
            known = [each.strip(" \t").lower() for each in codings] == ["chunked"] and not lengths
            self.read_chunks(known=known)
        elif len(lengths) > 1 or not all(map(LENGTH.fullmatch, lengths)):
            self.close_when_answered()
        return True

    def read_chunks(self, *, known: bool) -> None:
        """Decode a chunked body and declare its length.

        A body that is too large goes on as its length alone, which is refused with 413. A malformed one is
        passed on as undecoded chunks, which are refused with 400.
        """
        body: bytes | None = b""
        try:
            if not known or self.request_version != "HTTP/1.1":
                raise ChunkError
            body = read_chunked(self.rfile, MAX_BODY_BYTES)
            del self.headers["Transfer-Encoding"]
            self.headers["Content-Length"] = str(MAX_BODY_BYTES + 1 if body is None else len(body))
        except ChunkError:
            body = None
        if body is None:
            self.close_when_answered()
        self.rfile = io.BytesIO(body or b"")

    def close_when_answered(self) -> None:
        """Close the connection after the response, and ignore whatever follows on it."""
        self.close_connection = self.in_doubt = True

    def handle(self) -> None:
        """Respond to the requests of a connection.

        Closing a connection with unread data resets it, and the client may lose the response.
        """
        super().handle()
        if self.in_doubt:
            connection: Any = self.connection
            connection.settimeout(LINGER_SECONDS)
            with suppress(OSError):
                all(connection.recv(65_536) for _ in range(LINGER_READS))  # nothing: the client has closed it


class Server(basehttp.WSGIServer):
    """The development server."""

    def __init__(self, address: tuple[str, int], handler: Any, **kwargs: Any) -> None:
        super().__init__(address, RequestHandler, **kwargs)


def install() -> None:
    """Have Django's `runserver`, which UtilMeta calls, start this server."""
    runserver.Command.server_cls = Server
