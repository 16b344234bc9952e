"""The knapsack solver against enumeration, a dense dynamic programme, HiGHS and the published A100 table."""

from __future__ import annotations

import csv
import functools
import math
import random
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from epochcast.planner.costs.budget import SECONDS
from epochcast.planner.plan.knapsack import Solution, front, solve

Instance = tuple[list[int], list[int], int]

FAMILIES = ("uncorrelated", "weakly", "strongly", "inverse strongly", "subset-sum")


def family_items(family: str, n: int, top: int, rng: random.Random) -> tuple[list[int], list[int]]:
    """Costs and values of the families of Pisinger (Computers & Operations Research 32(9), 2005); costs from 1."""
    costs = [rng.randint(1, top) for _ in range(n)]
    if family == "uncorrelated":
        return costs, [rng.randint(1, top) for _ in costs]
    if family == "weakly":
        return costs, [max(1, cost + rng.randint(-top // 10, top // 10)) for cost in costs]
    if family == "strongly":
        return costs, [cost + top // 10 for cost in costs]
    if family == "inverse strongly":
        return [cost + top // 10 for cost in costs], costs
    assert family == "subset-sum"
    return costs, list(costs)


def small_instance(rng: random.Random) -> Instance:
    """Up to 11 items in random order, from families with zeros, ties, no slack or numbers near the 64-bit limit."""
    n = rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11])
    top = rng.choice([2, 5, 30, 1000, 10**8])
    family = rng.choice([*FAMILIES, "few values", "large values"])
    if family in FAMILIES:
        costs, values = family_items(family, n, top, rng)
        if rng.random() < 0.3:
            costs[rng.randrange(n)] = values[rng.randrange(n)] = 0
    else:
        costs = [rng.randint(0, top) for _ in range(n)]
        values = [rng.randint(0, 3 if family == "few values" else 10**11) for _ in costs]
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


def medium_instance(seed: int, n_items: tuple[int, int] = (100, 200), top: int = 100) -> Instance:
    """100 to 200 items of one family, in turn, in random order; one in three counts its values in a finer unit."""
    rng = random.Random(seed)
    costs, values = family_items(FAMILIES[seed % len(FAMILIES)], rng.randint(*n_items), top, rng)
    unit = 1000 if seed % 3 == 0 else 1
    return costs, [unit * value for value in values], int(sum(costs) * rng.uniform(0.05, 0.95))


def late_instance(seed: int, n_items: int) -> Instance:
    """Value is cost, in thousands; only the last item without the first one reaches the odd rest of the budget.

    All bounds equal the budget and nothing is settled early. The solver decides from the middle outwards, so it comes
    to these two at the end. For even seeds all other items are equal: the best set holds all decided in the first half.
    """
    rng = random.Random(seed)
    costs = [1000 * rng.randint(1, 1 if seed % 2 == 0 else 20) for _ in range(n_items - 2)]
    costs = [1003, *costs, 1005]
    return costs, list(costs), sum(costs) // 2000 * 1000 + 5


def check_set(solution: Solution, costs: list[int], values: list[int], budget: int) -> None:
    """The set is a set, fits, and is worth what the solution says."""
    assert list(solution.indices) == sorted(set(solution.indices))
    assert solution.cost == sum(costs[i] for i in solution.indices) <= budget
    assert solution.value == sum(values[i] for i in solution.indices) <= solution.bound


def check_is_optimal(solution: Solution, costs: list[int], values: list[int], budget: int) -> None:
    check_set(solution, costs, values, budget)
    assert solution.is_proven
    assert solution.value == best_values_by_dense_programme(costs, values, budget)[-1]


@pytest.mark.parametrize("seed", range(5))
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
    check_is_optimal(solve(costs, values, budget), costs, values, budget)


@pytest.mark.parametrize("state_cap", [0, 1, 3])
@pytest.mark.parametrize("seed", range(15))
def test_table_answers_where_the_lists_may_not_grow(seed: int, state_cap: int) -> None:
    """Also where all costs have a common divisor, which the table divides by, and on the smallest instances."""
    for costs, values, budget in (medium_instance(seed), medium_instance(seed, (1, 12)), medium_instance(seed, (2, 9))):
        check_is_optimal(solve(costs, values, budget, state_cap=state_cap), costs, values, budget)
        thousands = [1000 * cost for cost in costs]
        solution = solve(thousands, values, 1000 * budget + 999, state_cap=state_cap, table_bytes=2**21)
        check_set(solution, thousands, values, 1000 * budget + 999)
        assert solution.is_proven
        assert solution.value == best_values_by_dense_programme(costs, values, budget)[-1]


def test_table_leaves_out_open_items_that_no_longer_fit() -> None:
    """The first and third item are settled in; the others fit the budget, but one of them not beside those."""
    solution = solve([33, 11, 3, 10, 63, 44, 39], [43, 21, 13, 20, 73, 54, 49], 98, state_cap=0)
    check_is_optimal(solution, [33, 11, 3, 10, 63, 44, 39], [43, 21, 13, 20, 73, 54, 49], 98)
    rng = random.Random(1)
    for _ in range(400):
        costs, values = family_items(rng.choice(FAMILIES), rng.randint(3, 10), 30, rng)
        budget = int(sum(costs) * rng.uniform(0.05, 0.95))
        solution = solve(costs, values, budget, state_cap=0)
        assert solution.is_proven
        assert solution.value == best_value_by_enumeration(costs, values, budget)


def test_table_confirms_a_set_that_was_already_the_best() -> None:
    """The bound of the fractional knapsack stays above the best set, so only a full search can tell."""
    costs, values, budget = [7, 5, 8, 5], [8, 8, 8, 7], 8
    solution = solve(costs, values, budget, state_cap=0)
    assert (solution.value, solution.is_proven) == (8, True)
    unproven = solve(costs, values, budget, state_cap=0, table_bytes=0)
    assert unproven.value == 8 < unproven.bound


@pytest.mark.parametrize("n_items", [64, 100, 150, 200, 300])
def test_sets_are_rebuilt_across_blocks_of_decisions(n_items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In full blocks of 62 decisions, and in blocks so small that short searches cross many of them."""
    for seed in range(3):
        costs, values, budget = late_instance(seed, n_items)
        solution = solve(costs, values, budget, table_bytes=0)
        check_set(solution, costs, values, budget)
        assert (solution.value, solution.is_proven) == (budget, True)
        assert {0, n_items - 1} & set(solution.indices) == {n_items - 1}
    for block in (1, 2, 5):
        monkeypatch.setattr("epochcast.planner.plan.knapsack._BLOCK", block)
        for seed in range(2):  # one of each kind of late instance
            for small in (medium_instance(n_items + seed, (20, 90)), late_instance(seed, 40)):
                check_is_optimal(solve(*small, table_bytes=0), *small)


@pytest.mark.parametrize("bound_from", [0, 10**9])
@pytest.mark.parametrize("seed", range(6))
def test_solution_is_as_good_with_the_bound_on_the_number_of_items_as_without(
    seed: int, bound_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Always on and never on: a bound that is too tight would lose the best set."""
    monkeypatch.setattr("epochcast.planner.plan.knapsack._COUNT_BOUND_FROM", bound_from)
    for k in range(7):
        costs, values, budget = medium_instance(7 * seed + k, (15, 80), 60)
        check_is_optimal(solve(costs, values, budget, table_bytes=0), costs, values, budget)
    for k in range(50):
        costs, values, budget = medium_instance(50 * seed + k, (4, 11), 30)
        solution = solve(costs, values, budget, table_bytes=0)
        assert solution.is_proven
        assert solution.value == best_value_by_enumeration(costs, values, budget)


@pytest.mark.parametrize("bound_from", [0, 10**9])
@pytest.mark.parametrize(("top_cost", "top_value"), [(2**30, 2**57), (2**57, 8), (2**30, 2**32), (1000, 2**57)])
def test_numbers_near_the_limit_do_not_overflow(
    top_cost: int, top_value: int, bound_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("epochcast.planner.plan.knapsack._COUNT_BOUND_FROM", bound_from)
    rng = random.Random(top_cost + top_value)
    for _ in range(30):
        n = rng.randint(5, 11)
        costs = [rng.randint(top_cost // 2, top_cost) for _ in range(n)]
        values = [rng.randint(1 + top_value // 2, top_value) for _ in range(n)]
        budget = int(sum(costs) * rng.uniform(0.2, 0.8))
        solution = solve(costs, values, budget)
        check_set(solution, costs, values, budget)
        assert solution.is_proven
        assert solution.value == best_value_by_enumeration(costs, values, budget)


@pytest.mark.parametrize("seed", range(5))
def test_bounds_hold_where_both_kinds_stop_unproven(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epochcast.planner.plan.knapsack._COUNT_BOUND_FROM", 0)
    for k in range(10):
        costs, values, budget = medium_instance(10 * seed + k, (15, 80), 60)
        optimum = best_values_by_dense_programme(costs, values, budget)[-1]
        for state_cap in (0, 1, 5):
            solution = solve(costs, values, budget, state_cap=state_cap, table_bytes=0)
            check_set(solution, costs, values, budget)
            assert solution.value <= optimum <= solution.bound


@pytest.mark.parametrize("family", ["strongly", "inverse strongly"])
@pytest.mark.parametrize("value_unit", [1, 1000, 10**9])
@pytest.mark.parametrize("cost_unit", [1, 1000])
def test_the_units_of_cost_and_value_do_not_matter(family: str, value_unit: int, cost_unit: int) -> None:
    """These are proven by the number of items alone, whose charge must be found in any unit."""
    costs, values = family_items(family, 500, 10**6, random.Random(1))
    budget = sum(costs) // 2
    plain = solve(costs, values, budget)
    scaled = solve([cost_unit * c for c in costs], [value_unit * v for v in values], cost_unit * budget)
    assert plain.is_proven
    assert scaled.is_proven
    assert scaled.value == value_unit * plain.value
    assert scaled.max_states < 20_000


@pytest.mark.parametrize("seed", range(20))  # each family with and without free and worthless items
def test_front_is_the_best_value_at_every_budget(seed: int) -> None:
    costs, values, budget = medium_instance(seed, (1, 60), 40)
    if seed % 4 == 0:
        costs[0], values[-1] = 0, 0
    at, best = front(costs, values, budget)
    assert (at[0], *np.diff(at).clip(max=1), *np.diff(best).clip(max=1)) == (0, *[1] * 2 * (len(at) - 1))
    every_budget = best[np.searchsorted(at, np.arange(budget + 1), side="right") - 1]
    assert every_budget.tolist() == best_values_by_dense_programme(costs, values, budget).tolist()
    for b in {0, budget, *at[:: 1 + len(at) // 10].tolist(), *(at[:: 1 + len(at) // 10] - 1).clip(0).tolist()}:
        assert solve(costs, values, b).value == every_budget[b]


def test_front_of_nothing_of_free_items_and_of_items_too_dear() -> None:
    for costs, values, budget, expected in (
        ([], [], 5, ([0], [0])),
        ([0, 0], [2, 3], 0, ([0], [5])),
        ([6, 10**30], [9, 10**30], 5, ([0], [0])),
        ([6, 1], [9, 0], 10**30, ([0, 6], [0, 9])),
    ):
        at, best = front(costs, values, budget)
        assert (at.tolist(), best.tolist()) == expected
    with pytest.raises(ValueError, match="64-bit"):
        front([1, 1], [2**61, 2**61], 2)
    with pytest.raises(ValueError, match=r"values\[1\].*-3"):
        front([1, 1], [2, -3], 2)


@pytest.mark.parametrize("n_items", [50, *(pytest.param(n, marks=pytest.mark.slow) for n in (200, 500))])
@pytest.mark.parametrize("family", FAMILIES)
def test_solution_is_as_good_as_what_milp_proves(family: str, n_items: int) -> None:
    """HiGHS with no gap, 2 s; where it proves nothing, the dense programme still does."""
    rng = random.Random(f"{family} {n_items}")
    costs, values = family_items(family, n_items, 1000, rng)
    budget = sum(costs) // 2
    solution = solve(costs, values, budget)
    check_is_optimal(solution, costs, values, budget)
    result = milp(
        -np.array(values, float),
        constraints=LinearConstraint(np.array([costs], float), ub=budget),
        integrality=np.ones(n_items),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0, "time_limit": 2},
    )
    if result.status == 0:
        assert solution.value == round(-result.fun)


@pytest.mark.parametrize("seed", range(5))  # one of each family
def test_more_budget_never_lowers_the_value(seed: int) -> None:
    costs, values, budget = medium_instance(seed)
    best = best_values_by_dense_programme(costs, values, budget)
    budgets = range(0, budget + 1, 1 + budget // 20)
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
        solution = solve(costs, values, budget, state_cap=state_cap, table_bytes=0)
        check_set(solution, costs, values, budget)
        assert solution.value <= optimum <= solution.bound
        assert solution.is_proven == (solution.value == solution.bound)
        assert solution.max_states <= state_cap


def test_set_is_not_called_proven_when_the_cap_was_hit_and_no_table_fits() -> None:
    costs, values = family_items("weakly", 200, 10_000, random.Random(0))
    budget = sum(costs) // 2
    capped = solve(costs, values, budget, state_cap=20, table_bytes=0)
    assert not capped.is_proven
    assert capped.value < capped.bound
    for full in (solve(costs, values, budget, table_bytes=0), solve(costs, values, budget, state_cap=20)):
        check_is_optimal(full, costs, values, budget)
        assert capped.value <= full.value <= capped.bound


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


def test_hour_of_fifty_epoch_runs_on_the_published_a100_table(reference_data: Path) -> None:
    """The same table and budget for which a plan of one run was once published: 46 runs fit."""
    with (reference_data / "a100" / "runs_agg.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if float(row["acc_mean"]) >= 0.60]
    times_sec = [50 * float(row["avg_time_mean"]) for row in rows]
    accuracies = [float(row["acc_mean"]) for row in rows]
    costs = [SECONDS.up(sec) for sec in times_sec]
    values = [round(accuracy * 1e6) for accuracy in accuracies]
    solution = solve(costs, values, SECONDS.down(3600))
    check_set(solution, costs, values, 3_600_000)
    assert len(rows) == 67
    assert solution.is_proven
    assert len(solution.indices) == 46
    assert sum(times_sec[i] for i in solution.indices) <= 3600
    assert sum(accuracies[i] for i in solution.indices) == pytest.approx(31.2, abs=0.05)  # published to one decimal
