"""GET /metrics, for Prometheus."""

from collections.abc import Callable

from django.http import HttpResponse

from web.problems import Problem, to_response
from web.request import HttpRequest

from . import instruments

GetResponse = Callable[[HttpRequest], HttpResponse]

PATH = "/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# What proxies add (RFC 7239, and before it): Prometheus asks each server itself.
ADDED_BY_PROXIES = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED")


def serve(get_response: GetResponse) -> GetResponse:
    """Respond to requests for the metrics, unless they came through a proxy, and measure all requests."""
    instruments.install()

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path_info != PATH:
            return get_response(request)
        if any(name in request.META for name in ADDED_BY_PROXIES):
            return to_response(Problem("not_found"), request.record.request_id)
        request.record.route = PATH
        if request.method not in ("GET", "HEAD"):
            problem = Problem("method_not_allowed", headers={"Allow": "GET, HEAD"})
            return to_response(problem, request.record.request_id)
        return HttpResponse(
            instruments.exposition(), content_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"}
        )

    return middleware
