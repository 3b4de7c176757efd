"""What an endpoint does: registration, login, reauthentication, and the rows of passkeys."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import Error, IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from utilmeta import service
from utilmeta.core.request import Request

from config import settings
from framework.compiled_query import CompiledQuery
from user import auth, browsers, rate_limits
from user.models import User
from user.queries import end_surplus_sessions, lock
from web.logs import log_event
from web.problems import Problem

from . import ceremonies, challenges
from .ceremonies import ALGORITHMS, GET, Assertion, MalformedError, RefusedError
from .challenges import AUTHENTICATION, CHALLENGE_AGE, REGISTRATION, ChallengeError
from .models import Passkey, UserHandle
from .schema import (
    NAME_MAX_LENGTH,
    AcceptedSchema,
    AlgorithmSchema,
    CreationOptionsSchema,
    DescriptorSchema,
    KnownCredentialSchema,
    NewPasskeySchema,
    PasskeySchema,
    RelyingPartySchema,
    RequestOptionsSchema,
    SelectionSchema,
    UserEntitySchema,
)

# More than anybody has devices and password managers; each is one more way into the account.
MAX_PASSKEYS = 20
HANDLE_BYTES = 32
DEFAULT_NAME = "Passkey"
TYPE, REQUIRED = "public-key", "required"
NOT_ACCEPTED = "The passkey was not accepted"
TOO_MANY = f"An account has at most {MAX_PASSKEYS} passkeys. Delete one first."
TIMEOUT = int(CHALLENGE_AGE.total_seconds() * 1000)

passkey_by_credential = CompiledQuery(
    lambda credential_id: Passkey.objects.filter(credential_id=credential_id), Passkey.credential_id
)
handle_by_user = CompiledQuery(lambda user: UserHandle.objects.filter(user=user), UserHandle.user)


def list_passkeys(user: User) -> list[PasskeySchema]:
    """Return the passkeys of a user, the oldest first."""
    return [describe(passkey) for passkey in Passkey.objects.filter(user=user).order_by("pk")]


def describe(passkey: Passkey) -> PasskeySchema:
    """Return a passkey, as its user sees it."""
    return PasskeySchema(
        id=passkey.pk,
        name=passkey.name,
        created_time=passkey.created_time,
        last_used_time=passkey.last_used_time,
        backed_up=passkey.backed_up,
    )


def accepted(user: User) -> AcceptedSchema:
    """Return what tells a browser which passkeys of a user there are."""
    handle = handle_by_user.first(user.pk)
    return AcceptedSchema(
        rpId=settings.passkey_rp_id,
        userId=handle and handle.handle,
        allAcceptedCredentialIds=credential_ids(user),
    )


def credential_ids(user: User) -> list[str]:
    """Return the ids of a user's credentials, in base64url."""
    return list(Passkey.objects.filter(user=user).order_by("pk").values_list("credential_id", flat=True))


def descriptors(user: User) -> list[DescriptorSchema]:
    """Return the credentials of a user, as options list them."""
    return [DescriptorSchema(type=TYPE, id=each) for each in credential_ids(user)]


def registration_options(request: Request, user: User) -> CreationOptionsSchema:
    """Return what a browser needs to make a passkey.

    Raises Problem `reauthentication_required`, `conflict` for a user who has MAX_PASSKEYS, and
    `not_logged_in` as `locked` does.
    """
    auth.user_config.require_fresh_login(request)
    existing = descriptors(user)
    if len(existing) >= MAX_PASSKEYS:
        raise Problem("conflict", TOO_MANY)
    return CreationOptionsSchema(
        rp=RelyingPartySchema(id=settings.passkey_rp_id, name=service.title),
        user=UserEntitySchema(id=handle_of(user), name=user.username, displayName=user.username),
        challenge=challenges.give(request, REGISTRATION),
        pubKeyCredParams=[AlgorithmSchema(type=TYPE, alg=each) for each in ALGORITHMS],
        timeout=TIMEOUT,
        excludeCredentials=existing,
        authenticatorSelection=SelectionSchema(
            residentKey=REQUIRED, requireResidentKey=True, userVerification=REQUIRED
        ),
        attestation="none",
    )


