"""Knapsack instances for the benchmark: the published A100 table, random families, and two that broke a planner."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.lib.reference_table import published_rows, steady_rows
from epochcast.planner.costs.budget import SECONDS
from epochcast.schema import AggRow

HOUR_SEC, WEEK_SEC = 3600.0, 7 * 86_400.0
Items = tuple[list[int], list[int]]  # costs and values


@dataclass(frozen=True, slots=True)
class Instance:
    """One knapsack. Instances of one case differ in the draw only and share a line of the table."""

    case: str
    group: str  # "A100", "counterexample", or for families the largest cost: "10^3", "10^6", "hard 10^3", ...
    draw: int
    costs: list[int]
    values: list[int]
    budget: int


def a100_instances() -> list[Instance]:
    """Runs of the published configurations, worth their accuracy, for an hour and a week.

    Costs are epochs times time, as the planner was published with, or with start-up and first epoch as measured.
    """
    rows, steady = published_rows(), steady_rows()

    def instance(name: str, rows: list[AggRow], costs_sec: list[float], budget_sec: float, is_in_ms: bool) -> Instance:
        costs = [SECONDS.up(sec) if is_in_ms else math.ceil(sec) for sec in costs_sec]
        budget = SECONDS.down(budget_sec) if is_in_ms else math.floor(budget_sec)
        values = [round(row.acc_mean * 1e6) for row in rows if row.acc_mean is not None]
        assert len(values) == len(costs)
        return Instance(f"{name}, in {'ms' if is_in_ms else 's'}", "A100", 0, costs, values, budget)

    def epochs_only(epochs: int) -> list[float]:
        return [epochs * row.avg_time_mean for row in rows]

    def whole_runs(epochs: int) -> list[float]:
        overhead_sec = statistics.median(r.overhead_sec_mean for r in steady if r.overhead_sec_mean is not None)
        return [
            (overhead_sec if row.overhead_sec_mean is None else row.overhead_sec_mean)
            + (row.avg_time_mean if row.first_epoch_sec_mean is None else row.first_epoch_sec_mean)
            + (epochs - 1) * row.avg_time_mean
            for row in steady
        ]

    return [
        instance("50 epochs, 1 hour", rows, epochs_only(50), HOUR_SEC, False),
        instance("50 epochs, 1 hour", rows, epochs_only(50), HOUR_SEC, True),
        instance("3000 epochs, 1 week", rows, epochs_only(3000), WEEK_SEC, True),
        instance("3 whole epochs, 10 min", steady, whole_runs(3), 600.0, True),
        instance("50 whole epochs, 1 hour", steady, whole_runs(50), HOUR_SEC, True),
        instance("3000 whole epochs, 1 week", steady, whole_runs(3000), WEEK_SEC, True),
    ]


def counterexamples() -> list[Instance]:
    """The two instances that a table with one parent per cell gets wrong: it prints value 2 of 3, and 3 of 5."""
    return [
        Instance("2 items, budget 2", "counterexample", 0, [1, 1], [1, 2], 2),
        Instance("3 items, budget 4", "counterexample", 0, [2, 3, 1], [1, 2, 3], 4),
    ]


def _uncorrelated(n: int, top: int, rng: random.Random) -> Items:
    return [rng.randint(1, top) for _ in range(n)], [rng.randint(1, top) for _ in range(n)]


def _weakly(n: int, top: int, rng: random.Random) -> Items:
    costs = [rng.randint(1, top) for _ in range(n)]
    return costs, [max(1, cost + rng.randint(-top // 10, top // 10)) for cost in costs]


def _strongly(n: int, top: int, rng: random.Random) -> Items:
    costs = [rng.randint(1, top) for _ in range(n)]
    return costs, [cost + top // 10 for cost in costs]


def _inverse_strongly(n: int, top: int, rng: random.Random) -> Items:
    values = [rng.randint(1, top) for _ in range(n)]
    return [value + top // 10 for value in values], values


def _subset_sum(n: int, top: int, rng: random.Random) -> Items:
    costs = [rng.randint(1, top) for _ in range(n)]
    return costs, list(costs)


def _profit_ceiling(n: int, top: int, rng: random.Random) -> Items:
    costs = [rng.randint(1, top) for _ in range(n)]
    return costs, [3 * -(-cost // 3) for cost in costs]


def _circle(n: int, top: int, rng: random.Random) -> Items:
    costs = [rng.randint(1, top) for _ in range(n)]
    return costs, [round(2 / 3 * math.sqrt(4 * top**2 - (cost - 2 * top) ** 2)) for cost in costs]


def _spanner(n: int, top: int, rng: random.Random) -> Items:
    """Each item is 1 to 10 times one of two strongly correlated ones, which are made so small that `top` holds."""
    costs, values = _strongly(2, top, rng)
    choices = [(rng.randint(1, 10), rng.randrange(2)) for _ in range(n)]
    small_costs, small_values = ([max(1, -(-2 * number // 10)) for number in numbers] for numbers in (costs, values))
    return [k * small_costs[i] for k, i in choices], [k * small_values[i] for k, i in choices]


# Pisinger, "Where are the hard knapsack problems?", Computers & Operations Research 32(9), 2005, sections 2 and 5
FAMILIES: dict[str, Callable[[int, int, random.Random], Items]] = {
    "uncorrelated": _uncorrelated,
    "weakly correlated": _weakly,
    "strongly correlated": _strongly,
    "inverse strongly correlated": _inverse_strongly,
    "subset-sum": _subset_sum,
}
HARD_FAMILIES: dict[str, Callable[[int, int, random.Random], Items]] = {
    "profit ceiling (3)": _profit_ceiling,
    "circle (2/3)": _circle,
    "spanner (2, 10), strongly": _spanner,
}


def family_instances(seed: int, sizes: tuple[int, ...], n_draws: int) -> list[Instance]:
    """Costs up to 10^3 and 10^6, budget half their sum; of the hard families at most 2 draws of at most 500 items."""
    instances = []
    for exponent in (3, 6):
        for name, draw_items in (FAMILIES | HARD_FAMILIES).items():
            is_hard = name in HARD_FAMILIES
            group = f"{'hard ' if is_hard else ''}10^{exponent}"
            for n in sizes:
                if is_hard and n > 500:
                    continue
                for draw in range(min(n_draws, 2) if is_hard else n_draws):
                    rng = random.Random(f"{seed} {name} {n} {exponent} {draw}")
                    costs, values = draw_items(n, 10**exponent, rng)
                    instances.append(Instance(f"{name}, n={n}", group, draw, costs, values, sum(costs) // 2))
    return instances
