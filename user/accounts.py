"""Signup, login, changes, reauthentication, recovery and deletion: UtilMeta's `auth.User`, hardened."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from django.db import DatabaseError, Error, IntegrityError, transaction
from django.db.models import QuerySet
from utilmeta.core import auth
from utilmeta.core.request import Request
from utype.parser.field import ParserField

from config import settings
from framework.integrity_errors import taken_columns
from web.client_address import client_network
from web.logs import log_event
from web.problems import Problem

from . import rate_limits
from .models import RecoveryCode, Session, User
from .passwords import (
    NO_PASSWORD,
    EncodedPassword,
    hash_password,
    hashing_slot,
    rehash_password,
    verify_password,
)
from .queries import (
    delete_user,
    end_sessions,
    end_surplus_sessions,
    in_batches,
    lock,
    rows_of_other_apps,
    sessions_so_far,
    update_user,
    user_by_name,
)
from .recovery_codes import hash_code
from .schema import RecoverySchema, SignupSchema, UserUpdateSchema, columns_of
from .sessions import DBSessionSchema

# How long the response to a password change may wait until the rows of other sessions have been ended.
REVOKING_SECONDS = 1.0


class UserAuthentication(auth.User):
    """The user of a request, and what a user does to an account."""

    def getter(self, request: Request, field: ParserField | None = None) -> User:
        """Return the user whose session a request carries; raise Problem `not_logged_in` without one."""
        user: User = self.session_of(request).require_row().user  # type: ignore[assignment]
        log_event(request, user_id=user.pk)
        return user

    def require_fresh_login(self, request: Request) -> None:
        """Raise Problem `reauthentication_required` unless the session is fresh."""
        if not self.session_of(request).is_fresh():
            raise Problem("reauthentication_required")

    def session_of(self, request: Request) -> DBSessionSchema:
        """Return the session of a request, an empty one if it brings none."""
        session: DBSessionSchema = self.authentication.getter(request)
        return session

    def signup(self, request: Request, data: SignupSchema) -> User:
        """Create an account and log it in.

        Raises Problem `username_exists`, `invalid_request` or `too_many_requests`.
        """
        refuse_name_as_password(data.password, data.username)
        rate_limits.check_signups(request)
        # Hashed before the transaction, which must not hold its locks for that long.
        with hashing_slot(client_network(request.adaptor.request)):
            rate_limits.count_signup(request)  # not before: one that found no slot may come back
            user = User(**columns_of(data) | {"password": hash_password(data.password)})
        with transaction.atomic():
            with unique_username():
                refuse_reserved_username(user.username)
                user.save(force_insert=True)
            self.login_user(request, user)
        log_event(request, "signup", user.pk)
        return user

    def login(
        self, request: Request, ident: str, password: str, expiry_age: int | None = None
    ) -> User | None:
        """Log a user in by name and password; return None when they are wrong.

        Raises Problem `too_many_requests`.
        """
        user = user_by_name.first(ident)
        if not self.verify(request, ident, password, user) or not user:
            return None
        try:
            self.login_user(request, user)
        except IntegrityError:  # the account was deleted meanwhile
            return None
        with suppress(Error):  # as when two logins at once end the same ones
            end_surplus_sessions(user)
        log_event(request, "login", user.pk)
        return user

    def verify(self, request: Request, username: str, password: str, user: User | None) -> bool:
        """Tell whether a password is a user's, in about the same time without a user; count a failure.

        Raises Problem `too_many_requests`, before any hashing, and `service_unavailable` when too many wait.
        """
        attempt = rate_limits.Attempt(request, counted_name(username, user))
        try:
            with hashing_slot(client_network(request.adaptor.request)):
                attempt.begin()
                right, outdated = verify_password(password, user.password if user else NO_PASSWORD)
                if user and right:
                    attempt.give_back()
                    if outdated:
                        self.upgrade_hash(user, password)
        except Problem:
            attempt.give_back()
            raise
        if not user or not right:
            attempt.fail()
            log_event(request, "login_failure", user.pk if user else None)
            return False
        return True

    def upgrade_hash(self, user: User, password: str) -> None:
        """Replace the hash of a user by one of today's rule, unless the password was changed meanwhile."""
        encoded = rehash_password(password, user.password)
        if User.objects.filter(pk=user.pk, password=user.password).update(password=encoded):
            user.password = encoded  # type: ignore[assignment]

    def update(self, request: Request, user: User, data: UserUpdateSchema) -> User:
        """Change what a user may change of an account: the name, the password.

        A new password gives this session a new key and revokes every other one. Raises Problem
        `username_exists`, `invalid_request`, `too_many_requests`, `invalid_credentials`,
        `reauthentication_required`, and `not_logged_in` when the password was changed or the account
        deleted since the request began.
        """
        changes = columns_of(data)
        if "password" in data:
            refuse_name_as_password(data.password, changes.get("username", user.username))
        self.require_reauthentication(request, user, data)
        if "password" in data:
            with hashing_slot(client_network(request.adaptor.request)):
                changes["password"] = hash_password(data.password)
        # A new name is one statement, which needs no transaction around it.
        with transaction.atomic() if "password" in data else nullcontext():
            with unique_username():
                if changes.get("username", user.username) != user.username:
                    refuse_reserved_username(changes["username"])
                if changes and not update_user(user, changes):
                    raise Problem("not_logged_in")
            for name, value in changes.items():
                setattr(user, name, value)
            if "password" in data:
                self.session_of(request).cycle_key()
                others = sessions_so_far(user).exclude(pk=self.session_of(request).require_row().pk)
                log_event(request, "password_change", user.pk)
        if "password" in data:
            self.end_revoked_sessions(others)
        return user

    def require_reauthentication(self, request: Request, user: User, data: UserUpdateSchema) -> None:
        """Refuse a new password without a fresh login or the current password.

        Raises Problem `reauthentication_required`, `invalid_credentials` or `too_many_requests`.
        """
        if "current_password" in data:
            if not self.verify(request, user.username, data.current_password, user):
                raise Problem("invalid_credentials")
        elif "password" in data:
            self.require_fresh_login(request)

    def reauthenticate(self, request: Request, user: User, password: str) -> User:
        """Let a session count as freshly logged in, by the user's password.

        Raises Problem `invalid_credentials`, `too_many_requests`, or `not_logged_in` if the session was
        revoked meanwhile.
        """
        if not self.verify(request, user.username, password, user):
            log_event(request, "reauthentication_failure")
            raise Problem("invalid_credentials")
        self.session_of(request).reauthenticate()
        log_event(request, "reauthentication")
        return user

    def delete(self, request: Request, user: User) -> None:
        """Delete the account of a user.

        Raises Problem `reauthentication_required`, `account_in_use` if another app's rows forbid it, or
        `not_logged_in` if it is deleted already.
        """
        self.require_fresh_login(request)
        try:
            sessions = delete_user(user)
        except IntegrityError:  # also Django's, for on_delete=PROTECT and RESTRICT
            raise Problem("account_in_use") from None
        if sessions is None:
            raise Problem("not_logged_in")
        log_event(request, "account_deleted", user.pk)

    def recover(self, request: Request, data: RecoverySchema) -> User:
        """Set a new password by a recovery code, which is used up, and log the user in.

        Every other session is revoked; what other apps hold for the user stays, and is counted in the log. A
        wrong code, an unknown username and an account without a code take about the same time, and count as
        failed logins. Raises Problem `invalid_credentials`,
        `invalid_request` or `too_many_requests`.
        """
        refuse_name_as_password(data.password, data.username)
        user = user_by_name.first(data.username)
        attempt = rate_limits.Attempt(request, counted_name(data.username, user))
        try:
            with hashing_slot(client_network(request.adaptor.request)):
                attempt.begin()
                password = hash_password(data.password)
            right = self.use_recovery_code(request, user, hash_code(data.recovery_code), password)
        except (Problem, DatabaseError):
            attempt.give_back()
            raise
        if not user or not right:
            attempt.fail()
            log_event(request, "recovery_failure")
            raise Problem("invalid_credentials")
        attempt.give_back()
        with suppress(Error):
            log_event(request, kept=rows_of_other_apps(user))
        log_event(request, "recovery", user.pk)
        return user

    def use_recovery_code(
        self, request: Request, user: User | None, code_hash: str, password: EncodedPassword
    ) -> bool:
        """Replace a recovery code by a new password and a new session; return whether the code was right."""
        code = RecoveryCode.objects.filter(user=user, code_hash=code_hash)
        if not user or not code.exists():  # before the transaction: a wrong guess locks nothing
            return False
        with transaction.atomic():
            # Of two requests with the same code, the one that deletes it wins.
            if not lock(user) or not code.delete()[0]:
                return False
            User.objects.filter(pk=user.pk).update(password=password)
            user.password = password  # type: ignore[assignment]
            others = sessions_so_far(user)
            self.login_user(request, user)
        self.end_revoked_sessions(others)
        return True

    def end_revoked_sessions(self, sessions: "QuerySet[Session]") -> None:
        """End the rows of sessions that a new password has revoked, in batches, for REVOKING_SECONDS at most.

        Their data were signed for the password before, so none of them opens anything, whatever becomes of
        the rows: those that are left expire.
        """
        deadline = time.monotonic() + REVOKING_SECONDS
        with suppress(Error):
            for batch in in_batches(sessions, "pk"):
                end_sessions(batch)
                if time.monotonic() > deadline:
                    break


def counted_name(username: str, user: User | None) -> str:
    """Return what failures are counted for: an account, whatever its username, or a username without one."""
    return f"#{user.pk}" if user else username


@contextmanager
def unique_username() -> Iterator[None]:
    """Save a user; raise Problem `username_exists` when somebody has that name."""
    # The database decides: to ask it first whether a name is free would be a race.
    try:
        yield
    except IntegrityError as error:
        if "username" not in (taken_columns(error) or ()):
            raise
        raise username_exists() from None


def username_exists() -> Problem:
    """Return the problem of a username that is taken."""
    return Problem("username_exists", errors=[{"field": "username", "message": "Username exists"}])


def refuse_reserved_username(username: str) -> None:
    """Raise Problem `username_exists` in production for a name that seems to speak for the service."""
    if settings.production and username in settings.reserved_usernames:
        raise username_exists()


def refuse_name_as_password(password: str, username: str) -> None:
    """Raise Problem `invalid_request` in production when a password is the username."""
    if settings.production and password.lower() == username:
        message = "Choose a password that is not your username."
        raise Problem("invalid_request", errors=[{"field": "password", "message": message}])
