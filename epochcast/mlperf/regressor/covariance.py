"""How alike two trainings are: the covariance of the logs of their times.

The log of a time is a sum of independent random functions, one for each of TERMS: an offset of each benchmark, a slope
of each benchmark over the count, an offset of each pair of benchmark and device, and so on. A term is a product of
factors, and its variance says how much it contributes. The linear terms alone are a ridge regression with a penalty for
each block of columns; the `near` ones add what entries of a similar count, rate or round have in common.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from epochcast.facts.tables import Gpu, accelerators
from epochcast.mlperf.records import round_number
from epochcast.mlperf.regressor.entries import Workload

# Term: its variance before entries were seen, a guess of its size. `variances.fit_variances` starts from it.
TERMS = {
    "count": 0.5,
    "rate": 0.5,
    "bandwidth": 0.1,
    "memory": 0.1,
    "round": 0.1,
    "no_rate": 1.0,
    "vendor": 0.1,
    "vendor count": 0.02,
    "vendor benchmark": 0.02,
    "vendor rate": 0.05,
    "vendor round": 0.02,
    "device": 0.05,
    "benchmark": 1.0,
    "benchmark count": 0.3,
    "benchmark count count": 0.05,
    "benchmark rate": 0.1,
    "benchmark memory": 0.02,
    "benchmark round": 0.05,
    "benchmark device": 0.02,
    "benchmark near_count": 0.03,
    "benchmark device near_count": 0.03,
    "benchmark near_round": 0.02,
    "benchmark near_count near_rate near_round": 0.03,
}
NOISE = "noise"  # of an entry's median: submitters differ in software, network and care
NOISE_VARIANCE = 0.03

# Where linear factors are zero, and the unit of their differences; offsets and slopes are least sure far from zero.
MIDDLE_COUNT, COUNT_UNIT = math.exp(4), 2.0  # natural log
MIDDLE_TFLOPS, MIDDLE_BANDWIDTH_GBS, MIDDLE_MEMORY_GB = 312.0, 2000.0, 80.0  # an A100
MEMORY_LIMITS = (-2.0, 1.5)  # natural log; memory inside a processor is of another kind
MIDDLE_ROUND, ROUND_UNIT = 6, 3.0  # rounds
NEAR_RATE = 0.5  # natural log


@dataclass(frozen=True, slots=True)
class Points:
    """Trainings as arrays: names that are equal or not, and numbers."""

    names: dict[str, np.ndarray]
    numbers: dict[str, np.ndarray]

    @property
    def n(self) -> int:
        return len(self.numbers["count"])

    def chosen(self, rows: np.ndarray) -> Points:
        """Return some of them."""
        return Points(
            {name: values[rows] for name, values in self.names.items()},
            {name: values[rows] for name, values in self.numbers.items()},
        )


def points_of(workloads: Sequence[Workload], rounds: Sequence[str]) -> Points:
    """Return trainings as arrays.

    Args:
        rounds: that are learned from, in time. A workload of another round is of the last one before it, of no round
            of the newest.
    """
    devices = [_facts()[each.device] for each in workloads]
    rates = [rate_tflops(device) for device in devices]
    known = [round_number(name) for name in rounds]
    asked = [known[-1] if each.round is None else round_number(each.round) for each in workloads]
    at = [max(0, bisect.bisect(known, each) - 1) for each in asked]
    bandwidths = np.log([device.memory_bandwidth_gbs / MIDDLE_BANDWIDTH_GBS for device in devices])
    memories = np.log([device.memory_gb / MIDDLE_MEMORY_GB for device in devices])
    return Points(
        {
            "benchmark": np.array([each.benchmark for each in workloads]),
            "device": np.array([each.device for each in workloads]),
            "vendor": np.array([device.vendor for device in devices]),
        },
        {
            "count": np.log([each.n_accelerators / MIDDLE_COUNT for each in workloads]) / COUNT_UNIT,
            "rate": np.log([MIDDLE_TFLOPS if rate is None else rate for rate in rates]) - math.log(MIDDLE_TFLOPS),
            "no_rate": np.array([float(rate is None) for rate in rates]),
            "bandwidth": np.clip(bandwidths, *MEMORY_LIMITS),
            "memory": np.clip(memories, *MEMORY_LIMITS),
            "round": (np.array(at, float) - MIDDLE_ROUND) / ROUND_UNIT,
        },
    )


def rate_tflops(device: Gpu) -> float | None:
    """Return the dense rate of a device in 16 bits; None where none is known."""
    return device.fp16_tflops or device.bf16_tflops


@functools.cache
def _facts() -> dict[str, Gpu]:
    return {each.name: each for each in accelerators()}


def term_matrices(one: Points, other: Points) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each term with its covariances for a variance of 1, shape (one.n, other.n)."""
    return _products(lambda factor: _factor(factor, one, other))


def covariance(one: Points, other: Points, variances: Mapping[str, float]) -> np.ndarray:
    """Return the covariances without noise, shape (one.n, other.n)."""
    total = np.zeros((one.n, other.n))
    for term, matrix in term_matrices(one, other):
        total += variances[term] * matrix
    return total


def variance_of(points: Points, variances: Mapping[str, float]) -> np.ndarray:
    """Return the variances without noise, shape (n,): the diagonal of `covariance(points, points)`."""
    squares = _products(lambda factor: points.numbers.get(factor, np.ones(points.n)) ** 2)
    return np.asarray(sum(variances[term] * square for term, square in squares))


def _products(factor: Callable[[str], np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    made = {name: factor(name) for name in dict.fromkeys(" ".join(TERMS).split())}
    for term in TERMS:
        yield term, functools.reduce(np.multiply, (made[name] for name in term.split()))


def _factor(name: str, one: Points, other: Points) -> np.ndarray:
    if name in one.names:
        return np.asarray(one.names[name][:, None] == other.names[name], float)
    if name in one.numbers:
        return np.asarray(np.multiply.outer(one.numbers[name], other.numbers[name]))
    number = name.removeprefix("near_")
    unit = NEAR_RATE if number == "rate" else 1.0
    return np.asarray(np.exp(-np.abs(one.numbers[number][:, None] - other.numbers[number]) / unit))
