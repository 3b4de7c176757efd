"""Sessions in the database: UtilMeta's `DBSession` and `DBSessionSchema`, hardened.

A row is found by the SHA-256 of the key that the browser holds, so a copy of the table opens no
session. It is inserted once, at login, and only a row that is still live is ever updated.
"""

import hashlib
import logging
from base64 import urlsafe_b64encode
from contextlib import suppress
from datetime import timedelta
from functools import cache, cached_property
from typing import Any

from django.core import signing
from django.db import Error
from django.utils import timezone
from utilmeta.core.auth.session import db as utilmeta_session
from utilmeta.core.request import Request, var
from utilmeta.core.response import Response
from utype.parser.field import ParserField

from config import settings
from framework.impatient_writes import impatient
from web.cookies import TokenCookie, new_token
from web.logs import log_event
from web.problems import Problem

from . import browsers, passwords
from .models import Session, User
from .queries import end_session, live_sessions, session_by_key

SESSION_AGE = timedelta(days=7)
ACTIVITY_INTERVAL = timedelta(minutes=10)
# A reauthentication counts for this long, even if REAUTHENTICATION_MINUTES is shorter.
REAUTHENTICATION_MIN_AGE = timedelta(minutes=1)
# What a session's data hold beside the user's id.
REAUTHENTICATION, CLIENT = "_reauthentication", "_client"
INSECURE_REQUEST = (
    "The request did not come over HTTPS, so browsers drop the session's cookie: nobody stays logged in. "
    "If it came over HTTPS to a proxy, set TRUSTED_PROXIES, and have the proxy send X-Forwarded-Proto."
)

logger = logging.getLogger("demo-user")


def hash_key(key: str) -> str:
    """Return the hash of a key, as the table stores it: 43 characters of base64url."""
    return urlsafe_b64encode(hashlib.sha256(key.encode()).digest()).decode().rstrip("=")


def salt_of(row: Session) -> str:
    """Return the salt that signs a row's data.

    It contains the salt of the user's password hash, so that a new password revokes the session, and a
    rehashed one does not.
    """
    password_salt = passwords.salt_of(row.user.password) if row.user else ""
    return f"user.session:{row.session_key}:{row.user_id}:{password_salt}"


def data_of(row: Session) -> dict[str, Any] | None:
    """Return the data of a session, or None if they were signed for another row, user or password."""
    try:
        data: dict[str, Any] = signing.loads(row.encoded_data or "", salt=salt_of(row))
    except signing.BadSignature:
        return None
    return data


@cache
def warn_of_insecure_request() -> None:
    """Log once per process that browsers drop the session cookie."""
    logger.warning("secure_cookie_over_http", extra={"fields": {"reason": INSECURE_REQUEST}})


class DBSessionSchema(utilmeta_session.DBSessionSchema):
    """The session of one request; an anonymous session has neither key nor row."""

    _session_key: Any = None
    _row: Session | None = None
    _flushed = False

    def find_row(self) -> Session | None:
        """Return the row of the session, with its user, or None for an anonymous session."""
        return self._row

    def require_row(self) -> Session:
        """Return the row of the session, with its user; raise Problem `not_logged_in` without one."""
        if not self._row:
            raise Problem("not_logged_in")
        return self._row

    @classmethod
    def init_from(cls, session_key: str | None, config: "DBSession") -> "DBSessionSchema":
        """Return the session of a key, or an empty session if the key has none.

        UtilMeta validates session data as if a client had sent them; ours are signed.
        """
        session = cls.__new__(cls)
        session._config = config
        if session_key:
            session._session_key = session_key
            dict.update(session, session.load() or {})
        return session

    def load(self) -> dict[str, Any] | None:
        """Return the data of a live session, read together with its user, or None.

        Data signed for another row, user or password are rejected.
        """
        key, self._session_key = self._session_key or "", None
        row = session_by_key.first(hash_key(key), timezone.now())
        if not row or not row.user:
            return None
        data = data_of(row)
        if data is not None:
            self._session_key, self._row = key, row
        return data

    def start(self, key: str, user_key: str, user: User) -> None:
        """Start the session of a user who has just logged in, with one INSERT."""
        self._session_key = key
        self[user_key] = user.pk
        self[CLIENT] = browsers.describe(self._request.adaptor.request.META.get("HTTP_USER_AGENT", ""))
        self._row = Session(session_key=hash_key(key), user=user)
        for name, value in self.get_session_data().items():
            setattr(self._row, name, value)
        self._row.save(force_insert=True)
        self._modified = False

    def is_fresh(self) -> bool:
        """Return whether the last login or reauthentication was at most REAUTHENTICATION_MINUTES ago."""
        now, age = timezone.now(), settings.reauthentication_age
        if now - self.require_row().created_time < age:
            return True
        reauthentication = self.get(REAUTHENTICATION)
        if reauthentication is None:
            return False
        return now.timestamp() - float(reauthentication) < max(age, REAUTHENTICATION_MIN_AGE).total_seconds()

    def reauthenticate(self) -> None:
        """Let the session count as freshly logged in.

        Raises Problem `not_logged_in` if the session was revoked or has expired meanwhile.
        """
        self[REAUTHENTICATION] = timezone.now().timestamp()
        if not self.save():
            raise Problem("not_logged_in")
        self._modified = False

    def get_session_data(self) -> dict[str, Any]:
        """Return the columns of a new row."""
        now = timezone.now()
        return {
            "encoded_data": self.encode(dict(self)),
            "last_activity": now,
            "expiry_time": now + SESSION_AGE,
        }

    def encode(self, session_dict: dict[str, Any]) -> str:
        """Return signed data, valid only for this row, its user and the user's current password."""
        return signing.dumps(session_dict, salt=salt_of(self.require_row()))

    def save(self, must_create: bool = False) -> bool:
        """Update the row if the session is live, and return whether it is.

        A session that was revoked meanwhile stays revoked.
        """
        row = self.require_row()
        live = live_sessions().filter(pk=row.pk, session_key=row.session_key)
        return bool(live.update(encoded_data=self.encode(dict(self))))

    def touch(self) -> None:
        """Update `last_activity`, at most once in ACTIVITY_INTERVAL.

        The response neither waits for it nor depends on it: where a copying tool holds SQLite's lock, or the
        database takes no writes, a later request writes it.
        """
        row, now = self.require_row(), timezone.now()
        if not row.last_activity or now - row.last_activity >= ACTIVITY_INTERVAL:
            row.last_activity = now
            with suppress(Error), impatient():
                live_sessions().filter(pk=row.pk).update(last_activity=now)

    def cycle_key(self) -> None:
        """Replace the session's key, and sign its data for the user's current password.

        Raises Problem `not_logged_in` if the session was revoked or has expired meanwhile.
        """
        row = self.require_row()
        self._session_key = new_token()
        row.session_key = hash_key(self._session_key)
        columns = {"session_key": row.session_key, "encoded_data": self.encode(dict(self))}
        if not live_sessions().filter(pk=row.pk).update(**columns):
            raise Problem("not_logged_in")

    def flush(self) -> None:
        """Log out: revoke the session, and delete the browser's cookie."""
        if self._session_key:
            ended, user_id = end_session(hash_key(self._session_key))
            if ended:
                log_event(self._request, "logout", user_id)
        self.forget()

    def forget(self) -> None:
        """Delete the browser's cookie."""
        self.clear()
        self._session_key = self._row = None
        self._flushed = True


