"""Exact 0/1 knapsack on integers: the set of items worth most whose cost fits a budget.

Dynamic programme over Pareto lists (Nemhauser and Ullmann, Management Science 15(9), 1969): a state is the cost and
value of a set of the items seen so far, and only states that no other state beats are kept. The items come in order of
value per cost, so the fractional knapsack (Dantzig, Operations Research 5(2), 1957) bounds what a state can become;
states that cannot beat the best set known are dropped.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

STATE_CAP = 1_500_000
_BLOCK = 62  # items whose yes/no fit into one int64
_LIMIT = 2**62  # two numbers below it can be added in int64

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Solution:
    """A set that fits the budget, and what is known about it. Only `is_proven` allows the word "optimal"."""

    indices: tuple[int, ...]  # ascending, into the caller's sequences
    value: int
    cost: int
    is_proven: bool  # no set is worth more
    bound: int  # no set is worth more than this; equals `value` exactly when proven
    max_states: int  # length of the longest list kept; 0 if the first set tried was proven


@dataclass(frozen=True, slots=True)
class _States:
    """Sets of the items seen so far, in ascending order of both cost and value; all arrays of one length."""

    cost: Ints
    value: Ints
    taken: Ints  # bit j: item j of the current block of _BLOCK items is in the set
    parent: Ints  # where the set's earlier items stand in the last list of the block before

    def __getitem__(self, which: Ints | NDArray[np.bool_]) -> _States:
        return _States(self.cost[which], self.value[which], self.taken[which], self.parent[which])


def to_milliseconds_up(sec: float) -> int:
    """The smallest number of whole milliseconds that covers `sec`.

    A float stands for the decimal that Python prints for it: 0.001 is 1 ms, although the binary number behind it is a
    little larger and would make 2 ms. Raises ValueError if `sec` is negative or not finite.
    """
    return math.ceil(_exact_milliseconds(sec))


def budget_milliseconds(sec: float) -> int:
    """The largest number of whole milliseconds within `sec`; reads floats and raises as `to_milliseconds_up` does."""
    return math.floor(_exact_milliseconds(sec))


def solve(costs: Sequence[int], values: Sequence[int], budget: int, *, state_cap: int = STATE_CAP) -> Solution:
    """The set of items with the largest total value among those whose total cost is at most `budget`.

    The caller brings integers: costs rounded up, the budget rounded down, values scaled. Items without value are never
    taken. Of several best sets the same one is returned each time. Where more than `state_cap` states would be kept,
    the search stops: the best set so far, `is_proven` False, and a bound that holds.

    Raises:
        ValueError: if a number is negative, no integer or too large for 64 bits, or the lengths differ.
        RuntimeError: if the set, summed again from `costs` and `values`, is not what the search promised.
    """
    all_costs = [_whole(f"costs[{i}]", cost) for i, cost in enumerate(costs)]
    all_values = [_whole(f"values[{i}]", value) for i, value in enumerate(values)]
    budget = _whole("budget", budget)
    if len(all_costs) != len(all_values):
        raise ValueError(f"Every item needs a cost and a value; got {len(all_costs)} costs, {len(all_values)} values.")

    free = [i for i, cost in enumerate(all_costs) if cost == 0 and all_values[i] > 0]
    priced = [i for i, cost in enumerate(all_costs) if 0 < cost <= budget and all_values[i] > 0]
    # Different densities are at least 1 / cost**2 > 2**-124 apart, so this integer quotient tells them apart exactly.
    priced.sort(key=lambda i: (all_values[i] << 124) // all_costs[i], reverse=True)
    search = _Search([all_costs[i] for i in priced], [all_values[i] for i in priced], budget)
    bound, max_states = search.run(state_cap)

    free_value = sum(all_values[i] for i in free)
    value, bound = search.best_value + free_value, bound + free_value
    indices = tuple(sorted(free + [priced[k] for k in search.best_items]))
    # Read the caller's own sequences once more: a plan whose set is not what was priced is worse than no plan.
    cost = sum(operator.index(costs[i]) for i in indices)
    summed = sum(operator.index(values[i]) for i in indices)
    if summed != value or cost > budget or bound < value or len(set(indices)) < len(indices):
        raise RuntimeError(
            f"The search promised value {value} (bound {bound}) within budget {budget}, but the set {indices} has "
            f"value {summed} and cost {cost}. Do not use this plan; please report it with the input."
        )
    return Solution(indices, value, cost, bound == value, bound, max_states)


class _Search:
    """The dynamic programme on items of positive cost and value, in descending order of value per cost."""

    def __init__(self, costs: list[int], values: list[int], budget: int) -> None:
        products = [(cost - 1) * (value % cost) for cost, value in zip(costs, values, strict=True)]
        if max(sum(costs), sum(values), *products) >= _LIMIT:
            raise ValueError(
                f"Too large for exact 64-bit arithmetic: the {len(costs)} items that fit the budget alone cost "
                f"{sum(costs)} and are worth {sum(values)} together. Count costs or values in a larger unit."
            )
        self.costs, self.values, self.budget = costs, values, min(budget, sum(costs))
        self.cost_before = np.cumsum([0, *costs], dtype=np.int64)  # [k]: cost of items 0 .. k-1 together
        self.value_before = np.cumsum([0, *values], dtype=np.int64)
        self.divisor = np.array([*costs, 1], dtype=np.int64)  # the last entry stands for "no item left"
        self.quotient, self.remainder = np.divmod(np.array([*values, 0], dtype=np.int64), self.divisor)
        self.blocks: list[tuple[Ints, Ints]] = []  # taken and parent of the last list of each completed block
        self.best_items: list[int] = []
        room = self.budget
        for k, cost in enumerate(costs):  # the first set to beat: in order, whatever still fits
            if cost <= room:
                self.best_items.append(k)
                room -= cost
        self.best_value = sum(values[k] for k in self.best_items)

    def run(self, state_cap: int) -> tuple[int, int]:
        """Find the best set; return a bound on the value of every set and the length of the longest list."""
        states, max_states = _States(*np.zeros((4, 1), dtype=np.int64)), 0
        for k in range(len(self.costs) + 1):
            states, upper = self._prune(states, k)
            if not upper.size:  # behind the last item at the latest: there a state is worth just what it has
                break
            if upper.size > state_cap:
                return int(upper.max()), max_states
            max_states = max(max_states, upper.size)
            if k and k % _BLOCK == 0:
                self.blocks.append((states.taken, states.parent))
                states = _States(states.cost, states.value, np.zeros_like(states.cost), np.arange(upper.size))
            states = _extend(states, self.costs[k], self.values[k], 1 << k % _BLOCK, self.budget)
        return self.best_value, max_states

    def _prune(self, states: _States, k: int) -> tuple[_States, Ints]:
        """The states of items 0 .. k-1 that may still beat the best set, and their bounds. May improve the best set."""
        room = self.budget - states.cost
        # Items k .. split-1 fit whole; of item `split` the fractional knapsack takes the part that fits.
        split = np.searchsorted(self.cost_before, self.cost_before[k] + room, side="right") - 1
        lower = states.value + self.value_before[split] - self.value_before[k]
        room -= self.cost_before[split] - self.cost_before[k]
        # floor(room * value / cost) in two parts, because room * value may not fit 64 bits
        upper = lower + room * self.quotient[split] + room * self.remainder[split] // self.divisor[split]
        i = int(lower.argmax())
        if lower[i] > self.best_value:
            self.best_value = int(lower[i])
            self.best_items = [*self._items(int(states.taken[i]), int(states.parent[i])), *range(k, int(split[i]))]
        is_open = upper > self.best_value
        return states[is_open], upper[is_open]

    def _items(self, taken: int, parent: int) -> list[int]:
        """The items of one state, followed from the current block to the first."""
        items = []
        for block in range(len(self.blocks), -1, -1):
            items += [block * _BLOCK + j for j in range(_BLOCK) if taken >> j & 1]
            if block:
                taken, parent = (int(column[parent]) for column in self.blocks[block - 1])
        return items


def _extend(states: _States, cost: int, value: int, bit: int, budget: int) -> _States:
    """The states with and without one more item, less those that another state beats or equals."""
    n_fit = int(np.searchsorted(states.cost, budget - cost, side="right"))
    both = _States(
        np.concatenate([states.cost, states.cost[:n_fit] + cost]),
        np.concatenate([states.value, states.value[:n_fit] + value]),
        np.concatenate([states.taken, states.taken[:n_fit] | bit]),
        np.concatenate([states.parent, states.parent[:n_fit]]),
    )
    order = np.argsort(both.cost, kind="stable")  # two sorted runs: a merge
    values = both.value[order]
    order = order[np.append(True, values[1:] > np.maximum.accumulate(values)[:-1])]
    costs = both.cost[order]
    return both[order[np.append(costs[1:] > costs[:-1], True)]]  # of equal costs the last is worth most


def _whole(name: str, number: int) -> int:
    try:
        whole = operator.index(number)
    except TypeError:
        whole = -1
    if whole < 0:
        raise ValueError(f"{name}: expected an integer of at least 0, scaled and rounded beforehand; got {number!r}.")
    return whole


def _exact_milliseconds(sec: float) -> Fraction:
    if not (math.isfinite(sec) and sec >= 0):
        raise ValueError(f"Expected a finite number of seconds of at least 0, got {sec!r}.")
    return Fraction(repr(float(sec))) * 1000
