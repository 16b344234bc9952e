"""What a user asks of the planner, and the plan that answers it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from epochcast.aggregate.averages.condition_sets import ChosenSet, one_set_of_conditions
from epochcast.aggregate.averages.table import load_agg_if_any
from epochcast.collect.grid.config_lists import LARGEST
from epochcast.facts.assumptions import assumption, device_kind_of
from epochcast.footprint.rules import FootprintRules
from epochcast.gpus.lookup import box_name_for, is_same_device
from epochcast.machine.packages import backend_name, backend_words
from epochcast.model.time_model.saved_model import SavedModel, choose_model, choose_model_of, load_model
from epochcast.output.text import percent, significant
from epochcast.paths import runs_agg_csv
from epochcast.planner.costs.budget import SECONDS, Budget, Unit
from epochcast.planner.costs.candidates import Candidate, CostRules
from epochcast.planner.costs.make_candidates import Offer, default_grid, make_candidates
from epochcast.planner.costs.memory_fit import without_too_large
from epochcast.planner.costs.pricing import with_prices
from epochcast.planner.costs.values import Combination, Value, default_value
from epochcast.planner.costs.wishes import Wishes, select
from epochcast.planner.plan.make_plan import make_plan
from epochcast.planner.plan.margin import NO_MARGIN, Margin
from epochcast.planner.plan.plan import Knowledge, Plan
from epochcast.planner.plan.plan_file import plan_json, source_of
from epochcast.schema import AXES, TRAIN_N, AggRow, Conditions, RunConfig
from epochcast.storage.files import sha256_of

DEFAULT_CONFIDENCE = 0.9
MAX_CANDIDATES = 2_000  # all of them stand in plan.json, for planning again
MAX_ROWS = 5_000  # years of measuring; laws are fitted to them
MAX_RUNS = 20_000  # so do all repeats
MOST = 1e12  # of a budget, a cost or a value in its unit: 30,000 years, and still safe to add and multiply


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks of the planner; None is left to the planner, which says what it took."""

    budget: Budget
    rules: CostRules
    value: Value | None = None
    wishes: Wishes = field(default_factory=Wishes)
    confidence: float | None = None
    common_sd: float | None = None
    time_source: str | None = None  # measured | pred
    configs: Sequence[RunConfig] | None = None  # candidates; None: what was measured
    runs_agg: Path | None = None
    model: Path | None = None
    conditions: Sequence[Mapping[str, str]] = ()
    is_frozen: bool = False
    device_memory_bytes: int | None = None  # None: as the rows or this box tell
    notes: Sequence[str] = ()  # what reading the request had to say
    footprint: FootprintRules = field(default_factory=FootprintRules)  # how seconds become the budget's unit


@dataclass(frozen=True, slots=True)
class Answer:
    """A plan, and what it was chosen from: enough to plan again for another budget."""

    plan: Plan
    confidence: float | None  # None: without a margin
    notes: list[str]
    must: list[Candidate]
    candidates: list[Candidate]
    knowledge: Knowledge
    conditions: Conditions
    sources: dict[str, Any]
    caveat: str = ""  # what the confidence does not cover, in words

    def at(self, amount: float) -> Plan:
        """The same for another budget in the same unit.

        Raises:
            ValueError: if nothing fits it.
        """
        plan = self.plan
        budget = replace(plan.budget, amount=amount)
        return make_plan(self.candidates, budget, plan.value, plan.margin, self.must, self.knowledge)

    def to_json(self) -> dict[str, Any]:
        """The object of plan.json."""
        must = [c.config for c in self.must]
        return plan_json(self.plan, self.conditions, self.sources, self.notes, self.confidence, must, self.knowledge)


