"""Rate limits for logins and signups: brute-force protection that spares real users.

Failures count for an address, for a username, and for the two together. A username that is under
attack stays open to addresses that have not failed, so nobody can lock a user out for good. An attempt
counts as a failure from its start, and is given back when the password was right.
"""

from typing import NoReturn

from limits import RateLimitItem, parse
from utilmeta.core.request import Request

from config import settings
from framework.rate_limiter import Limiter
from web.client_address import client_network
from web.logs import log_event
from web.problems import Problem

# A developer's test run comes from one address and should not reach a limit.
SCALE = 1 if settings.production else 100


def _limit(amount: int, per: str) -> RateLimitItem:
    return parse(f"{amount * SCALE}/{per}")


# A forgetful person tries a few times; a home or an office behind one address holds several of them.
FAILURES_PER_PAIR = _limit(10, "10 minutes")
FAILURES_PER_ADDRESS = _limit(50, "10 minutes")
# NIST SP 800-63B-4, section 3.2.2, allows 100 consecutive failures of one account at the most.
FAILURES_PER_USERNAME = _limit(100, "hour")
ANY_FAILURE = parse("1/hour")
SIGNUPS_PER_ADDRESS = _limit(60, "hour")

# A limit, and what is counted for it.
Count = tuple[RateLimitItem, tuple[str, ...]]

limiter = Limiter(settings.redis_url)


class Attempt:
    """A login attempt, which counts as a failure until the password is known to be right.

    So guesses sent at the same moment cannot get more passwords hashed than the limits allow.
    """

    def __init__(self, request: Request, username: str) -> None:
        """Count the attempt for its address and username together, before it waits for anything.

        Raises Problem `too_many_requests` when a limit is reached already.
        """
        self._request = request
        self._address = client_network(request.adaptor.request)
        self._username = username
        self._counted: list[Count] = []
        if settings.throttle:
            self._refuse_when_too_many_have_failed()
            self._count(FAILURES_PER_PAIR, self._address, username)

    def begin(self) -> None:
        """Count the attempt for its address, and for its username, now that it is about to be hashed.

        Not before: people of one office who wait in the queue with the right passwords have not failed.
        Raises Problem `too_many_requests`.
        """
        if settings.throttle:
            has_failed = not self._count(ANY_FAILURE, "failed", self._address, enforce=False)
            self._count(FAILURES_PER_ADDRESS, self._address)
            # A username under attack stays open to an address that has not failed.
            self._count(FAILURES_PER_USERNAME, "username", self._username, enforce=has_failed)

    def fail(self) -> None:
        """Keep what was counted: the password was wrong."""
        self._counted.clear()
        if settings.throttle:
            limiter.hit(ANY_FAILURE, "failed", self._address)

    def give_back(self) -> None:
        """Undo the count: the password was right, or was not verified."""
        while self._counted:
            limit, key = self._counted.pop()
            limiter.give_back(limit, *key)

    def _refuse_when_too_many_have_failed(self) -> None:
        limits: list[Count] = [
            (FAILURES_PER_PAIR, (self._address, self._username)),
            (FAILURES_PER_ADDRESS, (self._address,)),
        ]
        if not limiter.test(ANY_FAILURE, "failed", self._address):
            limits.append((FAILURES_PER_USERNAME, ("username", self._username)))
        for limit, key in limits:
            if not limiter.test(limit, *key):
                refuse(self._request, limit, key)

    def _count(self, limit: RateLimitItem, *key: str, enforce: bool = True) -> bool:
        counted = limiter.hit(limit, *key)
        if counted:
            self._counted.append((limit, key))
        elif enforce:
            self.give_back()
            refuse(self._request, limit, key)
        return counted


def check_failures(request: Request) -> None:
    """Raise Problem `too_many_requests` when an address has failed too often, whatever the usernames."""
    key = (client_network(request.adaptor.request),)
    if settings.throttle and not limiter.test(FAILURES_PER_ADDRESS, *key):
        refuse(request, FAILURES_PER_ADDRESS, key)


def count_failure(request: Request) -> None:
    """Count a failure that is about no username."""
    address = client_network(request.adaptor.request)
    if settings.throttle:
        limiter.hit(FAILURES_PER_ADDRESS, address)
        limiter.hit(ANY_FAILURE, "failed", address)


def check_signups(request: Request) -> None:
    """Raise Problem `too_many_requests` when an address has signed up too often."""
    key = ("signup", client_network(request.adaptor.request))
    if settings.throttle and not limiter.test(SIGNUPS_PER_ADDRESS, *key):
        refuse(request, SIGNUPS_PER_ADDRESS, key)


def count_signup(request: Request) -> None:
    """Count a signup; raise Problem `too_many_requests` when others at the same time reached the limit."""
    key = ("signup", client_network(request.adaptor.request))
    if settings.throttle and not limiter.hit(SIGNUPS_PER_ADDRESS, *key):
        refuse(request, SIGNUPS_PER_ADDRESS, key)


def refuse(request: Request, limit: RateLimitItem, key: tuple[str, ...]) -> NoReturn:
    """Raise Problem `too_many_requests`, with the time until the oldest attempt expires."""
    log_event(request, "throttled")
    seconds = max(1, round(limiter.seconds_left(limit, *key)))
    raise Problem("too_many_requests", headers={"Retry-After": str(seconds)})
