"""A question in plain words, answered with what was read and what it rests on."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from epochcast.interval import coverage_text, with_ends
from epochcast.mlperf.query.parse import parse_query
from epochcast.mlperf.query.query import Query
from epochcast.mlperf.regressor.entries import Workload
from epochcast.mlperf.regressor.ranges import NEW_DEVICE
from epochcast.mlperf.regressor.regressor import TimeEstimate, TimeRegressor
from epochcast.mlperf.regressor.stored import SHIPPED, load_regressor
from epochcast.output.text import clock, percent, range_text, significant, table_text

SEC_PER_HOUR = 3600
FEW_ENTRIES = 10  # of a benchmark: the error of fewer says little


@dataclass(frozen=True, slots=True)
class MlperfAnswer:
    """What is predicted for a question."""

    query: Query
    estimate: TimeEstimate
    rounds: tuple[str, ...]  # that were learned from
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        found = self.estimate
        hours = found.seconds.times(self.query.count.value / SEC_PER_HOUR)
        return {
            "query": self.query.to_json(),
            **with_ends("seconds", found.seconds),
            **with_ends("accelerator_hours", hours),
            "basis": found.basis,
            "benchmark_error": found.benchmark_error,
            "rounds": list(self.rounds),
            "nearest": [asdict(each) for each in found.nearest],
            "warnings": list(self.warnings),
        }


class MlperfPredictor:
    """Answers questions about the time of published benchmarks."""

    def __init__(self, folder: Path = SHIPPED) -> None:
        self._folder = folder

    @functools.cached_property
    def regressor(self) -> TimeRegressor:
        """What answers; loaded once, when it is first needed."""
        return load_regressor(self._folder)

    def predict(self, question: str) -> MlperfAnswer:
        """Return the answer to a question such as `BERT on 8 A100 GPUs`.

        Raises:
            QueryError: if the question can't be answered.
        """
        query = parse_query(question, self.regressor.benchmarks)
        benchmark, count = query.benchmark.value, query.count.value
        estimate = self.regressor.estimate(Workload(benchmark, query.device.value, count))
        same = [each for each in self.regressor.entries if each.benchmark == benchmark]
        counts = [each.n_accelerators for each in same]
        warnings = []
        if not min(counts) <= count <= max(counts):
            warnings.append(f"{count:,} is outside the counts of its entries, {min(counts):,} to {max(counts):,}")
        if len(same) < FEW_ENTRIES:
            warnings.append(f"only {len(same)} entries of {benchmark}: the range is a guess")
        if estimate.basis == NEW_DEVICE:
            warnings.append(f"no entry on {query.device.value}: the time is by its data sheet")
        if query.unread:
            warnings.append(f"not read: {', '.join(query.unread)}")
        return MlperfAnswer(query, estimate, tuple(self.regressor.rounds), tuple(warnings))


def answer_text(answer: MlperfAnswer) -> str:
    """Return the answer for people: the time first, then its range, then what it rests on."""
    found, query = answer.estimate, answer.query
    seconds, count = found.seconds, query.count.value
    hours = seconds.value * count / SEC_PER_HOUR
    lines = [
        f"{query.benchmark.value} on {count:,} {query.device.value}: {clock(seconds.value)} "
        f"({significant(seconds.value)} s), {significant(hours)} accelerator hours",
        f"{coverage_text()} range: {range_text(seconds.low, seconds.high)} s ({found.basis})",
        f"entries of {query.benchmark.value} left out are missed by {percent(found.benchmark_error)} (median)",
        *(f"assumed: {note}" for note in query.notes),
        *(f"warning: {warning}" for warning in answer.warnings),
        "",
        f"nearest entries, of rounds {answer.rounds[0]} to {answer.rounds[-1]}:",
        table_text(
            ("round", "submitter", "system", "device", "n", "median s", "runs"),
            [
                [each.round, each.submitter, each.system, each.device, each.n_accelerators, each.time_sec, each.runs]
                for each in found.nearest
            ],
        ),
    ]
    return "\n".join(lines)
