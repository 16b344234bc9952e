"""Runs that teach the time model most, by the variance that the design's Gaussian process loses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from epochcast.model.selection.experimental_design import Field, next_indices
from epochcast.model.time_model.physics import Array
from epochcast.planner.costs.budget import Budget
from epochcast.planner.costs.candidates import Candidate
from epochcast.planner.costs.values import Value
from epochcast.planner.plan.budget_fit import FitsWith
from epochcast.planner.plan.margin import Margin
from epochcast.planner.plan.plan import MOST_FOR_INFO, Knowledge, NothingFitsError, Plan
from epochcast.schema import EXAMPLE_LISTS, RunConfig


def most_informative(
    candidates: Sequence[Candidate],
    budget: Budget,
    value: Value,
    margin: Margin,
    must: Sequence[Candidate],
    knowledge: Knowledge,
) -> Plan:
    """The design's next run for what it costs, again and again; or the one best run, if that tells more.

    For a submodular gain such a choice is worth at least (1 - 1/e) / 2 of the best (Leskovec et al., KDD 2007): the
    determinant of the first runs is submodular, the variance reduction after them only nearly.
    """
    pool = [*must, *candidates]
    if (n := len(pool) + len(knowledge.measured)) > MOST_FOR_INFO:
        raise ValueError(
            f"{value.name} compares each configuration with every other: {n:,}, candidates and measured ones, are too "
            f"many. At most {MOST_FOR_INFO:,} are taken; choose another --value."
        )
    known = [config for config in dict.fromkeys(knowledge.measured) if config not in {c.config for c in pool}]
    measured = set(knowledge.measured)
    configs = [*(c.config for c in pool), *known]
    costs = np.array([*(c.cost for c in pool), *[1.0] * len(known)])
    begun = [i for i, config in enumerate(configs) if i < len(must) or config in measured]

    fits_with = FitsWith(pool, budget, margin)

    def fits(chosen: list[int]) -> npt.NDArray[np.bool_]:
        return np.array([*fits_with.of([*range(len(must)), *chosen]), *[False] * len(known)])

    if not must and len(begun) == len(configs):
        raise NothingFitsError(
            f"every candidate is measured already: {value.name} has nothing to add. Name others, e.g. "
            f"{EXAMPLE_LISTS}, or --candidates."
        )
    order = next_indices(configs, begun, len(pool), knowledge.train_n, lambda taken: costs, fits)
    at_first = Field(configs, begun, knowledge.train_n).gains()
    at_first[begun] = 0.0
    at_first[~fits([])] = 0.0
    reached, later = _reached(configs, begun, order, knowledge.train_n)
    if at_first.max() > reached[-1] - reached[0]:
        order = [int(at_first.argmax())]
        reached, later = _reached(configs, begun, order, knowledge.train_n)
    chosen = [replace(pool[i], value=reached[k + 1] - reached[k]) for k, i in enumerate(order)]
    excluded = [
        replace(c, value=float(later[i])) for i, c in enumerate(pool) if i >= len(must) and i not in {*begun, *order}
    ]
    return Plan(
        chosen=[*must, *chosen],
        excluded=excluded,
        budget=budget,
        value=value,
        value_dp=reached[-1] - reached[0],
        value_resummed=math.fsum(c.value for c in chosen),
        bound=None,
        is_proven=False,
        margin=margin,
        base=[*must, *chosen],
    )


def _reached(
    configs: Sequence[RunConfig], begun: Sequence[int], order: Sequence[int], train_n: int
) -> tuple[list[float], Array]:
    """The share known before, and after each run of an order; then what each further run would add."""
    field = Field(configs, begun, train_n)
    reached = [field.known]
    for i in order:
        field.measure(i)
        reached.append(field.known)
    return reached, field.gains()


def information(configs: Iterable[RunConfig], pool: Iterable[RunConfig], knowledge: Knowledge) -> float:
    """Return the share of a pool's variance that these configurations explain beyond what is measured."""
    known = list(dict.fromkeys(knowledge.measured))
    number = {config: i for i, config in enumerate(dict.fromkeys([*pool, *known]))}
    field = Field(list(number), [number[config] for config in known], knowledge.train_n)
    before = field.known
    for config in dict.fromkeys(configs):
        field.measure(number[config])
    return field.known - before
