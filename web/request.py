"""The service's request class."""

from typing import Any

from django.core.exceptions import DisallowedHost
from django.core.handlers.wsgi import WSGIRequest

from .logs import Record

# Load balancers and Prometheus know the service's address, and not its name.
PATHS_FOR_ANY_HOST = ("/api/health", "/api/health/ready", "/metrics")


class HttpRequest(WSGIRequest):
    """Django's request, with its log record."""

    record: Record

    def get_host(self) -> str:
        """Return the request's host.

        Raises DisallowedHost if it is not in ALLOWED_HOSTS, except for health checks and metrics.
        """
        try:
            host: str = super().get_host()
        except DisallowedHost:
            if self.path_info.removesuffix("/") not in PATHS_FOR_ANY_HOST:
                raise
            host = "localhost"
        return host

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        """Read the media type alone; `web.json_body` reads the one parameter that matters.

        Django's parser crashes, before any middleware, on some parameters (RFC 2231), takes seconds for
        others, and has Python keep the name of every charset that it does not know.
        """
        self.content_type = meta.get("CONTENT_TYPE", "").partition(";")[0].strip(" \t").lower()
        self.content_params = {}
