"""Whether something lowered the GPU's clock, or used the GPU, while a run was timed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

# The power cap is not among them: to compute at the power limit is how a GPU is meant to run.
SLOWDOWNS = frozenset({"hw_slowdown", "hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake"})
SLOWDOWN_SHARE = 0.05  # of the readings: a slowdown as short as that changes a mean by a percent or two at most
CLOCK_DROP = 0.9  # a stretch below this share of the fastest one; boost clocks move by a few percent by themselves
STRETCHES = 5
STRETCH_READINGS = 3  # fewer tell of single readings, not of a stretch
POWER_CAP_ALONE = ("sw_power_cap",)


def throttle_words(reasons: Sequence[tuple[str, ...] | None]) -> str | None:
    """All reasons that were seen, joined by `;`; `none` where none was, None where the driver never told."""
    known = [each for each in reasons if each is not None]
    return ";".join(sorted({word for each in known for word in each})) or "none" if known else None


def is_throttled(reasons: Sequence[tuple[str, ...] | None], clocks_mhz: Sequence[float | None]) -> bool:
    """Whether heat, a power brake or the like slowed the GPU down, by what the driver says or by its clock.

    The clock is compared within the timed epochs only, in five equal stretches: before them it is often higher, since
    a GPU that idles or compiles is far from its power limit. Readings that the power limit alone held down are left
    out. A clock that is low throughout shows by its reason alone.

    Args:
        reasons: of each reading; None was not asked or not answered.
        clocks_mhz: of the same readings.
    """
    known = [each for each in reasons if each is not None]
    slowed = sum(not SLOWDOWNS.isdisjoint(each) for each in known)
    if slowed and slowed >= SLOWDOWN_SHARE * len(known):
        return True
    readings = zip(reasons, clocks_mhz, strict=True)
    clocks = [clock for each, clock in readings if clock is not None and each != POWER_CAP_ALONE]
    n = min(STRETCHES, len(clocks) // STRETCH_READINGS)
    bounds = [len(clocks) * i // n for i in range(n + 1)] if n else []
    means = [fmean(clocks[first:last]) for first, last in pairwise(bounds)]
    return bool(means) and min(means) < CLOCK_DROP * max(means)


class ProcessSnapshot(NamedTuple):
    """The processes on the GPU at one moment."""

    time_sec: float
    computing: frozenset[int]
    present: frozenset[int]  # computing or drawing


def is_shared(
    baseline: ProcessSnapshot, snapshots: Sequence[ProcessSnapshot], start: float, end: float, own: Collection[int]
) -> bool:
    """Whether another process was on the GPU between `start` and `end`.

    One that computed there before the run began counts, working or not; one that drew then is the box's desktop and
    does not. Of those that came later, the run's own don't count. In a container the driver tells the ids of the host:
    where none of our ids is on the list, one that came later is taken as ours.
    """
    during = [snapshot for snapshot in snapshots if start <= snapshot.time_sec <= end]
    # a short window may lie between two looks
    looks = during or [snapshot for snapshot in snapshots if snapshot.time_sec < start][-1:]
    seen = frozenset[int]().union(*(snapshot.present for snapshot in looks))
    newcomers = seen - baseline.present
    strangers = len(newcomers.difference(own)) - (newcomers.isdisjoint(own) and bool(newcomers))
    return strangers > 0 or not seen.isdisjoint(baseline.computing)
