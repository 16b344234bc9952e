"""How far a run's times will be from what earlier runs of the same configuration took."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from epochcast.facts.assumptions import assumption, device_kind_of
from epochcast.interval import Interval
from epochcast.model.answers.measured import own_interval, steady_range
from epochcast.model.time_model.intervals import HALF_WIDTH_SDS
from epochcast.output.text import percent
from epochcast.schema import AggRow

LEAST_FREEDOM = 5  # degrees of freedom of a pooled spread; with fewer an assumption answers
PARTS = {
    "steady": ("avg_time_mean", "avg_time_std"),
    "first_epoch": ("first_epoch_sec_mean", "first_epoch_sec_std"),
    "overhead": ("overhead_sec_mean", "overhead_sec_std"),
}


@dataclass(frozen=True, slots=True)
class RepeatSpread:
    """Relative standard deviations between repeats of a configuration, and notes on those that are assumptions.

    None where too few were repeated and nothing is assumed for the device.
    """

    sds: dict[str, float | None]
    notes: list[str] = field(default_factory=list)
    pooled: frozenset[str] = frozenset()  # the parts whose spread was measured, on repeats in the rows

    @classmethod
    def of(cls, rows: Sequence[AggRow], device_name: str | None, given: Collection[str] = ()) -> RepeatSpread:
        """Pooled over the repeated configurations of the rows; where those are too few, as assumed for the device.

        Of the parts that a user gives there is nothing to tell.
        """
        sds: dict[str, float | None] = {}
        pooled: set[str] = set()
        assumed: dict[str, float] = {}
        kind = device_kind_of(device_name)
        for part, (mean, std) in PARTS.items():
            if part in given:
                continue
            pairs = [
                (r.n - 1, getattr(r, mean), getattr(r, std))
                for r in rows
                if getattr(r, std) is not None and getattr(r, mean) > 0
            ]
            freedom = sum(n for n, _, _ in pairs)
            if freedom >= LEAST_FREEDOM:
                sds[part] = math.sqrt(sum(n * (s / m) ** 2 for n, m, s in pairs) / freedom)
                pooled.add(part)
                continue
            try:
                sds[part] = assumed[part] = assumption(f"repeat_sd_{part}", kind).value
            except KeyError:
                sds[part] = None
        notes = []
        if assumed:
            words = ", ".join(f"{part.replace('_', ' ')} {percent(sd)}" for part, sd in assumed.items())
            notes.append(f"too few repeats to tell their spread: assumed for a {kind}: {words} (standard deviations)")
        own = [own_interval(row, sds["steady"], "steady" in pooled) for row in rows]
        if wide := [half for half in own if half is not None]:
            notes.append(
                f"steady times of {len(wide)} of {len(rows)} measured configurations vary more within their own runs: "
                f"their own 95 % intervals count, up to ±{percent(max(wide))}"
            )
        return cls(sds, notes, frozenset(pooled))

    def steady(self, row: AggRow) -> Interval:
        """The steady time of the next run, with its interval where the spread is known."""
        return steady_range(row, self.sds["steady"], "steady" in self.pooled, is_next_run=True)

    def overhead(self, row: AggRow) -> Interval:
        """The overhead of the next run of a row that knows it."""
        assert row.overhead_sec_mean is not None
        return self._next("overhead", row, row.overhead_sec_mean)

    def first_epoch(self, row: AggRow) -> Interval:
        """The first epoch of the next run of a row that knows it; never quicker than a steady one."""
        assert row.first_epoch_sec_mean is not None
        return self._next("first_epoch", row, max(row.first_epoch_sec_mean, row.avg_time_mean))

    def _next(self, part: str, row: AggRow, mean: float) -> Interval:
        # a new run about the mean of n: the variance of one and that of the mean
        sd = self.sds[part]
        return Interval.of_factor(mean, None if sd is None else HALF_WIDTH_SDS * sd * math.sqrt(1 + 1 / row.n))
