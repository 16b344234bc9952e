"""Mean power of a GPU board while it trains, where nothing measured it.

    W = min(limit, TDP (a + b u))      u share of the time in which the device computes or moves data

A device that waits for launches or for its input draws a, what it draws idle at full clocks. Where u is not known the
share of the TDP is a constant, with a range as wide as that asks for. a, b, the constant and both ranges are fitted and
judged by benchmarks/external/power_judge.py and stand in epochcast/data/assumptions.csv.
"""

from __future__ import annotations

from dataclasses import dataclass

from epochcast.facts.assumptions import assumption
from epochcast.interval import Interval


@dataclass(frozen=True, slots=True)
class PowerShare:
    """Mean power of a board over its TDP, true within `factor` up and down."""

    value: float
    factor: float

    def watts(self, limit_w: float, tdp_w: float) -> Interval:
        """Return the mean watts; neither the value nor an end is above the limit."""
        value = min(limit_w, self.value * tdp_w)
        return Interval(value, value / self.factor, min(limit_w, value * self.factor))


def power_share(busy_share: float | None = None) -> PowerShare:
    """Return the share of the TDP that a board draws while it trains.

    Args:
        busy_share: of the time in which the device computes or moves data; None where that is not known.

    Raises:
        ValueError: if `busy_share` is no share.
    """
    if busy_share is None:
        return PowerShare(_assumed("share"), _assumed("factor"))
    if not 0 <= busy_share <= 1:
        raise ValueError(f"busy_share must be between 0 and 1, got {busy_share!r}.")
    return PowerShare(_assumed("idle_share") + _assumed("busy_share") * busy_share, _assumed("busy_factor"))


def board_power(limit_w: float, busy_share: float | None = None, tdp_w: float | None = None) -> Interval:
    """Return the mean watts of a board while it trains, with their range.

    Args:
        limit_w: its power limit in force.
        busy_share: as of `power_share`.
        tdp_w: by its data sheet; None: not known, and taken for the limit.
    """
    return power_share(busy_share).watts(limit_w, limit_w if tdp_w is None else tdp_w)


def _assumed(name: str) -> float:
    return assumption(f"board_power_{name}", "gpu").value
