"""Challenges: random, signed, good for a few minutes, once, and for the browser that they were given to.

A challenge is not stored while it is open, so an anonymous request writes no row. It holds its purpose and
the session that it was given to, and is signed together with a token that the browser keeps in a cookie. So
another browser cannot use it, and one browser may have several open, as in two windows. Its use is stored.
"""

import secrets
from datetime import timedelta

from django.core import signing
from django.db import IntegrityError
from django.utils import timezone
from utilmeta.core.api.plugins.base import APIPlugin
from utilmeta.core.request import Request
from utilmeta.core.response import Response

from config import settings
from user import auth
from user.sessions import hash_key
from web.cookies import TokenCookie, new_token

from .models import UsedChallenge
from .schema import to_base64url

CHALLENGE_AGE = timedelta(minutes=5)
# How long a used one is kept: it may have been given by a machine whose clock differs.
KEEPING_AGE = 2 * CHALLENGE_AGE
# WebAuthn level 3, section 13.4.3, asks for 16 random bytes at least.
RANDOM_BYTES = 32
REGISTRATION, AUTHENTICATION = "registration", "authentication"
# How many expired ones are deleted with each use: more than one, so that none are left over.
CLEANUP_SIZE = 20

# Sent with no request that comes from another site. In production, only this very host can set it.
cookie = TokenCookie(
    ("__Host-" if settings.production else "") + f"{settings.cookie_name}-passkey",
    secure=settings.production,
    same_site="Strict",
)


class ChallengeError(Exception):
    """A challenge that is not accepted; the text is the reason, for the log."""


def give(request: Request, purpose: str) -> str:
    """Return a new challenge in base64url, and have the response set the cookie that it needs."""
    http = request.adaptor.request
    # The one that the browser has, if any, since another window may have a challenge open.
    token = http.passkey_token = cookie.read(http) or new_token()
    data = [purpose, session_id_of(request), secrets.token_urlsafe(RANDOM_BYTES)]
    return to_base64url(signing.dumps(data, salt=salt_of(token)).encode())


def check(request: Request, challenge: bytes, purpose: str, *, in_session: bool) -> None:
    """Raise ChallengeError unless a challenge is open to the browser of a request, but for an earlier use.

    `in_session`: whether it must have been given to the session of the request, too.
    """
    token = cookie.read(request.adaptor.request)
    if not token:
        raise ChallengeError("challenge_of_another_browser")
    try:
        given_for, session_id, _ = signing.loads(
            challenge.decode(), salt=salt_of(token), max_age=CHALLENGE_AGE
        )
    except signing.SignatureExpired:
        raise ChallengeError("challenge_expired") from None
    except (signing.BadSignature, UnicodeDecodeError):
        raise ChallengeError("challenge_of_another_browser") from None
    if given_for != purpose:
        raise ChallengeError("challenge_of_another_purpose")
    if in_session and session_id != session_id_of(request):
        raise ChallengeError("challenge_of_another_session")


def session_id_of(request: Request) -> int | None:
    """Return the row number of the session of a request, or None without a login."""
    row = auth.user_config.session_of(request).find_row()
    return row and row.pk


def use(challenge: bytes) -> None:
    """Store that a challenge has been used, in the transaction of what it is used for.

    Raises ChallengeError if it was used before; of two uses at once, one waits here for the other.
    """
    delete_expired()
    used = UsedChallenge(
        challenge_hash=hash_key(challenge.decode()), expiry_time=timezone.now() + KEEPING_AGE
    )
    try:
        used.save(force_insert=True)
    except IntegrityError:
        raise ChallengeError("challenge_used") from None


def delete_expired() -> None:
    """Delete some used challenges that have expired, but for those that another transaction deletes."""
    expired = UsedChallenge.objects.filter(expiry_time__lt=timezone.now()).order_by("expiry_time")
    hashes = list(expired.select_for_update(skip_locked=True).values_list("pk", flat=True)[:CLEANUP_SIZE])
    if hashes:
        UsedChallenge.objects.filter(pk__in=hashes).delete()


def salt_of(token: str) -> str:
    """Return the salt that signs the challenges of a browser."""
    return f"passkey.challenge:{token}"


class CookiePlugin(APIPlugin):
    """What has the response set the cookie, when a challenge was given."""

    def process_response(self, response: Response) -> Response:
        """Set the cookie for as long as the challenge is open."""
        token = getattr(response.request.adaptor.request, "passkey_token", None)
        if token:
            cookie.set(response, token, int(CHALLENGE_AGE.total_seconds()))
        return response


plugin = CookiePlugin()
