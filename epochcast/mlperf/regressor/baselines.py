"""The plainest answers, beside which the regressor is judged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from epochcast.mlperf.regressor.covariance import Points, points_of
from epochcast.mlperf.regressor.entries import EntryMedian, Workload


class PlainLaw:
    """A power law by least squares over count and rate, an offset a benchmark."""

    def __init__(self, entries: Sequence[EntryMedian], rounds: Sequence[str]) -> None:
        self._rounds = rounds
        self._benchmarks = sorted({each.benchmark for each in entries})
        self._entries = entries
        self._logs = np.log([each.time_sec for each in entries])
        self._points = points_of([each.workload for each in entries], rounds)
        self._coefficients = np.linalg.lstsq(self._columns(self._points), self._logs)[0]

    def by_law(self, workloads: Sequence[Workload]) -> np.ndarray:
        """Return log times by the law."""
        return np.asarray(self._columns(points_of(workloads, self._rounds)) @ self._coefficients)

    def by_nearest(self, workloads: Sequence[Workload]) -> np.ndarray:
        """Return the nearest entries' median log time, moved by the law.

        Of a configuration with entries it is a lookup of them.
        """
        asked = points_of(workloads, self._rounds)
        law = self._columns(self._points) @ self._coefficients
        answers = []
        for i, log in enumerate(self._columns(asked) @ self._coefficients):
            same = np.flatnonzero(self._points.names["benchmark"] == asked.names["benchmark"][i])
            apart = sum(
                np.abs(self._points.numbers[name][same] - asked.numbers[name][i])
                for name in ("count", "rate", "no_rate", "bandwidth")
            )
            nearest = same[np.isclose(apart, np.min(apart))]
            answers.append(log + np.median(self._logs[nearest] - law[nearest]))
        return np.array(answers)

    def _columns(self, points: Points) -> np.ndarray:
        own = points.names["benchmark"][:, None] == np.array(self._benchmarks)
        return np.column_stack([own, *(points.numbers[name] for name in ("count", "rate", "no_rate"))]).astype(float)
