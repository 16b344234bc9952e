"""plan.json: a plan as it is written for people's programs and for `epochcast run_plan`, and read again."""

from __future__ import annotations

import math
import secrets
import shlex
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from epochcast.collect.grid.specs import PlannedRun, spec_under
from epochcast.collect.records.kept import RUN_ID
from epochcast.collect.run.names import spec_id
from epochcast.gpus.lookup import is_same_device
from epochcast.interval import Interval, with_ends
from epochcast.machine.environment import utc_now
from epochcast.machine.gpu_driver import box_device_name
from epochcast.paths import command_text, expanded
from epochcast.planner.costs.budget import SECONDS, UNITS, BoardShare, Budget, Price, Unit
from epochcast.planner.costs.candidates import Candidate
from epochcast.planner.costs.values import VALUES, Combination, Value
from epochcast.planner.plan.margin import Margin
from epochcast.planner.plan.plan import MOST_FOR_INFO, NOTHING_KNOWN, Knowledge, Plan
from epochcast.schema import AXIS_NAMES, Conditions, RunConfig, RunRecord, RunSpec
from epochcast.storage.cells import columns
from epochcast.storage.files import read_text
from epochcast.storage.json_files import parse_json
from epochcast.text_sinks import one_line
from epochcast.validation import is_whole

PLAN_SCHEMA_VERSION, OLDEST_READ = 4, 3
PARTS = ("overhead", "first_epoch", "steady")
MOST_OF_ANYTHING = 1e15  # seconds, images/s, parameters: far beyond whatever is planned, and safe to add and multiply
MOST_WORDS = 200
# planned runs train whole epochs, however was measured; another version is slower or quicker, but no other thing
NOT_PLANNED = ("timing_mode", "window_steps", "backend_version")


@dataclass(frozen=True, slots=True)
class PlanRun:
    """One run of a plan, or one that was left out: what is run under which name, and what it was expected to take."""

    planned: PlannedRun
    candidate: Candidate
    is_must: bool


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan as read from its file."""

    path: Path
    plan_id: str
    budget: Budget
    value: Value
    margin: Margin
    chosen: list[PlanRun]
    left_out: list[PlanRun]
    knowledge: Knowledge
    conditions: Conditions  # that the times are of

    def differences(self, record: RunRecord) -> str:
        """What a run was measured under that the plan was not made for, in words; empty if nothing is known of it."""
        own = record.conditions
        pairs = {name: (getattr(own, name), getattr(self.conditions, name)) for name in columns(Conditions)}
        return ", ".join(
            f"{name} {found}, not {planned}"
            for name, (found, planned) in pairs.items()
            if found is not None
            and planned is not None
            and found != planned
            and not (name == "device_name" and is_same_device(found, planned))
            and name not in NOT_PLANNED
            # from whichever folder, real images are real ones
            and (name != "dataset" or "synthetic" in (found, planned))
        )

    def with_images_in(self, data_dir: Path) -> SavedPlan:
        """The same plan with its runs' images in a folder, which the plan itself does not know."""

        def moved(runs: Sequence[PlanRun]) -> list[PlanRun]:
            where = str(expanded(str(data_dir)).absolute())
            return [
                replace(run, planned=replace(run.planned, spec=replace(run.planned.spec, data_dir=where)))
                for run in runs
            ]

        return replace(self, chosen=moved(self.chosen), left_out=moved(self.left_out))

    @property
    def runs(self) -> dict[str, PlanRun]:
        """All runs, chosen or not, by their run_id."""
        return {run.planned.run_id: run for run in (*self.chosen, *self.left_out)}

    @property
    def ledger_path(self) -> Path:
        return ledger_of(self.path)


def ledger_of(plan: Path) -> Path:
    """Where the account of a plan's runs is kept."""
    return plan.with_name(f"{plan.stem}.ledger.jsonl")


def is_begun(ledger: Path) -> bool:
    """Whether anything stands in a ledger; a full disk leaves an empty one."""
    return ledger.exists() and ledger.stat().st_size > 0


