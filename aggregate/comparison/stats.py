"""Whether a configuration's time differs between two sides, by how much, and how sure that is.

All is computed on logarithms, so that a ratio and its inverse are treated alike.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from epochcast.aggregate.comparison.spread import LEAST_FREEDOM, LEVEL, MeasuredRun, SideSpread, quantile

NOISE_FLOOR = 0.01  # a smaller difference is not worth naming, however certain (criterion.rs's default)
MOST_RUNS_ADVISED = 30
VERDICTS = {
    "slower": "b slower",
    "faster": "b faster",
    "same": "no difference worth naming",
    "undecided": "can't tell",
}


def _p_beyond(d: float, error: float, freedom: float, log_floor: float) -> float:
    """Of as large a difference to the same side where the true one is at most the floor; both sides may be asked.

    Below 0.05 exactly where the interval lies beyond the floor.
    """
    from scipy.special import stdtr

    return float(min(1.0, 2 * stdtr(freedom, (log_floor - abs(d)) / error)))


@dataclass(frozen=True, slots=True)
class TimeDifference:
    """The ratio b / a of one configuration's steady seconds per epoch, with its own 95 % interval and p-values."""

    log_ratio: float
    half_width: float  # of the 95 % interval of log_ratio
    p: float  # of as large a difference where the true one is no more than the floor
    p_holm: float  # the same, corrected for all configurations that are tested at once (Holm 1979)
    verdict: str  # of VERDICTS
    needed_runs: int | None  # a side, that would tell; None where decided, or beyond MOST_RUNS_ADVISED
    why_undecided: str = ""

    @property
    def ratio(self) -> float:
        return math.exp(self.log_ratio)

    @property
    def low(self) -> float:
        return math.exp(self.log_ratio - self.half_width)

    @property
    def high(self) -> float:
        return math.exp(self.log_ratio + self.half_width)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values so corrected that all verdicts at once err with the probability of one (Holm's step-down method)."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def time_differences(
    pairs: Sequence[tuple[Sequence[MeasuredRun], Sequence[MeasuredRun]]],
    a: SideSpread,
    b: SideSpread,
    floor: float = NOISE_FLOOR,
) -> list[TimeDifference]:
    """One for each pair of runs (of a, of b) of one configuration.

    Welch's t-test on the log times, of more difference than the floor; where the same runs stand on both sides there is
    nothing to test.
    """
    log_floor = math.log1p(floor)
    tested = []
    for runs_a, runs_b in pairs:
        of_a, of_b = a.of(runs_a), b.of(runs_b)
        d = statistics.fmean(r.log_sec for r in runs_b) - statistics.fmean(r.log_sec for r in runs_a)
        var_a, var_b = of_a.sd**2 / len(runs_a), of_b.sd**2 / len(runs_b)
        variance = 0.0 if list(runs_a) == list(runs_b) else var_a + var_b
        if variance == 0:  # the same runs, or times without any spread: what differs then differs for certain
            tested.append((d, 0.0, 0.0 if abs(d) > log_floor else 1.0, 0.0, 0))
            continue
        freedom = variance**2 / (var_a**2 / of_a.freedom + var_b**2 / of_b.freedom)
        error = math.sqrt(variance)
        n = max(len(runs_a), len(runs_b))
        p = _p_beyond(d, error, freedom, log_floor)
        tested.append((d, quantile(freedom) * error, p, of_a.sd**2 + of_b.sd**2, n))
    corrected = holm([p for _, _, p, _, _ in tested])
    return [
        _judged(TimeDifference(d, half, p, p_holm, "undecided", None), variance, n, len(pairs), log_floor)
        for (d, half, p, variance, n), p_holm in zip(tested, corrected, strict=True)
    ]


