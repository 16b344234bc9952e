"""Readings taken beside a run, and what one source of them says of a time between two moments."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from epochcast.energy.power_trace import around, integral, longest_gap, value_at
from epochcast.machine.sensor_bounds import (
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
