"""What is wrong with which field of a request, in words of ours: utype's own quote what the client sent."""

from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from utype.utils.exceptions import AbsenceError, ParseError

NOT_VALID = "This is not valid."
# In this order: a bool is also an int, and a datetime a date.
TYPES: tuple[tuple[type, str], ...] = (
    (bool, "This must be true or false."),
    (int, "This must be a whole number."),
    (float, "This must be a number."),
    (Decimal, "This must be a number."),
    (datetime, "This must be a date and time like 2024-01-29T12:29:33Z."),
    (date, "This must be a date like 2024-01-29."),
    (time, "This must be a time like 12:29:33."),
    (UUID, "This must be a UUID."),
    (str, "This must be a string."),
    (list, "This must be an array."),
    (dict, "This must be an object."),
)
CONSTRAINTS = {
    "min_length": "Use at least {} {}.",
    "max_length": "Use at most {} {}.",
    "ge": "This must be at least {}.",
    "le": "This must be at most {}.",
    "gt": "This must be more than {}.",
    "lt": "This must be less than {}.",
}


class FaultError(ValueError):
    """What a rule raises to say in its own words what is wrong; the text may not hold the value."""


def faults_of(error: ParseError, within: str = "") -> list[dict[str, str]]:
    """Return the fields at fault, as `errors` of a problem has them; further inside, their path has dots."""
    return [fault for each in errors_in(error) for fault in _faults(each, within)]


def errors_in(error: Any) -> list[Any]:
    """Return the errors that utype has collected in one, or that one."""
    return (
        [each for child in error.errors for each in errors_in(child)] if hasattr(error, "errors") else [error]
    )


def _faults(error: Any, within: str) -> Iterator[dict[str, str]]:
    name = f"{within}{getattr(error, 'item', '')}"
    inner = errors_in(getattr(error, "origin_exc", None))
    nested = [each for each in inner if getattr(each, "item", None) is not None]
    if isinstance(error, AbsenceError):
        yield {"field": name, "message": "This field is required."}
    elif nested:
        for each in nested:
            yield from _faults(each, f"{name}.")
    else:
        yield {"field": name, "message": message_of(error, inner)}


def message_of(error: Any, inner: list[Any]) -> str:
    """Return what is wrong with one value."""
    declared = error.field.type if getattr(error, "field", None) else error.type
    message: str | None = getattr(declared, "message", None)
    constraint = next((each for each in inner if getattr(each, "constraint", None)), None)
    own = next((str(each) for each in inner if isinstance(each, FaultError)), None)
    if own or message:
        return own or message or NOT_VALID
    kind = plain_type(declared)
    if constraint:
        unit = "item" if issubclass(kind, list) else "character"
        limit = constraint.constraint_value
        return CONSTRAINTS.get(constraint.constraint, NOT_VALID).format(
            limit, unit if limit == 1 else f"{unit}s"
        )
    return next((text for known, text in TYPES if issubclass(kind, known)), NOT_VALID)


def plain_type(declared: Any) -> type:
    """Return the type that a rule of utype's is for, `object` if that is not one class."""
    while origin := getattr(declared, "__origin__", None):
        declared = origin
    return declared if isinstance(declared, type) else object
