"""How long a grid is said to take: scaled by what this box has finished, and more work never costs less."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from epochcast.collect.grid.wall_estimate import WallEstimate
from epochcast.machine.gpu_driver import box_device_name
from epochcast.schema import RunRecord, RunSpec
from epochcast.workload.shape import count_params
from tests.support.light_child import EPOCH_SEC

SPEC = RunSpec(depth=2, base_filters=16, batch_size=128, epochs=4)


def finished(spec, wall_sec, device_name=None):
    """The row of a run of `spec` that took `wall_sec`."""
    return RunRecord(
        timestamp_utc="2026-01-01T00:00:00+00:00",
        tf_version="2.21.0",
        depth=spec.depth,
        base_filters=spec.base_filters,
        batch_size=spec.batch_size,
        epochs=spec.epochs,
        params=count_params(spec.config),
        epoch_times_json=(EPOCH_SEC,) * spec.epochs,
        avg_time_sec=EPOCH_SEC,
        images_per_sec=spec.train_n / EPOCH_SEC,
        test_acc=None,
        device_name=device_name or box_device_name(),
        train_n=spec.train_n,
        timing_mode=spec.timing_mode,
        window_steps=spec.window_steps,
        wall_sec=wall_sec,
    )


def random_spec(seed):
    draw = random.Random(seed)
    return RunSpec(
        depth=draw.randint(1, 5),
        base_filters=draw.choice([2, 8, 16, 64]),
        batch_size=draw.choice([16, 64, 500, 4096]),
        epochs=draw.randint(2, 10),
        window_steps=draw.choice([None, None, 1, 50]),
        train_n=draw.choice([512, 10_000, 50_000]),
    )


@pytest.mark.parametrize("seed", range(100))
def test_more_work_never_costs_less(seed):
    spec = random_spec(seed)
    estimate = WallEstimate([finished(random_spec(seed + 1000), 30.0)])
    more = [
        replace(spec, depth=spec.depth + 1),
        replace(spec, base_filters=2 * spec.base_filters),
        replace(spec, epochs=spec.epochs + 1),
        replace(spec, train_n=2 * spec.train_n),
        replace(spec, window_steps=spec.window_steps and spec.window_steps + 1),
    ]
    assert estimate.expected_sec(spec) > 0
    assert all(estimate.expected_sec(harder) >= estimate.expected_sec(spec) for harder in more)


def test_more_images_cost_more_unless_windows_are_timed():
    estimate = WallEstimate([])
    few, many = (replace(SPEC, train_n=n) for n in (512, 50_000))
    assert estimate.expected_sec(few) < estimate.expected_sec(many)
    windowed = [estimate.expected_sec(replace(spec, window_steps=20)) for spec in (few, many)]
    assert windowed[0] == windowed[1] < estimate.expected_sec(many)


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_finished_runs_of_this_box_set_the_scale(factor):
    assumed_sec = WallEstimate([]).expected_sec(SPEC)
    estimate = WallEstimate([finished(SPEC, factor * assumed_sec)])
    assert estimate.n_runs == 1
    assert estimate.expected_sec(SPEC) == pytest.approx(factor * assumed_sec, rel=1e-12)
    other = replace(SPEC, depth=4, train_n=512)
    assert estimate.expected_sec(other) == pytest.approx(factor * WallEstimate([]).expected_sec(other), rel=1e-12)


def test_one_odd_run_does_not_spoil_the_scale():
    assumed_sec = WallEstimate([]).expected_sec(SPEC)
    estimate = WallEstimate([finished(SPEC, factor * assumed_sec) for factor in (1.9, 2.0, 50.0)])
    assert estimate.expected_sec(SPEC) == pytest.approx(2 * assumed_sec, rel=1e-12)


def test_a_run_that_finishes_now_is_learned_from():
    assumed_sec = WallEstimate([]).expected_sec(SPEC)
    estimate = WallEstimate([])
    estimate.add(SPEC, 5 * assumed_sec)
    assert (estimate.n_runs, estimate.expected_sec(SPEC)) == (1, pytest.approx(5 * assumed_sec, rel=1e-12))


def test_rows_of_other_devices_and_rows_without_wall_time_are_no_scale():
    rows = [finished(SPEC, 1e6, "NVIDIA A100 80GB PCIe"), finished(SPEC, None)]
    estimate = WallEstimate(rows)
    assert estimate.n_runs == 0
    assert estimate.expected_sec(SPEC) == WallEstimate([]).expected_sec(SPEC)
