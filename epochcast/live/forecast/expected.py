"""The time of the epochs left, from those done and from an earlier estimate.

The estimate counts by its precision, at most as one epoch: of two timings the mean of least variance weighs each by the
inverse of its own, and what an estimate measured minutes ago says less than what the fit does now. The range is that of
one more epoch; where neighbouring epochs are alike (lag-1 correlation r) it is wider by sqrt((1 + r) / (1 - r)).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from epochcast.interval import OWN_COVERAGE, Interval
from epochcast.live.sampling.estimator import FLOOR, MIN_SAMPLES, EpochTime, without_outliers
from epochcast.stats import t_quantile

LEAST_FOR_ALIKE = 6  # epochs, of which a correlation is taken
MOST_ALIKE = 0.8  # a correlation above it can't be told from a trend
NORMAL = 1.96  # half-width of 95 % in standard deviations


@dataclass(frozen=True, slots=True)
class Prior:
    """What an earlier row of fits.csv says of the same training, in wall seconds."""

    run_id: str
    epoch_sec: float  # with its share of the checkpoints, without validation
    half: float | None = None  # relative half-width; None is unknown
    validation_sec: float | None = None


def expected_epoch(
    seconds: Sequence[float], first_sec: float | None = None, prior: Prior | None = None
) -> EpochTime | None:
    """Return the time of an epoch to come; None where nothing says it.

    Args:
        seconds: of the steady epochs that are done.
        first_sec: an epoch at the pace of the first one's steps, without what it compiled; used until there is a
            steady one.
    """
    kept = without_outliers(seconds)
    own = kept or ([] if first_sec is None else [first_sec])
    sd = statistics.stdev(kept) if len(kept) >= MIN_SAMPLES else None
    weight = 0.0 if prior is None else _weight(prior, sd)
    if not own and prior is None:
        return None
    before = 0.0 if prior is None else weight * prior.epoch_sec
    mean = (math.fsum(own) + before) / (len(own) + weight)
    half = None if prior is None else prior.half
    if sd is not None:
        t = t_quantile((1 + OWN_COVERAGE) / 2, len(kept) - 1)
        one_more = t * sd * _alike(kept) * math.sqrt(1 + 1 / (len(kept) + weight)) / mean
        half = max(FLOOR, one_more)
    return EpochTime(
        Interval.of_relative(mean, half), half, len(kept), len(seconds) - len(kept), n_earlier=int(prior is not None)
    )


def _weight(prior: Prior, sd: float | None) -> float:
    """Return how many epochs an estimate counts as."""
    if sd is None or not prior.half:
        return 1.0
    return min(1.0, (sd * NORMAL / (prior.half * prior.epoch_sec)) ** 2)


def _alike(seconds: Sequence[float]) -> float:
    """Return by how much the range is wider where neighbours are alike."""
    if len(seconds) < LEAST_FOR_ALIKE:
        return 1.0
    mean = statistics.fmean(seconds)
    off = [sec - mean for sec in seconds]
    square = math.fsum(each * each for each in off)
    r = math.fsum(a * b for a, b in pairwise(off)) / square if square > 0 else 0.0
    r = min(MOST_ALIKE, max(0.0, r))
    return math.sqrt((1 + r) / (1 - r))