def handle_of(user: User) -> str:
    """Return the handle of a user, which is made when it is first needed.

    Raises Problem `not_logged_in` when the password was changed or the account deleted meanwhile.
    """
    handle = handle_by_user.first(user.pk)
    if not handle:
        with locked(user):
            handle, _ = UserHandle.objects.get_or_create(
                user=user, defaults={"handle": secrets.token_urlsafe(HANDLE_BYTES)}
            )
    return handle.handle


@contextmanager
def locked(user: User) -> Iterator[None]:
    """Run a transaction in which nobody else changes a user or the passkeys of that user.

    Raises Problem `not_logged_in` when the password was changed or the account deleted since the request
    began: the session has been revoked then.
    """
    with transaction.atomic():
        if not lock(user):
            raise Problem("not_logged_in")
        yield


def register(request: Request, user: User, data: NewPasskeySchema) -> Passkey:
    """Store a passkey that a browser has made.

    Raises Problem `reauthentication_required`, `invalid_request` for a credential that cannot be read,
    `invalid_credentials` for one that breaks a rule, `conflict` for one too many, `too_many_requests`, and
    `not_logged_in` as `locked` does.
    """
    auth.user_config.require_fresh_login(request)
    with failures(request):
        new = ceremonies.read_new(data.credential)
        ceremonies.verify_new(new)
        challenges.check(request, new.client.challenge, REGISTRATION, in_session=True)
        with locked(user):
            if Passkey.objects.filter(user=user).count() >= MAX_PASSKEYS:
                raise Problem("conflict", TOO_MANY)
            challenges.use(new.client.challenge)
            passkey = Passkey(
                user=user,
                credential_id=new.credential_id,
                public_key=new.public_key_bytes,
                name=data.get("name") or default_name(request),
                sign_count=new.authenticator.counter,
                backup_eligible=new.authenticator.is_backup_eligible(),
                backed_up=new.authenticator.is_backed_up(),
            )
            insert(passkey)
    log_event(request, "passkey_created")
    return passkey


def insert(passkey: Passkey) -> None:
    """Insert a passkey; raise RefusedError if there is one with that id, of whatever user."""
    try:
        passkey.save(force_insert=True)
    except IntegrityError:  # of the id: the user is locked, and so exists
        raise RefusedError("credential_exists") from None


def default_name(request: Request) -> str:
    """Return a name for a passkey: the browser that made it and its system, where it says so."""
    described = browsers.describe(request.adaptor.request.META.get("HTTP_USER_AGENT", ""))
    return described[:NAME_MAX_LENGTH] or DEFAULT_NAME


def authentication_options(request: Request) -> RequestOptionsSchema:
    """Return what a browser needs to use a passkey: any, or with a login, one of the current user's."""
    row = auth.user_config.session_of(request).find_row()
    return RequestOptionsSchema(
        challenge=challenges.give(request, AUTHENTICATION),
        timeout=TIMEOUT,
        rpId=settings.passkey_rp_id,
        allowCredentials=descriptors(row.user) if row and row.user else [],
        userVerification=REQUIRED,
    )


def login(request: Request, credential: KnownCredentialSchema) -> User:
    """Log a user in by a passkey.

    Raises Problem `invalid_request` for a credential that cannot be read, `invalid_credentials` for one that
    breaks a rule, and `too_many_requests`.
    """
    with failures(request):
        assertion, passkey = verify(request, credential, None)
        with transaction.atomic():
            # The row as it is now: a session is signed for the password, which may just have been changed.
            user = User.objects.select_for_update().filter(pk=passkey.user_id).first()
            if not user:
                raise RefusedError("unknown_credential")
            record_use(passkey, assertion)
            auth.user_config.login_user(request, user)
    with suppress(Error):  # as when two logins at once end the same ones
        end_surplus_sessions(user)
    log_event(request, "login", user.pk)
    return user


