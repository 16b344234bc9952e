"""A plan: the best set of runs for a budget, in the order to do them, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from epochcast.cli import significant
from epochcast.schema import TRAIN_N, RunConfig
from model.design import Field, next_indices
from model.physics import Array
from planner.candidates import Candidate
from planner.knapsack import budget_milliseconds, to_milliseconds_up
from planner.margin import NO_MARGIN, Margin, Priced, best_within
from planner.worth import SUMS

# values become integers for the exact search: accuracy to 1e-6, throughput to 1e-3 images/s
VALUE_SCALE = {"acc": 10**6, "thr": 10**3, "count": 1}


class NothingFitsError(ValueError):
    """No run, or not all that must be done, keeps the budget, or none that does is worth anything."""


EXACT, SINGLE, GREEDY = "exact", "single", "greedy"
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Plan:
    """Runs chosen for a budget. `value_dp` is what the search found, `value_resummed` what `chosen` is worth."""

    chosen: list[Candidate]  # in the order to run
    left_out: list[Candidate]
    budget_sec: float
    value: str
    value_dp: float
    value_resummed: float
    bound: float | None  # no plan is worth more; None where nothing is known
    is_proven: bool
    method: str
    margin: Margin
    base: list[Candidate]  # what stays if another run joins: all, or the musts where it takes the place of the best

    @property
    def total_sec(self) -> float:
        """Expected wall seconds."""
        return math.fsum(c.total_sec for c in self.chosen)

    @property
    def upper_sec(self) -> float:
        """Wall seconds with the margin: what the plan promises."""
        return _upper_sec(self.chosen, self.margin)

    @property
    def budget_used(self) -> float:
        return self.upper_sec / self.budget_sec

    def missed(self, n: int = 5) -> list[tuple[Candidate, float]]:
        """The `n` runs left out that are worth most, and the seconds that the budget lacks for each beside the plan."""
        lacking = [(c, _lacking_sec([*self.base, c], self.budget_sec, self.margin)) for c in self.left_out]
        return sorted(lacking, key=lambda pair: (-pair[0].value, pair[1]))[:n]


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is measured already: `info` asks what a run would add to it."""

    measured: Sequence[RunConfig] = ()
    train_n: int = TRAIN_N


NOTHING_KNOWN = Knowledge()


def _upper_sec(candidates: Sequence[Candidate], margin: Margin) -> float:
    if not margin.quantile:
        return math.fsum(c.total_sec for c in candidates)
    return margin.upper_sec([c.total_sec for c in candidates], [_sd(c) for c in candidates])


def _sd(candidate: Candidate) -> float:
    if candidate.sd_sec is None:
        raise ValueError(f"the error of {candidate.config} is unknown: no margin can be told. Plan without confidence.")
    return candidate.sd_sec


def _lacking_sec(candidates: Sequence[Candidate], budget_sec: float, margin: Margin) -> float:
    """Seconds that these runs need beyond the budget, 0 if none; whole milliseconds as in the search without margin."""
    if margin.quantile:
        return max(0.0, _upper_sec(candidates, margin) - budget_sec)
    return max(0, _milliseconds(candidates) - budget_milliseconds(budget_sec)) / 1000


def _fits(candidates: Sequence[Candidate], budget_sec: float, margin: Margin) -> bool:
    """Whether these runs keep the budget."""
    return _lacking_sec(candidates, budget_sec, margin) == 0


def _fit_beside(own: Sequence[Candidate], pool: Sequence[Candidate], budget_sec: float, margin: Margin) -> list[bool]:
    """Which runs of the pool keep the budget beside those, one at a time."""
    if not margin.quantile:
        room = budget_milliseconds(budget_sec) - _milliseconds(own)
        return [to_milliseconds_up(c.total_sec) <= room for c in pool]
    sec, sd = math.fsum(c.total_sec for c in own), math.hypot(*map(_sd, own))
    return [margin.upper_sec([sec, c.total_sec], [sd, _sd(c)]) <= budget_sec for c in pool]


def _milliseconds(candidates: Sequence[Candidate]) -> int:
    return sum(to_milliseconds_up(c.total_sec) for c in candidates)


def make_plan(
    candidates: Sequence[Candidate],
    budget_sec: float,
    value: str,
    margin: Margin = NO_MARGIN,
    must: Sequence[Candidate] = (),
    knowledge: Knowledge = NOTHING_KNOWN,
) -> Plan:
    """The most valuable set of runs that keeps the budget with its margin.

    Args:
        must: runs that are done whatever they are worth; none of `candidates`.

    Raises:
        NothingFitsError: if not even the cheapest run fits, the musts do not, or none that fits is worth anything.
        RuntimeError: if the set found is not worth what the search says, or does not fit: a bug, never passed over.
    """
    if budget_sec <= 0:
        raise NothingFitsError(f"nothing is left of the budget ({significant(budget_sec)} s).")
    if must and not _fits(must, budget_sec, margin):
        raise NothingFitsError(
            f"the runs that must be done take {significant(_upper_sec(must, margin))} s{_with_margin(margin)}, the "
            f"budget is {significant(budget_sec)} s. Raise it, or narrow --must."
        )
    if not must:
        cheapest = min(candidates, key=lambda c: _upper_sec([c], margin))
        if not _fits([cheapest], budget_sec, margin):
            raise NothingFitsError(
                f"the budget of {significant(budget_sec)} s is smaller than every run: the cheapest, "
                f"{cheapest.config}, takes {significant(_upper_sec([cheapest], margin))} s{_with_margin(margin)}"
                + (f" for {cheapest.repeats} runs. Lower --repeats" if cheapest.repeats > 1 else ". Lower --epochs")
                + ", or raise the budget."
            )
    if value in SUMS:
        plan = _best_sum(candidates, budget_sec, value, margin, must)
    elif value == "best_acc":
        plan = _best_single(candidates, budget_sec, margin, must)
    else:
        plan = _most_informative(candidates, budget_sec, margin, must, knowledge)
    if not plan.chosen:
        raise NothingFitsError(f"no run that fits the budget is worth anything by {value}. Choose another --value.")
    return plan