class EndingSessionSchema(DBSessionSchema):
    """A session that a request only revokes, so that its row need not be read."""

    def load(self) -> dict[str, Any]:
        """Read nothing: the key alone is enough to revoke the session."""
        return {}


class DBSession(utilmeta_session.DBSession):
    """The session of a request, found by its cookie."""

    @cached_property
    def token_cookie(self) -> TokenCookie:
        """The cookie, as we read and set it."""
        return TokenCookie(self.cookie_name, secure=self.cookie.secure, same_site=self.cookie.same_site)

    def get_key(self, request: Request) -> str | None:
        """Return the session key of a request, if it has the format of ours."""
        return self.token_cookie.read(request.adaptor.request)

    def get_session(self, request: Request, engine: type[DBSessionSchema] | None = None) -> DBSessionSchema:
        """Return the session of a request, or an empty session if it has no live one."""
        session: DBSessionSchema = (engine or self.engine).init_from(self.get_key(request), config=self)
        session._request = request
        return session

    def getter(self, request: Request, field: ParserField | None = None) -> DBSessionSchema:
        """Return the session of a request, as the class that the parameter is annotated with."""
        if not self.context_var.contains(request):
            self.context_var.setter(request, self.get_session(request, field and self.get_engine(field)))
        session: DBSessionSchema = self.context_var.getter(request)
        return session

    def login(
        self, request: Request, key: str, expiry_age: int | None = None, user_id_var: Any = None
    ) -> None:
        """Start a session for the user of a request; an earlier session of this browser is revoked.

        UtilMeta keeps the key that the browser sent, which allows session fixation.
        """
        earlier = self.get_key(request)
        if earlier:
            end_session(hash_key(earlier))
        session: DBSessionSchema = self.engine.init_from(None, config=self)
        session._request = request
        session.start(new_token(), key, var.user.getter(request))
        self.context_var.setter(request, session)

    def process_response(self, response: Response) -> Response:
        """Save the session of a request, and set the cookie if its key has changed."""
        request = response.request
        if self.context_var.contains(request):
            session: DBSessionSchema = self.context_var.getter(request)
            response.patch_vary_headers("Cookie")
            if session._flushed:
                self.set_cookie(response, "", 0)
            elif session._row:
                if session._modified:
                    session.save()
                else:
                    session.touch()
                if session._session_key != self.get_key(request):
                    self.set_cookie(response, session._session_key, self.cookie.age)
        return response

    def set_cookie(self, response: Response, value: str, max_age: int) -> None:
        """Set the cookie for a number of seconds; 0 deletes it."""
        if value and self.cookie.secure and not response.request.adaptor.request.is_secure():
            warn_of_insecure_request()
        self.token_cookie.set(response, value, max_age)
