"""What a sensor can say: a value outside of these bounds is a fault of the sensor, and no reading.

They are wide: no real board, clock or temperature lies outside of them, and what lies within may still be wrong.
"""

from __future__ import annotations

from numbers import Real

MOST_OF_LIMIT = 2.0  # a board goes above its power limit for milliseconds, which no reading shows at twice the limit
LEAST_LIMIT_OF_TDP = 0.05  # boards on sale can be set down to a sixth of their data sheet's power
LEAST_OF_LIMIT = 0.005  # a board that idles draws some percent of its limit
MOST_BOARD_W = 5000.0  # where neither limit nor data sheet is known; a superchip's module stays below 3,000
MOST_PACKAGE_W = 1000.0  # of one processor; the largest are made for 500
MOST_PACKAGES = 8
MOST_CLOCK_MHZ = 10_000.0
LOWEST_TEMPERATURE_C, HIGHEST_TEMPERATURE_C = -50.0, 150.0
MOST_MEMORY_BYTES = 2**50
MOST_JOULES = 1e15  # of a counter


def number_within(value: object, low: float, high: float) -> float | None:
    """A number as a float; None where it is no number, or not from `low` to `high`."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if low <= number <= high else None


def positive_within(value: object, high: float) -> float | None:
    """`number_within` of what is above 0."""
    return number_within(value, 0.0, high) or None


def possible_limit_w(limit_w: object, tdp_w: float | None) -> float | None:
    """A board's power limit as its driver says it; None where no board like it can have it."""
    if tdp_w is None:
        return number_within(limit_w, 1.0, MOST_BOARD_W)
    return number_within(limit_w, LEAST_LIMIT_OF_TDP * tdp_w, MOST_OF_LIMIT * tdp_w)


def board_power_bounds(limit_w: float | None, tdp_w: float | None, is_module: bool = False) -> tuple[float, float]:
    """The least and the most watts that a reading of a board, or of its whole module, can be."""
    known = [watts for watts in (limit_w, tdp_w) if watts is not None]
    least = LEAST_OF_LIMIT * min(known) if known else 0.1
    return least, MOST_OF_LIMIT * max(known) if known and not is_module else MOST_BOARD_W
