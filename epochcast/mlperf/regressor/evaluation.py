"""How far off the regressor is, on honest splits and on one that leaks."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from epochcast.mlperf.records import MlperfRecord
from epochcast.mlperf.regressor.baselines import PlainLaw
from epochcast.mlperf.regressor.entries import EntryMedian, Workload, entry_medians, why_excluded
from epochcast.mlperf.regressor.ranges import BASES
from epochcast.mlperf.regressor.regressor import LEAST_ENTRIES, fit_regressor
from epochcast.mlperf.regressor.splits import FOLDS, FORWARD, GROUPED, Fold, folds_of, forward_folds
from epochcast.stats import regression_metrics

Say = Callable[[float], None]  # gets the share of the work that is done
LEAK_SHARE = 0.2  # of runs drawn at random for judging


class Judged(NamedTuple):
    """One entry that was predicted without being learned from."""

    benchmark: str
    basis: str
    log_sec: float  # true
    predicted: float
    half: float  # of the range, in natural logs; NaN: unknown
    by_nearest: float
    by_law: float


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of predicted over true times as shares, spread over the split's repeats."""

    n: int
    mdape: float
    mdape_low: float
    mdape_high: float
    mape: float
    p90_ape: float
    r2_log: float | None
    coverage: float | None  # share of true times within their range, of those that have one
    range_factor: float | None  # median: a range is from the time over it to the time by it
    nearest_mdape: float
    law_mdape: float


