"""A time on another GPU: the device's share of it scaled, and held at what that GPU's data sheet allows.

    t' = t (1 - s) + max(t s r, a)    s share of arithmetic and memory in t, by the model's plain law
                                      r seconds of the other GPU's arithmetic and memory over those (model/carry.py)
                                      a what they take there at least, by the roofs (epochcast/network_roofline.py)

Input, host and steps (launches) stay as they were measured: another GPU makes none of them faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from epochcast.epoch_work import EpochWork
from epochcast.interval import Interval
from epochcast.model.carry import SAME, Ratio
from epochcast.model.time_model.physics import ARITHMETIC, MEMORY, TERMS, Law

HELD, HELD_LOW = "value", "low end"  # what of a carried time the roof holds
HELD_WORDS = {
    HELD: "arithmetic and memory held at the roof of its data sheet",
    HELD_LOW: "at the low end arithmetic and memory held at the roof of its data sheet",
}


@dataclass(frozen=True, slots=True)
class Carried:
    """A time on another GPU, held at its roof."""

    seconds: Interval
    share: float  # of arithmetic and memory there
    ratio: Interval  # of their seconds there over here, as held; its ends as if the time here were exact
    attainable_sec: float  # of arithmetic and memory there, at least
    held: str | None = None  # HELD, HELD_LOW, or None where the roof changes nothing

    def set_to(self, seconds: Interval) -> Carried:
        """This time as measured rows set it right: its parts stay in proportion, and are held again."""
        held = _holding(seconds.times(self.share), self.attainable_sec)
        if held is None:
            return replace(self, seconds=seconds, held=None)
        device_sec = seconds.times(self.share)
        found = _sum_held(seconds.times(1 - self.share), device_sec, self.attainable_sec)
        raised = self.attainable_sec / device_sec.value if self.share > 0 else 1.0
        ratio = _at_least(self.ratio, self.ratio.value * raised)
        share = max(device_sec.value, self.attainable_sec) / found.value
        return Carried(found, share, ratio, self.attainable_sec, held)


def device_share(law: Law, work: EpochWork) -> float:
    """The share of an epoch's time that the device computes or moves memory in, 0 to 1.

    Raises:
        ValueError: if the law says that this work takes no time.
    """
    return share_of_parts(law.parts_of(work))


def share_of_parts(parts: Mapping[str, float]) -> float:
    """As `device_share`, of an epoch's seconds by term."""
    if not (whole := sum(parts.values())) > 0:
        raise ValueError("the model's law gives this network no time, so nothing can be carried over.")
    return sum(sec for term, sec in parts.items() if TERMS[term].group in (ARITHMETIC, MEMORY)) / whole


def carried(seconds: Interval, share: float, ratio: Ratio, attainable_sec: float = 0.0) -> Carried:
    """A time on the other GPU; the bar is the device's share's alone, the time's own interval that of all.

    `attainable_sec` is what arithmetic and memory take there at least: neither the value nor an end goes below. The
    model's own GPU and precision are not held, as nothing is carried.
    """
    if ratio.basis == SAME:
        return Carried(seconds, share, ratio.value, attainable_sec)
    device_sec = seconds.by(ratio.value).times(share)
    held = _holding(device_sec, attainable_sec)
    found = _sum_held(seconds.times(1 - share), device_sec, attainable_sec)
    effective = _at_least(ratio.value, attainable_sec / (share * seconds.value)) if share > 0 else ratio.value
    return Carried(found, max(device_sec.value, attainable_sec) / found.value, effective, attainable_sec, held)


def _holding(device_sec: Interval, attainable_sec: float) -> str | None:
    """What of a device's seconds is below what is attainable."""
    if device_sec.value < attainable_sec:
        return HELD
    return HELD_LOW if device_sec.low is not None and device_sec.low < attainable_sec else None


def _sum_held(kept: Interval, device_sec: Interval, attainable_sec: float) -> Interval:
    """What stays plus the device's seconds, at each end; no ends where either has none."""
    device_sec = _at_least(device_sec, attainable_sec)
    value = kept.value + device_sec.value
    if kept.low is None or kept.high is None or device_sec.low is None or device_sec.high is None:
        return Interval(value)
    return Interval(value, kept.low + device_sec.low, kept.high + device_sec.high)


def _at_least(interval: Interval, least: float) -> Interval:
    """Its value and ends, none below `least`; a value that is raised keeps its bar upwards, as nothing narrows that."""
    value = max(interval.value, least)
    if interval.low is None or interval.high is None:
        return Interval(value)
    raised = value / interval.value if interval.value > 0 else 1.0
    return Interval(value, max(interval.low, least), max(interval.high * raised, least))