def plan_budget(request: Request) -> Answer:
    """The best plan for a request.

    Raises:
        ValueError: if nothing can be planned: no candidate, mixed conditions, a budget below every run.
        FileNotFoundError: if a table or model that was named does not exist.
    """
    if request.configs is not None and len(request.configs) > MAX_CANDIDATES:
        raise ValueError(f"{len(request.configs):,} candidates: at most {MAX_CANDIDATES:,} are taken. Shorten a list.")
    if not request.budget.amount <= MOST:
        raise ValueError(f"the budget of {request.budget.text} is more than any plan takes: name at most {MOST:.0e}.")
    notes = list(request.notes)
    sources: dict[str, Any] = {"table": None, "model": None}
    rows: list[AggRow] = []
    chosen = ChosenSet([])
    if (table := load_agg_if_any(request.runs_agg, request.is_frozen)) is not None:
        chosen = one_set_of_conditions(table.rows, request.conditions, table.source)
        rows = chosen.rows
        if len(rows) > MAX_ROWS:
            raise ValueError(
                f"{table.path}: {len(rows):,} configurations of one set of conditions: at most {MAX_ROWS:,} are "
                "planned from. Plan from a part of the table."
            )
        notes.append(f"{len(rows)} measured configurations in {table.path} ({table.origin})")
        notes += chosen.notes
        sources["table"] = source_of(table.path, sha256_of(table.path) if table.path.exists() else None)
        device, box = rows[0].device_name, box_name_for(rows[0].device_name)
        if device is not None and not is_same_device(device, box):
            notes.append(f"measured on {device}, NOT this box ({box})")
        if under := backend_words(rows[0].backend).strip():
            notes.append(f"measured under {rows[0].backend}, but a run here takes {backend_name()}: set {under}")
    saved = _model_of(request, chosen, notes)
    configs = request.configs
    if _learns_more(request, rows) and saved is not None:
        grid, ranges = default_grid()
        configs = [config for config in grid if not saved.outside(config)]
        notes.append(
            f"candidates: the default grid ({ranges}) within the range of {saved.path.name}, less what is measured"
        )
    if saved is not None:
        sources["model"] = source_of(saved.path, saved.card["keras_sha256"])
    _require_buildable([*(configs or ()), *(row.config for row in rows)])
    offer = make_candidates(rows, saved, request.rules, configs, request.time_source == "pred")
    conditions = rows[0].conditions if rows else saved.conditions  # type: ignore[union-attr]  # one of them is there
    fitting, memory_notes = without_too_large(
        offer.candidates, rows, conditions, request.wishes, request.device_memory_bytes
    )
    price_notes: list[str] = []
    if request.budget.unit != SECONDS:
        fitting, price_notes = with_prices(fitting, request.budget.unit, request.footprint, rows, conditions)
    value = request.value or default_value(fitting)
    if request.value is None:
        why = "every candidate has a measured accuracy" if value.needs_accuracy else "accuracies are missing"
        notes.append(f"maximising {value.name}, as {why}")
    must, candidates, value_notes = select(fitting, value, request.wishes)
    _require_countable([*must, *candidates], request.budget.unit)
    notes += (
        offer.notes
        + price_notes
        + memory_notes
        + value_notes
        + _value_notes(value, [*must, *candidates], request.rules.epochs, request.budget.unit)
    )
    if _is_windowed(rows):
        notes.append(
            "times come from windows of steps; the planned runs train whole epochs and then test, which takes longer "
            "than the overhead above says"
        )
    margin, confidence = NO_MARGIN, request.confidence
    if confidence is None:
        confidence = DEFAULT_CONFIDENCE
    if confidence > 0.5:
        must, candidates, margin = _with_known_errors(request, must, candidates, confidence, offer, notes, saved)
    knowledge = Knowledge([row.config for row in rows], (rows[0].train_n if rows else None) or TRAIN_N)
    plan = make_plan(candidates, request.budget, value, margin, must, knowledge)
    told = confidence if margin.quantile else None
    device = offer.device_name
    is_elsewhere = device is not None and not is_same_device(device, box_name_for(device))
    caveats = [f" on {device}"] if is_elsewhere else []
    caveats += [", what whole epochs and the test take beyond windows apart"] if _is_windowed(rows) else []
    return Answer(plan, told, notes, must, candidates, knowledge, conditions, sources, "".join(caveats))


