"""The margin of a plan, and the best set that keeps its budget with it: exact, never over, honest where not proven."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from epochcast.planner.costs.budget import SECONDS, Budget
from epochcast.planner.plan.knapsack import solve
from epochcast.planner.plan.margin import NO_MARGIN, Margin, Priced, best_within

ROUNDING = 1e-12  # relative: the same floats added in another order


def instance(seed, n=8):
    """Runs to choose from, a budget, a margin, and seconds and spread of runs that are done anyway."""
    draw = random.Random(seed)
    is_round = seed % 4 == 0  # whole seconds make ties, and sets that meet the budget exactly
    seconds = [draw.randint(1, 9) if is_round else draw.uniform(0.5, 20) for _ in range(n)]
    sds = [draw.choice([0, 1, 2]) if is_round else s * draw.choice([0, 0.02, 0.3]) * draw.random() for s in seconds]
    values = [draw.randint(0, 30 if is_round else 10**6) for _ in range(n)]
    budget = draw.randint(1, sum(seconds)) if is_round else draw.uniform(0.1, 1.1) * sum(seconds)
    margin = Margin(draw.choice([0.3, 1.0, 1.645, 3.0]), draw.choice([0.0, 0.003, 0.1]))
    fixed_sec = draw.choice([0.0, draw.random() * budget / 2])
    return Priced(seconds, sds, values), budget, margin, fixed_sec, fixed_sec * draw.choice([0.0, 0.05])


def upper_of(indices, priced, margin, fixed_sec=0.0, fixed_sd=0.0):
    expected = [fixed_sec, *(priced.expected[i] for i in indices)]
    return margin.upper(expected, [fixed_sd, *(priced.sds[i] for i in indices)])


def brute_force(priced, budget, margin, fixed_sec=0.0, fixed_sd=0.0):
    """The best value over all subsets, all at once."""
    n = len(priced.values)
    is_in = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    expected = fixed_sec + is_in @ np.array(priced.expected, float)
    spread = np.sqrt(fixed_sd**2 + is_in @ np.array(priced.sds, float) ** 2)
    upper = expected + margin.quantile * (margin.common_sd * expected + spread)
    fits = upper <= budget * (1 + ROUNDING)
    return int((is_in @ np.array(priced.values))[fits].max(initial=0))


# --- the margin ------------------------------------------------------------------------------------------------------


def test_more_confidence_asks_for_more_and_even_odds_for_nothing():
    margins = [Margin.of_confidence(c, 0.01).room([100.0, 50.0], [3.0, 4.0]) for c in (0.5, 0.8, 0.9, 0.95, 0.999)]
    assert margins[0] == 0
    assert margins == sorted(set(margins))
    assert margins[2] == pytest.approx(1.2816 * (0.01 * 150 + 5), rel=1e-4)  # the 90 % quantile of a normal
    assert Margin.of_confidence(0.2, 0.01) == Margin(0.0, 0.01)
    assert NO_MARGIN.upper([100.0, 50.0], [3.0, 4.0]) == 150


def test_errors_of_single_runs_average_out_and_a_common_factor_does_not():
    for common_sd in (0.0, 0.02):
        margin = Margin(1.645, common_sd)
        shares = [margin.room([60.0] * n, [3.0] * n) / (60 * n) for n in (1, 4, 16, 100, 10_000)]
        assert shares == sorted(shares, reverse=True)
        own = [share - 1.645 * common_sd for share in shares]
        assert own == pytest.approx([1.645 * 0.05 / math.sqrt(n) for n in (1, 4, 16, 100, 10_000)], rel=1e-9)
    assert shares[-1] > 1.645 * 0.02


@pytest.mark.parametrize("confidence", [0.6, 0.8, 0.9, 0.95])
def test_at_least_the_promised_share_of_plans_keeps_what_it_promises(confidence):
    draw = np.random.default_rng(5)
    for common_sd in (0.0, 0.03):
        expected, sd = draw.uniform(20, 200, 12), draw.uniform(0.2, 10, 12)
        runs = expected + sd * draw.standard_normal((40_000, 12))
        took = runs.sum(axis=1) + common_sd * expected.sum() * draw.standard_normal(40_000)
        kept = np.mean(took <= Margin.of_confidence(confidence, common_sd).upper(expected, sd))
        assert kept >= confidence - 0.01  # four standard errors of 40,000 plans
        if common_sd == 0:
            assert kept == pytest.approx(confidence, abs=0.01)


# --- the best set ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", range(0, 400, 40))
def test_the_best_set_is_that_of_brute_force_and_keeps_its_budget(start):
    for seed in range(start, start + 40):
        priced, budget, margin, fixed_sec, fixed_sd = instance(seed)
        found = best_within(priced, Budget(budget), margin, fixed_sec, fixed_sd)
        assert found.is_proven, seed
        assert found.value == found.bound == sum(priced.values[i] for i in found.indices)
        assert found.value == brute_force(priced, budget, margin, fixed_sec, fixed_sd), seed
        assert found.cost == sum(SECONDS.up(priced.expected[i]) for i in found.indices)
        assert not found.indices or upper_of(found.indices, priced, margin, fixed_sec, fixed_sd) <= budget


@pytest.mark.parametrize("seed", range(1, 40, 3))
def test_so_it_is_with_more_runs_of_which_some_are_little_known(seed):
    priced, budget, margin, fixed_sec, fixed_sd = instance(seed, n=14)
    found = best_within(priced, Budget(budget), margin, fixed_sec, fixed_sd)
    assert found.is_proven
    assert found.value == brute_force(priced, budget, margin, fixed_sec, fixed_sd)


@pytest.mark.parametrize("seed", range(20))
def test_without_a_margin_it_is_the_plain_knapsack_in_milliseconds(seed):
    priced, budget, _, fixed_sec, fixed_sd = instance(seed, n=20)
    costs = [SECONDS.up(seconds) for seconds in priced.expected]
    room = SECONDS.down(budget) - SECONDS.up(fixed_sec)
    for margin in (NO_MARGIN, Margin(0.0, 0.5)):
        assert best_within(priced, Budget(budget), margin, fixed_sec, fixed_sd) == solve(costs, priced.values, room)


@pytest.mark.parametrize("seed", range(10))
def test_more_confidence_never_raises_the_value_and_more_budget_never_lowers_it(seed):
    priced, budget, _, fixed_sec, fixed_sd = instance(seed, n=14)
    values = [
        best_within(priced, Budget(budget), Margin.of_confidence(c, 0.01), fixed_sec, fixed_sd).value
        for c in (0.55, 0.8, 0.9, 0.99)
    ]
    assert values == sorted(values, reverse=True)
    margin = Margin.of_confidence(0.9, 0.01)
    more = [best_within(priced, Budget(k * budget), margin, fixed_sec, fixed_sd).value for k in (0.9, 1, 1.1, 2)]
    assert more == sorted(more)


def test_where_no_run_fits_the_empty_set_is_proven():
    found = best_within(Priced([10.0], [1.0], [5]), Budget(10.5), Margin(1.0))
    assert (found.indices, found.value, found.bound, found.is_proven) == ((), 0, 0, True)
    assert best_within(Priced([10.0], [1.0], [5]), Budget(11.0), Margin(1.0)).indices == (0,)
    assert best_within(Priced([1.0], [0.0], [5]), Budget(11.0), Margin(1.0), fixed=9.0, fixed_sd=2.0).indices == ()
    assert best_within(Priced([], [], []), Budget(11.0), Margin(1.0)).is_proven


@pytest.mark.parametrize("n_searches", [0, 1, 2])
def test_what_is_not_proven_is_never_called_so_and_its_bound_holds(monkeypatch, n_searches):
    monkeypatch.setattr("epochcast.planner.plan.margin._MAX_SEARCHES", n_searches)
    n_open = 0
    for seed in range(100):
        priced, budget, margin, fixed_sec, fixed_sd = instance(seed)
        found = best_within(priced, Budget(budget), margin, fixed_sec, fixed_sd)
        best = brute_force(priced, budget, margin, fixed_sec, fixed_sd)
        assert found.value <= best <= found.bound
        assert found.is_proven == (found.value == found.bound)
        assert not found.indices or upper_of(found.indices, priced, margin, fixed_sec, fixed_sd) <= budget
        n_open += not found.is_proven
    assert n_open > 0  # or the test would show nothing


def test_a_plain_search_that_gives_up_leaves_the_whole_unproven_with_a_bound(monkeypatch):
    monkeypatch.setattr("epochcast.planner.plan.margin.solve", lambda *given: solve(*given, state_cap=0, table_bytes=0))
    n_open = 0
    for seed in range(20):
        priced, budget, margin, fixed_sec, fixed_sd = instance(seed)
        found = best_within(priced, Budget(budget), margin, fixed_sec, fixed_sd)
        assert found.value <= brute_force(priced, budget, margin, fixed_sec, fixed_sd) <= found.bound
        assert found.is_proven == (found.value == found.bound)
        n_open += not found.is_proven
    assert n_open > 0
