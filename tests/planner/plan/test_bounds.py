"""The knapsack's upper bounds against the same bounds in fractions."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest

from epochcast.planner.plan.bounds import LIMIT, Filling, count_bounds, density

SEEDS = range(60)


def small_items(seed: int) -> tuple[list[int], list[int], int]:
    """Costs, values and a budget, in descending order of value per cost."""
    rng = random.Random(seed)
    costs = [rng.randint(1, 12) for _ in range(rng.randint(2, 9))]
    spread = rng.choice([0, 2, 20])  # of values about their costs: 0 gives equal densities
    items = sorted(((c, c + rng.randint(0, spread) + 1) for c in costs), key=lambda item: -Fraction(item[1], item[0]))
    costs = [cost for cost, _ in items]
    return costs, [value for _, value in items], rng.randint(1, sum(costs))


def fractional(costs: list[int], values: list[int], room: int) -> Fraction:
    """Return what items add to a set with some room left where a part of an item may be taken."""
    total = Fraction(0)
    for cost, value in sorted(zip(costs, values, strict=True), key=lambda item: -Fraction(item[1], item[0])):
        share = min(Fraction(1), Fraction(room, cost))
        if value > 0 and share > 0:
            total += share * value
            room -= min(room, cost)
    return total


def charged(costs: list[int], values: list[int], budget: int, charge: int, limit: int) -> Fraction:
    """Return the bound where each item is charged and the limit's number of charges is paid back."""
    return fractional(costs, [value - charge for value in values], budget) + charge * limit


def limits_of(costs: list[int], values: list[int], budget: int, best_value: int) -> dict[bool, int]:
    """Return the most items that fit, and the fewest that are more valuable than the best set."""
    dearest = list(itertools.accumulate(sorted(values, reverse=True)))
    return {
        True: sum(cost <= budget for cost in itertools.accumulate(sorted(costs))),
        False: 1 + sum(value <= best_value for value in dearest),
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_a_filling_is_what_fits_whole_and_the_fractional_knapsack_rounded_down(seed: int) -> None:
    costs, values, _ = small_items(seed)
    rooms = list(range(sum(costs) + 3))
    n_whole, whole, upper = Filling(np.array(costs), np.array(values)).into(np.array(rooms))
    for room, n, value, most in zip(rooms, n_whole.tolist(), whole.tolist(), upper.tolist(), strict=True):
        assert n == sum(cost <= room for cost in itertools.accumulate(costs))
        assert value == sum(values[:n])
        assert most == math.floor(fractional(costs, values, room))


def test_a_filling_of_no_items_adds_nothing() -> None:
    none = np.array([], np.int64)
    assert [numbers.tolist() for numbers in Filling(none, none).into(np.array([0, 7]))] == [[0, 0]] * 3


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bound_by_the_number_of_items_charges_each_and_pays_the_limit_back(seed: int) -> None:
    costs, values, budget = small_items(seed)
    best_value = math.floor(fractional(costs, values, budget)) - 1 - seed % 3
    limits = limits_of(costs, values, budget, best_value)
    zero = np.zeros(1, np.int64)
    for bound in count_bounds(np.array(costs), np.array(values), budget, best_value):
        for left, right in itertools.combinations_with_replacement(range(len(costs) + 1), 2):
            undecided = [k for k in range(len(costs)) if k < left or k >= right]
            rest = [costs[k] for k in undecided], [values[k] for k in undecided]
            for cost, value, count in ((0, 0, 0), (1, 5, 1), (budget, 7, 2)):
                most = bound.of(zero + cost, zero + value, zero + count, budget, (left, right), best_value)
                expected = value + charged(*rest, budget - cost, bound.charge, limits[bound.is_most] - count)
                assert most.tolist() == [math.floor(expected)]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_charge_makes_the_bound_as_tight_as_any_whole_charge(seed: int) -> None:
    costs, values, budget = small_items(seed)
    best_value = math.floor(fractional(costs, values, budget)) - 1 - seed % 3
    found = {b.is_most: b.charge for b in count_bounds(np.array(costs), np.array(values), budget, best_value)}
    highest = max(costs) * (1 + max(value // cost for cost, value in zip(costs, values, strict=True)))
    for is_most, limit in limits_of(costs, values, budget, best_value).items():
        sign = 1 if is_most else -1
        bounds = [charged(costs, values, budget, sign * charge, limit) for charge in range(highest + 1)]
        assert bounds[abs(found.get(is_most, 0))] == min(bounds)
        assert found.get(is_most, sign) * sign > 0  # a bound without a charge is the fractional knapsack: left out


def test_no_number_of_items_bounds_where_a_part_of_a_charged_value_may_not_fit_64_bits() -> None:
    root = math.isqrt(LIMIT)
    assert root**2 == LIMIT
    for largest, n_bounds in ((root - 1, 1), (root, 0), (root + 1, 0)):
        costs = np.array([largest, largest - 5, largest // 2])
        values = np.array([3 * largest, 2 * largest, largest])
        assert len(count_bounds(costs, values, int(costs.sum()) // 2, int(values.sum()) // 3)) == n_bounds


def test_densities_of_numbers_near_the_limit_are_in_the_order_of_their_fractions() -> None:
    top = LIMIT - 1
    pairs = [(top, top - 1), (top - 1, top), (top - 1, top - 2), (1, top), (1, top - 1), (top, 1), (3, 7), (top, top)]
    by_fraction = sorted(pairs, key=lambda pair: Fraction(*pair))
    assert sorted(pairs, key=lambda pair: density(*pair)) == by_fraction
    assert len({density(*pair) for pair in pairs}) == len(pairs)
    assert density(2, 4) == density(1, 2) == 2**123


@pytest.mark.parametrize("top_value", [2**40, 2**57])
def test_charges_and_bounds_of_values_near_the_limit_stay_whole_numbers(top_value: int) -> None:
    """The largest charge that is tried is limited here, by what the sum of all may be."""
    rng = random.Random(top_value)
    zero = np.zeros(1, np.int64)
    for _ in range(20):
        costs = [rng.randint(500, 1000) for _ in range(8)]
        items = sorted(
            ((c, rng.randint(top_value // 2, top_value)) for c in costs), key=lambda i: -Fraction(i[1], i[0])
        )
        costs, values = [cost for cost, _ in items], [value for _, value in items]
        budget = sum(costs) // 2
        best_value = math.floor(fractional(costs, values, budget)) - top_value // 8
        limits = limits_of(costs, values, budget, best_value)
        for bound in count_bounds(np.array(costs), np.array(values), budget, best_value):
            assert isinstance(bound.charge, int)
            most = bound.of(zero, zero, zero, budget, (0, 0), best_value)
            assert most.dtype == np.int64
            assert most[0] == math.floor(charged(costs, values, budget, bound.charge, limits[bound.is_most]))