def plan_json(
    plan: Plan,
    conditions: Conditions,
    sources: Mapping[str, Any],
    notes: Sequence[str],
    confidence: float | None = None,
    must: Sequence[RunConfig] = (),
    knowledge: Knowledge = NOTHING_KNOWN,
) -> dict[str, Any]:
    """The whole plan as JSON values: what `--json` prints and `--out` writes."""
    plan_id = f"plan-{secrets.token_hex(4)}"
    unit, band = plan.budget.unit, plan.band
    has_margin = plan.margin.quantile > 0

    def runs(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
        return [
            _run_json(candidate, unit, has_margin, conditions, f"{plan_id}-r{repeat}", candidate.config in must)
            for candidate in candidates
            for repeat in range(1, candidate.repeats + 1)
        ]

    return {
        "schema_version": PLAN_SCHEMA_VERSION,
        "plan_id": plan_id,
        "created_utc": utc_now(),
        "budget": plan.budget.amount,
        "budget_unit": unit.name,
        "confidence": confidence,
        "margin": asdict(plan.margin),
        "maximised": plan.value.name,
        "method": plan.method,
        "conditions": asdict(conditions),
        **sources,
        "is_proven_optimal": plan.is_proven,
        "value_dp": plan.value_dp,
        "value_resummed": plan.value_resummed,
        "value_bound": plan.bound,
        "total_sec": plan.total_sec,
        f"total_{unit.key}": plan.cost,
        f"upper_{unit.key}": plan.upper,
        **({} if band is None else _band_json(plan, band)),
        "budget_used": plan.budget_used,
        "notes": list(notes),
        "chosen": runs(plan.chosen),
        "left_out": runs(plan.left_out),
        "measured": [list(asdict(config).values()) for config in knowledge.measured],
        "train_n": knowledge.train_n,
    }


def _band_json(plan: Plan, band: Interval) -> dict[str, Any]:
    """The ends of what a plan may cost, of what they are, and what they do not hold; null is unknown."""
    key = plan.budget.unit.key
    ends = {f"total_{key}_low": band.low, f"total_{key}_high": band.high}
    return {**ends, "range_of": plan.shared, "range_unknown": plan.unknown}


def _run_json(
    candidate: Candidate, unit: Unit, has_margin: bool, conditions: Conditions, suffix: str, is_must: bool
) -> dict[str, Any]:
    """One run: what a plan of several repeats is worth is shared by them.

    Without a margin its cost is the one that the budget is charged, so that these add up to the plan's.
    """
    spec = spec_under(candidate.config, candidate.epochs, conditions)
    run: dict[str, Any] = {
        "run_id": f"{spec_id(spec, box_device_name(spec.device))}-{suffix}",
        "spec": asdict(spec),
        **asdict(candidate.config),
        "params": candidate.params,
        "epochs": candidate.epochs,
    }
    for part in PARTS:
        run |= with_ends(f"{part}_sec", getattr(candidate, part))
    run |= with_ends("total_sec", candidate.run)
    one = replace(candidate, repeats=1)
    run[f"total_{unit.key}"] = one.cost if has_margin else unit.charged(one.cost)
    if (price := candidate.price) is not None:
        told = asdict(replace(price, per_sec=price.known))
        high = one.cost_high
        low = None if high is None else max(0.0, 2 * one.cost - high)
        run |= {f"total_{unit.key}_low": low, f"total_{unit.key}_high": high, "price": told}
    return run | {
        "value": candidate.value / candidate.repeats,
        "acc": candidate.acc,
        "acc_epochs": candidate.acc_epochs,
        "images_per_sec": candidate.images_per_sec,
        "was_measured": candidate.was_measured,
        "is_predicted": candidate.is_predicted,
        "is_extrapolated": candidate.is_extrapolated,
        "must": is_must,
    }


def read_plan(path: Path) -> SavedPlan:
    """A plan from the file that `dp_budget_planner --out` wrote.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is no plan, or of another version.
    """
    path = path.absolute()
    try:
        values = parse_json(read_text(path))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: no such plan. Make one: {command_text('plan')} --budget 1h --out {shlex.quote(str(path))}"
        ) from None
    except ValueError as error:
        why = str(error).removeprefix(f"{path}:").strip().rstrip(".")
        raise ValueError(f"{path}: not a plan: {why}.") from None
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version not in range(OLDEST_READ, PLAN_SCHEMA_VERSION + 1) or isinstance(version, bool):
        raise ValueError(
            f"{path}: not a plan that this version can run (schema_version {str(version)[:20]}, "
            f"{PLAN_SCHEMA_VERSION} is known). Make it again: dp_budget_planner --out"
        )
    try:
        return _plan_of(path, values if version == PLAN_SCHEMA_VERSION else _lifted(values))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
        what = one_line(what if len(what) <= MOST_WORDS else f"{what[:MOST_WORDS]}...")
        raise ValueError(f"{path}: not a whole plan: {what}. Make it again: dp_budget_planner --out") from None


