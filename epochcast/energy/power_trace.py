"""Readings over time (power, clocks, running totals): their values, integrals and means between two moments."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise


def around(times: Sequence[float], start: float, end: float) -> slice | None:
    """The readings from the last at or before `start` to the first at or after `end`; None where they don't reach."""
    first, last = bisect_right(times, start) - 1, bisect_left(times, end)
    return None if first < 0 or last >= len(times) else slice(first, last + 1)


def value_at(times: Sequence[float], values: Sequence[float], moment: float) -> float | None:
    """The value at a moment, linear between the readings around it; None outside of the readings."""
    part = around(times, moment, moment)
    if part is None:
        return None
    first: int = part.start
    last: int = part.stop - 1
    span = times[last] - times[first]
    return (
        values[first] if span == 0 else values[first] + (values[last] - values[first]) * (moment - times[first]) / span
    )


def integral(times: Sequence[float], values: Sequence[float], start: float, end: float) -> float | None:
    """Trapezoids between the readings from `start` to `end`, linear at both edges; None where readings don't reach."""
    first, last = value_at(times, values, start), value_at(times, values, end)
    if first is None or last is None:
        return None
    inside = slice(bisect_right(times, start), bisect_left(times, end))
    points = [(start, first), *zip(times[inside], values[inside], strict=True), (end, last)]
    return sum((t1 - t0) * (v0 + v1) / 2 for (t0, v0), (t1, v1) in pairwise(points))


def time_weighted_mean(times: Sequence[float], values: Sequence[float], since: float) -> float:
    """Mean in which each reading counts for the time since the previous one, the first for the time since `since`.

    This is the rule of MLPerf Training for logs of power: uneven readings don't tilt it, as they tilt a plain mean.

    Raises:
        ValueError: if the readings cover no time.
    """
    if not times or times[-1] <= since:
        raise ValueError(f"a time-weighted mean needs readings after {since} s, got {len(times)}.")
    weights = [later - earlier for earlier, later in pairwise((since, *times))]
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)


def longest_gap(times: Sequence[float], start: float, end: float) -> float:
    """Longest time between readings that touches the time from `start` to `end`; without readings, all of it."""
    first = max(bisect_right(times, start) - 1, 0)
    near = list(times[first : bisect_left(times, end) + 1])
    edges = [start] * (not near or near[0] > start) + near + [end] * (not near or near[-1] < end)
    return max((later - earlier for earlier, later in pairwise(edges)), default=0.0)  # a moment on a reading
