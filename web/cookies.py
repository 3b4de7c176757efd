"""Reading and setting cookies that hold a random token."""

import re
import secrets
from functools import cached_property

from django.http import HttpRequest
from utilmeta.core.response import Response

TOKEN_BYTES = 32
TOKEN_FORM = re.compile(r"[A-Za-z0-9_-]{43}")


def new_token() -> str:
    """Return a new token: 43 characters of base64url from 256 random bits."""
    return secrets.token_urlsafe(TOKEN_BYTES)


class TokenCookie:
    """A cookie that holds a token and that no script of a page can read."""

    def __init__(self, name: str, *, secure: bool, same_site: str) -> None:
        """Declare the cookie; with a name that begins with `__Host-`, it must be secure."""
        self.name = name
        self.secure = secure
        self.same_site = same_site

    @cached_property
    def _values_in(self) -> "re.Pattern[str]":
        """Return what finds the values of the cookie in a Cookie header (RFC 6265, section 4.2.1)."""
        return re.compile(rf"(?:^|;)[ \t]*{re.escape(self.name)}=([^;]*)")

    def read(self, request: HttpRequest) -> str | None:
        """Return the token of a request, if it has the form of ours.

        The name is compared byte for byte. Django strips every Unicode space from it, so a sister domain
        could plant a cookie that has such a space before our name: browsers see no `__Host-` prefix there.
        When several cookies have the name with different values, none is trusted.
        """
        values = set(self._values_in.findall(request.META.get("HTTP_COOKIE", "")))
        value = values.pop() if len(values) == 1 else ""
        return value if TOKEN_FORM.fullmatch(value) else None

    def set(self, response: Response, value: str, max_age: int) -> None:
        """Set the cookie for a number of seconds; 0 deletes it.

        It is deleted with the flags that it was set with: otherwise a browser keeps a `__Host-` cookie.
        """
        response.cookies[self.name] = value
        response.cookies[self.name].update(
            {
                "max-age": max_age,
                "path": "/",
                "secure": self.secure,
                "httponly": True,
                "samesite": self.same_site,
            }
        )