def _lifted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan of schema 3 under today's names; it held high ends alone, so low ones lie as far below."""

    def run_of(run: Mapping[str, Any]) -> dict[str, Any]:
        lifted = {name.replace("_upper", "_high"): value for name, value in run.items()}
        for part in PARTS:
            value, high = _number(run, f"{part}_sec"), run[f"{part}_sec_upper"]
            half = None if high is None else _number(run, f"{part}_sec_upper", least=value) - value
            lifted |= with_ends(f"{part}_sec", Interval.of_absolute(value, half))
        return lifted

    return {**values, **{name: [run_of(run) for run in _list(values, name)] for name in ("chosen", "left_out")}}


def _plan_of(path: Path, values: Mapping[str, Any]) -> SavedPlan:
    if not isinstance(values["maximised"], str) or values["maximised"] not in VALUES:
        raise ValueError(f"maximised is {values['maximised']!r}")
    if not isinstance(values["budget_unit"], str) or values["budget_unit"] not in UNITS:
        raise ValueError(f"budget_unit is {values['budget_unit']!r}")
    unit = UNITS[values["budget_unit"]]
    plan = SavedPlan(
        path=path,
        plan_id=_name(values, "plan_id"),
        budget=Budget(_number(values, "budget", least=1 / unit.fineness), unit),
        value=VALUES[values["maximised"]],
        margin=Margin(*(_number(values["margin"], name) for name in ("quantile", "common_sd"))),
        chosen=[_run_of(run, unit) for run in _list(values, "chosen")],
        left_out=[_run_of(run, unit) for run in _list(values, "left_out")],
        knowledge=Knowledge(
            [RunConfig(*config) for config in _list(values, "measured")], _whole(values, "train_n", least=1)
        ),
        conditions=_conditions(values["conditions"]),
    )
    if plan.value.combination is Combination.INFORMATION and len(plan.knowledge.measured) > MOST_FOR_INFO:
        raise ValueError(f"measured holds {len(plan.knowledge.measured):,} configurations, at most {MOST_FOR_INFO:,}")
    ids = [run.planned.run_id for run in (*plan.chosen, *plan.left_out)]
    if len(set(ids)) < len(ids):
        raise ValueError("two runs have the same run_id")
    if plan.value.combination is Combination.SUM:
        _check_sum("value_resummed", _number(values, "value_resummed"), [r.candidate.value for r in plan.chosen])
    _check_sum(
        "budget_used", plan.budget.amount * _number(values, "budget_used"), [_number(values, f"upper_{unit.key}")]
    )
    return plan


def _check_sum(name: str, total: float, parts: Sequence[float], rounding: float = 0.0) -> None:
    """Raise a ValueError unless a number is the sum of those it rests on: else one of them was changed."""
    if not math.isclose(total, summed := math.fsum(parts), rel_tol=1e-6, abs_tol=rounding):
        raise ValueError(f"{name} stands for {total!r}, what it sums is {summed!r}")


