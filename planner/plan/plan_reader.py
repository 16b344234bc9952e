"""Read plan.json again, strictly: what was changed by hand, or is not whole, is refused with what is wrong."""

from __future__ import annotations

import math
import shlex
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epochcast.collect.grid.specs import PlannedRun
from epochcast.collect.records.kept import RUN_ID
from epochcast.interval import Interval, with_ends
from epochcast.paths import command_text
from epochcast.planner.costs.budget import SECONDS, UNITS, BoardShare, Budget, Price, Unit
from epochcast.planner.costs.candidates import Candidate
from epochcast.planner.costs.values import VALUES, Combination
from epochcast.planner.plan.margin import Margin
from epochcast.planner.plan.plan import MOST_FOR_INFO, Knowledge
from epochcast.planner.plan.plan_file import OLDEST_READ, PARTS, PLAN_SCHEMA_VERSION, PlanRun, SavedPlan
from epochcast.schema import AXIS_NAMES, Conditions, RunConfig, RunSpec
from epochcast.storage.cells import columns
from epochcast.storage.files import read_text
from epochcast.storage.json_files import parse_json
from epochcast.text_sinks import one_line
from epochcast.validation import is_whole

MOST_OF_ANYTHING = 1e15  # seconds, images/s, parameters: far beyond whatever is planned, and safe to add and multiply
MOST_WORDS = 200


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
        excluded=[_run_of(run, unit) for run in _list(values, "left_out")],
        knowledge=Knowledge(
            [RunConfig(*config) for config in _list(values, "measured")], _whole(values, "train_n", least=1)
        ),
        conditions=_conditions(values["conditions"]),
    )
    if plan.value.combination is Combination.INFORMATION and len(plan.knowledge.measured) > MOST_FOR_INFO:
        raise ValueError(f"measured holds {len(plan.knowledge.measured):,} configurations, at most {MOST_FOR_INFO:,}")
    ids = [run.planned.run_id for run in (*plan.chosen, *plan.excluded)]
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