def reauthenticate(request: Request, user: User, credential: KnownCredentialSchema) -> User:
    """Let a session count as freshly logged in, by a passkey of its user.

    Raises Problem as `login` does, and `not_logged_in` if the session was revoked meanwhile.
    """
    with failures(request):
        assertion, passkey = verify(request, credential, user)
        with locked(user):
            record_use(passkey, assertion)
            auth.user_config.session_of(request).reauthenticate()
    log_event(request, "reauthentication")
    return user


def verify(
    request: Request, credential: KnownCredentialSchema, user: User | None
) -> tuple[Assertion, Passkey]:
    """Return an assertion that obeys the rules, and its passkey: one of a user's, or anybody's.

    Whether it is the first use of its challenge is for `record_use`. Raises MalformedError, RefusedError and
    ChallengeError.
    """
    assertion = ceremonies.read_assertion(credential)
    ceremonies.check_client_data(assertion.client, GET)
    challenges.check(request, assertion.client.challenge, AUTHENTICATION, in_session=bool(user))
    passkey = passkey_by_credential.first(assertion.credential_id)
    if not passkey:
        raise RefusedError("unknown_credential")
    if not user:
        log_event(request, user_id=passkey.user_id)
    elif passkey.user_id != user.pk:
        raise RefusedError("credential_of_another_user")
    # An authenticator that was given a list of credentials may leave the handle out.
    if assertion.user_handle or not user:
        handle = handle_by_user.first(passkey.user_id)
        if not handle or handle.handle != assertion.user_handle:
            raise RefusedError("wrong_user_handle")
    ceremonies.verify_assertion(assertion, passkey)
    return assertion, passkey


def record_use(passkey: Passkey, assertion: Assertion) -> None:
    """Store the use of a passkey and of a challenge, in the transaction of what they are used for.

    A counter that does not go up is the sign of a copy. Synced passkeys have none, and always say 0 (WebAuthn
    level 3, section 6.1.1). Raises ChallengeError, and RefusedError for a counter or for a passkey that was
    deleted meanwhile.
    """
    challenges.use(assertion.client.challenge)
    count = assertion.authenticator.counter
    rows = Passkey.objects.filter(pk=passkey.pk)
    used = rows.filter(Q(sign_count__lt=count) if count else Q(sign_count=0)).update(
        sign_count=count, backed_up=assertion.authenticator.is_backed_up(), last_used_time=timezone.now()
    )
    if not used:
        raise RefusedError("counter_went_back" if rows.exists() else "unknown_credential")


@contextmanager
def failures(request: Request) -> Iterator[None]:
    """Respond to a credential that is not accepted, log the reason, and count it for the address.

    Raises Problem `too_many_requests` beforehand when there have been too many.
    """
    rate_limits.check_failures(request)
    try:
        yield
    except MalformedError as error:
        log_event(request, "passkey_failure", reason=str(error))
        fault = {"field": f"credential.{error.field}", "message": "This is not what a browser sends."}
        raise Problem("invalid_request", errors=[fault]) from None
    except (RefusedError, ChallengeError) as error:
        rate_limits.count_failure(request)
        log_event(request, "passkey_failure", reason=str(error))
        raise Problem("invalid_credentials", NOT_ACCEPTED) from None


def rename(user: User, passkey_id: int, name: str) -> Passkey:
    """Give a passkey of a user another name; raise Problem `not_found` if there is none."""
    rows = Passkey.objects.filter(pk=passkey_id, user=user)
    rows.update(name=name)
    passkey = rows.first()
    if not passkey:
        raise Problem("not_found")
    return passkey


def delete(request: Request, user: User, passkey_id: int) -> None:
    """Delete a passkey of a user.

    Raises Problem `not_found`, `reauthentication_required`, and `not_logged_in` as `locked` does.
    """
    found = Passkey.objects.filter(pk=passkey_id, user=user)
    if not found.exists():
        raise Problem("not_found")
    auth.user_config.require_fresh_login(request)
    with locked(user):
        found.delete()
    log_event(request, "passkey_deleted")
