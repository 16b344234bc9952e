"""The command that measures one run: what it prints, writes and returns, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from epochcast.collect import run_one
from epochcast.collect.records.reserved import claimed_log
from epochcast.collect.run import child, devices
from epochcast.paths import CODE_ROOT
from epochcast.schema import FailureRecord, RunConfig, RunRecord, to_json_dict
from epochcast.storage.tables import read_table
from epochcast.workload.shape import count_params
from tests.support.light_child import command, environment, run_one_command, starts
from tests.support.machines.boxes import plug_in
from tests.support.real_child import lean_keras

RUN_ONE = str(CODE_ROOT / "collect" / "run_one.py")
SMALL = ["--depth", "1", "--base_filters", "2", "--train_n", "1000", "--dataset", "synthetic", "--epochs", "4"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A root of its own for everything that is written."""
    for name in ("EPOCHCAST_DATA_DIR", "EPOCHCAST_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LIGHT_CHILD_TRACE", str(tmp_path / "trace"))
    return tmp_path / "home"


@pytest.fixture
def measure_one(home, monkeypatch):
    """`run_one`'s main with a light child; returns its exit code."""

    def measure_one(behaviour, *flags):
        with monkeypatch.context() as patch:
            patch.setattr(child, "CHILD", command(*behaviour.split()))
            return run_one.main([*SMALL, *flags])

    return measure_one


def rows_of(home):
    table = home / "results" / "runs.csv"
    return read_table(table, RunRecord) if table.exists() else []


def failures_of(home):
    table = home / "results" / "failures.csv"
    return read_table(table, FailureRecord) if table.exists() else []


# --- what it says -----------------------------------------------------------------------------------------------------


def test_stdout_has_the_epochs_and_ends_with_the_row_as_json(home, measure_one, capsys):
    assert measure_one("ok", "--epochs", "3", "--batch_size", "64", "--run_id", "mine", "--seed", "0") == 0
    first, *epochs, result, table, logged = capsys.readouterr().out.splitlines()
    (row,) = rows_of(home)
    assert first.startswith("(1,2,64) with ")
    assert [line.partition(":")[0] for line in epochs] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert json.loads(logged.removeprefix("LOGGED: ")) == to_json_dict(row)
    assert (row.run_id, row.seed, row.epochs) == ("mine", 0, 3)
    assert table == f"TABLE: {home / 'results' / 'runs.csv'}"
    assert (home / "logs" / "mine.txt").read_text().splitlines() == [first, *epochs, result, table, logged]
    assert json.loads((home / "logs" / "mine.json").read_text())["row"] == to_json_dict(row)


def test_stderr_says_where_files_are_and_where_the_row_went(home, measure_one, capsys):
    assert measure_one("ok") == 0
    assert measure_one("ok", "--runs", str(home / "other.csv")) == 0
    errors = capsys.readouterr().err.splitlines()
    assert errors[:2] == [f"files under {home}", f"appended to {home / 'results' / 'runs.csv'}"]
    assert errors[3] == f"appended to {home / 'other.csv'}"


def test_runs_get_different_names_unless_told(home, measure_one):
    assert measure_one("ok") == measure_one("ok") == 0
    first, second = rows_of(home)
    assert first.run_id != second.run_id
    assert {path.stem for path in (home / "logs").glob("*.json")} == {first.run_id, second.run_id}


