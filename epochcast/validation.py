"""What a record says when one of its fields is wrong: its name, what was expected and what was found."""

from __future__ import annotations

import math
from datetime import datetime
from numbers import Real
from typing import cast

LARGEST = 1e30  # more than any second, byte or joule that was ever measured


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
        raise FieldError(f"{type(owner).__name__}.{name} must be {expected}, got {got}.", name, expected, got)


def require_positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        require(not is_too_large(value), owner, name, f"at most {LARGEST:g}")
        require(value is None or (is_finite(value) and value > 0), owner, name, "finite and above 0")


def require_not_negative(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        require(not is_too_large(value), owner, name, f"at most {LARGEST:g}")
        require(value is None or (is_finite(value) and value >= 0), owner, name, "finite and 0 or above")


def is_finite(value: object) -> bool:
    """Whether a value is a number that can be computed with: sums, squares and products of it are finite, too."""
    return isinstance(value, Real) and not is_too_large(value) and not math.isnan(value)


def is_too_large(value: object) -> bool:
    return isinstance(value, Real) and abs(cast(float, value)) > LARGEST


def is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def require_time(owner: object, name: str) -> None:
    try:
        datetime.fromisoformat(getattr(owner, name))
    except (ValueError, TypeError):
        require(False, owner, name, "an ISO 8601 time")
