"""Intervals, calibrated on configurations kept from fitting: one width inside the measured range, a wider one just
outside it, none further away.

Inside: split-conformal quantile of the cross-validation's errors, for COVERAGE. Outside: the higher LEVEL_QUANTILE of
the errors of left-out levels, pooled; a new level is not one of those, so COVERAGE would be too low (docs/method.md).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from epochcast.interval import COVERAGE
from epochcast.model.time_model.physics import Array
from epochcast.schema import AXES, RunConfig
from epochcast.storage.cells import columns

MIN_ERRORS = math.ceil(COVERAGE / (1 - COVERAGE) - 1e-9)  # nine at 90 %; of fewer no width has this coverage
LEVEL_QUANTILE = (1 + COVERAGE) / 2


def half_width_sds(coverage: float) -> float:
    """Return the standard deviations in half of an interval of normal errors."""
    return NormalDist().inv_cdf((1 + coverage) / 2)


HALF_WIDTH_SDS = half_width_sds(COVERAGE)
WITHIN, BEYOND, FAR = DOMAINS = ("within", "beyond", "far")  # the measured range; one step outside it; further away


def conformal_half_width(errors: Array, coverage: float = COVERAGE) -> float | None:
    """The error that a new one of the same kind stays below with probability `coverage`; None of too few errors.

    The ceil((n + 1) * coverage)-th smallest (Vovk et al. 2005); for COVERAGE that takes MIN_ERRORS.
    """
    rank = math.ceil((len(errors) + 1) * coverage - 1e-9)
    return None if rank > len(errors) else float(np.sort(errors)[rank - 1])


def beyond_half_width(level_errors: Array, within: float | None) -> float | None:
    """The pooled quantile of left-out levels' errors, never below the width within; None of too few of either."""
    if within is None or conformal_half_width(level_errors) is None:
        return None
    return max(within, float(np.quantile(level_errors, LEVEL_QUANTILE, method="higher")))


@dataclass(frozen=True, slots=True)
class Widths:
    """Half-widths of one quantity, as its `kind` says: of natural logs, or relative to the prediction."""

    within: float | None
    beyond: float | None
    n: int  # errors that `within` rests on
    n_levels: int = 0  # left-out levels that `beyond` rests on
    axes: tuple[str, ...] = ()  # of which the smallest or the largest value was left out
    n_level_errors: int | None = None  # errors of those levels; None where nobody counted them

    def of(self, domain: str) -> float | None:
        """The half-width at WITHIN, BEYOND or FAR; None where nothing is known."""
        return {WITHIN: self.within, BEYOND: self.beyond}.get(domain)

    def times(self, factor: float) -> Widths:
        """Return the widths multiplied by a factor; unknown ones stay unknown."""
        within, beyond = (None if half is None else half * factor for half in (self.within, self.beyond))
        return replace(self, within=within, beyond=beyond)

    @property
    def n_missing(self) -> int:
        """How many more errors, of as many configurations, give a width within the range; 0 where there is one."""
        return 0 if self.within is not None else max(0, MIN_ERRORS - self.n)

    def why_unknown(self, domain: str) -> str:
        """Return why no range is known in a domain and how many more configurations give one; empty where one is."""
        if self.of(domain) is not None:
            return ""
        if domain == WITHIN:
            return f"range unknown; {more_for_a_range(self.n_missing)}" if self.n_missing else "range unknown"
        if domain == BEYOND:
            n_at_ends = 0 if self.n_level_errors is None else max(0, MIN_ERRORS - self.n_level_errors)
            more = more_for_a_range(max(n_at_ends, self.n_missing), " there")
            return f"range unknown; {more}, of the smallest and largest values" if more else "range unknown"
        more = more_for_a_range(self.n_missing, " within what was measured")
        return "no range is known there" + (f"; {more}" if more else "")


def more_for_a_range(n_missing: int, where: str = "") -> str:
    """Return how many more measured configurations give a range, in words; empty where none is missing."""
    if not n_missing:
        return ""
    return f"{n_missing} more configuration{' gives' if n_missing == 1 else 's give'} a range{where}"


LOG_AXES = frozenset(axis.name for axis in AXES if axis.is_log)


@dataclass(frozen=True, slots=True)
class Range:
    """The box of measured configurations: lowest and highest value of each axis."""

    depth: tuple[int, int]
    base_filters: tuple[int, int]
    batch_size: tuple[int, int]

    @classmethod
    def of(cls, configs: Sequence[RunConfig]) -> Range:
        values = [[getattr(c, name) for c in configs] for name in columns(RunConfig)]
        return cls(*((min(v), max(v)) for v in values))

    def outside(self, config: RunConfig) -> list[str]:
        """What of a configuration was never measured, in words; empty if nothing."""
        ends = asdict(self)
        return [
            f"{name} {getattr(config, name)} was never measured ({ends[name][0]} to {ends[name][1]} were)"
            for name in self.axes_outside(config)
        ]

    def axes_outside(self, config: RunConfig) -> list[str]:
        """Return the axes along which a configuration lies outside."""
        return [name for name, (low, high) in asdict(self).items() if not low <= getattr(config, name) <= high]

    def domain(self, config: RunConfig, judged_axes: Collection[str]) -> str:
        """WITHIN the range, BEYOND it, or FAR from it.

        Beyond is one axis out by at most one block or a factor of two, and that one of `judged_axes`: of those levels
        were left out, one axis at a time, so nothing is known of two axes out together.
        """
        if not (out := self.axes_outside(config)):
            return WITHIN
        name, *more = out
        low, high = asdict(self)[name]
        lowest, highest = (low / 2, high * 2) if name in LOG_AXES else (low - 1, high + 1)
        is_near = not more and name in judged_axes and lowest <= getattr(config, name) <= highest
        return BEYOND if is_near else FAR

    def to_json(self) -> dict[str, Any]:
        return {name: list(pair) for name, pair in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Range:
        return cls(**{name: (low, high) for name, (low, high) in values.items()})
