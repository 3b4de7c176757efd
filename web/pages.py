"""The files that a browser gets, served by WhiteNoise: the page at / and the API's documents."""

from pathlib import Path
from typing import Any

import drf_spectacular_sidecar
from whitenoise.middleware import WhiteNoiseMiddleware

from .http import HttpRequest
from .problems import Problem, to_response

PAGE = Path(__file__).parent / "page"
DOCS = Path(__file__).parent / "docs"
SWAGGER_UI = Path(drf_spectacular_sidecar.__file__).parent / "static/drf_spectacular_sidecar/swagger-ui-dist"
# The rest stands outside of /api, of which a browser may keep nothing.
DOCUMENTATION = {
    "/api/docs": DOCS / "docs.html",
    "/api/docs/": DOCS / "docs.html",
    "/docs/docs.js": DOCS / "docs.js",
    "/docs/swagger-ui.css": SWAGGER_UI / "swagger-ui.css",
    "/docs/swagger-ui-bundle.js": SWAGGER_UI / "swagger-ui-bundle.js",
}
# What a page of ours may load, and where it may send: only what is here.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


class PagesMiddleware(WhiteNoiseMiddleware):
    """Answers requests for the files of the page, and lets all others through."""

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        self.allow_all_origins = False
        # The names carry no version: a browser keeps the files, and asks each time whether they have changed.
        self.max_age = 0
        self.index_file = "index.html"
        self.add_headers_function = add_headers
        self.add_files(PAGE)
        for url, path in DOCUMENTATION.items():
            self.add_file_to_dictionary(url, str(path))

    def __call__(self, request: HttpRequest) -> Any:
        """Return a file, whole: the answers for a part and for another method would not be in our form."""
        if request.path_info in self.files:
            request.record.route = request.path_info
            request.META.pop("HTTP_RANGE", None)
            if request.method not in ("GET", "HEAD"):
                problem = Problem("method_not_allowed", headers={"Allow": "GET, HEAD"})
                return to_response(problem, request.record.request_id)
        return super().__call__(request)

    def immutable_file_test(self, path: str, url: str) -> bool:
        """Tell whether what is at a URL never changes: nothing; WhiteNoise would ask Django's storage."""
        return False


def add_headers(headers: Any, path: str, url: str) -> None:
    """Say what a file may load."""
    headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
