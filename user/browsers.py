"""Which browser or program a session belongs to, in words that its user recognises."""

from ua_parser import parse

MAX_HEADER = 512  # characters of User-Agent that are looked at
MAX_LENGTH = 60


def describe(user_agent: str) -> str:
    """Return a short description of a User-Agent header, as "Firefox on Linux"; "" if it says nothing known.

    Neither the header nor the client's address is stored: what a user needs is to recognise the device.
    """
    found = parse(user_agent[:MAX_HEADER])
    names = [part.family for part in (found.user_agent, found.os) if part]
    return " on ".join(names)[:MAX_LENGTH]
