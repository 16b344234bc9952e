"""The knapsack solver against enumeration, a dense dynamic programme and the published A100 table."""

from __future__ import annotations

import csv
import functools
import math
import random
from pathlib import Path

import numpy as np
import pytest

from planner.knapsack import Solution, budget_milliseconds, solve, to_milliseconds_up

Instance = tuple[list[int], list[int], int]


def small_instance(rng: random.Random) -> Instance:
    """Up to 11 items in random order, from families with zeros, ties, no slack or numbers near the 64-bit limit."""
    n = rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11])
    top = rng.choice([2, 5, 30, 1000, 10**8])
    costs = [rng.randint(0, top) for _ in range(n)]
    family = rng.randrange(5)
    if family == 0:
        values = [rng.randint(0, top) for _ in range(n)]
    elif family == 1:
        values = [cost + top // 10 for cost in costs]
    elif family == 2:
        values = list(costs)
    elif family == 3:
        values = [rng.randint(0, 3) for _ in range(n)]
    else:
        values = [rng.randint(0, 10**11) for _ in range(n)]
    return costs, values, rng.randint(0, sum(costs) + 1)


@functools.cache
def subsets(n: int) -> np.ndarray:
    """Every subset of n items, shape (2**n, n), 0 or 1."""
    return (np.arange(2**n)[:, np.newaxis] >> np.arange(n)) & 1


def best_value_by_enumeration(costs: list[int], values: list[int], budget: int) -> int:
    chosen = subsets(len(costs))
    return int((chosen @ np.array(values))[chosen @ np.array(costs) <= budget].max())


def best_values_by_dense_programme(costs: list[int], values: list[int], budget: int) -> np.ndarray:
    """The best value at every budget from 0 to `budget`, one table cell per unit of cost."""
    best = np.zeros(budget + 1, dtype=np.int64)
    for cost, value in zip(costs, values, strict=True):
        if cost <= budget:
            best[cost:] = np.maximum(best[cost:], best[: budget + 1 - cost] + value)
    return best


def medium_instance(seed: int) -> Instance:
    """100 to 200 items in random order: more than the solver remembers in one block of choices."""
    rng = random.Random(seed)
    n = rng.randint(100, 200)
    costs = [rng.randint(1, 100) for _ in range(n)]
    noise = [0, 3, 100][seed % 3]  # value follows cost exactly, nearly, not at all
    values = [rng.randint(1, 100) if noise == 100 else cost + 10 + rng.randint(0, noise) for cost in costs]
    return costs, values, int(sum(costs) * rng.uniform(0.05, 0.95))


def check_set(solution: Solution, costs: list[int], values: list[int], budget: int) -> None:
    """The set is a set, fits, and is worth what the solution says."""
    assert list(solution.indices) == sorted(set(solution.indices))
    assert solution.cost == sum(costs[i] for i in solution.indices) <= budget
    assert solution.value == sum(values[i] for i in solution.indices) <= solution.bound


@pytest.mark.parametrize("seed", range(20))
def test_solution_is_as_good_as_enumeration_in_any_order_of_items(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        costs, values, budget = small_instance(rng)
        solution = solve(costs, values, budget)
        check_set(solution, costs, values, budget)
        assert solution.is_proven
        assert solution.bound == solution.value == best_value_by_enumeration(costs, values, budget)


@pytest.mark.parametrize(
    ("costs", "values", "budget", "indices"),
    [
        ([1, 1], [1, 2], 2, (0, 1)),
        ([2, 3, 1], [1, 2, 3], 4, (1, 2)),
    ],
)
def test_counterexamples_to_one_parent_per_budget(
    costs: list[int], values: list[int], budget: int, indices: tuple[int, ...]
) -> None:
    """A table that keeps only the last item of each cell gives the right value here and the wrong set."""
    solution = solve(costs, values, budget)
    assert solution.indices == indices
    check_set(solution, costs, values, budget)


@pytest.mark.parametrize("seed", range(24))
def test_solution_is_as_good_as_a_dense_programme(seed: int) -> None:
    costs, values, budget = medium_instance(seed)
    solution = solve(costs, values, budget)
    check_set(solution, costs, values, budget)
    assert solution.is_proven
    assert solution.value == best_values_by_dense_programme(costs, values, budget)[-1]


@pytest.mark.parametrize("seed", range(10))
def test_more_budget_never_lowers_the_value(seed: int) -> None:
    costs, values, budget = medium_instance(seed)
    best = best_values_by_dense_programme(costs, values, budget)
    budgets = range(0, budget + 1, 1 + budget // 40)
    found = [solve(costs, values, b).value for b in budgets]
    assert found == sorted(found)
    assert found == [best[b] for b in budgets]


@pytest.mark.parametrize("seed", range(10))
def test_value_does_not_depend_on_the_order_of_items(seed: int) -> None:
    costs, values, budget = medium_instance(seed)
    order = list(range(len(costs)))
    random.Random(seed).shuffle(order)
    shuffled = solve([costs[i] for i in order], [values[i] for i in order], budget)
    assert shuffled.value == solve(costs, values, budget).value


def test_same_input_gives_the_same_set() -> None:
    costs, values, budget = medium_instance(0)
    assert solve(costs, values, budget) == solve(np.array(costs), np.array(values), np.int64(budget))  # type: ignore[arg-type]  # arrays work too


@pytest.mark.parametrize("seed", range(30))
def test_state_cap_leaves_a_set_that_fits_and_a_bound_that_holds(seed: int) -> None:
    costs, values, budget = medium_instance(seed)
    optimum = best_values_by_dense_programme(costs, values, budget)[-1]
    for state_cap in (0, 1, 2, 20):
        solution = solve(costs, values, budget, state_cap=state_cap)
        check_set(solution, costs, values, budget)
        assert solution.value <= optimum <= solution.bound
        assert solution.is_proven == (solution.value == solution.bound)
        assert solution.max_states <= state_cap


def test_set_is_not_called_proven_when_the_cap_was_hit() -> None:
    rng = random.Random(0)
    costs = [rng.randint(1, 10_000) for _ in range(40)]
    values = [cost + 1000 for cost in costs]
    budget = sum(costs) // 2
    capped, full = (solve(costs, values, budget, state_cap=cap) for cap in (50, 10**6))
    check_set(capped, costs, values, budget)
    assert full.is_proven
    assert full.value == best_values_by_dense_programme(costs, values, budget)[-1]
    assert not capped.is_proven
    assert capped.value <= full.value <= capped.bound
    assert capped.value < capped.bound


@pytest.mark.parametrize(
    ("costs", "values", "budget", "indices"),
    [
        ([], [], 10, ()),
        ([], [], 0, ()),
        ([1, 0, 0], [5, 3, 0], 0, (1,)),  # free items need no budget; worthless ones are never taken
        ([0, 0], [1, 2], 5, (0, 1)),
        ([11, 12], [5, 6], 10, ()),
        ([11, 10], [500, 1], 10, (1,)),
        ([10**30, 1], [10**30, 1], 10, (1,)),  # too dear to matter, however large
        ([4, 4], [0, 0], 10, ()),
        ([1, 2, 3], [1, 1, 1], 10**30, (0, 1, 2)),
    ],
)
def test_edge_cases(costs: list[int], values: list[int], budget: int, indices: tuple[int, ...]) -> None:
    solution = solve(costs, values, budget)
    assert solution.indices == indices
    assert solution.is_proven
    check_set(solution, costs, values, budget)


def test_equal_items_are_taken_as_often_as_they_fit() -> None:
    solution = solve([3] * 100, [7] * 100, 100)
    assert (len(solution.indices), solution.value, solution.cost) == (33, 231, 99)
    assert solution.max_states <= 34  # one state per number of items, however many sets of that size there are


@pytest.mark.parametrize(
    ("costs", "values", "budget", "message"),
    [
        ([1, -2], [1, 1], 3, r"costs\[1\].*-2"),
        ([1, 2], [-1, 1], 3, r"values\[0\].*-1"),
        ([1, 2.0], [1, 1], 3, r"costs\[1\].*2\.0"),
        ([1, 2], [1, math.nan], 3, r"values\[1\].*nan"),
        ([1, None], [1, 1], 3, r"costs\[1\].*None"),
        ([1, 2], [1, 1], -1, "budget.*-1"),
        ([1, 2], [1, 1], 3.5, r"budget.*3\.5"),
        ([1, 2], [1], 3, "2 costs, 1 values"),
        ([1, 1], [2**61, 2**61], 2, "64-bit"),
        ([2**61, 2**61], [1, 1], 2**62, "64-bit"),
        ([2**40, 1], [2**40 - 1, 1], 2**41, "64-bit"),
    ],
)
def test_bad_input_is_refused_with_its_place(costs: list[int], values: list[int], budget: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solve(costs, values, budget)


def test_numbers_just_inside_64_bits_are_exact() -> None:
    unit = 2**59 // 3
    solution = solve([3, 2, 2], [3 * unit + 1, 2 * unit, 2 * unit], 4)
    assert (solution.value, solution.indices, solution.is_proven) == (4 * unit, (1, 2), True)


class Shifting(list[int]):
    """Numbers that differ between the first reading and the second."""

    def __getitem__(self, i: int) -> int:  # type: ignore[override]  # slices are not used
        return super().__getitem__(i) + 1


def test_set_that_does_not_sum_to_its_promise_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="promised value 3"):
        solve([1, 1], Shifting([1, 2]), 2)
    with pytest.raises(RuntimeError, match="cost 4"):
        solve(Shifting([1, 1]), [1, 2], 2)


@pytest.mark.parametrize(
    ("sec", "up", "down"),
    [
        (0, 0, 0),
        (0.0, 0, 0),
        (0.001, 1, 1),
        (1.001, 1001, 1001),
        (0.0010001, 2, 1),
        (0.1 + 0.2, 301, 300),  # prints as 0.30000000000000004
        (1e-9, 1, 0),
        (3600, 3_600_000, 3_600_000),
        (18.7404, 18741, 18740),
        (1e12, 10**15, 10**15),
        (np.float64(0.007), 7, 7),
    ],
)
def test_seconds_become_milliseconds_on_the_safe_side(sec: float, up: int, down: int) -> None:
    assert to_milliseconds_up(sec) == up
    assert budget_milliseconds(sec) == down


def test_every_whole_millisecond_survives_its_float() -> None:
    assert all(to_milliseconds_up(ms / 1000) == ms == budget_milliseconds(ms / 1000) for ms in range(20_000))


@pytest.mark.parametrize("sec", [-0.001, math.nan, math.inf, -math.inf])
def test_impossible_seconds_are_refused(sec: float) -> None:
    for convert in (to_milliseconds_up, budget_milliseconds):
        with pytest.raises(ValueError, match="finite number of seconds"):
            convert(sec)


def test_hour_of_fifty_epoch_runs_on_the_published_a100_table(reference_data: Path) -> None:
    """The same table and budget for which a plan of one run was once published: 46 runs fit."""
    with (reference_data / "a100" / "runs_agg.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if float(row["acc_mean"]) >= 0.60]
    times_sec = [50 * float(row["avg_time_mean"]) for row in rows]
    accuracies = [float(row["acc_mean"]) for row in rows]
    costs = [to_milliseconds_up(sec) for sec in times_sec]
    values = [round(accuracy * 1e6) for accuracy in accuracies]
    solution = solve(costs, values, budget_milliseconds(3600))
    check_set(solution, costs, values, 3_600_000)
    assert len(rows) == 67
    assert solution.is_proven
    assert len(solution.indices) == 46
    assert sum(times_sec[i] for i in solution.indices) <= 3600
    assert sum(accuracies[i] for i in solution.indices) == pytest.approx(31.2, abs=0.05)  # published to one decimal
