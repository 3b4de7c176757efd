"""The files that a browser gets: the page at /, served by WhiteNoise."""

from pathlib import Path
from typing import Any

from whitenoise.middleware import WhiteNoiseMiddleware

from .http import HttpRequest
from .problems import Problem, to_response

PAGE = Path(__file__).parent / "page"
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
