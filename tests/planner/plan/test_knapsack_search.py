"""How much the knapsack's search needs: what its first sets and bounds spare, on instances where they must."""

from __future__ import annotations

import random

import pytest

from epochcast.planner.plan.knapsack import front, solve
from tests.planner.plan.test_knapsack import check_is_optimal, family_items, late_instance

# family, items, share of the costs that the budget is, longest list without and with the bound on the number of items,
# how far the first set is below the best value, and how far the bounds without and with it are above: today's numbers
SEARCHES = [
    ("uncorrelated", 40, 0.30, 2, 2, 0, 88, 88),
    ("uncorrelated", 100, 0.50, 15, 15, 0, 99, 99),
    ("uncorrelated", 100, 0.85, 1, 1, 0, 19, 17),
    ("weakly", 40, 0.30, 25, 25, 35, 51, 51),
    ("weakly", 100, 0.50, 67, 67, 17, 11, 11),
    ("weakly", 100, 0.85, 8, 8, 22, 7, 7),
    ("strongly", 40, 0.30, 32, 2, 199, 43, 0),
    ("strongly", 100, 0.50, 937, 1, 404, 51, 0),
    ("strongly", 100, 0.85, 719, 64, 863, 98, 0),
    ("inverse strongly", 40, 0.30, 757, 32, 39, 85, 0),
    ("inverse strongly", 100, 0.50, 129, 23, 5, 19, 0),
    ("inverse strongly", 100, 0.85, 38, 12, 6, 11, 0),
    ("subset-sum", 40, 0.30, 192, 192, 2, 0, 0),
    ("subset-sum", 100, 0.50, 0, 0, 0, 0, 0),
    ("subset-sum", 100, 0.85, 64, 64, 75, 0, 0),
]


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: f"{search[0]} {search[1]} {search[2]}")
def test_first_sets_and_bounds_leave_the_search_no_more_to_do_than_today(
    search: tuple[str, int, float, int, int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    family, n_items, share, n_plain, n_counted, below, above_plain, above_counted = search
    costs, values = family_items(family, n_items, 1000, random.Random(f"{family} {n_items}"))
    budget = int(share * sum(costs))
    for bound_from, max_states, above in ((1024, n_plain, above_plain), (0, n_counted, above_counted)):
        monkeypatch.setattr("epochcast.planner.plan.knapsack._COUNT_BOUND_FROM", bound_from)
        best = solve(costs, values, budget, table_bytes=0)
        check_is_optimal(best, costs, values, budget)
        assert best.max_states <= max_states
        first = solve(costs, values, budget, table_bytes=0, state_cap=0)
        assert best.value - first.value <= below
        assert first.bound - best.value <= above


def test_items_without_value_are_never_counted_however_much_they_cost() -> None:
    costs, values = [1, 2**61, 2**61], [1, 0, 0]
    at, best = front(costs, values, 2**62)
    assert (at.tolist(), best.tolist()) == ([0, 1], [0, 1])
    assert solve(costs, values, 2**62).indices == (0,)


def test_a_table_is_tried_up_to_the_last_byte_that_it_may_take() -> None:
    """Here no item is settled before, so the table has a bit for each item and unit of cost."""
    costs, values, budget = late_instance(0, 200)
    n_bytes = 200 * (budget + 8) // 8
    assert solve(costs, values, budget, state_cap=0, table_bytes=n_bytes).is_proven
    assert not solve(costs, values, budget, state_cap=0, table_bytes=n_bytes - 1).is_proven
