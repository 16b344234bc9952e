"""Bias and power of the stall rule, by simulation: python benchmarks/bench_stalls.py

Epochs of mean 1 with noise (normal and cut off at 0.05, or log-normal: interference adds time), of which some are
multiplied by a factor. Each run is judged alone, or with the noise of 60 other runs of as many epochs. Bias is the mean
difference between the steady time and the mean of the undisturbed epochs of the same run; power the share of stalled
epochs that were found. For a run alone the last table has what no rule can do better: the least bias at 30 % noise of
a rule that finds 95 % of stalls of 2 x at 15 % (likelihood ratio, log-normal noise).
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

import numpy as np

from epochcast.cli import positive_int, table_text
from epochcast.files import write_json_atomically
from epochcast.paths import home
from epochcast.run_noise import RunNoise
from epochcast.steady_time import judge

NOISES = (0.01, 0.02, 0.05, 0.10, 0.15, 0.20, 0.30)
TIMED = (2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)
ERRORS = ("normal", "log-normal")
FEWER_TIMED = (4, 6, 15, 50)  # for other factors and several stalls
N_OTHERS = 60  # other runs of the same conditions in the table
STALLED_OTHERS = 0.1
FIRST_SEC = 9.0  # the untimed first epoch
LEAST_NORMAL = 0.05
MAX_BIAS = 0.01
MIN_POWER = 0.95
POWER_NOISE, POWER_TIMED = 0.15, 4  # the power is demanded up to this noise, from so many timed epochs on


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

    @property
    def is_of_one(self) -> bool:
        """Whether only one run of each table is judged, as the others differ from it."""
        return self.others_low is not None


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
    """Return one cell from at least `n` judged runs, of tables of `case.n_others` and one."""
    per_table = case.n_others + 1
    n_disturbed = int(case.stalled_others * per_table)
    n_judged = 1 if case.is_of_one else per_table - n_disturbed
    n_tables = math.ceil(n / n_judged)
    shape = (n_tables, per_table, case.n_timed)
    noise = np.full((n_tables, per_table, 1), case.noise)
    if case.others_low is not None:
        assert case.others_high is not None
        others = np.log(case.others_low), np.log(case.others_high)
        noise[:, : per_table - 1] = np.exp(rng.uniform(*others, (n_tables, per_table - 1, 1)))
    tables = draw(rng, case.errors, noise, shape)
    if case.n_others:
        known = tables.copy()
        known[:, :n_disturbed, 0] *= case.factor
        moderated = [_noise_of_others(table, n_judged) for table in known]
        variance, freedom = (np.concatenate(each) for each in zip(*moderated, strict=True))
    else:
        variance, freedom = np.zeros(n_tables), np.zeros(n_tables)
    timed = tables[:, per_table - n_judged :].reshape(-1, case.n_timed)
    is_stalled = np.zeros(timed.shape, bool)
    is_stalled[:, : case.n_stalls] = True
    undisturbed_sec = np.average(timed, axis=1, weights=~is_stalled)
    timed[is_stalled] *= case.factor
    judged = judge(timed, variance, freedom)
    differences = np.average(timed, axis=1, weights=~judged.is_slow) - undisturbed_sec
    found = judged.is_slow[:, : case.n_stalls].mean(1) if case.n_stalls else None
    return Cell(
        case,
        len(timed),
        float(differences.mean()),
        _standard_error(differences, n_tables),
        None if found is None else float(found.mean()),
        None if found is None else _standard_error(found, n_tables),
        float(judged.is_slow.any(axis=1).mean()),
        float(judged.is_unstable.mean()),
    )


def _noise_of_others(table: np.ndarray, n_judged: int) -> tuple[np.ndarray, np.ndarray]:
    runs = np.concatenate([np.full((len(table), 1), FIRST_SEC), table], axis=1)
    return RunNoise(runs.tolist()).without_each(slice(len(table) - n_judged, None))


def _standard_error(values: np.ndarray, n_tables: int) -> float:
    """Of the mean, from the means of the tables: runs of one table share what is known of their noise."""
    return float(values.reshape(n_tables, -1).mean(1).std(ddof=1) / math.sqrt(n_tables))


def least_bias(rng: np.random.Generator, n_timed: int, n: int = 200_000) -> float:
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


def cases() -> Iterator[Case]:
    """All cases: without stalls and with one of 2 x; for log-normal noise also other factors and several stalls."""
    for n_others, errors, n_timed, noise in itertools.product((0, N_OTHERS), ERRORS, TIMED, NOISES):
        case = Case(errors, noise, n_timed, n_others)
        yield case
        yield replace(case, factor=2.0, n_stalls=1)
        if n_others and n_timed >= POWER_TIMED:
            yield replace(case, factor=2.0, n_stalls=1, stalled_others=STALLED_OTHERS)
        if errors == "log-normal" and n_timed in FEWER_TIMED:
            yield replace(case, factor=1.5, n_stalls=1)
            yield replace(case, factor=4.0, n_stalls=1)
            if n_timed // 3 > 1:
                yield replace(case, factor=2.0, n_stalls=n_timed // 3)


def table_of(cells: Sequence[Cell], what: str, **wanted: object) -> str:
    """Return one table: a row for each count of timed epochs, a column for each noise."""
    chosen = [c for c in cells if all(getattr(c.case, name) == value for name, value in wanted.items())]
    rows = []
    for n_timed in sorted({c.case.n_timed for c in chosen}):
        of_n = {c.case.noise: getattr(c, what) for c in chosen if c.case.n_timed == n_timed}
        rows.append([n_timed, *(f"{100 * of_n[noise]:.{2 if what == 'bias' else 1}f}" for noise in NOISES)])
    return table_text(["timed", *(f"{100 * noise:g} %" for noise in NOISES)], rows)


def print_tables(cells: Sequence[Cell]) -> None:
    for n_others, place in ((0, "a run alone"), (N_OTHERS, f"with {N_OTHERS} other runs")):
        for errors in ERRORS:
            of = {"errors": errors, "n_others": n_others, "stalled_others": 0.0}
            for what in ("bias", "unstable"):
                print(f"\n{place}, {errors} noise, no stall: {what} in %")
                print(table_of(cells, what, n_stalls=0, **of))
            print(f"\n{place}, {errors} noise, one stall of 2 x: power in %")
            print(table_of(cells, "power", n_stalls=1, factor=2.0, **of))
        several = [c for c in cells if c.case.n_stalls > 1]
        for few, factor, stalls in ((cells, 1.5, "one stall"), (cells, 4.0, "one stall"), (several, 2.0, "a third")):
            print(f"\n{place}, log-normal noise, {stalls} of {factor:g} x: power in %")
            print(table_of(few, "power", **of, factor=factor))
    for errors in ERRORS:
        print(f"\nwith {N_OTHERS} other runs, a tenth of them stalled, {errors} noise, one stall of 2 x: power in %")
        print(table_of(cells, "power", errors=errors, stalled_others=STALLED_OTHERS))


def targets_of(cells: Sequence[Cell]) -> list[tuple[str, str, str]]:
    """What the rule should reach, its worst cell, and whether it does."""
    calm = [c for c in cells if not c.case.n_stalls]
    worst = max(calm, key=lambda c: abs(c.bias))
    asked = [c for c in cells if c.case.factor == 2.0 and c.case.n_stalls == 1 and not c.case.stalled_others]
    asked = [c for c in asked if c.case.noise <= POWER_NOISE and c.case.n_timed >= POWER_TIMED and c.case.n_others]
    weakest = min(asked, key=lambda c: c.power or 0.0)
    power = weakest.power or 0.0
    return [
        (
            f"bias below {100 * MAX_BIAS:g} % without stalls, in each of {len(calm)} cells",
            f"{100 * worst.bias:.2f} % +- {100 * worst.bias_se:.2f} ({_words(worst.case)})",
            "yes" if abs(worst.bias) < MAX_BIAS else "NO",
        ),
        (
            f"power above {100 * MIN_POWER:g} % for stalls of 2 x, in each of {len(asked)} cells with other runs",
            f"{100 * power:.1f} % ({_words(weakest.case)})",
            "yes" if power > MIN_POWER else "NO",
        ),
    ]


def _words(case: Case) -> str:
    return f"{case.errors}, noise {100 * case.noise:g} %, {case.n_timed} timed, {case.n_others} other runs"


def _simulate(job: tuple[int, int, Case, int]) -> Cell:
    seed, number, case, n = job
    # the power at the highest noise is the closest to its target
    return simulate(np.random.default_rng([seed, number]), case, (4 if case.noise == POWER_NOISE else 1) * n)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=20_261_130, help="of the simulation (default: %(default)s)")
    parser.add_argument("--n", type=positive_int, default=2000, help="runs in each cell (default: %(default)s)")
    parser.add_argument("--workers", type=positive_int, default=1, help="processes at a time (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=home() / "results" / "benchmarks" / "stalls.json")
    arguments = parser.parse_args()
    jobs = [(arguments.seed, number, case, arguments.n) for number, case in enumerate(cases())]
    with ProcessPoolExecutor(arguments.workers) as pool:
        cells = list(pool.map(_simulate, jobs, chunksize=8))
    bound = {n: least_bias(np.random.default_rng([arguments.seed, n]), n) for n in TIMED if n >= POWER_TIMED}
    print_tables(cells)
    print("\na run alone, 95 % power at 15 % noise: least bias at 30 % noise of any rule, in %")
    print(table_text([str(n) for n in bound], [[f"{100 * bias:.2f}" for bias in bound.values()]]))
    print()
    print(table_text(("target", "worst", "reached"), targets_of(cells)))
    report = {"seed": arguments.seed, "n": arguments.n, "cells": [asdict(c) for c in cells], "least_bias": bound}
    write_json_atomically(arguments.out, report)
    print(f"written: {arguments.out.absolute()}")
    return 0
