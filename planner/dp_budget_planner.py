"""`dp_budget_planner`: which runs to do in the seconds there are, by an exact 0/1 knapsack."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aggregate.agg_table import load_agg_if_any, one_set_of_conditions
from epochcast.cli import (
    add_table_flags,
    clock,
    duration_sec,
    fraction,
    make_parser,
    not_negative_float,
    percent,
    positive_float,
    positive_int,
    print_home,
    run_command,
    significant,
    table_text,
)
from epochcast.environment import box_device_name
from epochcast.files import sha256_of, write_json_atomically
from epochcast.paths import runs_agg_csv
from epochcast.schema import AggRow
from model.predictor import choose_model
from planner.candidates import VALUES, CostRules, choose_value, make_candidates, with_values
from planner.plan import Plan, make_plan, plan_json, source_of

DEFAULT_EPOCHS = 50


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks of the planner; None is left to the planner, which says what it took."""

    budget_sec: float
    rules: CostRules
    value: str | None = None
    min_acc: float | None = None
    time_source: str | None = None  # measured | pred
    runs_agg: Path | None = None
    model: Path | None = None
    conditions: Sequence[Mapping[str, str]] = ()
    is_frozen: bool = False


def plan_budget(request: Request) -> tuple[Plan, dict[str, Any]]:
    """The best plan for a request, and the same as the JSON object of plan.json.

    Raises:
        ValueError: if nothing can be planned: no candidate, mixed conditions, a budget below every run.
        FileNotFoundError: if a table or model that was named does not exist.
    """
    notes: list[str] = []
    sources: dict[str, Any] = {"table": None, "model": None}
    rows: list[AggRow] = []
    if (table := load_agg_if_any(request.runs_agg, request.is_frozen)) is not None:
        rows = one_set_of_conditions(table.rows, request.conditions)
        notes.append(f"{len(rows)} candidates from {table.path} ({table.origin})")
        sources["table"] = source_of(table.path, sha256_of(table.path) if table.path.exists() else None)
        device, box = rows[0].device_name, box_device_name()
        if device is not None and device != box:
            notes.append(f"measured on {device}, NOT this box ({box})")
    time_source = request.time_source or ("measured" if rows and request.model is None else "pred")
    if time_source == "measured" and request.model is not None:
        raise ValueError(f"--model {request.model} predicts, --time_source measured does not: leave one of them out.")
    if time_source == "measured" and not rows:
        raise ValueError(
            f"--time_source measured: there is no table {runs_agg_csv()}. Measure first, or use --time_source pred."
        )
    saved = None
    if time_source == "pred":
        choice = choose_model((), request.model, rows[0].conditions if rows else None)
        saved = choice.model
        notes.append(f"{saved.path.name} predicts: {choice.reason}")
        sources["model"] = source_of(saved.path, saved.card["keras_sha256"])
    candidates, cost_notes = make_candidates(rows, saved, request.rules)
    value = request.value or choose_value(candidates)
    if request.value is None:
        why = "every candidate has a measured accuracy" if value == "acc" else "accuracies are missing"
        notes.append(f"maximising {value}, as {why}")
    candidates, value_notes = with_values(candidates, value, request.min_acc)
    if value == "acc" and (measured_after := {r.acc_epochs for r in rows} - {request.rules.epochs, None}):
        after = " or ".join(str(n) for n in sorted(n for n in measured_after if n is not None))
        value_notes.append(f"accuracies were measured after {after} epochs, not after {request.rules.epochs}")
    if rows and rows[0].timing_mode == "steps_extrapolated":
        value_notes.append(
            "times come from windows of steps; the planned runs train whole epochs and then test, which takes longer "
            "than the overhead above says"
        )
    plan = make_plan(candidates, request.budget_sec, value)
    conditions = rows[0].conditions if rows else saved.conditions  # type: ignore[union-attr]  # one of them is there
    return plan, plan_json(plan, conditions, sources, [*notes, *cost_notes, *value_notes])


