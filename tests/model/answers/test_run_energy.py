"""Energy of a whole run: as measured, start-up priced and never silently 0; else a limit's share; else unknown."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from epochcast.footprint.rules import FootprintRules
from epochcast.gpus.board_power import board_power
from epochcast.gpus.lookup import find_gpu
from epochcast.interval import Interval
from epochcast.machine.gpu_driver import box_device_name
from epochcast.model.answers.energy import EnergyModel
from epochcast.model.answers.run_energy import MeasuredBoard, RunSeconds, measured_board, run_energy
from epochcast.model.time_model.saved_model import PredictedTimes
from epochcast.model.time_model.startup import WholeRun
from epochcast.paths import runs_csv
from epochcast.schema import RunConfig, RunRecord
from epochcast.storage.files import write_text_atomically
from epochcast.storage.tables import write_table
from tests.support.machines.boxes import Board, plug_in
from tests.support.rows import BOX, agg_row, run_row

CONFIG, OTHER = RunConfig(3, 16, 64), RunConfig(4, 16, 64)
A100 = find_gpu(BOX.device_name)
FIRST, OVERHEAD = Interval(12.0, 11.0, 14.0), Interval(15.0, 10.0, 20.0)
STEADY = Interval(2.0, 1.9, 2.2)
FORECAST = PredictedTimes(
    "within", [], STEADY, WholeRun(FIRST, OVERHEAD, Interval(110.0), Interval(125.0, 115.0, 140.0))
)
NOTHING = PredictedTimes("within", [], STEADY, WholeRun(None, None, None, None))


def measured(config, joules, watts, n=5, mad=0.0):
    known = {name: getattr(BOX, name) for name in BOX.__dataclass_fields__}
    row = agg_row(config.depth, config.base_filters, config.batch_size)
    return replace(
        row,
        **known,
        n_energy=n,
        energy_j_per_epoch_median=joules,
        energy_j_per_epoch_mad=mad,
        mean_power_w_median=watts,
    )


MEASURED = EnergyModel.of(BOX, [measured(CONFIG, 400.0, 200.0)])
UNMEASURED = EnergyModel.of(BOX, [])
UNKNOWN = MeasuredBoard()


def energy_of(forecast=FORECAST, energy=MEASURED, board=UNKNOWN, gpu=A100, config=CONFIG, **rules):
    found = run_energy(config, 50, RunSeconds.of(forecast, 50), energy, board, gpu, FootprintRules(**rules))
    return None if found is None else found.board


def test_a_measured_run_is_its_epochs_and_its_start_up():
    found = energy_of(board=MeasuredBoard(idle_power_w=60.0))
    # 50 epochs of 400 J; 10 s more in the first at 200 W; 15 s of process at 60 W
    assert found.joules.value == pytest.approx(50 * 400 + 10 * 200 + 15 * 60)
    assert found.joules.low == pytest.approx(50 * 400 + 9 * 60 + 10 * 60)
    assert found.joules.high == pytest.approx(50 * 400 + 12 * 200 + 20 * 200)
    assert found.method == (
        "measured, 5 runs; first epoch's excess at 200 W, start and end of the process at 60 W idle (60 to 200 W)"
    )


def test_without_an_idle_power_start_up_is_priced_as_training_and_not_nothing():
    found = energy_of()
    assert found.joules.value == pytest.approx(50 * 400 + (10 + 15) * 200)
    assert found.joules.low == pytest.approx(50 * 400)  # at least the epochs
    assert found.method == "measured, 5 runs; start-up at 200 W (0 to 200 W)"


def test_measured_runs_that_differ_may_draw_as_much_more_at_start_up():
    found = energy_of(energy=EnergyModel.of(BOX, [measured(CONFIG, 400.0, 200.0, mad=20.0)]))
    most = EnergyModel.of(BOX, [measured(CONFIG, 400.0, 200.0, mad=20.0)]).per_epoch(CONFIG, STEADY).joules.high
    assert most > 400
    assert found.joules.high == pytest.approx(50 * most + (12 + 20) * most / 2.0)


def test_another_configuration_takes_the_power_of_those_measured():
    rows = [measured(RunConfig(2, f, 64), 2.0 * w, w) for f, w in ((8, 100.0), (16, 200.0), (32, 300.0))]
    found = energy_of(energy=EnergyModel.of(BOX, rows), config=OTHER)
    assert found.joules.value == pytest.approx(50 * 2.0 * 200 + 25 * 200)
    assert found.joules.low == pytest.approx(50 * 1.9 * 100)
    # 2.2 s at most of 300 W each; 12 s more in the first epoch and 20 s of process at as much
    assert found.joules.high == pytest.approx(50 * 2.2 * 300 + (12 + 20) * 300)
    assert found.method == (
        "predicted time x power of 3 measured configurations, 100 to 300 W; start-up at 200 W (0 to 300 W)"
    )
    idle = energy_of(energy=EnergyModel.of(BOX, rows), config=OTHER, board=MeasuredBoard(idle_power_w=60.0))
    assert idle.joules.value == pytest.approx(50 * 2.0 * 200 + 10 * 200 + 15 * 60)
    assert idle.joules.low == pytest.approx(50 * 1.9 * 100 + 9 * 60 + 10 * 60)
    assert idle.joules.high == found.joules.high


def test_few_measurements_tell_of_no_range():
    found = energy_of(energy=EnergyModel.of(BOX, [measured(CONFIG, 400.0, 200.0, n=2)]))
    assert (found.joules.low, found.joules.high) == (None, None)
    assert found.method == "measured, 2 runs; start-up at 200 W (range unknown)"


def test_a_limit_that_was_measured_goes_before_the_tdp_of_the_facts():
    capped = energy_of(energy=UNMEASURED, board=MeasuredBoard(power_limit_w=200.0))
    watts = board_power(200.0, tdp_w=A100.tdp_w)
    assert capped.joules.value == pytest.approx(watts.value * 125)
    assert (capped.joules.low, capped.joules.high) == pytest.approx((watts.low * 115, watts.high * 140))
    assert "power limit 200 W" in capped.method
    by_facts = energy_of(energy=UNMEASURED)
    assert by_facts.joules.value == pytest.approx(board_power(A100.tdp_w).value * 125)
    assert f"TDP {A100.tdp_w:g} W" in by_facts.method


def test_without_power_or_limit_energy_is_unknown():
    assert energy_of(energy=UNMEASURED, gpu=None) is None
    assert energy_of(energy=UNMEASURED, gpu=replace(A100, tdp_w=None)) is None


A_PROCESSOR = MeasuredBoard(is_processor=True)


@pytest.mark.parametrize("board", [UNKNOWN, A_PROCESSOR, MeasuredBoard(50.0, 300.0)])
@pytest.mark.parametrize("energy", [UNMEASURED, MEASURED])
@pytest.mark.parametrize("gpu", [A100, None])
def test_watts_by_hand_go_before_all_that_is_known(board, energy, gpu):
    found = energy_of(energy=energy, board=board, gpu=gpu, board_w=65.0, host_w=40.0)
    assert found.joules == FORECAST.run.wall.times(65.0)
    assert found.method == "65 W given by --board_w"
    assert (found.is_processor, found.is_in_host) == (board.is_processor, False)


def test_a_processor_s_energy_is_part_of_the_host_s_and_unknown_without_any():
    assert energy_of(energy=UNMEASURED, board=A_PROCESSOR, gpu=None) is None
    assert energy_of(energy=UNMEASURED, board=A_PROCESSOR, gpu=None, host_w=0.0) is None
    assert energy_of(energy=UNMEASURED, gpu=None, host_w=150.0) is None  # a GPU of unknown power
    found = energy_of(energy=UNMEASURED, board=A_PROCESSOR, gpu=None, host_w=150.0)
    assert (found.joules, found.is_in_host, found.is_processor) == (Interval(0.0, 0.0, 0.0), True, True)


@pytest.mark.parametrize(
    ("name", "is_so"), [("AMD EPYC 9B14 (2 cores)", True), (BOX.device_name, False), (None, False)]
)
def test_a_processor_is_known_by_its_name(name, is_so):
    assert MeasuredBoard.of(name, []).is_processor == is_so


@pytest.mark.parametrize("watts", [0.0, -1.0, math.inf, math.nan])
def test_watts_that_no_board_draws_are_refused(watts):
    with pytest.raises(ValueError, match="board_w must be a finite number above 0"):
        FootprintRules(board_w=watts)


def test_mlcosts_formula_answers_where_it_is_asked_for():
    found = energy_of(energy_formula="mlcost")
    assert found.joules.value == pytest.approx(A100.tdp_w * 0.8 * 1.3 * 125)
    assert found.has_overhead
    with pytest.raises(ValueError, match="needs the TDP"):
        energy_of(energy_formula="mlcost", gpu=None)


def test_what_of_a_run_is_unknown_is_said_and_not_made_up():
    known = RunSeconds.of(FORECAST, 50)
    assert (known.whole, known.missing) == (FORECAST.run.wall, None)
    no_process = replace(FORECAST, run=WholeRun(FIRST, None, Interval(110.0, 105.0, 118.0), None))
    seconds = RunSeconds.of(no_process, 50)
    assert seconds.whole.value == 110.0
    assert seconds.missing == "without the process's start and end, which are unknown"
    assert energy_of(no_process).joules.value == pytest.approx(50 * 400 + 10 * 200)
    assert energy_of(no_process).method.endswith(seconds.missing)
    assert RunSeconds.of(NOTHING, 50).whole == STEADY.times(50)
    assert energy_of(NOTHING).joules.value == pytest.approx(50 * 400)
    assert "the first epoch as any other" in energy_of(NOTHING).method


def test_an_energy_says_whether_it_rests_on_measured_epochs():
    def epoch_of(energy, **rules):
        seconds = RunSeconds(STEADY, FIRST, OVERHEAD, Interval(125.0))
        return run_energy(CONFIG, 50, seconds, energy, UNKNOWN, A100, FootprintRules(**rules)).epoch

    assert epoch_of(MEASURED) == MEASURED.per_epoch(CONFIG, STEADY)
    assert epoch_of(UNMEASURED) is None
    assert epoch_of(MEASURED, board_w=65.0) is None
    assert epoch_of(MEASURED, energy_formula="mlcost") is None


def test_a_first_epoch_no_slower_than_the_others_costs_no_less_than_them():
    quick = replace(FORECAST, run=WholeRun(Interval(1.9, 1.5, 2.1), OVERHEAD, None, None))
    assert energy_of(quick).joules.value == pytest.approx(50 * 400 + 15 * 200)


# --- the board by its runs and its driver -----------------------------------------------------------------------------


def board_run(idle, limit, device=BOX.device_name, second=0):
    row = run_row(conditions=replace(BOX, device_name=device), idle_power_w=idle, power_limit_w=limit)
    return replace(row, timestamp_utc=f"2026-01-01T00:00:0{second}+00:00")


def test_a_board_is_known_by_the_runs_on_it_alone():
    runs = [board_run(50.0, 300.0), board_run(60.0, 250.0), board_run(58.0, 250.0), board_run(None, None)]
    other = board_run(5.0, 70.0, device="Tesla T4")
    assert MeasuredBoard.of(BOX.device_name, [*runs, other]) == MeasuredBoard(58.0, 250.0)
    assert MeasuredBoard.of("NVIDIA H100", runs) == MeasuredBoard()
    assert MeasuredBoard.of(None, [board_run(50.0, 300.0, device=None)]) == MeasuredBoard()


def test_a_board_is_read_from_the_runs_table(tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    assert measured_board(BOX.device_name) == MeasuredBoard()  # nothing measured yet
    runs_csv().parent.mkdir(parents=True, exist_ok=True)
    write_table(runs_csv(), [board_run(50.0, 300.0)], RunRecord)
    assert measured_board(BOX.device_name) == MeasuredBoard(50.0, 300.0)


def test_a_table_that_cannot_be_read_is_no_reason_not_to_answer(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    runs_csv().parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(runs_csv(), "not,a,table\n1,2,3\n")
    assert measured_board(BOX.device_name) == MeasuredBoard()
    assert "without measured runs" in caplog.text


@pytest.mark.parametrize("limit_w", [3.0, 4900.0])
def test_a_limit_that_no_such_board_can_have_is_none(tmp_path, monkeypatch, limit_w):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    plug_in(monkeypatch, tmp_path, [Board("NVIDIA A100 80GB PCIe", 80.0, limit_w)])
    assert measured_board(box_device_name()).power_limit_w is None
    assert MeasuredBoard.of(BOX.device_name, [board_run(50.0, limit_w)]) == MeasuredBoard(50.0, None)


def test_an_instance_does_not_have_the_limit_of_the_whole_gpu():
    name = "NVIDIA A100-SXM4-40GB MIG 1g.5gb"
    assert MeasuredBoard.of(name, [board_run(50.0, 400.0, device=name)]).power_limit_w is None


def test_the_driver_is_asked_only_of_this_boxs_own_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    plug_in(monkeypatch, tmp_path, [Board("NVIDIA A100-SXM4-40GB", 40.0, 220.0)])
    assert measured_board("NVIDIA H100 80GB HBM3").power_limit_w is None
    assert measured_board(box_device_name()).power_limit_w == 220.0
    assert measured_board("A100-SXM4-40GB").power_limit_w == 220.0  # the same board, as an older driver calls it
