"""The whole way on boxes of the fake driver, in one process: measure, average, train, predict, plan, run, resume.

`box_walk.py FOLDER` reads boxes as a JSON list from stdin, `{"name": ..., "steps": [[variables, batch_sizes], ...]}`;
what came of each is printed. The first and the last run of a grid are measured by the light child under the variables
of every step; what follows, and the second call of each grid, is under those of the last. `fake_nvml.environment` must
be in force. A trained network is written without Keras, which takes longer to start than all else together: the shipped
one stands in its place.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from unittest import mock

if not __package__:  # run by path: import from the checkout, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.collect.grid.grid_loop import run_grid
from epochcast.collect.grid.specs import grid_runs
from epochcast.collect.run import child
from epochcast.collect.run.place import RunPlace
from epochcast.machine import gpu_driver
from epochcast.model import predict_perf, train
from epochcast.model.training import time_ann
from epochcast.paths import logs_dir, pretrained_dir, runs_csv
from epochcast.planner import dp_budget_planner, run_plan
from epochcast.schema import RunRecord
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import read_runs, read_table
from epochcast.workload.shape import count_params
from tests.support.cli import end_of
from tests.support.light_child import command, light_spec

CHILD = command("paced", "0.002")


@dataclass(frozen=True)
class ShippedNetwork:
    """Stands for a Keras model that is saved."""

    data: bytes

    def save(self, file):
        file.write_bytes(self.data)


def measure(batch_sizes):
    """Measure the first and the last run of a grid; the rows of the others are copies of the first's."""
    planned = grid_runs([light_spec(depth=d, batch_size=b) for b in batch_sizes for d in (1, 2)], 1, {})
    first = run_grid(planned[:1], RunPlace(runs_csv(), logs_dir(), child=CHILD))
    for row in first.measured:
        for item in planned[1:-1]:
            config = item.spec.config
            params = count_params(config)
            append_row(runs_csv(), replace(row, **asdict(config), params=params, run_id=item.run_id))
    last = run_grid(planned, RunPlace(runs_csv(), logs_dir(), child=CHILD))
    return {
        "ids": [item.run_id for item in planned],
        "measured": len(first.measured) + len(last.measured),
        "done": last.n_done_before,
    }


def walk(box, home):
    """What came of one box."""
    os.environ["EPOCHCAST_HOME"] = str(home)
    grids = []
    for variables, batch_sizes in box["steps"]:
        for name in ("CUDA_VISIBLE_DEVICES", "FAKE_NVML_NAMES", "FAKE_NVML_MODE"):
            os.environ.pop(name, None)
        os.environ.update(variables)
        gpu_driver.forget()
        grids.append(measure(batch_sizes))
    again = [measure(batch_sizes) for _, batch_sizes in box["steps"]]
    rows = read_table(runs_csv(), RunRecord)
    averages = aggregate(read_runs(runs_csv())).rows
    plan = home / "plan.json"
    of_box = ("--conditions", f"device_name={gpu_driver.box_device_name()}", "--json")
    shipped = (pretrained_dir() / "a100.keras").read_bytes()
    with (
        mock.patch.object(time_ann, "keras_model", lambda network: ShippedNetwork(shipped)),
        mock.patch.object(time_ann, "with_plain_weights", lambda data, network: data),
    ):
        trained = end_of(train.main, *of_box)
    answered = end_of(predict_perf.main, "--depth", 1, "--base_filters", 2, "--batch_size", 64, "--json")
    few = ("--depth", 1, "--base_filters", 2, "--batch_size", "16")
    planned = end_of(dp_budget_planner.main, "--budget_sec", 600, "--value", "count", *few, "--out", plan, *of_box)
    run = end_of(run_plan.main, plan, "--json")
    ledger = end_of(run_plan.main, plan, "--json")
    return {
        "device": gpu_driver.box_device_name(),
        "uuid": gpu_driver.device_of().uuid,
        "grids": grids,
        "again": again,
        "names": [row.device_name for row in rows],
        "uuids": [row.gpu_uuid for row in rows],
        "memory": [row.device_memory_bytes for row in rows],
        "sets": len({row.conditions for row in averages}),
        "model": trained[1].json["model"],
        "answer": answered[1].json,
        "plan": {
            "conditions": planned[1].json["conditions"],
            "ids": [run["run_id"] for run in planned[1].json["chosen"]],
        },
        "run": (run[0], run[1].json),
        "resumed": (ledger[0], ledger[1].json),
    }


if __name__ == "__main__":
    child.CHILD = CHILD
    boxes = json.load(sys.stdin)
    print(json.dumps([walk(box, Path(sys.argv[1]) / str(n)) for n, box in enumerate(boxes)]))
