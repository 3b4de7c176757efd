"""What happens to every request around the API: its record, its headers, and who may send it."""

import sys
from collections.abc import Callable
from typing import Any

from django.core.signals import got_request_exception
from django.dispatch import receiver
from django.http import HttpResponse
from utilmeta import service

from config import is_origin, settings
from framework.connections import pool

from .client_address import client_address
from .endpoint import Addresses
from .logs import Record
from .problems import CONTENT_TYPE, Problem, from_status, to_response
from .request import HttpRequest

GetResponse = Callable[[HttpRequest], HttpResponse]

API_PREFIX = "/api"
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'"


def record(get_response: GetResponse) -> GetResponse:
    """Outermost: give every request an id and a record, and every error of Django's our form of body."""

    def middleware(request: HttpRequest) -> HttpResponse:
        entry = Record(method=request.method or "", client=client_address(request))
        request.record = entry
        response = get_response(request)
        if response.status_code >= 400 and response.headers.get("Content-Type") != CONTENT_TYPE:
            problem = from_status(response.status_code)
            response.content = problem.body(entry.request_id)
            response.headers["Content-Type"] = CONTENT_TYPE
            response.headers["Content-Length"] = str(len(response.content))
        if request.method == "HEAD" and not response.streaming:
            response.content = b""
        response.headers["X-Request-ID"] = entry.request_id
        entry.write(response.status_code)
        return response

    return middleware


@receiver(got_request_exception)
def note_error(request: HttpRequest, **kwargs: Any) -> None:
    """Note the exception that Django is about to answer with a 500."""
    request.record.error = sys.exc_info()[1]


def headers(get_response: GetResponse) -> GetResponse:
    """Tell browsers to keep nothing of the API, and to load and frame nothing."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if is_api(request):
            response.headers["Cache-Control"] = "no-store"
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response

    return middleware


def lend_connection(get_response: GetResponse) -> GetResponse:
    """Innermost: a request borrows its database connection, and holds none when it ends."""

    def middleware(request: HttpRequest) -> HttpResponse:
        with pool.request():
            return get_response(request)

    return middleware


def guard(get_response: GetResponse) -> GetResponse:
    """Let only requests to addresses that exist, and from pages of our own, through to the API.

    The session cookie comes along with whatever a browser sends here, also for a page of somebody
    else. Browsers say where a request comes from, in Sec-Fetch-Site or Origin, and pages cannot
    change that; a client that says nothing is not a browser (OWASP's CSRF cheat sheet, "Fetch
    Metadata"; W3C Fetch Metadata Request Headers).
    """
    addresses = Addresses(service.resolve(), API_PREFIX)

    def middleware(request: HttpRequest) -> HttpResponse:
        route = request.record.route = addresses.template_of(request.path_info.removesuffix("/"))
        if is_api(request):
            if request.method not in SAFE_METHODS and not is_same_origin(request):
                request.record.event = "cross_site_request"
                origin = request.headers.get("Origin", "")
                if is_origin(origin):
                    request.record.refused_origin = origin
                return to_response(Problem("cross_site_request"), request.record.request_id)
            # UtilMeta handles OPTIONS as the method that this names; CORS preflights were handled before.
            request.META.pop("HTTP_ACCESS_CONTROL_REQUEST_METHOD", None)
            if route is None:
                return to_response(Problem("not_found"), request.record.request_id)
        return get_response(request)

    return middleware


def is_api(request: HttpRequest) -> bool:
    """Tell whether a request is for the API, existing address or not."""
    return request.path_info == API_PREFIX or request.path_info.startswith(API_PREFIX + "/")


def is_same_origin(request: HttpRequest) -> bool:
    """Tell whether a request comes from a page of ours or of a trusted origin, or from no page at all.

    The order is that of Go's `net/http.CrossOriginProtection`. Where Origin and Sec-Fetch-Site differ, the
    browser knows better: a proxy may have changed the host, and Referrer-Policy makes an Origin "null".
    """
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if origin in settings.trusted_origins:
        return True
    if site is not None:
        return site in ("same-origin", "none")
    return origin is None or origin == own_origin(request)


def own_origin(request: HttpRequest) -> str:
    """Return the origin of our pages; a proxy may write the usual port into Host, browsers leave it out."""
    origin = f"{request.scheme}://{request.get_host()}"
    return origin.removesuffix(":443" if request.is_secure() else ":80")
