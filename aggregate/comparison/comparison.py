"""The same configurations under two conditions or on two machines: what really differs, and by how much."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from epochcast.aggregate.comparison.sides import (
    Side,
    differ_by_times_alone,
    energy_of,
    require_same_work,
    shared_runs,
    what_differs,
)
from epochcast.aggregate.comparison.spread import SideSpread
from epochcast.aggregate.comparison.stats import VERDICTS, Overall, TimeDifference, overall, time_differences
from epochcast.schema import RunConfig

ONLY_TIMES_DIFFER = "nothing recorded differs; measured at other times"


@dataclass(frozen=True, slots=True)
class Compared:
    """One configuration that was measured on both sides; times are geometric means of its runs."""

    config: RunConfig
    n_a: int
    n_b: int
    sec_a: float
    sec_b: float
    difference: TimeDifference
    energy_ratio: float | None  # b / a, of board energy per epoch


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides, configuration by configuration and together."""

    a: Side
    b: Side
    spread_a: SideSpread
    spread_b: SideSpread
    rows: list[Compared]
    overall: Overall
    energy: Overall | None  # None where no configuration has measured energy on both sides
    differing: dict[str, tuple[str, str]]
    n_shared: int  # runs that stand on both sides
    only_times_differ: bool  # nothing recorded tells the sides apart: nothing is named

    @property
    def verdicts(self) -> dict[str, int]:
        """How many configurations got each verdict."""
        counts = Counter(row.difference.verdict for row in self.rows)
        return {name: counts[name] for name in VERDICTS}

    def n_one_sided(self, side: Side) -> int:
        """Runs of configurations that the other side lacks."""
        return sum(map(len, side.runs.values())) - self.n_compared(side)

    def n_compared(self, side: Side) -> int:
        return sum(len(side.runs[row.config]) for row in self.rows)


def compare(a: Side, b: Side) -> Comparison:
    """Compare the configurations that both sides measured.

    Raises:
        ValueError: if there is none, or an epoch is not the same work on both sides.
    """
    require_same_work(a, b)
    runs_a, runs_b = a.measured, b.measured
    common = [config for config in runs_a if config in runs_b]
    if not common:
        raise ValueError(
            f"no configuration was measured on both sides: {len(runs_a)} on side a ({a.path}), {len(runs_b)} on side b "
            f"({b.path}). Measure the same grid on both."
        )
    spread_a, spread_b = a.spread(), b.spread()
    found = time_differences([(runs_a[config], runs_b[config]) for config in common], spread_a, spread_b)
    only_times_differ = differ_by_times_alone(a, b) and any(a.runs[c] != b.runs[c] for c in common)
    rows = []
    for config, difference in zip(common, found, strict=True):
        if only_times_differ and a.runs[config] != b.runs[config]:
            difference = replace(difference, verdict="undecided", needed_runs=None, why_undecided=ONLY_TIMES_DIFFER)
        sec_a, sec_b = (math.exp(statistics.fmean(run.log_sec for run in runs[config])) for runs in (runs_a, runs_b))
        joules_a, joules_b = energy_of(a.runs[config]), energy_of(b.runs[config])
        energy_ratio = None if joules_a is None or joules_b is None else joules_b / joules_a
        n_a, n_b = len(runs_a[config]), len(runs_b[config])
        rows.append(Compared(config, n_a, n_b, sec_a, sec_b, difference, energy_ratio))
    energy_ratios = [row.energy_ratio for row in rows if row.energy_ratio is not None]

    def together(log_ratios: Sequence[float]) -> Overall:
        all_of_it = overall(log_ratios)
        return replace(all_of_it, verdict="undecided") if only_times_differ else all_of_it

    return Comparison(
        a=a,
        b=b,
        spread_a=spread_a,
        spread_b=spread_b,
        rows=rows,
        overall=together([row.difference.log_ratio for row in rows]),
        energy=together([math.log(ratio) for ratio in energy_ratios]) if energy_ratios else None,
        differing=what_differs(a, b),
        n_shared=shared_runs(a, b),
        only_times_differ=only_times_differ,
    )
