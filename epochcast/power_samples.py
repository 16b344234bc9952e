"""Readings taken beside a run, and what one source of them says of a time between two moments."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from epochcast.power_trace import around, integral, longest_gap, value_at

IDLE_READINGS = 3  # a median of fewer is one reading's word


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
    faults: frozenset[str] = frozenset()  # counter_reset | energy_partial


PARTIAL = Energy(None, frozenset({"energy_partial"}))


def series(samples: Sequence[PowerSample], name: str) -> tuple[list[float], list[float]]:
    """Times and values of one kind of reading, where it was answered."""
    known = [(sample.time_sec, value) for sample in samples if (value := getattr(sample, name)) is not None]
    return [time for time, _ in known], [value for _, value in known]


def between(samples: Sequence[PowerSample], start: float, end: float) -> list[PowerSample]:
    return [sample for sample in samples if start <= sample.time_sec <= end]


def counted(samples: Sequence[PowerSample], name: str, start: float, end: float, longest_sec: float) -> Energy:
    """What a running total grew by, linear between the readings at both edges."""
    times, totals = series(samples, name)
    part = around(times, start, end)
    if part is None:
        return PARTIAL
    if any(later < earlier for earlier, later in pairwise(totals[part])):
        return Energy(None, frozenset({"counter_reset"}))
    if any(_has_failed(samples, times, edge, edge, longest_sec) for edge in (start, end)):
        return PARTIAL
    first, last = value_at(times, totals, start), value_at(times, totals, end)
    has_moved = first is not None and last is not None and last > first  # one that stands still measures nothing
    return Energy(last - first if has_moved else None)  # type: ignore[operator]  # both known, by has_moved


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


def idle_power(samples: Sequence[PowerSample], idle: tuple[float, float], longest_sec: float) -> float | None:
    """Median power while nothing was queued; by the counter where no power was read."""
    start, end = idle
    powers = series(between(samples, start, end), "power_w")[1]
    if len(powers) >= IDLE_READINGS:
        return median(powers)
    joules = counted(samples, "counter_j", start, end, longest_sec).joules
    return None if joules is None else joules / (end - start)


def temperature_at(samples: Sequence[PowerSample], moment: float, *, is_start: bool) -> float | None:
    """The temperature just outside of a window that starts (or ends) at `moment`, else just inside."""
    times, values = series(samples, "temperature_c")
    known = list(zip(times, values, strict=True))
    before = [value for time, value in known if time <= moment][-1:]
    after = [value for time, value in known if time > moment][:1]
    return next(iter(before + after if is_start else after + before), None)
