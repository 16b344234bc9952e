"""How far a run of a comparison is from the true time of its configuration.

The unit of replication is the run, a process of its own: epochs of one run share start-up, clocks and memory layout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from epochcast.facts.assumptions import assumption
from epochcast.schema import WARMUP_EPOCHS, RunConfig
from epochcast.stats import t_quantile
from epochcast.steady_time import SteadyTime

LEVEL = 0.05
LEAST_FREEDOM = 5  # degrees of freedom from which a spread is taken as it was measured
DISTURBED_SE_RATIO = math.sqrt(math.pi / 2)  # as of a median to a mean: what is left of a disturbed run is less certain
ASSUMED_FREEDOM = 10  # what an assumed spread counts for: the fewer degrees of freedom of its two sources


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """One run as a comparison takes it: the log of its steady seconds per epoch and what its own epochs tell of it."""

    log_sec: float
    n_epochs: int = 0  # in the steady time
    epoch_sd: float | None = None  # standard deviation of the logs of all timed epochs; None of a single one
    epoch_freedom: int = 0
    is_disturbed: bool = False  # stalled or unstable

    @classmethod
    def of(cls, epoch_times: Sequence[float], window_factor: float, steady: SteadyTime) -> MeasuredRun:
        """A stall counts as the slowest epoch that would be none: left out of the steady time, but not of the doubt."""
        logs = [math.log(min(sec, steady.limit_sec)) for sec in epoch_times[WARMUP_EPOCHS:]]
        return cls(
            log_sec=math.log(steady.sec * window_factor),
            n_epochs=steady.n_timed - steady.n_stalled,
            epoch_sd=math.sqrt(_variance(logs)) if len(logs) > 1 else None,
            epoch_freedom=len(logs) - 1,
            is_disturbed=steady.is_unstable or steady.n_stalled > 0,
        )


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviation of the log time of one run about the true one, with the degrees of freedom behind it."""

    sd: float
    freedom: float
    origin: str  # own repeats | pooled repeats | assumed | within run

    @property
    def half_width(self) -> float:
        return quantile(self.freedom) * self.sd


def quantile(freedom: float, level: float = LEVEL) -> float:
    """Student's t that is exceeded, to either side, with probability `level`."""
    return float(t_quantile(1 - level / 2, freedom))


def _pooled(parts: Sequence[tuple[int, float]]) -> tuple[float, int]:
    """Standard deviation and degrees of freedom from (degrees, variance) of each group; 0 of 0 where there is none."""
    freedom = sum(n for n, _ in parts)
    return (math.sqrt(sum(n * v for n, v in parts) / freedom) if freedom else 0.0), freedom


def _variance(values: Sequence[float]) -> float:
    """Return the sample variance of two values or more."""
    # about the first, so that equal values have none; `statistics.variance` is exact and twenty times slower
    off = [value - values[0] for value in values]
    mean = math.fsum(off) / len(off)
    return math.fsum((x - mean) ** 2 for x in off) / (len(off) - 1)


def _own(runs: Sequence[MeasuredRun]) -> tuple[int, float]:
    return len(runs) - 1, _variance([r.log_sec for r in runs]) if len(runs) > 1 else 0.0


class SideSpread:
    """How far runs of one side spread: between the repeats of a configuration, or what stands in for it."""

    def __init__(self, runs: Mapping[RunConfig, Sequence[MeasuredRun]], device_kind: str) -> None:
        """All configurations of the side count, also those that the other side lacks."""
        measured, self.freedom = _pooled([_own(group) for group in runs.values()])
        self.is_assumed = self.freedom < LEAST_FREEDOM
        self.device_kind = device_kind
        if self.is_assumed:
            # the few repeats there are count beside the assumption, each by its degrees of freedom
            assumed = assumption("repeat_sd_steady", device_kind).value
            parts = [(ASSUMED_FREEDOM, assumed**2), (self.freedom, measured**2)]
            self.sd, freedom = _pooled(parts)
            self._pool = Spread(self.sd, freedom, "assumed")
        else:
            self.sd = measured
            self._pool = Spread(measured, self.freedom, "pooled repeats")
        undisturbed = [r for group in runs.values() for r in group if not r.is_disturbed]
        within = [(r.epoch_freedom, r.epoch_sd**2) for r in undisturbed if r.epoch_sd is not None]
        self._within_sd, self._within_freedom = _pooled(within)

    def of(self, runs: Sequence[MeasuredRun]) -> Spread:
        """Spread of one run of a configuration that was measured by `runs`.

        Its own repeats answer where they are many. Else what is pooled, or assumed: but no less than its own few
        repeats show, and for a single run no less than its epochs leave open.
        """
        own_freedom, own_variance = _own(runs)
        if own_freedom >= LEAST_FREEDOM:
            return Spread(math.sqrt(own_variance), own_freedom, "own repeats")
        if own_freedom:
            return replace(self._pool, sd=max(self._pool.sd, math.sqrt(own_variance)))
        within = self._within(runs[0])
        return within if within is not None and within.half_width > self._pool.half_width else self._pool

    def _within(self, run: MeasuredRun) -> Spread | None:
        """What a run's own epochs leave open; where they are few their spread is at least that of all runs' epochs."""
        if run.epoch_sd is None:
            return None
        root = math.sqrt(run.n_epochs) / (DISTURBED_SE_RATIO if run.is_disturbed else 1.0)
        if run.epoch_freedom >= LEAST_FREEDOM or self._within_freedom < LEAST_FREEDOM:
            return Spread(run.epoch_sd / root, run.epoch_freedom, "within run")
        return Spread(max(run.epoch_sd, self._within_sd) / root, self._within_freedom, "within run")