def test_epochs_are_printed_as_they_pass(tmp_path, home):
    gate = tmp_path / "gate"
    process = subprocess.Popen(
        run_one_command("gate", str(gate), flags=[*SMALL, "--epochs", "4"]),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process, process.stdout, process.stderr:
        lines = [process.stdout.readline() for _ in range(3)]
        assert [line.partition(":")[0] for line in lines[1:]] == ["epoch 1/4", "epoch 2/4"]
        assert process.poll() is None
        gate.touch()
        assert "LOGGED: " in process.stdout.read()
        assert process.wait(30) == 0, process.stderr.read()


def test_the_run_is_kept_when_the_reader_of_its_output_leaves(tmp_path, home):
    gate = tmp_path / "gate"
    process = subprocess.Popen(
        run_one_command("gate", str(gate), flags=SMALL),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process, process.stderr:
        process.stdout.readline()
        process.stdout.close()  # as `| head -1` does
        gate.touch()
        errors = process.stderr.read().decode()
        process.wait(30)
    assert len(rows_of(home)) == 1
    assert "Traceback" not in errors


# --- exit codes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "status"), [("oom-message", "oom"), ("sigkill", "killed"), ("segfault", "crash"), ("exit-3", "crash")]
)
def test_a_run_that_fails_is_exit_code_1_and_one_error_line(home, measure_one, capsys, behaviour, status):
    assert measure_one(behaviour) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"the run ended as {status}" in error
    assert [failure.status for failure in failures_of(home)] == [status]
    assert rows_of(home) == []


def test_ctrl_c_is_exit_code_130_and_an_interrupted_row(tmp_path, home):
    with subprocess.Popen(
        run_one_command("hang", flags=SMALL),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not process.stdout.readline().startswith("epoch 2/"):
            pass
        process.send_signal(2)
        errors = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "error: the run ended as interrupted: interrupted by the user"
    assert [failure.status for failure in failures_of(home)] == ["interrupted"]


# --- refusals ---------------------------------------------------------------------------------------------------------

BAD_FLAGS = [
    (["--batch_size", "-64"], "--batch_size: expected a whole number of at least 1, got -64"),
    (["--depth", "0"], "--depth: expected a whole number of at least 1, got 0"),
    (["--base_filters", "x"], "--base_filters: expected a whole number of at least 1, got 'x'"),
    (["--train_n", "0"], "--train_n"),
    (["--epochs", "0"], "--epochs"),
    (["--epochs", "1"], "epochs must be at least 2 (the first is untimed), or absent: until the time is known, got 1"),
    (["--window_steps", "0"], "--window_steps"),
    (["--seed", "-1"], "--seed"),
    (["--pipeline", "numpy"], "--pipeline: invalid choice: 'numpy'"),
    (["--precision", "float8"], "--precision: invalid choice: 'float8'"),
    (["--jit_compile", "yes"], "--jit_compile: invalid choice: 'yes'"),
    (["--dataset", "mnist"], "--dataset: invalid choice: 'mnist'"),
    (["--device", "tpu"], "device must be auto, cpu, gpu, gpu:N or a GPU's UUID, got 'tpu'"),
    (["--batch", "64"], "unrecognized arguments: --batch 64"),
]


@pytest.mark.parametrize(("flags", "words"), BAD_FLAGS)
def test_a_bad_flag_is_one_clear_error_exit_code_2_and_nothing_written(home, measure_one, capsys, flags, words):
    with pytest.raises(SystemExit) as exit_:
        measure_one("ok", *flags)
    assert exit_.value.code == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert words in error
    assert hint == "See epochcast run --help."
    assert not home.exists()


def the_error(capsys):
    """The one error line on stderr."""
    lines = capsys.readouterr().err.splitlines()
    (error,) = [line for line in lines if line.startswith("error: ")]
    assert not any("Traceback" in line for line in lines)
    assert error == lines[-1]
    return error


def test_a_bad_run_id_is_refused(tmp_path, home, measure_one, capsys):
    with pytest.raises(SystemExit) as end:
        measure_one("ok", "--run_id", "../up")
    assert end.value.code == 2
    assert "error: argument --run_id: '../up' names files" in capsys.readouterr().err
    assert starts(tmp_path / "trace") == []


def test_an_existing_run_id_is_refused_before_measuring(tmp_path, home, measure_one, capsys):
    assert measure_one("ok", "--run_id", "mine") == 0
    capsys.readouterr()
    assert measure_one("ok", "--run_id", "mine") == 1
    assert "holds a run mine already. Choose another --run_id" in the_error(capsys)
    assert len(starts(tmp_path / "trace")) == len(rows_of(home)) == 1


def test_a_run_id_that_is_being_measured_is_refused(home, measure_one, capsys):
    with claimed_log(home / "logs", "mine"):
        assert measure_one("ok", "--run_id", "mine") == 1
    assert "run mine is being measured by another process" in the_error(capsys)


def test_a_table_that_is_not_ours_is_refused_before_measuring(tmp_path, home, measure_one, capsys):
    table = tmp_path / "notes.csv"
    table.write_text("who,what\nme,that\n")
    assert measure_one("ok", "--runs", str(table)) == 1
    assert f"{table}:1: not a table of RunRecord rows" in the_error(capsys)
    assert table.read_text() == "who,what\nme,that\n"
    assert measure_one("ok", "--runs", str(tmp_path)) == 1
    assert str(tmp_path) in the_error(capsys)
    assert starts(tmp_path / "trace") == []


def test_a_refused_run_is_an_error_and_no_row(home, measure_one, capsys):
    assert measure_one("refuse") == 1
    assert the_error(capsys) == "error: this box has no such device."
    assert rows_of(home) == failures_of(home) == []


# --- the real measuring process ---------------------------------------------------------------------------------------

WITHOUT_TENSORFLOW = (
    "import runpy, sys\nsys.modules['tensorflow'] = None\nsys.argv = sys.argv[1:]\n"
    "runpy.run_path(sys.argv[0], run_name='__main__')\n"
)


@pytest.mark.slow  # the refusals of the light child and of a missing GPU go this way; test_pipelines.py has the words
def test_what_cannot_be_measured_here_is_one_clear_error_and_no_row(home, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(child, "CHILD", (sys.executable, "-c", WITHOUT_TENSORFLOW, child.CHILD[-1]))
    assert run_one.main([*SMALL, "--device", "cpu", "--pipeline", "tfdata"]) == 1
    assert "pipeline tfdata needs Keras's tensorflow backend, found jax: use --pipeline arrays" in the_error(capsys)
    assert rows_of(home) == failures_of(home) == []


NO_GPU = "--device gpu, but there is no NVIDIA driver. Install it; --device cpu measures the processor."


def run_by_path(folder, home, *flags, **more):
    """`python collect/run_one.py` as a user types it, in some other folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EPOCHCAST"))}
    more = {"EPOCHCAST_LOCK_DIR": os.environ["EPOCHCAST_LOCK_DIR"], **more}
    return subprocess.run(
        [sys.executable, RUN_ONE, *flags],
        cwd=folder,
        env={**inherited, "KERAS_BACKEND": "tensorflow", "EPOCHCAST_HOME": str(home), **more},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow  # the words stand below; that a refusal of the real process is one error, in the test of a backend
def test_a_gpu_that_is_not_there_is_one_clear_error_and_no_row(tmp_path):
    flags = [*SMALL, "--device", "gpu"]
    done = run_by_path(tmp_path, tmp_path / "home", *flags, CUDA_VISIBLE_DEVICES="-1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: {NO_GPU}"
    assert done.stdout == ""
    assert rows_of(tmp_path / "home") == failures_of(tmp_path / "home") == []


def test_a_gpu_that_neither_the_driver_nor_the_framework_has_is_refused(tmp_path, monkeypatch):
    plug_in(monkeypatch, tmp_path)
    monkeypatch.setattr(devices, "_tensorflow_gpu", lambda: (None, False))
    with pytest.raises(ValueError) as refused:
        devices.resolve_device("tensorflow", "gpu")
    assert str(refused.value) == NO_GPU


def test_run_one_by_path_from_another_folder_trains_and_appends_a_row(tmp_path):
    """The real thing: TensorFlow, real files, test accuracy; relative paths are taken from where the user is."""
    random = np.random.default_rng(1)
    images, labels = random.integers(0, 256, (600, 32, 32, 3), np.uint8), np.arange(600, dtype=np.uint8) % 10
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images[:100], y_test=labels[:100])
    folder, home = tmp_path / "elsewhere", tmp_path / "home"
    folder.mkdir()
    flags = "--depth 1 --base_filters 2 --batch_size 64 --epochs 3 --train_n 512 --device cpu --data_dir ../data.npz"
    done = run_by_path(folder, home, *flags.split(), "--run_id", "real", PYTHONPATH=lean_keras(tmp_path))
    assert done.returncode == 0, done.stderr
    (row,) = rows_of(home)
    lines = done.stdout.splitlines()
    *epochs, table, logged = [line for line in lines[1:] if not line.startswith("flag ")]
    assert table == f"TABLE: {home / 'results' / 'runs.csv'}"
    assert [line.partition(":")[0] for line in [*epochs[:-1], logged]] == [
        *(f"epoch {i}/3" for i in (1, 2, 3)),
        "LOGGED",
    ]
    assert epochs[-1].startswith("steady time ")
    assert json.loads(lines[-1].removeprefix("LOGGED: ")) == to_json_dict(row)
    log = (home / "logs" / "real.txt").read_text()
    assert set(lines) <= set(log.splitlines())
    assert "oneDNN" not in done.stderr  # TensorFlow's start-up messages are in the log alone
    assert list(folder.iterdir()) == []

    assert row.avg_time_sec == pytest.approx(sum(row.epoch_times_json[1:]) / 2, rel=1e-12)
    assert row.images_per_sec == pytest.approx(512 / row.avg_time_sec, rel=1e-12)
    assert row.overhead_sec == pytest.approx(row.wall_sec - sum(row.epoch_times_json), rel=1e-9)
    assert 0 < row.cpu_time_sec <= row.wall_sec * (os.cpu_count() or 1)
    assert row.test_acc is not None
    assert round(row.test_acc * 100, 6) % 1 == 0  # a share of 100 test images
    assert row.params == count_params(RunConfig(1, 2))
    assert (row.backend, row.pipeline, row.dataset, row.train_n) == ("tensorflow", "tfdata", "cifar10_npz", 512)
    assert row.tf_version == row.backend_version
    assert (row.precision, row.tf32, row.jit_compile, row.seed) == ("float32", "off", "off", 123)


@pytest.mark.skipif(find_spec("torch") is not None, reason="PyTorch is installed here")
def test_a_backend_that_is_not_installed_is_one_clear_error_and_no_failure(home, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert run_one.main([*SMALL, "--device", "cpu"]) == 1
    words = "the backend torch is not installed; pip install 'epochcast[torch]', or set KERAS_BACKEND="
    assert words in the_error(capsys)
    assert rows_of(home) == failures_of(home) == []


# --- with and without the pipeline ------------------------------------------------------------------------------------


def test_a_configuration_is_measured_with_and_without_its_pipeline(home, measure_one, capsys):
    assert measure_one("ok", "--split_input", "--run_id", "mine") == 0
    with_pipeline, on_device = rows_of(home)
    assert (with_pipeline.run_id, with_pipeline.pipeline) == ("mine", "tfdata")
    assert (on_device.run_id, on_device.pipeline) == ("mine-device", "device")
    assert with_pipeline.config == on_device.config
    said = capsys.readouterr().out
    assert "steady_sec_tfdata: 0.00200\nsteady_sec_device: 0.00200\nwaiting_share: 0" in said


def timed(seconds, pipeline, rel_ci95):
    return replace(
        a_row(), steady_time_sec=seconds, pipeline=pipeline, rel_ci95=rel_ci95, avg_time_sec=seconds, n_stalled=0
    )


def a_row():
    return RunRecord("2026-01-01T00:00:00+00:00", None, 2, 16, 64, 2, 1, (1.0, 1.0), 1.0, 1.0, None)


def test_the_share_that_the_device_waits_has_the_interval_of_both_runs():
    answer = run_one.split_input(timed(2.0, "tfdata", 0.03), timed(0.5, "device", 0.04))
    assert answer["waiting_share"] == 0.75
    half = 0.25 * 0.05  # a ratio's relative errors add as squares
    assert answer["waiting_share_low"] == pytest.approx(0.75 - half)
    assert answer["waiting_share_high"] == pytest.approx(0.75 + half)
    assert "below 0" not in answer["waiting_for"]


def test_a_device_pipeline_that_is_slower_is_said_to_be():
    answer = run_one.split_input(timed(1.0, "arrays", None), timed(1.2, "device", 0.01))
    assert answer["waiting_share"] == pytest.approx(-0.2)
    assert answer["waiting_share_low"] is None
    assert "below 0: on this box" in answer["waiting_for"]


def test_the_device_pipeline_is_not_compared_with_itself(home, measure_one, capsys):
    with pytest.raises(SystemExit):
        measure_one("ok", "--split_input", "--pipeline", "device")
    assert "--split_input compares a pipeline with `device`" in capsys.readouterr().err


def test_the_half_of_a_pair_that_is_there_is_not_measured_again(home, measure_one, capsys):
    assert measure_one("ok", "--run_id", "mine") == 0
    assert measure_one("ok", "--split_input", "--run_id", "mine") == 0
    assert [row.run_id for row in rows_of(home)] == ["mine", "mine-device"]
    assert measure_one("ok", "--split_input", "--run_id", "mine") == 0
    assert len(rows_of(home)) == 2
    assert "waiting_share: 0" in capsys.readouterr().out
