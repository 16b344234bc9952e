"""Steady times of the runs of a table, each judged with the noise of the other runs of its conditions.

What a row states of itself was right by the rule and the table of its day; whatever averages or compares reads the
epochs again, here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from epochcast.schema import UNCLEAN_FLAGS, Conditions, RunRecord
from epochcast.steady_time import SteadyTime, steady_times

READ_AGAIN = frozenset({"stalled", "unstable"})  # flags that follow from the epochs
RECORDED_FLAGS = UNCLEAN_FLAGS - READ_AGAIN  # these say what else went on, which no later reader can know


class SteadyRows:
    """The steady time of each of some runs, looked up by the run itself."""

    def __init__(self, records: Iterable[RunRecord]) -> None:
        groups: dict[Conditions, list[RunRecord]] = defaultdict(list)
        for record in records:
            groups[record.conditions].append(record)
        self._steady: dict[int, tuple[RunRecord, SteadyTime]] = {}
        for group in groups.values():
            found = steady_times([record.epoch_times_json for record in group])
            self._steady |= {id(record): (record, steady) for record, steady in zip(group, found, strict=True)}

    def of(self, record: RunRecord) -> SteadyTime:
        """The steady time of one of the runs; in windows where the run was timed in windows."""
        return self._steady[id(record)][1]

    def full_epoch_sec(self, record: RunRecord) -> float:
        """The steady seconds of a full epoch."""
        return self.of(record).sec * record.window_factor

    def is_clean(self, record: RunRecord) -> bool:
        """Whether nothing disturbed a run so that its time should not enter a mean next to others."""
        return RECORDED_FLAGS.isdisjoint(record.flags) and not self.of(record).is_unstable
