"""What will not fit into the device's memory is left out by grids and plans, counted and named; what may fit is run."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from epochcast.collect import run_grid as grid
from epochcast.collect.grid.grid_loop import GridOptions, run_grid
from epochcast.collect.grid.memory_fit import device_memory_bytes, sort_by_fit
from epochcast.collect.grid.specs import grid_runs
from epochcast.collect.run.listener import Listener
from epochcast.collect.run.place import RunPlace
from epochcast.machine.host.host import cpu_name, memory_bytes
from epochcast.paths import failures_csv
from epochcast.planner import dp_budget_planner
from epochcast.planner.costs.budget import Budget
from epochcast.planner.costs.candidates import CostRules
from epochcast.planner.costs.memory_fit import without_too_large
from epochcast.planner.costs.values import COUNT
from epochcast.planner.costs.wishes import Wishes
from epochcast.planner.request.plan_budget import plan_budget
from epochcast.planner.request.request import Request
from epochcast.roofline.network_memory import MemoryLaw
from epochcast.schema import AggRow, Conditions, FailureRecord, RunConfig, RunRecord
from epochcast.storage.tables import read_table, write_table
from epochcast.workload.memory import MemoryModel, closed_form, plain_arrays
from tests.support.light_child import command, isolate, light_spec, starts
from tests.support.machines.boxes import Board, plug_in
from tests.support.plans import name_this_box
from tests.support.rows import BOX, ROWS, agg_row, assert_one_clear_error, run_costing, run_row

SIZES = (16, 64, 256)
GB = 10**9
LAW = MemoryLaw.shipped()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    isolate(monkeypatch, tmp_path, tmp_path / "trace")
    return tmp_path


# --- how much memory there is -----------------------------------------------------------------------------------------


@pytest.fixture
def gpu_box(monkeypatch, tmp_path):
    """Make this box one with a GPU of so many bytes; None: that its driver does not report."""

    def make(total, name="NVIDIA T"):
        gib = total if total is None else total / 2**30
        plug_in(monkeypatch, tmp_path, [Board(name, gib)])

    return make


def test_rows_of_this_device_tell_its_memory_where_the_driver_does_not(gpu_box):
    rows = [
        run_row(conditions=Conditions(device_name="NVIDIA T"), device_memory_bytes=7 * GB),
        run_row(conditions=Conditions(device_name="NVIDIA T")),
        run_row(conditions=Conditions(device_name="another"), device_memory_bytes=9 * GB),
    ]
    gpu_box(None)
    assert device_memory_bytes("auto", rows) == 7 * GB
    assert device_memory_bytes("auto", rows[1:]) is None
    gpu_box(5 * GB)
    assert device_memory_bytes("auto", rows) == 5 * GB


def test_a_gpu_s_memory_is_the_driver_s_word_or_unknown(gpu_box):
    gpu_box(5 * GB)
    assert device_memory_bytes("auto") == 5 * GB
    gpu_box(None)
    assert device_memory_bytes("auto") is None
    assert device_memory_bytes("gpu:1") is None


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    """The first GPU of this box is large, the second is small and of another name."""
    plug_in(monkeypatch, tmp_path, [Board("NVIDIA T", 80.0), Board("NVIDIA S", 8 * GB / 2**30)])


def test_a_gpu_that_is_named_is_asked_itself_and_no_other_s_rows_tell_of_it(two_gpus):
    first, second = (
        run_row(conditions=Conditions(device_name=f"NVIDIA {n}"), device_memory_bytes=7 * GB) for n in "TS"
    )
    assert device_memory_bytes("gpu:1", [first]) == 8 * GB
    assert device_memory_bytes("GPU-unknown", [first, second]) is None
    unnamed = run_row(conditions=Conditions(device_name=None), device_memory_bytes=7 * GB)
    assert device_memory_bytes("GPU-unknown", [unnamed]) is None


def test_peaks_of_the_first_gpu_do_not_calibrate_the_second(two_gpus):
    known = {"backend": "tensorflow", "precision": "float32", "pipeline": "tfdata", "train_n": 500}
    sizes = (4096, 8192, 16384, 32768)
    configs = [RunConfig(2, 16, b) for b in sizes]

    def rows_of(name):
        conditions = Conditions(device_name=name, jit_compile="on", **known)
        own = [round(0.4 * plain_arrays(config, conditions).value) for config in configs]
        return [
            run_row(config=(2, 16, b), conditions=conditions, peak_memory_bytes=o)
            for b, o in zip(sizes, own, strict=True)
        ]

    waiting = grid_runs([light_spec(depth=2, base_filters=16, batch_size=24_000, device="gpu:1", train_n=500)], 1, {})
    plain, foreign, own = (sort_by_fit(waiting, rows) for rows in ([], rows_of("NVIDIA T"), rows_of("NVIDIA S")))
    assert plain.lines == foreign.lines != own.lines


def test_a_processor_s_memory_is_the_host_s_though_there_is_a_gpu(gpu_box):
    gpu_box(5 * GB)
    assert device_memory_bytes("cpu") == memory_bytes()[0] > 2**28


# --- which runs fit ---------------------------------------------------------------------------------------------------


def planned(sizes=SIZES, **more):
    return grid_runs([light_spec(batch_size=b, device="cpu", **more) for b in sizes], 1, {})


def estimate(batch_size):
    spec = light_spec(batch_size=batch_size, device="cpu")
    return closed_form(spec.config, Conditions(device_name=cpu_name(), jit_compile="off"))


def sizes_of(items):
    return [item.spec.batch_size for item in items]


def test_what_will_not_fit_is_left_out_and_what_may_not_is_run_and_named():
    total = round(estimate(64).low) + 1
    assert estimate(16).high < total < estimate(64).high
    assert total < estimate(256).low
    found = sort_by_fit(planned(), [], total)
    assert (sizes_of(found.kept), sizes_of(found.too_large)) == ([16, 64], [256])
    left_out, doubtful = found.lines
    assert left_out.startswith("left out: 1 run ((1,2,256)) will not fit into ")
    assert "--ignore_memory" in left_out
    assert doubtful.startswith("measured all the same: 1 run ((1,2,64)) may not fit into ")


def test_one_byte_decides_at_the_low_end():
    enough = math.ceil(estimate(64).low)
    assert sizes_of(sort_by_fit(planned([64]), [], enough).kept) == [64]
    assert sizes_of(sort_by_fit(planned([64]), [], enough - 1).too_large) == [64]


def test_where_the_memory_is_unknown_nothing_is_left_out_and_nothing_said(monkeypatch):
    monkeypatch.setattr("epochcast.collect.grid.memory_fit.device_memory_bytes", lambda device, rows: None)
    found = sort_by_fit(planned([2**30]), [])
    assert (sizes_of(found.kept), found.too_large, found.lines) == ([2**30], [], [])


def test_what_fits_is_not_spoken_of():
    assert sort_by_fit(planned(), [], 2**50).lines == []


def test_measured_peaks_of_the_same_conditions_decide_better_than_the_closed_form():
    spec = light_spec(batch_size=64, device="cpu")
    conditions = Conditions(
        device_name=cpu_name(),
        backend="tensorflow",
        precision="float32",
        pipeline="tfdata",
        jit_compile="off",
        train_n=spec.train_n,
        timing_mode="full_epoch",
    )
    rows = [
        run_row(config=(1, 2, b), conditions=conditions, peak_memory_bytes=round(1.4 * estimate(b).value))
        for b in (16, 60, 256, 1024)
    ]
    total = round(1.2 * estimate(64).value)
    assert sizes_of(sort_by_fit(planned([64]), [], total).kept) == [64]
    assert sizes_of(sort_by_fit(planned([64]), rows, total).too_large) == [64]
    others = [dataclasses.replace(row, precision="mixed_float16") for row in rows]
    assert sizes_of(sort_by_fit(planned([64]), others, total).kept) == [64]


# --- a grid -----------------------------------------------------------------------------------------------------------


class Grid:
    def __init__(self, folder):
        self.runs, self.log_dir, self.trace = folder / "runs.csv", folder / "logs", folder / "trace"
        self.said = []

    def measure(self, *behaviour, sizes=SIZES, **options):
        self.said.clear()
        place = RunPlace(self.runs, self.log_dir, child=command(*(behaviour or ["ok"])))
        return run_grid(planned(sizes), place, GridOptions(**options), Listener(self.said.append))

    @property
    def started(self):
        return sorted(start["batch_size"] for start in starts(self.trace))

    @property
    def failed(self):
        table = failures_csv(self.runs)
        return read_table(table, FailureRecord) if table.exists() else []


@pytest.fixture
def bench(home):
    return Grid(home)


TOTAL = round(estimate(64).low) + 1


def test_a_grid_leaves_out_what_will_not_fit_without_a_failure(bench):
    result = bench.measure(device_memory_bytes=TOTAL)
    assert bench.started == [16, 64]
    assert sizes_of(result.too_large) == [256]
    assert (result.failures, bench.failed, result.n_failed_before) == ([], [], 0)
    assert "3 runs (1 left out: too large), 2 to measure" in bench.said[0]
    assert bench.said[1].startswith("left out: 1 run ((1,2,256)) will not fit into ")
    assert "2 of 2 runs measured" in bench.said[-1]
    assert "1 left out as too large for the device's memory" in bench.said[-1]


def test_what_was_left_out_is_measured_when_there_is_room_or_a_user_insists(bench):
    bench.measure(device_memory_bytes=TOTAL)
    result = bench.measure(device_memory_bytes=TOTAL, ignores_memory=True)
    assert (bench.started, result.too_large, result.n_done_before) == ([16, 64, 256], [], 2)
    assert not any("left out" in line for line in bench.said)


def test_what_was_measured_before_is_done_and_not_too_large(bench):
    bench.measure(ignores_memory=True)
    result = bench.measure(device_memory_bytes=1)
    assert (result.n_done_before, result.too_large) == (3, [])
    assert len(read_table(bench.runs, RunRecord)) == 3


def test_what_ran_out_of_memory_before_is_not_repeated_whatever_the_estimate_says(bench):
    bench.measure("16=ok,64=oom-message", sizes=(16, 64))
    result = bench.measure(sizes=(16, 64), ignores_memory=True)
    assert (result.n_failed_before, bench.started) == (1, [16, 64])
    assert [failure.status for failure in bench.failed] == ["oom"]


def test_the_command_names_what_it_leaves_out_in_a_dry_run_and_exits_0(capsys):
    flags = ["--depth", "1", "--base_filters", "2", "--batch_size", "16,100000", "--train_n", "1000", "--dry_run"]
    flags += ["--dataset", "synthetic"]
    assert grid.main([*flags, "--device_memory", "200MB"]) == 0
    opening, named = capsys.readouterr().out.splitlines()
    assert "2 runs (1 left out: too large), 1 to measure" in opening
    assert "left out: 1 run ((1,2,100000)) will not fit into 0.186 GiB" in named
    assert grid.main([*flags, "--device_memory", "200MB", "--ignore_memory"]) == 0
    (opening,) = capsys.readouterr().out.splitlines()
    assert "2 runs, 2 to measure" in opening


@pytest.mark.parametrize("size", ["much", "80G", "-1GB"])
def test_a_memory_that_is_none_is_one_clear_error(capsys, size):
    for main in (grid.main, lambda flags: dp_budget_planner.main(["--budget", "1h", *flags])):
        with pytest.raises(SystemExit) as end:
            main([f"--device_memory={size}"])
        assert end.value.code == 2
        assert "such as 80GB or 74.5GiB" in capsys.readouterr().err


# --- a plan -----------------------------------------------------------------------------------------------------------

GIB = 2**30
HUGE = RunConfig(5, 128, 65536)


@pytest.fixture
def table(home, monkeypatch):
    """Averages of a device with 16 GiB, one of them of a large configuration."""
    name_this_box(monkeypatch, BOX.device_name)
    known = {"device_name": BOX.device_name, "overhead_sec_mean": 6.0, "first_epoch_sec_mean": 9.0}
    rows = [dataclasses.replace(row, **known) for row in ROWS]
    rows.append(agg_row(HUGE.depth, HUGE.base_filters, HUGE.batch_size, 5.0, **known))
    write_table(home / "table.csv", rows, AggRow)
    return home / "table.csv"


def plan(table, **request):
    return plan_budget(Request(Budget(10_000), CostRules(10), value=COUNT, confidence=0.5, runs_agg=table, **request))


def configs_of(answer):
    return {c.config for c in (*answer.plan.chosen, *answer.plan.excluded)}


def test_a_plan_leaves_out_what_will_not_fit_and_says_so_on_screen_and_in_json(table, capsys):
    answer = plan(table, device_memory_bytes=16 * GIB)
    assert configs_of(answer) == {row.config for row in ROWS}
    note = (
        "1 of 7 candidates left out: will not fit into 16.0 GiB by the estimate (not calibrated: a law of other "
        "networks without XLA, its high end at least a closed form's with XLA, plus the driver's context): "
        "(5,128,65536)"
    )
    assert note in answer.notes
    flags = ["--budget", "3h", "--epochs", "10", "--runs_agg", str(table), "--confidence", "0.5"]
    flags += ["--device_memory", "16GiB"]
    assert dp_budget_planner.main(flags) == 0
    assert f"note: {note}" in capsys.readouterr().out
    assert dp_budget_planner.main([*flags, "--json"]) == 0
    as_json = json.loads(capsys.readouterr().out)
    assert note in as_json["notes"]
    assert {run["batch_size"] for run in (*as_json["chosen"], *as_json["left_out"])} == {64, 128, 256}


UNKNOWN = "how much memory the device has is not known: nothing left out for want of it (--device_memory)"


def test_without_any_word_of_memory_a_plan_leaves_nothing_out_and_says_so(table):
    answer = plan(table)
    assert HUGE in configs_of(answer)
    assert not any("fit into" in note for note in answer.notes)
    assert UNKNOWN in answer.notes
    assert UNKNOWN not in plan(table, device_memory_bytes=16 * GIB).notes


@pytest.mark.parametrize(("name", "is_known"), [(BOX.device_name, True), ("NVIDIA T", False)])
def test_the_driver_tells_a_plan_s_memory_where_the_plan_is_for_this_box_s_device(gpu_box, name, is_known):
    gpu_box(16 * GIB, name)
    conditions, candidates = (
        Conditions(device_name=BOX.device_name),
        [run_costing(9, config=(5, 128, 131072)), run_costing(9)],
    )
    kept, notes = without_too_large(candidates, [], conditions, Wishes())
    assert [c.config for c in kept] == ([RunConfig(2, 16, 64)] if is_known else [c.config for c in candidates])
    assert (UNKNOWN in notes) is not is_known
    assert any("1 of 2 candidates left out: will not fit into 16.0 GiB" in note for note in notes) is is_known


def with_memory(table, **of_huge):
    rows = [dataclasses.replace(row, device_memory_bytes=16 * GIB) for row in read_table(table, AggRow)]
    write_table(table, [dataclasses.replace(row, **of_huge) if row.config == HUGE else row for row in rows], AggRow)


def test_what_was_measured_on_the_device_fits_it_whatever_the_estimate_says(table):
    with_memory(table)
    assert HUGE in configs_of(plan(table))
    assert HUGE not in configs_of(plan(table, device_memory_bytes=16 * GIB))  # another device of that size


def test_a_measured_peak_is_believed_for_another_device(table):
    with_memory(table, peak_memory_bytes=9 * GIB)
    least = 9 * GIB + math.ceil(LAW.base_bytes / LAW.spread)  # with the least of a driver's context
    assert HUGE in configs_of(plan(table, device_memory_bytes=least))
    assert HUGE not in configs_of(plan(table, device_memory_bytes=least - 1))


def test_what_may_not_fit_stays_and_is_named(table):
    low = MemoryModel(Conditions(device_name=BOX.device_name)).peak(HUGE).low
    answer = plan(table, device_memory_bytes=int(low) + 1)
    assert HUGE in configs_of(answer)
    assert any(note.startswith("1 of 7 candidates may not fit into ") for note in answer.notes)


def test_a_run_that_must_be_done_and_will_not_fit_is_a_clear_error(table, capsys):
    flags = ["--budget", "3h", "--epochs", "10", "--runs_agg", str(table), "--device_memory", "16GiB"]
    assert dp_budget_planner.main([*flags, "--must", "depth=5"]) == 1
    assert_one_clear_error(capsys.readouterr(), "--must names (5,128,65536), which will not fit into 16.0 GiB")


def test_what_is_excluded_may_be_named_though_it_would_not_fit(table):
    answer = plan(table, device_memory_bytes=16 * GIB, wishes=Wishes(exclude=[{"depth": "5"}]))
    assert configs_of(answer) == {row.config for row in ROWS}
    assert not any("will not fit" in note for note in answer.notes)


def test_nothing_that_fits_is_a_clear_error(table):
    with pytest.raises(ValueError, match=r"none of 7 candidates fits into 0\.00\d+ GiB"):
        plan(table, device_memory_bytes=10**6)


def test_pytorch_on_a_gpu_is_estimated_without_a_compiler(monkeypatch, gpu_box):
    name = "NVIDIA H100 80GB HBM3"
    gpu_box(None, name)
    spec = light_spec(batch_size=4096, device="gpu")
    plain = Conditions(device_name=name, backend="torch", pipeline="arrays", train_n=spec.train_n)
    off, on = (MemoryModel(dataclasses.replace(plain, jit_compile=how)).peak(spec.config).high for how in ("off", "on"))
    assert off < on
    runs = grid_runs([spec], 1, {})
    for backend, is_doubtful in (("torch", False), ("jax", True)):
        monkeypatch.setenv("KERAS_BACKEND", backend)
        lines = sort_by_fit(runs, [], round((off + on) / 2)).lines
        assert [line.startswith("measured all the same: 1 run") for line in lines] == [True] * is_doubtful
