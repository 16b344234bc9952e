"""Hand-made rows that several test files share."""

from __future__ import annotations

import csv
import random
import statistics

from epochcast.interval import Interval
from epochcast.live.fits import FitRecord
from epochcast.model.time_model.intervals import HALF_WIDTH_SDS
from epochcast.planner.costs.candidates import Candidate
from epochcast.schema import AggRow, Conditions, FailureRecord, RunConfig, RunRecord
from epochcast.storage.cells import columns, format_cell
from epochcast.workload.shape import count_params

SCHEMA_1_COLUMNS = columns(RunRecord).index("flags") + 1
BOX = Conditions(
    device_name="NVIDIA A100 80GB PCIe",
    backend="tensorflow",
    backend_version="2.21",
    precision="float32",
    jit_compile="on",
    dataset="cifar10",
    train_n=50_000,
    timing_mode="full_epoch",
)


def assert_one_clear_error(captured, message):
    """What a command printed is one line of error that holds `message`, with a list below it at most."""
    assert captured.out == ""
    said = [line for line in captured.err.splitlines() if not line.startswith("files under ")]
    assert said[0].startswith("error: ")
    assert message in said[0]
    assert all(line.startswith("  ") for line in said[1:])  # what a table holds, if anything


def run_row(times=(9.0, 2.0, 2.0), *, config=(2, 16, 64), run_id=None, test_acc=None, conditions=BOX, **more):
    """A row of runs.csv for a run with these epoch (or window) seconds."""
    depth, base_filters, batch_size = config
    known = {name: getattr(conditions, name) for name in columns(Conditions)}
    values = {
        "params": count_params(RunConfig(depth, base_filters)),
        "epochs": len(times),
        "tf_version": None,
        **known,
        **more,
    }
    return RunRecord(
        timestamp_utc="2026-01-01T00:00:00+00:00",
        depth=depth,
        base_filters=base_filters,
        batch_size=batch_size,
        epoch_times_json=tuple(times),
        avg_time_sec=statistics.fmean(times[1:]),
        images_per_sec=1.0,
        test_acc=test_acc,
        run_id=run_id,
        **values,
    )


def failure_row(**changes):
    """A row of failures.csv for a run that ran out of memory in its second epoch."""
    values = {
        "timestamp_utc": "2026-01-01T00:00:00+00:00",
        "run_id": "failed",
        "grid_id": None,
        "status": "oom",
        "exit_code": 1,
        "signal": None,
        "depth": 3,
        "base_filters": 64,
        "batch_size": 2048,
        "epochs": 3,
        "epoch_times_json": (1.5,),
        "wall_sec": 12.0,
        "message": "out, of memory",
        "spec_json": "{}",
    }
    return FailureRecord(**values | changes)


def fit_row(**changes):
    """A row of fits.csv for an estimate of a small training, all else unknown."""
    values = {
        "timestamp_utc": "2026-01-01T00:00:00+00:00",
        "kind": "estimate",
        "run_id": "estimate-1",
        "training_key": "0123456789abcdef",
        "model_key": "fedcba9876543210",
        "model_class": "Functional",
        "epochs": 30,
        "batches": 19,
        "timed_epoch_sec": 2.5,
        "n_timed": 10,
        "epoch_sec": 2.5,
        "total_sec": 80.0,
    }
    return FitRecord(**values | changes)


def write_old(path, rows, n_columns=SCHEMA_1_COLUMNS):
    """A table as the schema with so many columns would have written it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = columns(RunRecord)[:n_columns]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([[format_cell(getattr(row, name)) for name in names] for row in rows])
    return path


def agg_row(depth=2, base_filters=16, batch_size=64, seconds=2.0, n=1, std=None, **more):
    """A row of averages; `more` adds what it knows beyond time."""
    values = {"acc_mean": None, "acc_std": None, **more}
    return AggRow(
        depth=depth,
        base_filters=base_filters,
        batch_size=batch_size,
        params=count_params(RunConfig(depth, base_filters)),
        n=n,
        steps_per_epoch=-(-50_000 // batch_size),
        avg_time_mean=seconds,
        avg_time_std=std,
        thr_mean=50_000 / seconds,
        thr_std=None if std is None else 100.0,
        **values,
    )


CONFIGS = [RunConfig(*c) for c in [(2, 16, 64), (2, 16, 256), (2, 32, 64), (3, 32, 64), (3, 16, 256), (3, 32, 128)]]


def plausible_sec(config):
    return 0.5 + 2e-5 * config.depth * config.base_filters * config.steps_per_epoch()


ROWS = [agg_row(config.depth, config.base_filters, config.batch_size, plausible_sec(config)) for config in CONFIGS]


def run_costing(total_sec, value=1.0, sd=0.0, config=(2, 16, 64), **more):
    """A candidate of two epochs whose run takes that long; `sd` None: how exactly is unknown."""
    overhead = Interval(total_sec / 2) if sd is None else Interval.of_absolute(total_sec / 2, HALF_WIDTH_SDS * sd)
    known = Interval.of_absolute(total_sec / 4, 0.0)
    values = {"params": count_params(RunConfig(*config[:2])), "epochs": 2, "images_per_sec": 1.0, **more}
    return Candidate(RunConfig(*config), overhead=overhead, first_epoch=known, steady=known, value=value, **values)


def random_runs(seed, n=9, sd=0.03, first_batch=2):
    """Candidates with random seconds, spreads about `sd` of those, and values below 1, each of another batch size."""
    draw = random.Random(seed)
    runs = []
    for i in range(n):
        seconds = draw.uniform(0.5, 20)
        spread = None if sd is None else seconds * draw.uniform(0, 2 * sd)
        runs.append(run_costing(seconds, draw.random(), spread, (2, 16, first_batch + i)))
    return runs
