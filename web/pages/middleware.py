"""The files that a browser gets, served by WhiteNoise: the page at / and the API's documents."""

import hashlib
import json
from collections.abc import Callable
from html import escape
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any

import drf_spectacular_sidecar
from django.http import HttpResponseRedirect
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import Response

from config import settings
from web.pages import openapi
from web.problems import Problem, to_response
from web.request import HttpRequest

PAGE = Path(__file__).parent / "account"
DOCS = Path(__file__).parent / "docs"
SWAGGER_UI = Path(drf_spectacular_sidecar.__file__).parent / "static/drf_spectacular_sidecar/swagger-ui-dist"
# The rest stands outside of /api, of which a browser may keep nothing.
DOCUMENTATION = {
    "/api/docs": DOCS / "docs.html",
    "/docs/docs.js": DOCS / "docs.js",
    "/docs/swagger-ui.css": SWAGGER_UI / "swagger-ui.css",
    "/docs/swagger-ui-bundle.js": SWAGGER_UI / "swagger-ui-bundle.js",
}
# Where else to look, relative to the address, since the service may stand under a path. The first is where
# password managers send people (W3C, "A Well-Known URL for Changing Passwords").
REDIRECTS = {"/.well-known/change-password": "../#password", "/api/docs/": "../docs"}
DOCUMENT = "/api/openapi.json"
# Where password managers find the page's list of passkeys (W3C, "A Well-Known URL for Relying Party Passkey
# Endpoints").
PASSKEY_ENDPOINTS = "/.well-known/passkey-endpoints"
PASSKEYS_FORM = "/#passkeys"
# What the page has of passkeys: this script, and where they may be used. Without PASSKEYS=on, it has neither.
PASSKEYS_SCRIPT = "/passkeys.js"
PASSKEYS_TAGS = """\
  <meta name="passkey-origins" content="{origins}">
  <link rel="modulepreload" href="passkeys.js">
</head>"""
JSON_FILES = (DOCUMENT, PASSKEY_ENDPOINTS)
# What a page of ours may load, and where it may send: only what is here.
DOCUMENTATION_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
# Swagger UI makes elements of text; the page does not, and shall not.
POLICY = DOCUMENTATION_POLICY + "; require-trusted-types-for 'script'; trusted-types 'none'"


class PagesMiddleware(WhiteNoiseMiddleware):
    """Answers requests for the files of the page, and lets all others through."""

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        self.allow_all_origins = False
        # The names carry no version: a browser keeps the files, and asks each time whether they have changed.
        self.max_age = 0
        self.index_file = "index.html"
        self.add_files(PAGE)
        for url, path in DOCUMENTATION.items():
            self.add_file_to_dictionary(url, str(path))
        self.files[DOCUMENT] = JsonFile(lambda: openapi.to_json())
        if settings.passkeys:
            self.files["/"] = Page(page_with_passkeys())
            self.files[PASSKEY_ENDPOINTS] = JsonFile(passkey_endpoints)
        else:
            del self.files[PASSKEYS_SCRIPT]

    def __call__(self, request: HttpRequest) -> Any:
        """Return a whole file: responses to range requests and other methods would not be in our form."""
        path = request.path_info
        if path not in self.files and path not in REDIRECTS:
            return self.get_response(request)
        request.record.route = path
        if request.method not in ("GET", "HEAD"):
            problem = Problem("method_not_allowed", headers={"Allow": "GET, HEAD"})
            return to_response(problem, request.record.request_id)
        if path in REDIRECTS:
            return HttpResponseRedirect(REDIRECTS[path])
        request.META.pop("HTTP_RANGE", None)
        response = self.serve(self.files[path], request)
        if path not in JSON_FILES:
            # With a 304 too: a browser takes its headers for those of the file that it has.
            policy = DOCUMENTATION_POLICY if path in DOCUMENTATION else POLICY
            response.headers["Content-Security-Policy"] = policy
        return response

    def immutable_file_test(self, path: str, url: str) -> bool:
        """Tell whether what is at a URL never changes: nothing; WhiteNoise would ask Django's storage."""
        return False


class JsonFile:
    """A file of WhiteNoise's that a function makes; one that cannot be made stops nothing else."""

    def __init__(self, make: Callable[[], bytes]) -> None:
        """Serve what a function returns."""
        self._make = make

    def get_response(self, method: str, request_headers: Any) -> Response:
        """Return the response to a request."""
        content = self._make()
        headers = (("Content-Type", "application/json"), ("Content-Length", str(len(content))))
        return Response(HTTPStatus.OK, headers, BytesIO(content) if method == "GET" else None)


class Page:
    """A page of WhiteNoise's that is not a file."""

    def __init__(self, content: bytes) -> None:
        """Serve a page, which a browser keeps and asks for each time, as the files."""
        self._content = content
        self._etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'

    def get_response(self, method: str, request_headers: Any) -> Response:
        """Return the response to a request."""
        headers = [("Cache-Control", "max-age=0, public"), ("ETag", self._etag)]
        if request_headers.get("HTTP_IF_NONE_MATCH") == self._etag:
            return Response(HTTPStatus.NOT_MODIFIED, headers, None)
        headers += [("Content-Type", 'text/html; charset="utf-8"')]
        headers += [("Content-Length", str(len(self._content)))]
        return Response(HTTPStatus.OK, headers, BytesIO(self._content) if method == "GET" else None)


def page_with_passkeys() -> bytes:
    """Return the page, with what it has of passkeys."""
    tags = PASSKEYS_TAGS.format(origins=escape(" ".join(settings.passkey_origins)))
    return (PAGE / "index.html").read_text(encoding="utf-8").replace("</head>", tags).encode()


def passkey_endpoints() -> bytes:
    """Return where the page has its passkeys, to add one and to manage them."""
    address = settings.passkey_origins[0] + PASSKEYS_FORM
    return json.dumps({"enroll": address, "manage": address}).encode()