def _require_buildable(configs: Iterable[RunConfig]) -> None:
    """Raise a ValueError where a configuration is too large for anything to be computed of it."""
    for config in configs:
        if large := [axis.name for axis in AXES if axis.of(config) > LARGEST]:
            raise ValueError(
                f"{str(config)[:80]} is no configuration: {' and '.join(large)} must be at most {LARGEST:,}."
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


def _is_windowed(rows: Sequence[AggRow]) -> bool:
    return bool(rows) and rows[0].timing_mode == "steps_extrapolated"


def _learns_more(request: Request, rows: Sequence[AggRow]) -> bool:
    """Whether unmeasured configurations are meant though none is named: what is measured has nothing to teach."""
    is_asked = request.value is not None and request.value.combination is Combination.INFORMATION
    return is_asked and request.configs is None and bool(rows)


def _model_of(request: Request, chosen: ChosenSet, notes: list[str]) -> SavedModel | None:
    """The model that predicts, None where all is measured; a note says which and why."""
    rows = chosen.rows
    if request.time_source == "measured":
        if request.model is not None:
            raise ValueError(
                f"--model {request.model} predicts, --time_source measured does not: leave one of them out."
            )
        if not rows:
            raise ValueError(
                f"--time_source measured: there is no table {runs_agg_csv()}. Measure first, or use --time_source pred."
            )
        return None
    measured = {row.config for row in rows}
    unmeasured = [config for config in request.configs or () if config not in measured]
    is_needed = not rows or request.time_source == "pred" or unmeasured or _learns_more(request, rows)
    if not is_needed:
        if request.model is not None:
            load_model(request.model)  # one that can't be read was not meant
            notes.append(f"{request.model} predicts nothing: all was measured (--time_source pred predicts it)")
        return None
    if rows:  # the table's own model, though it may extrapolate: candidates say so, and their errors are wider
        choice = choose_model_of(chosen, request.model)
    else:
        choice = choose_model(request.model, wanted=request.conditions[0] if len(request.conditions) == 1 else None)
    notes.append(f"{choice.model.path.name} predicts: {choice.reason}")
    return choice.model


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


def _with_known_errors(
    request: Request,
    must: Sequence[Candidate],
    candidates: Sequence[Candidate],
    confidence: float,
    offer: Offer,
    notes: list[str],
    saved: SavedModel | None,
) -> tuple[list[Candidate], list[Candidate], Margin]:
    """The runs whose error is known, and the margin that the confidence asks for.

    Where no run's error is known, a confidence that was not asked for is given up, and said so.
    """
    unknown = [c for c in [*must, *candidates] if c.sd_sec is None]
    known = [c for c in candidates if c.sd_sec is not None]
    more = "" if saved is None else "; ".join(_unknown_ranges(saved, unknown))
    if unknown and (not known or any(c.sd_sec is None for c in must)):
        parts = [
            words
            for name, words in (("overhead", "overhead"), ("first_epoch", "first epoch"), ("steady", "steady time"))
            if any(getattr(c, name).high is None for c in unknown)
        ]
        why = f"the error of the {' and of the '.join(parts)} is unknown{f' ({more})' if more else ''}"
        if request.confidence is not None:
            raise ValueError(
                f"--confidence {confidence:g}: {why}, so no margin can be told. Measure a few runs, name "
                "--overhead_sec or --first_epoch, or plan without a margin: --confidence 0.5"
            )
        notes.append(f"no margin: {why}; about half of such plans overrun")
        return list(must), list(candidates), NO_MARGIN
    if unknown:
        why = f" ({more})" if more else ""
        notes.append(
            f"{len(unknown)} candidates left out: the error of their times is unknown{why}; --confidence 0.5 keeps them"
        )
    notes += offer.error_notes
    common_sd = request.common_sd
    if common_sd is None:
        kind = device_kind_of(offer.device_name)
        common_sd = assumption("plan_common_sd", kind).value
        notes.append(f"a factor common to all runs is assumed to spread by {percent(common_sd)} ({kind}; --common_sd)")
    return list(must), known, Margin.of_confidence(confidence, common_sd)


def _unknown_ranges(saved: SavedModel, candidates: Sequence[Candidate]) -> list[str]:
    """Why the model knows no range of some predicted candidates, each reason once, with the place it is of."""
    places = (saved.range.place(c.config, saved.widths.axes) for c in candidates if c.is_predicted)
    return [f"{place}: {why}" for place in dict.fromkeys(places) if (why := saved.widths.why_unknown(place))]
