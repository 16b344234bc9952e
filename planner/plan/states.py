"""Pareto lists of a 0/1 knapsack: sets of the items decided so far that no other set beats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epochcast.planner.plan.bounds import Ints


@dataclass(frozen=True, slots=True)
class States:
    """Sets of the items decided so far, in ascending order of both cost and value; all arrays of one length."""

    cost: Ints
    value: Ints
    count: Ints  # items in the set
    taken: Ints  # bit j: item j of the current block of decisions is in the set
    parent: Ints  # where the set's earlier items stand in the last list of the block before

    def __getitem__(self, which: Ints | NDArray[np.bool_]) -> States:
        return States(self.cost[which], self.value[which], self.count[which], self.taken[which], self.parent[which])

    @classmethod
    def start(cls) -> States:
        """The empty set."""
        return cls(*np.zeros((5, 1), np.int64))


def extend(states: States, cost: int, value: int, bit: int, budget: int) -> States:
    """Return the states with and without one more item, less those that another beats or equals."""
    n_fit = int(np.searchsorted(states.cost, budget - cost, side="right"))
    both = States(
        np.concatenate([states.cost, states.cost[:n_fit] + cost]),
        np.concatenate([states.value, states.value[:n_fit] + value]),
        np.concatenate([states.count, states.count[:n_fit] + 1]),
        np.concatenate([states.taken, states.taken[:n_fit] | bit]),
        np.concatenate([states.parent, states.parent[:n_fit]]),
    )
    order = np.argsort(both.cost, kind="stable")  # two sorted runs: a merge
    values = both.value[order]
    order = order[np.append(True, values[1:] > np.maximum.accumulate(values)[:-1])]
    costs = both.cost[order]
    return both[order[np.append(costs[1:] > costs[:-1], True)]]  # of equal costs the last is worth most
