"""Guessing made slow: failed logins and signups are counted, and refused beyond a rate.

Failures count for an address, for a username, and for the two together. A username that is under
attack stays open to addresses that have not failed, so nobody can lock a user out for good. A failure
counts when it is known to be one, so guesses that are hashed at the same time pass together; there are
never more of those than hashes may run and wait.
"""

import time
from typing import NoReturn

from limits import RateLimitItem, parse
from utilmeta.core.request import Request

from config import settings
from web.client import client_network
from web.logs import note
from web.problems import Problem

from .limiter import Limiter

# A test run of a developer, who is one address and knows the passwords, should not meet a limit.
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

limiter = Limiter(settings.redis_url)


def check_failures(request: Request, username: str) -> None:
    """Raise Problem `too_many_requests` when an address, or a username from here, has failed too often."""
    if not settings.throttle:
        return
    address = client_network(request.adaptor.request)
    limits = [(FAILURES_PER_PAIR, (address, username)), (FAILURES_PER_ADDRESS, (address,))]
    if not limiter.test(ANY_FAILURE, "failed", address):
        limits.append((FAILURES_PER_USERNAME, ("username", username)))
    for limit, key in limits:
        if not limiter.test(limit, *key):
            refuse(request, limit, key)


def count_failure(request: Request, username: str) -> None:
    """Count a failed login."""
    if not settings.throttle:
        return
    address = client_network(request.adaptor.request)
    limiter.hit(FAILURES_PER_PAIR, address, username)
    limiter.hit(FAILURES_PER_ADDRESS, address)
    limiter.hit(FAILURES_PER_USERNAME, "username", username)
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
    """Raise Problem `too_many_requests`, which says when the oldest attempt that counts is forgotten."""
    note(request, "throttled")
    wait = limiter.reset_time(limit, *key) - time.time()
    raise Problem("too_many_requests", headers={"Retry-After": str(max(1, round(wait)))})