@dataclass(frozen=True, slots=True)
class Leak:
    """What a split of runs at random shows of one entry's repeats on both sides."""

    n: int
    share_repeated: float  # of judged runs of which repeats were learned from
    mdape: float
    mape: float
    lookup_mdape: float  # of the median of the repeats, where there are any, else as predicted
    lookup_mape: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All splits of one set of entries."""

    entries: int
    repeats: int
    seed: int
    splits: dict[str, Errors]  # by the split's name
    benchmarks: dict[str, Errors]  # of the split by entry
    bases: dict[str, Errors]  # of the splits by entry, configuration and family together
    not_judged: dict[str, int]  # entries by reason, over all splits
    leak: Leak | None  # None: there were no single runs to split

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(
    entries: Sequence[EntryMedian], records: Sequence[MlperfRecord], repeats: int, seed: int, say: Say
) -> Evaluation:
    """Return the errors on all splits; a fold learns from its own entries alone.

    Args:
        records: the runs that the entries are medians of; none: without the split that leaks.
        repeats: how often folds are drawn anew.

    Raises:
        ValueError: if the entries are too few.
    """
    judge = _Judge(_n_fits(entries, records, repeats), seed, say)
    repeated: dict[str, list[list[Judged]]] = {}
    for split in GROUPED:
        draws = range(seed, seed + (1 if split == "family" else repeats))
        repeated[split] = [[row for fold in folds_of(split, entries, draw) for row in judge(fold)] for draw in draws]
    forward = {f"{FORWARD} to {name}": judge(fold) for name, fold in forward_folds(entries)}
    if forward:
        repeated[f"{FORWARD}, all"] = [[row for rows in forward.values() for row in rows]]
    repeated |= {name: [rows] for name, rows in forward.items()}
    pooled = [draw[0] for split, draw in repeated.items() if split in ("entry", "configuration", "family")]
    return Evaluation(
        len(entries),
        repeats,
        seed,
        {split: _errors(draws) for split, draws in repeated.items() if draws[0]},
        _parted(repeated["entry"], "benchmark"),
        _parted([[row for rows in pooled for row in rows]], "basis"),
        dict(judge.not_judged),
        _leak(records, seed) if records else None,
    )


class _Judge:
    """Fits and predicts fold by fold, and counts."""

    def __init__(self, n_fits: int, seed: int, say: Say) -> None:
        self._n_fits, self._seed, self._say = n_fits, seed, say
        self._done = 0
        self.not_judged: Counter[str] = Counter()

    def __call__(self, fold: Fold) -> list[Judged]:
        learned, judged = fold
        known = {each.benchmark for each in learned}
        asked = [each for each in judged if each.benchmark in known]
        self._done += 1
        self._say(self._done / self._n_fits)
        if len(learned) < LEAST_ENTRIES and self._done > FOLDS:  # a family had nearly all of them
            self.not_judged["without them too few were left to learn from"] += len(judged)
            return []
        if len(asked) < len(judged):
            self.not_judged["no other entry had their benchmark"] += len(judged) - len(asked)
        if not asked:
            return []
        regressor = fit_regressor(learned, self._seed)
        workloads = [each.workload for each in asked]
        forecast = regressor.forecast(workloads)
        law = PlainLaw(learned, regressor.rounds)
        true = np.log([each.time_sec for each in asked])
        columns = (true, forecast.log_sec, forecast.half, law.by_nearest(workloads), law.by_law(workloads))
        return [
            Judged(each.benchmark, basis, *map(float, values))
            for each, basis, values in zip(asked, forecast.bases, zip(*columns, strict=True), strict=True)
        ]


def _n_fits(entries: Sequence[EntryMedian], records: Sequence[MlperfRecord], repeats: int) -> int:
    grouped = sum((1 if split == "family" else repeats) * len(list(folds_of(split, entries, 0))) for split in GROUPED)
    return grouped + len(list(forward_folds(entries))) + bool(records)


def _errors(draws: Sequence[Sequence[Judged]]) -> Errors:
    """Return the mean errors over repeats of a split."""
    each = [_errors_of(rows) for rows in draws]

    def mean(name: str) -> Any:
        values = [values[name] for values in each if values[name] is not None]
        return statistics.fmean(values) if values else None

    medians = [values["mdape"] for values in each]
    means = {name: mean(name) for name in each[0] if name != "n"}
    return Errors(len(draws[0]), mdape_low=min(medians), mdape_high=max(medians), **means)


def _errors_of(rows: Sequence[Judged]) -> dict[str, Any]:  # floats; None where there is none
    true, predicted = np.array([row.log_sec for row in rows]), np.array([row.predicted for row in rows])
    relative = regression_metrics(np.exp(true), np.exp(predicted))
    half = np.array([row.half for row in rows])
    has = np.isfinite(half)
    within = np.abs(true - predicted)[has] <= half[has]
    return {
        "mdape": _mdape(true, predicted),
        "mape": relative.mape,
        "p90_ape": relative.p90_ape,
        "r2_log": _r2(true, predicted),
        "coverage": float(within.mean()) if has.any() else None,
        "range_factor": float(np.exp(np.median(half[has]))) if has.any() else None,
        "nearest_mdape": _mdape(true, np.array([row.by_nearest for row in rows])),
        "law_mdape": _mdape(true, np.array([row.by_law for row in rows])),
    }


def _mdape(true: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.median(np.abs(np.expm1(predicted - true))))


def _r2(true: np.ndarray, predicted: np.ndarray) -> float | None:
    variation = float(((true - true.mean()) ** 2).sum())
    return 1 - float(((true - predicted) ** 2).sum()) / variation if variation > 0 else None


def _parted(draws: Sequence[Sequence[Judged]], column: str) -> dict[str, Errors]:
    """Return the errors by value of a column, bases from the best known on."""
    parts: dict[str, list[list[Judged]]] = defaultdict(lambda: [[] for _ in draws])
    for i, rows in enumerate(draws):
        for row in rows:
            parts[getattr(row, column)][i].append(row)
    names = [name for name in BASES if name in parts] if column == "basis" else sorted(parts)
    return {name: _errors([rows for rows in parts[name] if rows]) for name in names}


def _leak(records: Sequence[MlperfRecord], seed: int) -> Leak:
    """Return what a random split of runs shows, beside a lookup of the repeats."""
    runs = [each for each in records if why_excluded(each) is None]
    is_judged = np.random.default_rng(seed).random(len(runs)) < LEAK_SHARE
    learned = entry_medians(run for run, is_out in zip(runs, is_judged, strict=True) if not is_out).entries
    regressor = fit_regressor(learned, seed)
    medians = {each.entry: each.time_sec for each in learned}
    drawn = [run for run, is_out in zip(runs, is_judged, strict=True) if is_out]
    judged = [run for run in drawn if run.benchmark in regressor.benchmarks]
    asked = [Workload(run.benchmark, str(run.device), run.n_accelerators or 0, run.round) for run in judged]
    predicted = regressor.forecast(asked).log_sec
    true = np.log([run.time_sec for run in judged])
    looked_up = predicted.copy()
    for i, run in enumerate(judged):
        if run.entry in medians:
            looked_up[i] = np.log(medians[run.entry])
    counts = Counter(run.entry in medians for run in judged)
    return Leak(
        len(judged),
        counts[True] / len(judged),
        _mdape(true, predicted),
        regression_metrics(np.exp(true), np.exp(predicted)).mape,
        _mdape(true, looked_up),
        regression_metrics(np.exp(true), np.exp(looked_up)).mape,
    )
