"""What is named next and why: seconds of a run, gain per second, and the file for a grid."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.collect.grid.config_lists import read_configs, read_specs
from epochcast.collect.grid.specs import spec_under
from epochcast.collect.grid.wall_estimate import WallEstimate
from epochcast.facts.assumptions import assumption
from epochcast.model.selection.experimental_design import next_indices
from epochcast.model.selection.next_runs import NextRun, configs_csv, measured_costs, plan_next, training_sec
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.recipes import PHYSICS, fit_time_models
from epochcast.schema import Conditions, RunSpec
from epochcast.storage.tables import read_runs
from tests.support.models.next_runs_rows import CPU, GRID, SMALL_GRID, row_of
from tests.support.rows import agg_row

pytestmark = pytest.mark.usefixtures("home")


def test_seven_runs_named_from_nothing_predict_the_rest_of_the_a100(reference_data):
    rows = aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows
    runs = plan_next([], [row.config for row in rows], 7, 3).runs
    assert {run.by for run in runs} == {"D-optimal"}
    table, named = Table.of(rows), {run.config for run in runs}
    mask = np.array([config in named for config in table.configs])
    (model,) = fit_time_models(PHYSICS, table, mask[None], 0)
    rest = table.take(~mask)
    assert np.mean(np.abs(model.times(rest.configs) / rest.seconds - 1)) <= 0.04  # what is claimed with costs


def test_seconds_of_a_run_are_overhead_first_epoch_and_the_others_as_the_rows_tell(reference_data):
    rows = aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows
    known = [dataclasses.replace(row, overhead_sec_mean=16.0) for row in rows]
    wanted = [16.0 + row.first_epoch_sec_mean + 9 * row.avg_time_mean for row in rows]
    for n, error in ((1, 1.0), (20, 0.1), (143, 0.05)):  # a guess from one row, a rough law, a good one
        seconds = measured_costs(known[:: len(rows) // n][:n], [row.config for row in rows], 10)
        assert (seconds > 0).all()
        assert np.median(np.abs(seconds / wanted - 1)) < error


def test_seven_designed_rows_give_the_seconds_of_all_others_to_a_few_percent(reference_data):
    rows = aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows
    known = [dataclasses.replace(row, overhead_sec_mean=16.0) for row in rows]
    configs = [row.config for row in rows]
    wanted = [16.0 + row.first_epoch_sec_mean + 9 * row.avg_time_mean for row in rows]
    seconds = measured_costs([known[i] for i in next_indices(configs, [], 7, 50_000)], configs, 10)
    assert np.median(np.abs(seconds / wanted - 1)) < 0.06


@pytest.mark.parametrize(("device_name", "kind"), [(CPU, "cpu"), ("NVIDIA H200", "gpu"), (None, "gpu")])
def test_what_no_row_knows_is_assumed_for_the_kind_of_device(device_name, kind):
    row = agg_row(seconds=2.0, device_name=device_name)
    (seconds,) = measured_costs([row], [row.config], 4)
    assumed = sum(assumption(name, kind).value for name in ("overhead_sec", "first_epoch_excess_sec"))
    assert seconds == pytest.approx(assumed + 4 * 2.0, rel=0.01)


def test_a_longer_run_takes_longer_by_its_epochs():
    rows = [row_of(config) for config in SMALL_GRID[::3]]
    shortest, short, long = (measured_costs(rows, SMALL_GRID, epochs) for epochs in (2, 3, 13))
    assert long - short == pytest.approx(10 * (short - shortest), rel=1e-9)
    steady = [row.avg_time_mean for row in rows]
    assert (short - shortest)[::3] == pytest.approx(steady, rel=0.1)  # these rows' law is not ours


def test_runs_are_chosen_by_what_they_tell_per_second():
    rows = [row_of(config) for config in SMALL_GRID[:2]]
    runs = plan_next(rows, GRID, 7, 4).runs
    candidates = [*GRID, *(row.config for row in rows if row.config not in GRID)]
    measured = [candidates.index(row.config) for row in rows]
    blind = next_indices(candidates, measured, 7, 50_000)
    seconds = measured_costs(rows, candidates, 4)
    assert sum(seconds[candidates.index(run.config)] for run in runs) < sum(seconds[i] for i in blind)
    box = WallEstimate(())
    specs = [spec_under(run.config, 4, rows[0].conditions) for run in runs]
    assert [run.expected_sec for run in runs] == [box.expected_sec(spec) for spec in specs]  # not those it weighed


@pytest.mark.parametrize("epochs", [None, 7])
@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(),
        Conditions(device_name="AMD EPYC 9B14 (2 cores)", pipeline="arrays", dataset="synthetic", train_n=1000),
        Conditions(precision="mixed_float16", jit_compile="on", steps_per_execution=10, window_steps=20),
    ],
)
def test_what_was_written_is_read_again_by_the_one_reader(tmp_path, conditions, epochs):
    runs = [NextRun(config, "D-optimal", 1.0) for config in SMALL_GRID[:5]]
    path = tmp_path / "next_runs.csv"
    path.write_text(configs_csv(runs, epochs, conditions))
    expected = [spec_under(run.config, epochs, conditions, in_windows=True) for run in runs]
    assert read_specs(path, RunSpec()) == expected
    assert read_configs(path) == [run.config for run in runs]


def test_a_run_that_goes_on_until_it_is_known_costs_ten_seconds_of_epochs_or_six_epochs():
    assert training_sec(np.array([0.5, 20.0]), None).tolist() == [21 * 0.5, 6 * 20.0]
    assert training_sec(np.array([0.5, 20.0]), 3).tolist() == [1.5, 60.0]
