"""What is seen beside a run: planted faults end as flags in its row, through whole processes and a fake driver.

The measuring process is the light one, its epochs really last; the driver library below NVML's own Python package is
the fake one, whose true energy is known. No GPU takes part.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess

import pytest

from epochcast.gpus.board_power import board_power
from epochcast.machine.host.host import memory_bytes
from epochcast.schema import RunRecord
from epochcast.storage.tables import read_table
from tests.support.light_child import environment, run_one_command, wait_for
from tests.support.machines import fake_nvml

GPU = "NVIDIA Fake 100"
PACE_SEC, EPOCHS = 0.6, 4
FLAGS = ["--depth", "1", "--base_filters", "2", "--train_n", "1000", "--dataset", "synthetic", "--batch_size", "100"]
IN_WINDOW = 0.8  # seconds after the first epoch, which is not timed: within the timed epochs of a run of 6
CASES = {  # name: mode and settings of the fake driver, flags of run_one
    "calm": ("", {}, ["--idle_sec", "0.5", "--window_steps", "2"]),
    "nopower": ("nopower", {"limit_w": 300}, []),
    "faults": ("neighbour,clockdrop,reset", {"at_sec": IN_WINDOW}, ["--idle_sec", "0", "--epochs", "6"]),
    "nonsense": ("nonsense", {}, ["--idle_sec", "0.5"]),
    "cpu": ("neighbour", {}, ["--device", "cpu"]),
}


class Case:
    """One run of `run_one` beside the others, with its row and the JSON beside its log."""

    def __init__(self, folder, library, name):
        mode, settings, flags = CASES[name]
        self.folder = folder
        self.library = library
        on_gpu, timed_from = folder / "on_gpu", folder / "timed_from"
        driver = fake_nvml.environment(library, mode, process_file=on_gpu, at_file=timed_from, **settings)
        self.environ = environment(
            EPOCHCAST_HOME=str(folder),
            EPOCHCAST_LOCK_DIR=str(folder / "locks"),  # the cases stand for boxes of their own
            LIGHT_CHILD_ON_GPU=str(on_gpu),
            LIGHT_CHILD_TIMED_FROM=str(timed_from),
            **driver,
        )
        device = [] if name == "cpu" else [GPU]
        command = run_one_command(
            "paced", str(PACE_SEC), *device, flags=[*FLAGS, "--epochs", str(EPOCHS), "--run_id", "a", *flags]
        )
        self.process = subprocess.Popen(command, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def end(self):
        self.output = self.process.communicate(timeout=60)[0].decode()
        assert self.process.returncode == 0, self.output
        (self.row,) = read_table(self.folder / "results" / "runs.csv", RunRecord)
        self.kept = json.loads((self.folder / "logs" / "a.json").read_text())
        edges = self.kept["epoch_edges_sec"]
        self.start, self.end_sec = edges[1][0], edges[-1][1]
        return self


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    library = fake_nvml.library(tmp_path_factory)
    running = {name: Case(tmp_path_factory.mktemp(name), library, name) for name in CASES}
    return {name: case.end() for name, case in running.items()}


def test_the_row_holds_the_board_energy_of_the_timed_epochs(cases):
    case = cases["calm"]
    row = case.row
    true_j = fake_nvml.true_energy_j(case.library, case.environ, case.start, case.end_sec)
    assert row.energy_source == "nvml_counter"
    assert row.energy_estimated == 0
    assert row.energy_j_window == pytest.approx(true_j, rel=0.1)  # a window of 2 s, a counter of 0.1 s
    assert row.energy_n_epochs == EPOCHS - 1
    assert row.energy_window_sec == pytest.approx((EPOCHS - 1) * PACE_SEC, rel=0.1)
    assert row.energy_flags == ("short_window",)
    assert row.gpu_uuid == fake_nvml.gpu_uuid()
    assert set(row.flags) - {"busy_host"} == set()  # the host may be busy with other tests


def test_the_wait_for_the_idle_power_is_in_no_overhead(cases):
    calm = cases["calm"].row
    assert calm.idle_sec == pytest.approx(0.5, abs=0.2)
    assert calm.overhead_sec == pytest.approx(calm.wall_sec - sum(calm.epoch_times_json) - calm.idle_sec)
    assert calm.idle_power_w is not None
    assert cases["faults"].row.idle_sec is None
    assert cases["faults"].row.idle_power_w is None


def test_energy_is_that_of_a_full_epoch_and_of_windows_is_scaled_to_one(cases):
    row = cases["calm"].row
    assert row.window_factor == 5.0  # 10 steps per epoch in windows of 2
    assert row.energy_j_per_epoch == pytest.approx(5.0 * row.energy_j_window / row.energy_n_epochs)
    whole = cases["nonsense"].row
    assert whole.window_factor == 1.0
    assert whole.energy_j_per_epoch == pytest.approx(whole.energy_j_window / (EPOCHS - 1))


def test_a_gpu_that_tells_no_power_has_an_estimate_that_says_so(cases):
    row = cases["nopower"].row
    assert (row.energy_source, row.energy_estimated) == ("board_power_model", 1)
    assert row.energy_lo_j < row.energy_j_per_epoch < row.energy_hi_j
    assert row.energy_j_window == pytest.approx(board_power(300.0).value * row.energy_window_sec)
    assert row.idle_sec is None  # nothing to measure, so nothing was waited for
    assert "board energy" in cases["nopower"].output and "(estimated)" in cases["nopower"].output


def test_a_neighbour_a_slower_clock_and_a_counter_that_starts_anew_are_flags(cases):
    row = cases["faults"].row
    assert {"throttled", "shared_gpu"} <= set(row.flags)
    assert row.throttle_reasons == "hw_thermal_slowdown"
    assert {"counter_reset", "shared_gpu"} <= set(row.energy_flags)
    assert row.energy_source != "nvml_counter"


def test_a_driver_that_talks_nonsense_costs_cells_and_no_row(cases):
    case = cases["nonsense"]
    row = case.row
    true_j = fake_nvml.true_energy_j(case.library, case.environ, case.start, case.end_sec)
    assert row.energy_source == "nvml_poll_instant"
    assert row.energy_j_window == pytest.approx(true_j, rel=0.25)  # two seconds of a square wave, a fifth of it unread
    assert "impossible_power" in row.energy_flags
    assert {"counter_jump", "counter_reset"} & set(row.energy_flags)
    assert row.max_power_w < 700
    assert row.sm_clock_mhz is row.temp_start_c is row.temp_end_c is row.device_memory_bytes is None
    environment = case.kept["environment"]
    assert "UnicodeDecodeError" in environment["before"]["gpu"]["problems"]["nvmlDeviceGetName"]
    assert any("readings of power left out" in problem for problem in environment["problems"])


def test_a_run_on_the_processor_leaves_the_gpu_alone(cases):
    row = cases["cpu"].row
    assert (row.energy_source, row.energy_j_per_epoch, row.gpu_uuid) == ("none", None, None)
    assert not {"throttled", "shared_gpu"}.intersection(row.flags)
    assert row.device_memory_bytes == memory_bytes()[0]
    assert not (cases["cpu"].folder / "logs" / "a.energy.csv").exists()


def test_the_surroundings_before_and_after_are_kept_beside_the_log(cases):
    kept = cases["calm"].kept["environment"]
    assert kept["before"]["gpu"]["name"] == kept["after"]["gpu"]["name"] == GPU
    assert kept["before"]["taken_utc"] < kept["after"]["taken_utc"]
    assert cases["calm"].row.driver_version == kept["before"]["driver_version"]


def test_the_counter_is_noted_at_every_epoch_for_a_run_that_is_killed(tmp_path, tmp_path_factory):
    library = fake_nvml.library(tmp_path_factory)
    flags = [*FLAGS, "--epochs", "100", "--run_id", "a", "--idle_sec", "0"]
    command = run_one_command("paced", "0.2", GPU, flags=flags)
    process = subprocess.Popen(
        command,
        env=environment(EPOCHCAST_HOME=str(tmp_path), **fake_nvml.environment(library)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    noted = tmp_path / "logs" / "a.energy.csv"
    try:
        wait_for(lambda: noted.exists() and len(noted.read_text().splitlines()) > 3)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    lines = list(csv.DictReader(noted.read_text().splitlines()))
    epochs = [int(line["epoch"]) for line in lines]
    assert epochs == sorted(set(epochs))  # one whose end saw no new reading has no line
    joules = [float(line["board_energy_j"]) for line in lines]
    assert joules == sorted(joules) and joules[-1] > joules[0]


def test_a_competing_process_on_the_processor_is_a_flag(tmp_path):
    """The run is one of a command: descendants of its own parent would not be others.

    The others begin when its process starts, which they would only delay, and last while it is timed.
    """
    flags, trace = [*FLAGS, "--epochs", "4", "--run_id", "a", "--device", "cpu"], tmp_path / "trace"
    hogs = []
    try:
        process = subprocess.Popen(
            run_one_command("paced", "0.3", flags=flags),  # timed for 0.9 s: the host is looked at twice
            env=environment(EPOCHCAST_HOME=str(tmp_path), LIGHT_CHILD_TRACE=str(trace)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_for(trace.exists)
        hogs += [
            subprocess.Popen(["timeout", "60", "sh", "-c", "while :; do :; done"], start_new_session=True)
            for _ in range(os.cpu_count() or 1)
        ]
        output, _ = process.communicate(timeout=60)
    finally:
        for hog in hogs:
            os.killpg(hog.pid, signal.SIGKILL)
            hog.wait()
    assert process.returncode == 0, output
    (row,) = read_table(tmp_path / "results" / "runs.csv", RunRecord)
    assert "busy_host" in row.flags
    assert row.host_busy_cores > 0.5
    assert "flag busy_host: other processes took processor time" in output
