"""A time on another GPU: the device's share is scaled, and limited by that GPU's roofline.

    t' = t (1 - s) + max(t s r, a)    s share of arithmetic and memory in t, by the model's plain law
                                      r ratio of the two GPUs' seconds for those (epochcast/gpus/ratio.py)
                                      a their least seconds there (epochcast.gpus.rates.limit_of)

Input, host and steps (launches) stay as they were measured: another GPU makes none of them faster.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from epochcast.gpus.ratio import SAME, Ratio
from epochcast.interval import Interval

LIMITED, LIMITED_LOW = "value", "low end"  # which part of a scaled time the roofline raised
LIMITED_WORDS = {
    LIMITED: "arithmetic and memory limited by its data sheet's rates",
    LIMITED_LOW: "at the low end arithmetic and memory limited by its data sheet's rates",
}


@dataclass(frozen=True, slots=True)
class ScaledTime:
    """A time on another GPU, limited by its roofline."""

    seconds: Interval
    share: float  # of arithmetic and memory there
    ratio: Interval  # of their seconds there over here, as limited; its ends as if the time here were exact
    attainable_sec: float  # of arithmetic and memory there
    limited: str | None = None  # LIMITED, LIMITED_LOW, or None where the roofline changes nothing

    def set_to(self, seconds: Interval) -> ScaledTime:
        """Return the time corrected by measured rows: its parts in proportion, limited again."""
        device_sec = seconds.times(self.share)
        limited = _limited_part(device_sec, self.attainable_sec)
        if limited is None:
            return replace(self, seconds=seconds, limited=None)
        found = _limited_sum(seconds.times(1 - self.share), device_sec, self.attainable_sec)
        raised = self.attainable_sec / device_sec.value if self.share > 0 else 1.0
        ratio = at_least(self.ratio, self.ratio.value * raised)
        share = max(device_sec.value, self.attainable_sec) / found.value
        return ScaledTime(found, share, ratio, self.attainable_sec, limited)


def scaled_time(seconds: Interval, share: float, ratio: Ratio, attainable_sec: float = 0.0) -> ScaledTime:
    """Return a time on the other GPU: the range of the ratio is of the device's share alone.

    `attainable_sec` is the least time of arithmetic and memory there: neither the value nor an end goes below. On the
    model's own GPU and precision nothing is scaled, and nothing is limited.
    """
    if ratio.basis == SAME:
        return ScaledTime(seconds, share, ratio.value, attainable_sec)
    device_sec = seconds.by(ratio.value).times(share)
    limited = _limited_part(device_sec, attainable_sec)
    found = _limited_sum(seconds.times(1 - share), device_sec, attainable_sec)
    effective = at_least(ratio.value, attainable_sec / (share * seconds.value)) if share > 0 else ratio.value
    return ScaledTime(found, max(device_sec.value, attainable_sec) / found.value, effective, attainable_sec, limited)


def _limited_part(device_sec: Interval, attainable_sec: float) -> str | None:
    """Return which part of a device's seconds is below the attainable ones."""
    if device_sec.value < attainable_sec:
        return LIMITED
    return LIMITED_LOW if device_sec.low is not None and device_sec.low < attainable_sec else None


def _limited_sum(kept: Interval, device_sec: Interval, attainable_sec: float) -> Interval:
    """Return what stays plus the device's seconds, at each end; no ends where either has none."""
    device_sec = at_least(device_sec, attainable_sec)
    value = kept.value + device_sec.value
    if kept.low is None or kept.high is None or device_sec.low is None or device_sec.high is None:
        return Interval(value)
    return Interval(value, kept.low + device_sec.low, kept.high + device_sec.high)


def at_least(interval: Interval, least: float) -> Interval:
    """Return the interval with nothing below `least`.

    A value that is raised keeps its relative upper end, as nothing narrows that.
    """
    value = max(interval.value, least)
    if interval.low is None or interval.high is None:
        return Interval(value)
    raised = value / interval.value if interval.value > 0 else 1.0
    return Interval(value, max(interval.low, least), max(interval.high * raised, least))
