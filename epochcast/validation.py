"""What a record says when one of its fields is wrong: its name, what was expected and what was found."""

from __future__ import annotations

from datetime import datetime
from numbers import Real

LARGEST_WHOLE = (1 << 63) - 1  # more counts nothing, and with 309 digits is no float either
LARGEST_SETTING = 2**32 - 1  # of a whole number that a run is asked for, a seed for one
LARGEST = 1e30  # of any quantity; sums and products of such numbers are finite still
LONGEST_SHOWN = 200  # characters of a value in a message
SHORTEST_SEC, LONGEST_SEC = 1e-15, 1e15  # of anything timed: far beyond what a clock tells and what anyone waits
SEC_WORDS = f"between {SHORTEST_SEC:g} and {LONGEST_SEC:g} seconds"


class FieldError(ValueError):
    """A value that its field, or column, can't hold: which, what was expected and what was found, as text."""

    def __init__(self, message: str, column: str, expected: str, got: str) -> None:
        super().__init__(message)
        self.column = column
        self.expected = expected
        self.got = got


def require(is_valid: bool, owner: object, name: str, expected: str) -> None:
    """Raise a FieldError that names the field, what was expected and what was found."""
    if not is_valid:
        got = repr(getattr(owner, name))
        got = got if len(got) <= LONGEST_SHOWN else f"{got[:LONGEST_SHOWN]}..."
        raise FieldError(f"{type(owner).__name__}.{name} must be {expected}, got {got}.", name, expected, got)


def require_positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        require(value is None or (is_finite(value) and value > 0), owner, name, f"above 0 and at most {LARGEST:g}")


def require_sec(owner: object, *names: str) -> None:
    """Seconds that were timed: longer than any clock can tell apart, shorter than anyone has waited."""
    for name in names:
        value = getattr(owner, name)
        require(value is None or is_sec(value), owner, name, SEC_WORDS)


def require_not_negative(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        require(value is None or (is_finite(value) and value >= 0), owner, name, f"between 0 and {LARGEST:g}")


def is_finite(value: object) -> bool:
    """Whether a value is a number (and no truth value) of at most LARGEST either way."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and -LARGEST <= value <= LARGEST  # type: ignore[operator]  # a Real compares


def is_sec(value: object) -> bool:
    """Whether a value is a number of seconds that can have been timed."""
    return is_finite(value) and SHORTEST_SEC <= value <= LONGEST_SEC  # type: ignore[operator]  # it is a number


def is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST_WHOLE


def require_time(owner: object, name: str) -> None:
    try:
        datetime.fromisoformat(getattr(owner, name))
    except (ValueError, TypeError):
        require(False, owner, name, "an ISO 8601 time")
