"""A plan for other programs: a table, shell commands, trials for Optuna."""

from __future__ import annotations

import csv
import io
import shlex
import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from epochcast.paths import script_of
from epochcast.planner.costs.budget import SECONDS, UNITS
from epochcast.schema import AXIS_NAMES, RunSpec
from epochcast.storage.file_kinds import PLAN_SCRIPT_MARK
from epochcast.text_sinks import one_line

COLUMNS = (
    "run_id", *AXIS_NAMES, "epochs", "params", "overhead_sec", "overhead_sec_high",
    "first_epoch_sec", "first_epoch_sec_high", "steady_sec", "steady_sec_high", "total_sec", "total_sec_high",
    "value", "acc", "acc_epochs", "images_per_sec", "is_predicted", "is_extrapolated", "must",
)  # fmt: skip


def columns_of(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns of a plan's table: COLUMNS, and where its budget is none of seconds what each run takes of that."""
    key = UNITS[plan["budget_unit"]].key
    cost = (f"total_{key}", f"total_{key}_high")
    return COLUMNS + tuple(name for name in cost if name not in COLUMNS)


def plan_csv(plan: Mapping[str, Any]) -> str:
    """The chosen runs of a plan.json as a table; what is unknown is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(plan), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(plan["chosen"])
    return text.getvalue()


def plan_sh(plan: Mapping[str, Any]) -> str:
    """The commands that do the runs one after the other, for a shell in any folder of this box."""
    default, unit = RunSpec(), UNITS[plan["budget_unit"]]
    cost = f"{plan['total_sec']:.0f} s"
    if unit != SECONDS:
        cost += f", {unit.text(plan[f'total_{unit.key}'])}"
    script = script_of("run")
    # by the whole path, since the shell may be anywhere; without a checkout the package is importable from anywhere
    run_text = "-m epochcast run" if script is None else shlex.quote(str(script))
    lines = [
        "#!/bin/sh",
        f"# {one_line(plan['plan_id'])}: {len(plan['chosen'])} runs, about {cost} of {plan['budget']:g} {unit.word}.",
        PLAN_SCRIPT_MARK,
        f'[ -n "${{PYTHON:-}}" ] || PYTHON={shlex.quote(sys.executable)}',
    ]
    if (backend := plan["conditions"]["backend"]) is not None:  # the times are of it
        lines.append(f"export KERAS_BACKEND={shlex.quote(backend)}")
    for run in plan["chosen"]:
        spec = RunSpec(**run["spec"])
        words = [*spec.config.flags, "--epochs", str(spec.epochs)]
        words += ["--idle_sec", "0"]  # the plan's seconds hold no wait for the idle power
        for field in fields(RunSpec):
            value = getattr(spec, field.name)
            if (
                field.name not in (*AXIS_NAMES, "epochs")
                and value is not None
                and value != getattr(default, field.name)
            ):
                words += [f"--{field.name}", str(value)]
        lines.append(f'"$PYTHON" {run_text} {shlex.join([*words, "--run_id", run["run_id"]])}')
    return "\n".join(lines) + "\n"


def optuna_trials(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Arguments of `optuna.study.Study.enqueue_trial`, one mapping for each configuration, in the plan's order.

    `for trial in trials: study.enqueue_trial(**trial)` queues them; the objective suggests the same three names.
    """
    key = UNITS[plan["budget_unit"]].key
    seen = set()
    trials = []
    for run in plan["chosen"]:
        params = {name: run[name] for name in AXIS_NAMES}
        if (config := tuple(params.values())) in seen:
            continue
        seen.add(config)
        attributes = {"plan_id": plan["plan_id"], "run_id": run["run_id"], "epochs": run["epochs"]}
        expected = {"expected_sec": run["total_sec"], f"expected_{key}": run[f"total_{key}"]}
        trials.append({"params": params, "user_attrs": attributes | expected})
    return trials