def _list(values: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(values[name], list):
        raise ValueError(f"{name} is {str(values[name])[:60]!r}, not a list")
    return values[name]  # type: ignore[no-any-return]  # it is one


def _name(values: Mapping[str, Any], name: str) -> str:
    """What names files, or is a part of such a name."""
    value = values[name]
    if not isinstance(value, str) or not RUN_ID.fullmatch(value):
        raise ValueError(f"{name} is {value!r}")
    return value


def _truth(values: Mapping[str, Any], name: str) -> bool:
    if not isinstance(value := values[name], bool):
        raise ValueError(f"{name} is {value!r}")
    return value


def _whole(values: Mapping[str, Any], name: str, least: int) -> int:
    if not is_whole(value := values[name], least) or value > MOST_OF_ANYTHING:
        raise ValueError(f"{name} is {value!r}")
    return int(value)


def _conditions(values: Mapping[str, Any]) -> Conditions:
    conditions = Conditions(**values)
    if missing := sorted(set(columns(Conditions)) - set(values)):  # unknown is said, as null
        raise KeyError(missing[0])
    for name, hint in typing.get_type_hints(Conditions).items():
        value = getattr(conditions, name)
        if isinstance(value, bool) or not isinstance(value, hint):
            raise ValueError(f"{name} is {value!r}")
    return conditions


def _number(values: Mapping[str, Any], name: str, least: float = 0.0) -> float:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= MOST_OF_ANYTHING:
        raise ValueError(f"{name} is {value!r}")
    return float(value)


def _interval(values: Mapping[str, Any], name: str) -> Interval:
    value = _number(values, name)
    if values[f"{name}_low"] is None and values[f"{name}_high"] is None:
        return Interval(value)
    low, high = _number(values, f"{name}_low"), _number(values, f"{name}_high", least=value)
    if low > value:
        raise ValueError(f"{name}_low is {low!r}")
    return Interval(value, low, high)


def _price_of(values: Mapping[str, Any]) -> Price:
    per_sec, sd, board = values["per_sec"], values["sd"], values["board"]
    value = _number(per_sec, "value")
    if not value:
        raise ValueError("per_sec is 0")
    ends = () if per_sec["low"] is None else (_number(per_sec, "low"), _number(per_sec, "high", least=value))
    if ends and ends[0] > value:
        raise ValueError(f"low is {ends[0]!r}")
    return Price(
        Interval(value, *ends),
        None if sd is None else _number(values, "sd"),
        None if board is None else BoardShare(_number(board, "watts"), _number(board, "per_j")),
        _names(values, "shared"),
        _names(values, "unknown"),
    )


def _names(values: Mapping[str, Any], name: str) -> tuple[str, ...]:
    names = values[name]
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise ValueError(f"{name} is {names!r}")
    return tuple(names)


def _run_of(run: Mapping[str, Any], unit: Unit) -> PlanRun:
    spec = RunSpec(**run["spec"])
    if spec.epochs is None:
        raise ValueError("epochs is None: a planned run has a fixed number")
    if not isinstance(spec.data_dir, str | None):
        raise ValueError(f"data_dir is {spec.data_dir!r}")

    for name in (*AXIS_NAMES, "epochs"):
        if run[name] != getattr(spec, name):
            raise ValueError(f"{name} is {run[name]!r}, in its spec {getattr(spec, name)!r}")
    candidate = Candidate(
        config=spec.config,
        params=_whole(run, "params", least=1),
        epochs=spec.epochs,
        overhead=_interval(run, "overhead_sec"),
        first_epoch=_interval(run, "first_epoch_sec"),
        steady=_interval(run, "steady_sec"),
        images_per_sec=_number(run, "images_per_sec"),
        acc=None if run["acc"] is None else _number(run, "acc"),
        acc_epochs=None if run["acc_epochs"] is None else _whole(run, "acc_epochs", least=1),
        was_measured=_truth(run, "was_measured"),
        is_predicted=_truth(run, "is_predicted"),
        is_extrapolated=_truth(run, "is_extrapolated"),
        value=_number(run, "value"),
        price=None if unit == SECONDS else _price_of(run["price"]),
    )
    _check_sum("total_sec", _number(run, "total_sec"), [candidate.total_sec], 2 / SECONDS.fineness)
    if unit != SECONDS:
        _check_sum(f"total_{unit.key}", _number(run, f"total_{unit.key}"), [candidate.cost], 2 / unit.fineness)
    return PlanRun(PlannedRun(spec, _name(run, "run_id")), candidate, _truth(run, "must"))


def source_of(path: Path, sha256: str | None) -> dict[str, str | None]:
    """A file that a plan rests on, with its hash."""
    return {"path": str(path.absolute()), "sha256": sha256}
