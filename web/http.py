"""The request that the service works with."""

from typing import Any

from django.core.handlers.wsgi import WSGIRequest

from .logs import Record


class HttpRequest(WSGIRequest):
    """Django's request, with the record of it."""

    record: Record

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        """Read the Content-Type; Django crashes, before any middleware, on some that are none (RFC 2231)."""
        try:
            super()._set_content_type_params(meta)  # type: ignore[misc]
        except (LookupError, ValueError):
            self.content_type, self.content_params = "", {}