def _with_margin(margin: Margin) -> str:
    return " with the margin" if margin.quantile else ""


def _best_sum(
    candidates: Sequence[Candidate], budget_sec: float, value: str, margin: Margin, must: Sequence[Candidate]
) -> Plan:
    scale = VALUE_SCALE[value]
    sds = [_sd(c) for c in candidates] if margin.quantile else [0.0] * len(candidates)
    must_sec, must_sd = _milliseconds(must) / 1000, 0.0  # each rounded up by itself, as the candidates are
    if margin.quantile:
        must_sec, must_sd = math.fsum(c.total_sec for c in must), math.hypot(*map(_sd, must))
    priced = Priced([c.total_sec for c in candidates], sds, [_whole_value(c, scale) for c in candidates])
    solution = best_within(priced, budget_sec, margin, must_sec, must_sd)
    chosen = [candidates[i] for i in solution.indices]
    is_chosen = set(solution.indices)
    must_value = sum(_whole_value(c, scale) for c in must)
    chosen_value = sum(_whole_value(c, scale) for c in chosen)
    # the search added the same floats in another order
    if chosen_value != solution.value or not _fits([*must, *chosen], (1 + _ROUNDING) * budget_sec, margin):
        raise RuntimeError(
            f"the plan contradicts itself: the search says {solution.value!r}, its set sums to {chosen_value!r} and "
            f"takes {_upper_sec([*must, *chosen], margin)!r} s of {budget_sec!r} s. Please report this with the table."
        )
    return Plan(
        chosen=_in_order([*must, *chosen], must),
        left_out=[c for i, c in enumerate(candidates) if i not in is_chosen],
        budget_sec=budget_sec,
        value=value,
        value_dp=(solution.value + must_value) / scale,
        value_resummed=math.fsum(c.value for c in [*must, *chosen]),
        bound=(solution.bound + must_value) / scale,
        is_proven=solution.is_proven,
        method=EXACT,
        margin=margin,
        base=[*must, *chosen],
    )


def _whole_value(candidate: Candidate, scale: int) -> int:
    return round(scale * candidate.value)


def _in_order(chosen: Sequence[Candidate], must: Sequence[Candidate]) -> list[Candidate]:
    """Musts first, then by value per second: whenever the runs are stopped, the seconds spent were spent well."""
    is_must = {id(c) for c in must}
    return sorted(chosen, key=lambda c: (id(c) not in is_must, -c.value / c.total_sec, c.config))


def _best_single(candidates: Sequence[Candidate], budget_sec: float, margin: Margin, must: Sequence[Candidate]) -> Plan:
    """The affordable run with the highest value, of several the cheapest; proven, as all are looked at."""
    affordable = [c for c in candidates if _fits([*must, c], budget_sec, margin)]
    best = min(affordable, key=lambda c: (-c.value, c.total_sec), default=None)
    chosen = [*must, *([best] if best is not None and best.value > max((c.value for c in must), default=0.0) else [])]
    found = max((c.value for c in chosen), default=0.0)
    left_out = [c for c in candidates if c is not best]
    return Plan(chosen, left_out, budget_sec, "best_acc", found, found, found, True, SINGLE, margin, list(must))


def _most_informative(
    candidates: Sequence[Candidate],
    budget_sec: float,
    margin: Margin,
    must: Sequence[Candidate],
    knowledge: Knowledge,
) -> Plan:
    """The design's next run for each second it takes, again and again; or the one best run, if that tells more.

    For a submodular gain such a choice is worth at least (1 - 1/e) / 2 of the best (Leskovec et al., KDD 2007): the
    determinant of the first runs is submodular, the variance reduction after them only nearly.
    """
    pool = [*must, *candidates]
    known = [config for config in dict.fromkeys(knowledge.measured) if config not in {c.config for c in pool}]
    measured = set(knowledge.measured)
    configs = [*(c.config for c in pool), *known]
    costs = np.array([*(c.total_sec for c in pool), *[1.0] * len(known)])
    begun = [i for i, config in enumerate(configs) if i < len(must) or config in measured]

    def fits(chosen: list[int]) -> npt.NDArray[np.bool_]:
        affordable = _fit_beside([*must, *(pool[i] for i in chosen)], pool, budget_sec, margin)
        return np.array([*affordable, *[False] * len(known)])

    if not must and len(begun) == len(configs):
        raise NothingFitsError(
            "every candidate is measured already: info has nothing to add. Name others, e.g. --depth 2:5 "
            "--base_filters 16:128:x2 --batch_size 64:2048:x2, or --candidates."
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
    left_out = [
        replace(c, value=float(later[i])) for i, c in enumerate(pool) if i >= len(must) and i not in {*begun, *order}
    ]
    return Plan(
        chosen=[*must, *chosen],
        left_out=left_out,
        budget_sec=budget_sec,
        value="info",
        value_dp=reached[-1] - reached[0],
        value_resummed=math.fsum(c.value for c in chosen),
        bound=None,
        is_proven=False,
        method=GREEDY,
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
