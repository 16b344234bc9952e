"""Answer a request: read what it rests on, price the candidates, and search the best plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from epochcast.gpus.lookup import box_name_for, is_same_device
from epochcast.output.text import significant
from epochcast.planner.costs.budget import SECONDS, Unit
from epochcast.planner.costs.candidates import Candidate
from epochcast.planner.costs.make_candidates import make_candidates
from epochcast.planner.costs.memory_fit import without_too_large
from epochcast.planner.costs.values import Combination, Value, default_value
from epochcast.planner.costs.wishes import select
from epochcast.planner.plan.make_plan import make_plan
from epochcast.planner.plan.plan import Knowledge
from epochcast.planner.request.plan_margin import confidence_of, margin_of
from epochcast.planner.request.request import MAX_CANDIDATES, Answer, Request
from epochcast.planner.request.sources import Sources, sources_of
from epochcast.schema import AXES, TRAIN_N, RunConfig
from epochcast.validation import LARGEST_SETTING

MAX_RUNS = 20_000  # all of them stand in plan.json, as the candidates do
MOST = 1e12  # of a budget, a cost or a value in its unit: 30,000 years, and still safe to add and multiply


def plan_budget(request: Request) -> Answer:
    """Return the best plan for a request.

    Raises:
        ValueError: if nothing can be planned: no candidate, mixed conditions, a budget below every run.
        FileNotFoundError: if a table or model that was named does not exist.
    """
    if request.configs is not None and len(request.configs) > MAX_CANDIDATES:
        raise ValueError(f"{len(request.configs):,} candidates: at most {MAX_CANDIDATES:,} are taken. Shorten a list.")
    if not request.budget.amount <= MOST:
        raise ValueError(f"the budget of {request.budget.text} is more than any plan takes: name at most {MOST:.0e}.")
    sources, unit = sources_of(request), request.budget.unit
    rows, conditions, notes = sources.rows, sources.conditions, list(sources.notes)
    _require_buildable([*(sources.configs or ()), *(row.config for row in rows)])
    offer = make_candidates(rows, sources.saved, request.rules, sources.configs, request.time_source == "pred")
    fitting, memory_notes = without_too_large(
        offer.candidates, rows, conditions, request.wishes, request.device_memory_bytes
    )
    price_notes: list[str] = []
    if unit != SECONDS:
        from epochcast.planner.costs.pricing import (
            with_prices,  # energy, footprint and facts: seconds need none of them
        )

        fitting, price_notes = with_prices(fitting, unit, request.footprint, rows, conditions, sources.saved)
    value = request.value or default_value(fitting)
    if request.value is None:
        why = "every candidate has a measured accuracy" if value.needs_accuracy else "accuracies are missing"
        notes.append(f"maximising {value.name}, as {why}")
    must, candidates, value_notes = select(fitting, value, request.wishes)
    _require_countable([*must, *candidates], unit)
    limits = _value_notes(value, [*must, *candidates], request.rules.epochs, unit)
    notes += [*offer.notes, *price_notes, *memory_notes, *value_notes, *limits]
    if sources.is_windowed:
        notes.append(
            "times come from windows of steps; the planned runs train whole epochs and then test, which takes longer "
            "than the overhead above says"
        )
    candidates, margin, margin_notes = margin_of(request, must, candidates, offer, sources.saved)
    knowledge = Knowledge([row.config for row in rows], (rows[0].train_n if rows else None) or TRAIN_N)
    plan = make_plan(candidates, request.budget, value, margin, must, knowledge)
    return Answer(
        plan,
        confidence_of(request) if margin.quantile else None,
        [*notes, *margin_notes],
        must,
        candidates,
        knowledge,
        conditions,
        sources.files,
        _caveat(offer.device_name, sources),
    )


def _caveat(device_name: str | None, sources: Sources) -> str:
    """Return what a plan's confidence does not cover, in words."""
    is_elsewhere = device_name is not None and not is_same_device(device_name, box_name_for(device_name))
    of_device = f" on {device_name}" if is_elsewhere else ""
    return of_device + (", what whole epochs and the test take beyond windows apart" if sources.is_windowed else "")


def _require_buildable(configs: Iterable[RunConfig]) -> None:
    """Raise a ValueError where a configuration is too large for anything to be computed of it."""
    for config in configs:
        if large := [axis.name for axis in AXES if axis.of(config) > LARGEST_SETTING]:
            raise ValueError(
                f"{str(config)[:80]} is no configuration: {' and '.join(large)} must be at most {LARGEST_SETTING:,}."
            )


def _require_countable(candidates: Sequence[Candidate], unit: Unit) -> None:
    """Raise a ValueError where there are too many runs, or one costs or is worth what can't be added."""
    if len(candidates) > MAX_CANDIDATES:
        raise ValueError(
            f"{len(candidates):,} candidates: at most {MAX_CANDIDATES:,} are taken. Leave some out: --exclude, "
            "--min_acc, --max_params, --exclude_measured, or name some."
        )
    if (n := sum(c.repeats for c in candidates)) > MAX_RUNS:
        raise ValueError(
            f"{n:,} runs to choose from: at most {MAX_RUNS:,} are taken. Lower --repeats, or shorten a list."
        )
    for c in candidates:
        if not (0 < c.cost <= MOST and c.total_sec <= MOST and (c.cost_sd or 0.0) <= MOST):
            raise ValueError(
                f"{c.config} would take {unit.text(c.cost)} ({significant(c.total_sec)} s): no number to plan with. "
                "Lower --epochs, or correct what costs are made of: the table, --overhead_sec, --first_epoch, prices."
            )
        if not c.images_per_sec <= MOST:
            raise ValueError(
                f"{c.config} would take {significant(c.steady.value)} s an epoch: no number to plan with. Correct its "
                "row."
            )


def _value_notes(value: Value, candidates: Sequence[Candidate], epochs: int, unit: Unit) -> list[str]:
    """Return the limits of a value: gains without proof, accuracies of other epochs."""
    if value.combination is Combination.INFORMATION:
        return [
            f"{value.name} is chosen greedily by gain per {unit.one}: not proven optimal, at least (1 - 1/e) / 2 of "
            "the best for a submodular gain (Leskovec et al. 2007)"
        ]
    after = sorted({c.acc_epochs for c in candidates if c.acc_epochs not in (None, epochs)} - {None})
    if value.needs_accuracy and after:
        counts = " or ".join(map(str, after))
        return [f"accuracies were measured after {counts} epochs: that they hold after {epochs} is an extrapolation"]
    return []