def verdict_of(d: float, half_width: float, p: float, log_floor: float) -> str:
    """A difference is named where it is significant and its whole interval lies beyond the floor.

    It is not worth naming where its whole interval lies within the floor; else nothing can be told.
    """
    if abs(d) + half_width <= log_floor:
        return "same"
    if p < LEVEL and abs(d) - half_width > log_floor:
        return "slower" if d > 0 else "faster"
    return "undecided"


def _judged(found: TimeDifference, variance: float, n_runs: int, n_tests: int, log_floor: float) -> TimeDifference:
    verdict = verdict_of(found.log_ratio, found.half_width, found.p_holm, log_floor)
    if verdict != "undecided":
        return replace(found, verdict=verdict)
    why = "the interval holds 1"
    if found.p < LEVEL:
        why = f"chance among {n_tests}"
    elif abs(found.log_ratio) > found.half_width:
        why = "maybe less than the floor"
    needed = _needed_runs(abs(found.log_ratio), variance, n_runs, n_tests, log_floor)
    return replace(found, needed_runs=needed, why_undecided=why)


def _needed_runs(d: float, variance: float, n_runs: int, n_tests: int, log_floor: float) -> int | None:
    """The runs a side with which this difference, if it stays, could be told; `variance` is that of one run of each."""
    normal = statistics.NormalDist()
    z, z_corrected = normal.inv_cdf(1 - LEVEL / 2), normal.inv_cdf(1 - LEVEL / 2 / n_tests)
    for n in range(n_runs + 1, MOST_RUNS_ADVISED + 1):
        error = math.sqrt(variance / n)
        if d + z * error <= log_floor or d - log_floor > z_corrected * error:
            return n
    return None


@dataclass(frozen=True, slots=True)
class Overall:
    """The geometric mean of the configurations' ratios; the unit is the configuration."""

    n: int
    log_ratio: float
    half_width: float | None  # of the 95 % interval; of one configuration unknown
    p: float | None  # Wilcoxon's signed-rank test of the log ratios; None where too few can ever be significant
    verdict: str

    @property
    def ratio(self) -> float:
        return math.exp(self.log_ratio)

    @property
    def low(self) -> float | None:
        return None if self.half_width is None else math.exp(self.log_ratio - self.half_width)

    @property
    def high(self) -> float | None:
        return None if self.half_width is None else math.exp(self.log_ratio + self.half_width)


FEWEST_TESTABLE = 6  # with fewer even all ratios on one side of 1 are more likely than 5 % (2 of 2^5)


def overall(log_ratios: Sequence[float], floor: float = NOISE_FLOOR) -> Overall:
    """How the configurations together differ."""
    n, mean = len(log_ratios), statistics.fmean(log_ratios)
    if n < 2:
        return Overall(n, mean, None, None, "undecided")
    half_width = quantile(n - 1) * statistics.stdev(log_ratios) / math.sqrt(n)
    p = None
    if n >= FEWEST_TESTABLE:
        from scipy.stats import wilcoxon

        changed = [d for d in log_ratios if d != 0]
        p = float(wilcoxon(changed).pvalue) if changed else 1.0
    return Overall(n, mean, half_width, p, verdict_of(mean, half_width, 1.0 if p is None else p, math.log1p(floor)))


def has_unexplained_scatter(found: Sequence[TimeDifference]) -> bool:
    """Whether the ratios of configurations scatter more than the spread of their runs explains (p < 0.001)."""
    known = [d for d in found if d.half_width > 0]
    if len(known) < LEAST_FREEDOM + 1:
        return False
    from scipy.special import chdtrc

    # a half-width over the normal quantile is at least the standard error: this rather stays silent
    weights = [(statistics.NormalDist().inv_cdf(1 - LEVEL / 2) / d.half_width) ** 2 for d in known]
    mean = sum(w * d.log_ratio for w, d in zip(weights, known, strict=True)) / sum(weights)
    chi2 = sum(w * (d.log_ratio - mean) ** 2 for w, d in zip(weights, known, strict=True))
    return bool(chdtrc(len(known) - 1, chi2) < 0.001)