def plan_lines(plan: Plan, notes: Sequence[str]) -> list[str]:
    """A plan for people: what was assumed, the runs, the sums."""
    lines = [f"note: {note}" for note in notes]
    rows = [
        [
            str(c.config),
            c.overhead_sec,
            c.first_epoch_sec,
            c.steady_sec,
            c.total_sec,
            c.acc,
            c.images_per_sec,
            c.value,
        ]
        for c in sorted(plan.chosen, key=lambda c: c.config)
    ]
    digits = {"acc": 6, "thr": 6, "count": len(str(len(plan.chosen)))}[plan.value]
    header = ["configuration", "overhead s", "first epoch s", "s/epoch", "total s", "acc", "images/s", "value"]
    lines += ["", table_text(header, rows), ""]
    proof = "yes, proven" if plan.is_proven else f"not proven: at most {significant(plan.bound, 6)}"
    lines += [
        f"runs: {len(plan.chosen)} of {plan.chosen[0].epochs} epochs",
        f"total_sec: {significant(plan.total_sec, 6)} ({clock(plan.total_sec)})",
        f"budget_used: {percent(plan.budget_used)} of {significant(plan.budget_sec, 6)} s",
        f"value ({plan.value}): {significant(plan.value_dp, digits)} by the dynamic programme, "
        f"{significant(plan.value_resummed, digits)} re-summed over the runs above",
        f"optimal: {proof}",
    ]
    return lines


def _first_epoch(text: str) -> str | float:
    return text if text in ("measured", "none") else positive_float(text)


def _at_least_two(text: str) -> int:
    value = positive_int(text)
    if value < 2:
        raise argparse.ArgumentTypeError("expected at least 2 epochs: the first is untimed")
    return value


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(
        "dp_budget_planner",
        "Choose the runs worth most that fit into a time budget, exactly; start-up and first epochs are priced.",
        "dp_budget_planner --budget_sec 3600 --epochs 50",
    )
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--budget_sec", type=positive_float, metavar="SEC", help="wall seconds that the runs may take")
    budget.add_argument("--budget", type=duration_sec, metavar="TIME", help="the same as 90s, 15m or 1h30m")
    parser.add_argument("--epochs", type=_at_least_two, default=DEFAULT_EPOCHS, help="epochs of every run, at least 2")
    parser.add_argument("--value", choices=VALUES, help="sum to maximise; default: acc if all are measured, else count")
    parser.add_argument("--min_acc", type=fraction, metavar="ACC", help="leave out runs below this test accuracy")
    parser.add_argument("--time_source", choices=("measured", "pred"), help="default: measured if there is a table")
    parser.add_argument(
        "--overhead_sec",
        type=not_negative_float,
        metavar="SEC",
        help="of a run, outside epochs; default: measured",
    )
    parser.add_argument(
        "--first_epoch",
        type=_first_epoch,
        default="measured",
        metavar="measured|none|SEC",
        help="what the first epoch costs: as measured (default), none: as any other, or that many seconds",
    )
    add_table_flags(parser, is_optional=True)
    parser.add_argument("--model", type=Path, metavar="PATH", help="time model to predict with; default: chosen")
    parser.add_argument("--out", type=Path, metavar="PATH", help="write the plan as JSON")
    parser.add_argument("--json", action="store_true", help="print one JSON object, the runs under chosen")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)

    def work() -> int:
        print_home()
        request = Request(
            budget_sec=arguments.budget_sec or arguments.budget,
            rules=CostRules(arguments.epochs, arguments.overhead_sec, arguments.first_epoch),
            value=arguments.value,
            min_acc=arguments.min_acc,
            time_source=arguments.time_source,
            runs_agg=arguments.runs_agg,
            model=arguments.model,
            conditions=arguments.conditions,
            is_frozen=arguments.frozen,
        )
        plan, as_json = plan_budget(request)
        if arguments.out is not None:
            write_json_atomically(arguments.out, as_json)
        if arguments.json:
            print(json.dumps(as_json))
        else:
            print("\n".join(plan_lines(plan, as_json["notes"])))
            if arguments.out is not None:
                print(f"plan: {arguments.out.absolute()}")
        return 0

    return run_command(work)
