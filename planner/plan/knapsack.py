"""Exact 0/1 knapsack on integers: the set of items worth most whose cost fits a budget.

Dynamic programme over Pareto lists (Nemhauser and Ullmann, Management Science 15(9), 1969): a state is the cost and
value of a set of the items decided so far, and only states that no other state beats are kept. Items are decided from
the break item outwards (Balas and Zemel, Operations Research 28(5), 1980; Pisinger, Operations Research 45(5), 1997):
in order of value per cost the break item is the first that does not fit. Upper bounds close what can't beat the best
set known: the fractional knapsack of the undecided items (Dantzig, Operations Research 5(2), 1957) and, where many
states stay open, the same under a bound on the number of items (Martello and Toth, Operations Research 45(5), 1997).
If the lists outgrow their cap, a table over every unit of cost answers where it fits into memory, else the best set
found comes with its bound.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epochcast.planner.plan.bounds import LIMIT, CountBound, Filling, Ints, count_bounds, density
from epochcast.planner.plan.states import States, extend

STATE_CAP = 1_500_000  # states of one list
WORK_CAP = 16  # times the state cap: states of all lists together
TABLE_BYTES = 2**28  # bits of the table of choices
_COUNT_BOUND_FROM = 1024  # open states from which on a second bound pays
_BLOCK = 62  # items whose yes/no fit into one int64


@dataclass(frozen=True, slots=True)
class Solution:
    """A set that fits the budget, and what is known about it. Only `is_proven` allows the word "optimal"."""

    indices: tuple[int, ...]  # ascending, into the caller's sequences
    value: int
    cost: int
    is_proven: bool  # no set is worth more
    bound: int  # no set is worth more than this; equals `value` exactly when proven
    max_states: int  # length of the longest list kept; 0 if the first set tried was proven


def solve(
    costs: Sequence[int],
    values: Sequence[int],
    budget: int,
    *,
    state_cap: int = STATE_CAP,
    table_bytes: int = TABLE_BYTES,
) -> Solution:
    """The set of items with the largest total value among those whose total cost is at most `budget`.

    The caller brings integers: costs rounded up, the budget rounded down, values scaled. Items without value are never
    taken. Of several best sets the same one is returned each time. Where more than `state_cap` states would be kept,
    a table of at most `table_bytes` is tried; where that is too small the search stops: the best set so far,
    `is_proven` False, and a bound that holds.

    Raises:
        ValueError: if a number is negative, no integer or too large for 64 bits, or the lengths differ.
        RuntimeError: if the set, summed again from `costs` and `values`, is not what the search promised.
    """
    all_costs, all_values, budget = _checked_input(costs, values, budget)
    free = [i for i, cost in enumerate(all_costs) if cost == 0 and all_values[i] > 0]
    priced = [i for i, cost in enumerate(all_costs) if 0 < cost <= budget and all_values[i] > 0]
    priced.sort(key=lambda i: density(all_values[i], all_costs[i]), reverse=True)
    search = _Search([all_costs[i] for i in priced], [all_values[i] for i in priced], budget)
    best_items, best_value, bound, max_states = search.find_best(state_cap, table_bytes)

    free_value = sum(all_values[i] for i in free)
    value, bound = best_value + free_value, bound + free_value
    indices = tuple(sorted(free + [priced[k] for k in best_items]))
    # Read the caller's own sequences once more: a plan whose set is not what was priced is worse than no plan.
    cost = sum(operator.index(costs[i]) for i in indices)
    summed = sum(operator.index(values[i]) for i in indices)
    if summed != value or cost > budget or bound < value or len(set(indices)) < len(indices):
        raise RuntimeError(
            f"The search promised value {value} (bound {bound}) within budget {budget}, but the set {indices} has "
            f"value {summed} and cost {cost}. Do not use this plan; please report it with the input."
        )
    return Solution(indices, value, cost, bound == value, bound, max_states)


def front(costs: Sequence[int], values: Sequence[int], budget: int) -> tuple[Ints, Ints]:
    """The best value for every budget up to `budget`: ascending costs at which it rises, and the values from there on.

    Exact, by the same lists without a bound: at most as long as the budget has units, so count costs in coarse ones.
    Raises as `solve` does.
    """
    all_costs, all_values, budget = _checked_input(costs, values, budget)
    items = [(cost, value) for cost, value in zip(all_costs, all_values, strict=True) if cost <= budget and value > 0]
    _check_sums([cost for cost, _ in items], [value for _, value in items])
    states = States.start()
    for cost, value in items:
        states = extend(states, cost, value, 0, budget)
    return states.cost, states.value


class _Search:
    """The dynamic programme on items of positive cost and value, in descending order of value per cost."""

    def __init__(self, costs: list[int], values: list[int], budget: int) -> None:
        _check_sums(costs, values, [(cost - 1) * (value % cost) for cost, value in zip(costs, values, strict=True)])
        self.costs, self.values = np.array(costs, np.int64), np.array(values, np.int64)
        self.budget = min(budget, sum(costs))
        whole = Filling(self.costs, self.values)
        self.cost_before, self.value_before = whole.cost_before, whole.value_before
        # items `left` .. `right` - 1 are decided; those before the break are likely in, those behind it likely out
        self.left = self.right = int(np.searchsorted(self.cost_before, self.budget, side="right") - 1)
        self.by_cost = np.argsort(self.costs, kind="stable")
        self.decided: list[int] = []
        self.blocks: list[tuple[Ints, Ints]] = []  # taken and parent of the last list of each completed block
        self.count_bounds: list[CountBound] | None = None
        self.max_states = 0
        self.best_items: list[int] = []
        room = self.budget
        for k, cost in enumerate(costs):  # the first set to beat: in order, whatever still fits
            if cost <= room:
                self.best_items.append(k)
                room -= cost
        self.best_value = int(self.values[self.best_items].sum())

    def find_best(self, state_cap: int, table_bytes: int) -> tuple[list[int], int, int, int]:
        """The best set, its value, a bound on the value of every set and the length of the longest list."""
        self._prune(States.start())  # improves the first set
        is_in, is_open = self._settled()
        fixed_cost, fixed_value = (int(numbers[is_in].sum()) for numbers in (self.costs, self.values))
        is_open &= self.costs <= self.budget - fixed_cost
        rest = _Search(self.costs[is_open].tolist(), self.values[is_open].tolist(), self.budget - fixed_cost)
        floor = self.best_value - fixed_value
        rest.best_value = max(rest.best_value, floor)
        bound = rest.run(state_cap)
        if bound > rest.best_value:
            bound = rest.run_table(table_bytes, bound)
        if rest.best_value > floor:
            self.best_value = rest.best_value + fixed_value
            open_items = np.flatnonzero(is_open)
            self.best_items = [*np.flatnonzero(is_in).tolist(), *(int(open_items[k]) for k in rest.best_items)]
        return self.best_items, self.best_value, bound + fixed_value, rest.max_states

    def _settled(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which items are in every set that beats the best one, and which may be in or out (Dembo and Hammer, 1980).

        Forced the other way, a settled item leaves the fractional knapsack no more than the best set has.
        """
        everything = Filling(self.costs, self.values)
        _, _, without = everything.into(np.minimum(self.budget + self.costs, everything.cost_before[-1]))
        _, _, with_it = everything.into(self.budget - self.costs)
        is_before = np.arange(len(self.costs)) < self.left
        can_change = np.where(is_before, without - self.values, with_it + self.values) > self.best_value
        return is_before & ~can_change, can_change

    def run(self, state_cap: int) -> int:
        """Find the best set; return a bound on the value of every set, the best one's value if that is proven."""
        states, n_left = States.start(), WORK_CAP * state_cap
        while True:
            states, upper = self._prune(states)
            if not upper.size:  # when all is decided at the latest: there a state is worth just what it has
                return self.best_value
            n_left -= upper.size
            if upper.size > state_cap or n_left < 0:
                return int(upper.max())
            self.max_states = max(self.max_states, upper.size)
            level = len(self.decided)
            if level and level % _BLOCK == 0:
                self.blocks.append((states.taken, states.parent))
                zeros, numbers = np.zeros_like(states.cost), np.arange(upper.size)
                states = States(states.cost, states.value, states.count, zeros, numbers)
            item = self._next_item()
            self.decided.append(item)
            bit = 1 << level % _BLOCK
            states = extend(states, int(self.costs[item]), int(self.values[item]), bit, self.budget)

    def _next_item(self) -> int:
        """The next to decide, now behind the break and now before it, as long as there are any."""
        if self.left == 0 or (self.right < len(self.costs) and len(self.decided) % 2 == 0):
            self.right += 1
            return self.right - 1
        self.left -= 1
        return self.left

    def _prune(self, states: States) -> tuple[States, Ints]:
        """The states that may still beat the best set, and bounds on what each can reach. May improve the best set."""
        undecided = np.append(np.arange(self.left), np.arange(self.right, len(self.costs)))
        room = self.budget - states.cost
        n_whole, added, upper = Filling(self.costs[undecided], self.values[undecided]).into(room)
        i = int((states.value + added).argmax())
        if (value := int(states.value[i] + added[i])) > self.best_value:
            self._improve(value, states, i, undecided[: n_whole[i]])
        self._try_one_more_or_less(states)
        upper = upper + states.value
        is_open = upper > self.best_value
        states, upper = states[is_open], upper[is_open]
        if self.count_bounds is None and upper.size > _COUNT_BOUND_FROM:
            self.count_bounds = count_bounds(self.costs, self.values, self.budget, self.best_value)
        for bound in self.count_bounds or ():
            tighter = bound.of(
                states.cost, states.value, states.count, self.budget, (self.left, self.right), self.best_value
            )
            upper = np.minimum(upper, tighter)
            is_open = upper > self.best_value
            states, upper = states[is_open], upper[is_open]
        return states, upper

    def _try_one_more_or_less(self, states: States) -> None:
        """Complete each state by all undecided items before the break and none behind it, but for the best one."""
        room = self.budget - states.cost - self.cost_before[self.left]
        values = states.value + self.value_before[self.left]
        behind = self.by_cost[self.by_cost >= self.right]
        best_up_to = np.append(0, np.maximum.accumulate(self.values[behind]))  # value of the best that costs so little
        fits = np.searchsorted(self.costs[behind], room, side="right")
        more = np.where(room >= 0, values + best_up_to[fits], -1)
        before = self.by_cost[self.by_cost < self.left]
        least_from = np.append(np.minimum.accumulate(self.values[before][::-1])[::-1], LIMIT)  # of those that suffice
        frees = np.searchsorted(self.costs[before], -room, side="left")
        less = np.where(room < 0, values - least_from[frees], -1)
        i = int(np.maximum(more, less).argmax())
        if (value := int(max(more[i], less[i]))) <= self.best_value:
            return
        rest = np.arange(self.left)
        if room[i] < 0:
            dropped = before[frees[i] :][int(self.values[before[frees[i] :]].argmin())]
            rest = rest[rest != dropped]
        elif fits[i]:
            rest = np.append(rest, behind[int(self.values[behind[: fits[i]]].argmax())])
        self._improve(value, states, i, rest)

    def _improve(self, value: int, states: States, i: int, undecided: Ints) -> None:
        """The best set is now state `i` with these undecided items."""
        taken, parent = int(states.taken[i]), int(states.parent[i])
        items = [int(k) for k in undecided]
        for block in range(len(self.blocks), -1, -1):  # from the current block to the first
            items += [self.decided[block * _BLOCK + j] for j in range(_BLOCK) if taken >> j & 1]
            if block:
                taken, parent = (int(column[parent]) for column in self.blocks[block - 1])
        self.best_value, self.best_items = value, items

    def run_table(self, max_bytes: int, bound: int) -> int:
        """The same by a table of every cost up to the budget, one bit a choice; `bound` where it needs more memory."""
        unit = math.gcd(*(int(cost) for cost in self.costs))
        costs, budget = self.costs // unit, self.budget // unit
        if len(costs) * (budget + 8) // 8 > max_bytes or 16 * budget > max_bytes:
            return bound
        best = np.zeros(budget + 1, np.int64)
        choices = []
        for cost, value in zip(costs.tolist(), self.values.tolist(), strict=True):
            with_it = best[: budget + 1 - cost] + value
            is_better = with_it > best[cost:]
            choices.append(np.packbits(is_better))
            np.maximum(best[cost:], with_it, out=best[cost:])
        if best[budget] > self.best_value:
            self.best_value, self.best_items = int(best[budget]), []
            for k in range(len(costs) - 1, -1, -1):
                cell = budget - int(costs[k])
                if cell >= 0 and choices[k][cell >> 3] >> (7 - (cell & 7)) & 1:
                    self.best_items.append(k)
                    budget = cell
        return self.best_value


def _checked_input(costs: Sequence[int], values: Sequence[int], budget: int) -> tuple[list[int], list[int], int]:
    all_costs = [_whole(f"costs[{i}]", cost) for i, cost in enumerate(costs)]
    all_values = [_whole(f"values[{i}]", value) for i, value in enumerate(values)]
    if len(all_costs) != len(all_values):
        raise ValueError(f"Every item needs a cost and a value; got {len(all_costs)} costs, {len(all_values)} values.")
    return all_costs, all_values, _whole("budget", budget)


def _check_sums(costs: list[int], values: list[int], products: Sequence[int] = ()) -> None:
    if max(sum(costs), sum(values), *products) >= LIMIT:
        raise ValueError(
            f"Too large for exact 64-bit arithmetic: the {len(costs)} items that fit the budget alone cost "
            f"{sum(costs)} and are worth {sum(values)} together. Count costs or values in a larger unit."
        )


def _whole(name: str, number: int) -> int:
    try:
        whole = operator.index(number)
    except TypeError:
        whole = -1
    if whole < 0:
        raise ValueError(f"{name}: expected an integer of at least 0, scaled and rounded beforehand; got {number!r}.")
    return whole
