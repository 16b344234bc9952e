"""Readings taken during a run: values, integrals and means of a series, and the energy by one source."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from epochcast.machine.gpu.sensor_bounds import (
    HIGHEST_TEMPERATURE_C,
    LOWEST_TEMPERATURE_C,
    MOST_CLOCK_MHZ,
    MOST_JOULES,
    number_within,
    positive_within,
)

IDLE_READINGS = 3  # a median of fewer is one reading's word
COUNTER_LAG_SEC = 1.0  # a counter moves in steps, so that between two readings it may grow by more than was drawn


class PowerSample(NamedTuple):
    """Readings of one moment; None is what was not asked or not answered."""

    time_sec: float  # of the monotonic clock
    counter_j: float | None = None
    power_w: float | None = None
    sm_clock_mhz: float | None = None
    throttle_reasons: tuple[str, ...] | None = None
    temperature_c: float | None = None
    cpu_j: float | None = None


class Energy(NamedTuple):
    """Energy by one source; None where it does not cover the time, with the reason if it is a fault."""

    joules: float | None
    faults: frozenset[str] = frozenset()  # of ENERGY_FLAGS


PARTIAL = Energy(None, frozenset({"energy_partial"}))


def possible(samples: Sequence[PowerSample], bounds_w: tuple[float, float]) -> tuple[list[PowerSample], list[float]]:
    """Readings without those that a sound sensor can't give, and the times at which a power was left out.

    A power of 0 is no answer: drivers that are asked too often say it.
    """
    kept, left_out = [], []
    for sample in samples:
        power_w = number_within(sample.power_w, *bounds_w)
        if power_w is None and sample.power_w is not None and sample.power_w != 0:
            left_out.append(sample.time_sec)
        kept.append(
            PowerSample(
                sample.time_sec,
                number_within(sample.counter_j, 0.0, MOST_JOULES),
                power_w,
                positive_within(sample.sm_clock_mhz, MOST_CLOCK_MHZ),
                sample.throttle_reasons,
                number_within(sample.temperature_c, LOWEST_TEMPERATURE_C, HIGHEST_TEMPERATURE_C),
                number_within(sample.cpu_j, 0.0, MOST_JOULES),
            )
        )
    return kept, left_out


def series(samples: Sequence[PowerSample], name: str) -> tuple[list[float], list[float]]:
    """Times and values of one kind of reading, where it was answered."""
    known = [(sample.time_sec, value) for sample in samples if (value := getattr(sample, name)) is not None]
    return [time for time, _ in known], [value for _, value in known]


def between(samples: Sequence[PowerSample], start: float, end: float) -> list[PowerSample]:
    return [sample for sample in samples if start <= sample.time_sec <= end]


def counted(
    samples: Sequence[PowerSample], name: str, start: float, end: float, longest_sec: float, most_w: float
) -> Energy:
    """What a running total grew by, linear between the readings at both edges; it grows by `most_w` at most."""
    times, totals = series(samples, name)
    part = around(times, start, end)
    if part is None:
        return PARTIAL
    if any(later < earlier for earlier, later in pairwise(totals[part])):
        return Energy(None, frozenset({"counter_reset"}))
    steps = zip(pairwise(times[part]), pairwise(totals[part]), strict=True)
    if any(j1 - j0 > most_w * (t1 - t0 + COUNTER_LAG_SEC) for (t0, t1), (j0, j1) in steps):
        return Energy(None, frozenset({"counter_jump"}))
    if any(_has_failed(samples, times, edge, edge, longest_sec) for edge in (start, end)):
        return PARTIAL
    first, last = value_at(times, totals, start), value_at(times, totals, end)
    if first is None or last is None or last <= first:
        return Energy(None)  # one that stands still measures nothing
    joules = last - first
    is_possible = joules <= most_w * (end - start + COUNTER_LAG_SEC)
    return Energy(joules) if is_possible else Energy(None, frozenset({"counter_jump"}))


def polled(samples: Sequence[PowerSample], start: float, end: float, longest_sec: float) -> Energy:
    """The integral of the power that was read."""
    times, powers = series(samples, "power_w")
    energy_j = integral(times, powers, start, end)
    if energy_j is None or _has_failed(samples, times, start, end, longest_sec):
        return PARTIAL
    return Energy(energy_j if energy_j > 0 else None)


def _has_failed(
    samples: Sequence[PowerSample], answered: Sequence[float], start: float, end: float, longest_sec: float
) -> bool:
    """Whether the source was asked and did not answer for longer than `longest_sec`, beyond the time nobody asked."""
    asked_sec = longest_gap([sample.time_sec for sample in samples], start, end)
    return longest_gap(answered, start, end) > max(longest_sec, asked_sec)


def idle_power(
    samples: Sequence[PowerSample], idle: tuple[float, float], longest_sec: float, most_w: float
) -> float | None:
    """Median power while nothing was queued; by the counter where no power was read."""
    start, end = idle
    powers = series(between(samples, start, end), "power_w")[1]
    if len(powers) >= IDLE_READINGS:
        return median(powers)
    joules = counted(samples, "counter_j", start, end, longest_sec, most_w).joules
    return None if joules is None else joules / (end - start)


def temperature_at(samples: Sequence[PowerSample], moment: float, *, is_start: bool) -> float | None:
    """The temperature just outside of a window that starts (or ends) at `moment`, else just inside."""
    times, values = series(samples, "temperature_c")
    known = list(zip(times, values, strict=True))
    before = [value for time, value in known if time <= moment][-1:]
    after = [value for time, value in known if time > moment][:1]
    return next(iter(before + after if is_start else after + before), None)


# --- a series of readings: times in order, and a value of each --------------------------------------------------------


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
