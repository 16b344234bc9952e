"""How far an answer may be off: conformal factors on the model's spread."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np

from epochcast.interval import COVERAGE
from epochcast.mlperf.regressor.entries import EntryMedian, Workload, family_of

KNOWN, OTHER_COUNT = "known configuration", "other count"
OTHER_BENCHMARK, NEW_DEVICE = "device known by other benchmarks", "new device"
LEAST_RESIDUALS = 20  # of which a quantile is taken


class _Basis(NamedTuple):
    """What is left out together, and what has to be left in."""

    left_out: Callable[[EntryMedian], Hashable]
    left_in: Callable[[EntryMedian], Hashable]


def _pair(entry: EntryMedian) -> Hashable:
    return entry.benchmark, entry.device


# from the best known to the least known
BASES: dict[str, _Basis] = {
    KNOWN: _Basis(lambda e: (e.submitter, *e.workload.configuration), lambda e: e.workload.configuration),
    OTHER_COUNT: _Basis(lambda e: e.workload.configuration, _pair),
    OTHER_BENCHMARK: _Basis(_pair, lambda e: e.device),
    NEW_DEVICE: _Basis(lambda e: family_of(e.device), lambda e: e.benchmark),
}


def basis_of(workload: Workload, entries: Sequence[EntryMedian]) -> str:
    """Return what is known of a configuration."""
    if any(workload.configuration == entry.workload.configuration for entry in entries):
        return KNOWN
    of_device = [entry for entry in entries if entry.device == workload.device]
    if any(workload.benchmark == entry.benchmark for entry in of_device):
        return OTHER_COUNT
    return OTHER_BENCHMARK if of_device else NEW_DEVICE


def groups_of(entries: Sequence[EntryMedian], key: Callable[[EntryMedian], Hashable]) -> list[np.ndarray]:
    """Return the rows of each group of entries."""
    rows: dict[Hashable, list[int]] = defaultdict(list)
    for i, entry in enumerate(entries):
        rows[key(entry)].append(i)
    return [np.array(each) for each in rows.values()]


def range_factors(
    entries: Sequence[EntryMedian], standardised: Callable[[list[np.ndarray]], np.ndarray]
) -> dict[str, float]:
    """Return for each basis how many standard deviations of the model hold COVERAGE of the answers.

    A basis that the entries are too few for has none.

    Args:
        standardised: returns each entry's error over its standard deviation, learned without its group.
    """
    factors = {}
    for name, basis in BASES.items():
        groups = groups_of(entries, basis.left_out)
        n_in = Counter(map(basis.left_in, entries))
        n_out = {i: Counter(basis.left_in(entries[j]) for j in rows) for rows in groups for i in rows}
        rest = [i for i, entry in enumerate(entries) if n_in[basis.left_in(entry)] > n_out[i][basis.left_in(entry)]]
        if len(rest) >= LEAST_RESIDUALS:
            factors[name] = conformal_quantile(np.abs(standardised(groups))[rest])
    return factors


def conformal_quantile(errors: np.ndarray) -> float:
    """Return what the next error of their kind is below with probability COVERAGE."""
    rank = math.ceil(COVERAGE * (len(errors) + 1))
    return float(np.sort(errors)[min(rank, len(errors)) - 1])


def factor_for(basis: str, factors: dict[str, float]) -> float | None:
    """Return the factor of a basis, else of the next less known one."""
    names = list(BASES)
    return next((factors[name] for name in names[names.index(basis) :] if name in factors), None)
