"""Reads chunked bodies (RFC 9112, section 7.1), which Django's development server does not."""

import re
from typing import BinaryIO

MAX_LINE_BYTES = 4096
MAX_TRAILER_LINES = 100
# The size of a chunk, with extensions, which mean nothing to us.
SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
# A trailer field, or the empty line that ends them.
TRAILER_LINE = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*)?\r\n")


class ChunkError(ValueError):
    """A chunked body that is malformed or incomplete."""


def read_chunked(stream: BinaryIO, limit: int) -> bytes | None:
    """Return a chunked body, or None if it is larger than a limit in bytes.

    The stream is then at the end of the body, but not after None, for a chunk beyond the limit is not read.
    Raises ChunkError.
    """
    body = bytearray()
    while size := int(read_line(stream, SIZE_LINE)[1], 16):
        if len(body) + size > limit:
            return None
        chunk = stream.read(size + 2)
        if len(chunk) < size + 2 or not chunk.endswith(b"\r\n"):
            raise ChunkError
        body += chunk[:-2]
    for _ in range(MAX_TRAILER_LINES):
        if read_line(stream, TRAILER_LINE)[0] == b"\r\n":
            return bytes(body)
    raise ChunkError


def read_line(stream: BinaryIO, form: re.Pattern[bytes]) -> re.Match[bytes]:
    """Return the match of the next line with a pattern; raise ChunkError if it does not match."""
    line = form.fullmatch(stream.readline(MAX_LINE_BYTES))
    if not line:
        raise ChunkError
    return line
