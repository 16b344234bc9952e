"""Simulated runs of which the stall rule's bias and power are known; bench_stalls.py has the tables.

Epochs of mean 1 with noise (normal and cut off at 0.05, or log-normal: interference adds time), of which some are
multiplied by a factor. Each run is judged alone, or with the noise of other runs of as many epochs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from epochcast.run_noise import RunNoise
from epochcast.steady_time import judge

NOISES = (0.01, 0.02, 0.05, 0.10, 0.15, 0.20, 0.30)
TIMED = (2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)
ERRORS = ("normal", "log-normal")
FIRST_SEC = 9.0  # the untimed first epoch
LEAST_NORMAL = 0.05
MAX_BIAS = 0.01
MIN_POWER = 0.95
POWER_NOISE, POWER_TIMED = 0.15, 4  # the power is demanded up to this noise, from so many timed epochs on
JUDGED_WITH_UNLIKE = 10  # runs judged with each set of other runs whose noise is another
BATCH_EPOCHS = 400_000


@dataclass(frozen=True, slots=True)
class Case:
    """What is simulated: `n_stalls` epochs of each judged run are multiplied by `factor`."""

    errors: str
    noise: float
    n_timed: int
    n_others: int  # other runs of the same conditions
    factor: float = 1.0
    n_stalls: int = 0
    stalled_others: float = 0.0  # share of the other runs with one stall
    others_low: float | None = None  # noise of each other run is drawn between these, evenly in its logarithm
    others_high: float | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """What came of one case; bias and excluded are the rule's own where nothing is stalled, power is None then."""

    case: Case
    n: int
    bias: float
    bias_se: float
    power: float | None
    power_se: float | None
    excluded: float  # share of the runs with an excluded epoch
    unstable: float  # share of the runs


def draw(rng: np.random.Generator, errors: str, noise: float | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return epochs of mean 1 with a standard deviation of `noise`, which is broadcast to `shape`."""
    if errors == "normal":
        return np.maximum(rng.normal(1.0, noise, shape), LEAST_NORMAL)
    sd = np.sqrt(np.log1p(noise**2))
    return np.exp(rng.normal(-(sd**2) / 2, sd, shape))


def simulate(rng: np.random.Generator, case: Case, n: int) -> Cell:
    """Return one cell from at least `n` judged runs; runs of a table are judged with the noise of its other runs."""
    per_table = JUDGED_WITH_UNLIKE if case.others_low is not None else case.n_others + 1
    per_table -= int(case.stalled_others * per_table)
    n_tables = math.ceil(n / per_table)
    at_a_time = max(1, BATCH_EPOCHS // (per_table * case.n_timed))  # bounds memory
    sizes = [min(at_a_time, n_tables - done) for done in range(0, n_tables, at_a_time)]
    parts = [_judged_tables(rng, case, size) for size in sizes]
    bias, power, excluded, unstable = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Cell(
        case,
        bias.size,
        float(bias.mean()),
        _standard_error(bias),
        float(power.mean()) if case.n_stalls else None,
        _standard_error(power) if case.n_stalls else None,
        float(excluded.mean()),
        float(unstable.mean()),
    )


def _judged_tables(rng: np.random.Generator, case: Case, n_tables: int) -> tuple[np.ndarray, ...]:
    """Return bias, share of stalls found, whether an epoch is excluded and whether unstable, each (tables, runs)."""
    if case.others_low is not None and case.others_high is not None:
        sds = np.exp(rng.uniform(*np.log([case.others_low, case.others_high]), (n_tables, case.n_others, 1)))
        others = draw(rng, case.errors, sds, (n_tables, case.n_others, case.n_timed))
        noises = [RunNoise(_with_first(table)).of_all() for table in others]
        known = [(each.rel_sd**2, each.freedom) if each is not None else (0.0, 0.0) for each in noises]
        noise = np.repeat(np.array(known), JUDGED_WITH_UNLIKE, axis=0).T
        timed = draw(rng, case.errors, case.noise, (n_tables * JUDGED_WITH_UNLIKE, case.n_timed))
    else:
        tables = draw(rng, case.errors, case.noise, (n_tables, case.n_others + 1, case.n_timed))
        n_disturbed = int(case.stalled_others * (case.n_others + 1))
        timed = tables[:, n_disturbed:].reshape(-1, case.n_timed).copy()
        tables[:, :n_disturbed, 0] *= case.factor
        if case.n_others:
            judged_runs = slice(n_disturbed, None)
            known = [RunNoise(_with_first(table)).without_each(judged_runs) for table in tables]
            noise = np.concatenate(known, axis=1)
        else:
            noise = np.zeros((2, n_tables))
    is_stalled = np.zeros(timed.shape, bool)
    is_stalled[:, : case.n_stalls] = True
    undisturbed_sec = np.average(timed, axis=1, weights=~is_stalled)
    timed[is_stalled] *= case.factor
    judged = judge(timed, *noise)
    bias = np.average(timed, axis=1, weights=~judged.is_slow) - undisturbed_sec
    power = judged.is_slow[:, : max(case.n_stalls, 1)].mean(1)
    each = (bias, power, judged.is_slow.any(axis=1), judged.is_unstable)
    return tuple(values.reshape(n_tables, -1) for values in each)


def _with_first(table: np.ndarray) -> list[list[float]]:
    return [[FIRST_SEC, *times] for times in table.tolist()]


def _standard_error(values: np.ndarray) -> float:
    """Of the mean, from the means of the tables: runs of one table share what is known of their noise."""
    return float(values.mean(1).std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf


def least_bias(rng: np.random.Generator, n_timed: int, n: int = 50_000) -> float:
    """Return the least bias at 30 % noise of any rule for a run alone that finds 95 % of stalls of 2 x at 15 %.

    A rule knows the times but for their scale. By Neyman and Pearson the best one excludes the slowest where the
    density with a stall, over that without times what excluding changes, is large.
    """
    sds = [math.sqrt(math.log1p(noise**2)) for noise in (POWER_NOISE, max(NOISES))]
    with_stall, without = (rng.normal(-(sd**2) / 2, sd, (n, n_timed)) for sd in sds)
    with_stall[:, 0] += math.log(2)

    def change(logs: np.ndarray) -> np.ndarray:
        times = np.exp(logs)
        return np.asarray(times.mean(1) - (times.sum(1) - times.max(1)) / (n_timed - 1))

    def score(logs: np.ndarray) -> np.ndarray:
        repaired = np.sort(logs, axis=1)
        repaired[:, -1] -= math.log(2)
        squares = [((of - of.mean(1, keepdims=True)) ** 2).sum(1) for of in (repaired, logs)]
        relative = change(logs) / np.exp(logs).mean(1)
        return np.asarray(squares[1] / (2 * sds[1] ** 2) - squares[0] / (2 * sds[0] ** 2) - np.log(relative))

    is_slowest = with_stall.argmax(1) == 0
    limit = np.quantile(np.where(is_slowest, score(with_stall), -np.inf), 1 - MIN_POWER, method="lower")
    return float((change(without) * (score(without) > limit)).mean())
