"""Upper bounds on what a partly decided set of a 0/1 knapsack can still be worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LIMIT = 2**62  # two numbers below it can be added in int64

Ints = NDArray[np.int64]


class Filling:
    """What undecided items, in descending order of value per cost, add to a set with some room left."""

    def __init__(self, costs: Ints, values: Ints) -> None:
        self.cost_before = np.append(0, np.cumsum(costs))  # [k]: cost of the first k together
        self.value_before = np.append(0, np.cumsum(values))
        self.divisor = np.append(costs, 1)  # the last entry stands for "no item left"
        self.quotient, self.remainder = np.divmod(np.append(values, 0), self.divisor)

    def into(self, room: Ints) -> tuple[Ints, Ints, Ints]:
        """How many fit whole one after the other, their value, and no less than what the fractional knapsack adds."""
        n_whole = np.searchsorted(self.cost_before, room, side="right") - 1
        whole = self.value_before[n_whole]
        room = room - self.cost_before[n_whole]
        # floor(room * value / cost) in two parts, because room * value may not fit 64 bits
        part = room * self.quotient[n_whole] + room * self.remainder[n_whole] // self.divisor[n_whole]
        return n_whole, whole, whole + part


class CountBound:
    """An upper bound by Lagrange: a set that beats the best has at most (at least) `limit` items, so each item may be
    charged (given) `charge` and what the limit allows (demands) be paid back.
    """

    def __init__(self, costs: Ints, values: Ints, charge: int, is_most: bool, limits: Ints) -> None:
        self.charge, self.is_most, self.limits = charge, is_most, limits
        charged = values - charge
        order = [k for k in range(len(costs)) if charged[k] > 0]
        order.sort(key=lambda k: density(int(charged[k]), int(costs[k])), reverse=True)
        self.order = np.array(order, np.int64)
        self.costs, self.charged = costs[self.order], charged[self.order]

    def of(self, cost: Ints, value: Ints, count: Ints, budget: int, decided: tuple[int, int], best_value: int) -> Ints:
        """Bounds on what sets of so many decided items, cost and value can reach, shape of `cost`.

        Args:
            decided: the first item that is decided, and the first behind it that is not.
        """
        # at most: how many of the cheapest fit; at least: how many of the most valuable are worth more than the best
        limit = np.searchsorted(self.limits, budget if self.is_most else best_value, side="right") + (not self.is_most)
        is_undecided = (self.order < decided[0]) | (self.order >= decided[1])
        _, _, added = Filling(self.costs[is_undecided], self.charged[is_undecided]).into(budget - cost)
        return np.asarray(value + added + self.charge * (int(limit) - count))


def count_bounds(costs: Ints, values: Ints, budget: int, best_value: int) -> list[CountBound]:
    """Bounds by the largest and the smallest number of items, each with the charge that makes it tightest at the start.

    Whatever the charge, the bound holds, so floats may choose it. One that does not help is left out.
    """
    if int(costs.max()) ** 2 >= LIMIT:  # a part of a charged value might not fit 64 bits
        return []
    highest = min(int(costs.max()) * int((values // costs).max() + 1), LIMIT // 4 // (len(costs) + 1))
    bounds = []
    for is_most in (True, False):
        sign = 1 if is_most else -1
        limits = np.cumsum(np.sort(costs) if is_most else np.sort(values)[::-1])
        limit = int(np.searchsorted(limits, budget if is_most else best_value, side="right")) + (not is_most)

        def relaxed(charge: int, sign: int = sign, limit: int = limit) -> tuple[float, float]:
            """The bound, and the number of items in the fractional knapsack behind it less the limit."""
            charged = values - float(sign * charge)
            order = np.argsort(-charged / costs, kind="stable")
            charged, cost_before = charged[order], np.cumsum(costs[order])
            share = np.clip((budget - cost_before) / costs[order] + 1, 0, 1) * (charged > 0)
            return float((share * charged).sum()) + sign * charge * limit, float(share.sum()) - limit

        low, high = 0, highest
        while high - low > 1:  # the bound is convex in the charge and falls as long as the limit is broken
            middle = (low + high) // 2
            if sign * relaxed(middle)[1] > 0:
                low = middle
            else:
                high = middle
        charge = min((low, high), key=lambda charge: relaxed(charge)[0])
        if charge > 0:
            bounds.append(CountBound(costs, values, sign * charge, is_most, limits))
    return bounds


def density(value: int, cost: int) -> int:
    """Value per cost as an integer to sort by: different ones are at least 1 / cost**2 > 2**-124 apart."""
    return (value << 124) // cost
