"""What a record says when one of its fields is wrong: its name, what was expected and what was found."""

from __future__ import annotations

import math
from datetime import datetime
from numbers import Real


def require(is_valid: bool, owner: object, name: str, expected: str) -> None:
    """Raise a ValueError that names the field, what was expected and what was found."""
    if not is_valid:
        value = getattr(owner, name)
        raise ValueError(f"{type(owner).__name__}.{name} must be {expected}, got {value!r}.")


def require_positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        require(value is None or (is_finite(value) and value > 0), owner, name, "finite and above 0")


def require_not_negative(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        require(value is None or (is_finite(value) and value >= 0), owner, name, "finite and 0 or above")


def is_finite(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def require_time(owner: object, name: str) -> None:
    try:
        datetime.fromisoformat(getattr(owner, name))
    except (ValueError, TypeError):
        require(False, owner, name, "an ISO 8601 time")
