"""The request that the service works with."""

from typing import Any

from django.core.handlers.wsgi import WSGIRequest

from .logs import Record


class HttpRequest(WSGIRequest):
    """Django's request, with the record of it."""

    record: Record

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        """Read the media type alone; `web.json_body` reads the one parameter that matters.

        Django's parser crashes, before any middleware, on some parameters (RFC 2231), takes seconds for
        others, and has Python keep the name of every charset that it does not know.
        """
        self.content_type = meta.get("CONTENT_TYPE", "").partition(";")[0].strip(" \t").lower()
        self.content_params = {}
