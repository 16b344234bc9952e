"""One run in a process of its own: the row that comes of it, and every way in which it may fail."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime, timedelta
from statistics import fmean
from types import MappingProxyType

import numpy as np
import pytest

from epochcast.collect.records.append_rows import RunExistsError
from epochcast.collect.records.kept import RUN_ID
from epochcast.collect.records.names import new_run_id, spec_id
from epochcast.collect.records.recovery import recover
from epochcast.collect.records.reserved import RunClaimedError, claimed_log, claimed_run
from epochcast.collect.run import child
from epochcast.collect.run.child import GRACE_SEC, noted_interrupts
from epochcast.collect.run.listener import Listener, ignore
from epochcast.collect.run.monitor import Observations, Watch
from epochcast.collect.run.place import RunPlace
from epochcast.collect.run.runner import RunRefusedError, run
from epochcast.collect.run.text import result_lines
from epochcast.schema import FailureRecord, RunConfig, RunRecord, RunSpec, from_json_dict, to_json_dict
from epochcast.storage.cells import columns
from epochcast.storage.tables import read_table
from epochcast.workload.shape import count_params
from tests.support.light_child import (
    EPOCH_SEC,
    FIRST_SEC,
    NOISE_BYTES,
    TEST_ACC,
    command,
    is_alive,
    light_spec,
    starts,
    wait_for,
)
from tests.support.real_child import BLOCK_TENSORFLOW, LIMIT_MEMORY, lean_keras, real
from tests.support.small_cifar10 import make_npz

PUBLISHED = (
    "timestamp_utc,tf_version,depth,base_filters,batch_size,epochs,params,"
    "epoch_times_json,avg_time_sec,images_per_sec,test_acc"
)
WRONG_TABLE = "who,what\nme,that\n"
HANGING_SEC = 1.5  # a light child needs a tenth to hang


class Bench:
    """A folder to measure in, and what was written there."""

    def __init__(self, folder):
        self.runs, self.log_dir = folder / "results" / "runs.csv", folder / "logs"
        self.failures = folder / "results" / "failures.csv"
        self.trace = folder / "trace"
        self.said = []

    def measure(
        self, *behaviour, spec=None, run_id="a", say=None, on_output=ignore, place=MappingProxyType({}), **values
    ):
        where = RunPlace(**{"runs": self.runs, "log_dir": self.log_dir, "child": command(*behaviour), **place})
        say = say or self.said.append
        return run(spec or light_spec(), run_id, where, Listener(say, say, on_output), **values)

    @property
    def rows(self):
        return read_table(self.runs, RunRecord) if self.runs.exists() else []

    @property
    def failed(self):
        return read_table(self.failures, FailureRecord) if self.failures.exists() else []

    def log(self, run_id="a"):
        return (self.log_dir / f"{run_id}.txt").read_text(encoding="utf-8", errors="replace")

    def sidecar(self, run_id="a"):
        return json.loads((self.log_dir / f"{run_id}.json").read_text())


@pytest.fixture
def bench(tmp_path, monkeypatch):
    bench = Bench(tmp_path)
    monkeypatch.setenv("LIGHT_CHILD_TRACE", str(bench.trace))
    return bench


# --- the row ----------------------------------------------------------------------------------------------------------


def test_the_eleven_published_columns_come_first_and_hold_what_was_measured(bench):
    spec = light_spec(depth=2, base_filters=4, batch_size=32, train_n=500, epochs=4, dataset="auto")
    before = datetime.now(UTC).replace(microsecond=0)
    row = bench.measure("times", "0.009,0.002,0.0015,0.0021", spec=spec)
    after = datetime.now(UTC)
    header, cells = csv.reader(bench.runs.read_text().splitlines())
    assert ",".join(header[:11]) == PUBLISHED
    assert header == columns(RunRecord)
    stamp = datetime.fromisoformat(cells[0])
    assert stamp.utcoffset() == timedelta(0)
    assert before <= stamp <= after
    assert cells[1:7] == ["2.99.1", "2", "4", "32", "4", str(count_params(RunConfig(2, 4)))]
    assert json.loads(cells[7]) == [0.009, 0.002, 0.0015, 0.0021]
    assert float(cells[8]) == fmean([0.002, 0.0015, 0.0021])
    assert float(cells[9]) == 500 / fmean([0.002, 0.0015, 0.0021])
    assert float(cells[10]) == TEST_ACC
    assert bench.rows == [row]


def test_the_row_names_its_conditions_and_its_seed(bench):
    row = bench.measure("ok", spec=light_spec(seed=7), place={"grid_id": "grid-1"})
    assert (row.schema_version, row.run_id, row.grid_id, row.seed) == (2, "a", "grid-1", 7)
    assert (row.backend, row.backend_version, row.keras_version) == ("tensorflow", "2.99.1", "3.99.0")
    assert (row.precision, row.tf32, row.pipeline, row.jit_compile) == ("float32", "off", "tfdata", "off")
    assert (row.dataset, row.train_n, row.timing_mode, row.window_steps) == ("synthetic", 1000, "full_epoch", None)
    assert row.load_avg is not None
    assert row.flags == ()  # nor `short`: it has the epochs that were asked for


def test_windows_are_extrapolated_to_an_epoch_by_steps(bench):
    spec = light_spec(batch_size=64, train_n=1000, window_steps=5, epochs=3, dataset="auto")
    row = bench.measure("times", "0.009,0.002,0.001", spec=spec)
    steps_per_epoch = 16  # 1000 / 64, the last batch being partial
    assert row.avg_time_sec == pytest.approx(0.0015 * steps_per_epoch / 5, rel=1e-12)
    assert row.images_per_sec == pytest.approx(1000 / row.avg_time_sec, rel=1e-12)
    assert row.steady_time_sec == row.avg_time_sec  # two windows alone: neither is known to be a stall
    assert row.epoch_times_json == (0.009, 0.002, 0.001)  # raw windows
    assert (row.timing_mode, row.window_steps, row.epochs) == ("steps_extrapolated", 5, 3)
    assert row.test_acc is None
    assert "window 2/3: 0.002 s, 160,000 images/s" in bench.log()


def test_a_stalled_epoch_stays_in_the_row_but_not_in_its_steady_time(bench):
    row = bench.measure("times", "0.009,0.002,0.002,0.009,0.0021")
    assert (row.n_timed, row.n_stalled, row.flags) == (4, 1, ("stalled",))
    assert row.epoch_times_json == (0.009, 0.002, 0.002, 0.009, 0.0021)
    assert row.avg_time_sec == pytest.approx(fmean([0.002, 0.002, 0.009, 0.0021]), rel=1e-12)
    assert row.steady_time_sec == pytest.approx(fmean([0.002, 0.002, 0.0021]), rel=1e-12)


def test_a_run_that_is_slow_half_of_the_time_is_unstable_and_takes_the_mean(bench):
    row = bench.measure("times", "0.009,0.002,0.002,0.003,0.003")
    assert (row.n_timed, row.n_stalled, row.flags) == (4, 0, ("unstable",))
    assert row.steady_time_sec == pytest.approx(0.0025, rel=1e-12)


def test_wall_time_runs_from_spawn_to_exit_and_overhead_is_what_no_epoch_took(bench):
    start = time.perf_counter()
    row = bench.measure("lasting", "0.3")
    elapsed_sec = time.perf_counter() - start
    assert 0.3 < row.wall_sec < elapsed_sec
    assert row.overhead_sec == pytest.approx(row.wall_sec - sum(row.epoch_times_json), rel=1e-9)


def test_cpu_time_is_that_of_the_measuring_process(bench):
    row = bench.measure("busy", "0.5")
    assert 0.5 <= row.cpu_time_sec < 0.5 + 2  # its own start and end are the rest
    idle = bench.measure("lasting", "0.5", run_id="b")
    assert idle.cpu_time_sec < row.cpu_time_sec


def test_test_accuracy_of_synthetic_images_is_empty_in_the_file(bench):
    assert bench.measure("ok").test_acc is None
    (cells,) = csv.DictReader(bench.runs.read_text().splitlines())
    assert cells["test_acc"] == ""


def test_a_loss_that_is_nan_ends_in_a_row_without_accuracy_and_a_flag(bench):
    row = bench.measure("nan", spec=light_spec(dataset="auto"))
    assert (row.test_acc, row.flags) == (None, ("diverged",))
    assert bench.rows == [row]
    assert bench.failed == []
    assert "loss nan" in bench.log()


def test_a_crash_after_the_last_word_does_not_cost_the_row(bench):
    row = bench.measure("late-segfault", spec=light_spec(dataset="auto"))
    assert row.test_acc == TEST_ACC
    assert bench.rows == [row]
    assert bench.failed == []


# --- what is said and kept --------------------------------------------------------------------------------------------


def test_table_json_log_and_screen_tell_the_same_row(bench):
    row = bench.measure("ok", spec=light_spec(epochs=3, dataset="auto"))
    *epochs, result, table, logged = bench.said[1:]
    assert result.startswith("steady time 0.002000 s per epoch +-0 % (95 %) from 2 timed epochs: the epochs asked for")
    assert logged.startswith("LOGGED: ")
    assert json.loads(logged.removeprefix("LOGGED: ")) == to_json_dict(row) == bench.sidecar()["row"]
    assert bench.rows == [row]
    assert [line.partition(":")[0] for line in epochs] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert [line.endswith("(first: not timed)") for line in epochs] == [True, False, False]
    assert "0.002 s, 500,000 images/s, loss 0.3333, accuracy 0.5000" in epochs[2]
    assert table == f"TABLE: {bench.runs}"  # where the row belongs, for a recovery from what is captured
    assert bench.log().splitlines() == bench.said
    assert from_json_dict(RunRecord, bench.sidecar()["row"]) == row
    assert RunSpec(**bench.sidecar()["spec"]) == light_spec(epochs=3, dataset="auto")
    assert bench.sidecar()["table"] == str(bench.runs)


def test_the_first_line_says_what_is_measured_and_on_what(bench):
    row = bench.measure("ok", spec=light_spec(batch_size=64))
    assert bench.said[0].startswith(
        f"(1,2,64) with {count_params(RunConfig(1, 2)):,} parameters on {row.device_name}, tensorflow"
    )
    assert "1,000 images of synthetic (nowhere)" in bench.said[0]


def test_megabytes_of_output_stop_nothing_and_are_in_the_log_byte_for_byte(bench):
    seen = bytearray()
    row = bench.measure("noisy", on_output=seen.extend)
    assert isinstance(row, RunRecord)
    assert len(seen) == NOISE_BYTES
    assert seen in (bench.log_dir / "a.txt").read_bytes()


def test_a_reader_that_left_does_not_cost_the_row(bench):
    def broken(_):
        raise BrokenPipeError

    row = bench.measure("noisy", say=broken, on_output=broken)
    assert bench.rows == [row]
    assert "LOGGED: " in bench.log()


def test_an_error_in_the_parent_ends_the_child(bench):
    def leave(_):
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        bench.measure("hang", say=leave)
    (start,) = starts(bench.trace)
    assert not is_alive(start["pid"])


@pytest.mark.parametrize("error", [RuntimeError, ValueError, UnicodeError, KeyError, BrokenPipeError, MemoryError])
def test_a_screen_that_fails_costs_no_row(bench, error):
    def fail(_):
        raise error("nobody can see this")

    row = bench.measure("noisy", say=fail, on_output=fail)
    assert bench.rows == [row]
    assert "LOGGED: " in bench.log()


# --- runs that fail ---------------------------------------------------------------------------------------------------

FAILURES = [  # behaviour, status, exit code, signal, words in the message
    ("oom-message", "oom", 1, None, "ResourceExhaustedError: OOM when allocating tensor with shape[64,32]"),
    ("oom-segfault", "oom", None, "SIGSEGV", "Out of memory while trying to allocate 17179869184 bytes"),
    ("segfault", "crash", None, "SIGSEGV", "ended by SIGSEGV; last output: a last word"),
    ("sigkill", "killed", None, "SIGKILL", "killed from outside"),
    ("exit-3", "crash", 3, None, "exit code 3; last output: it went wrong here"),
    ("silent-exit", "crash", 0, None, "exit code 0"),
]


@pytest.mark.parametrize(("behaviour", "status", "exit_code", "signal_name", "words"), FAILURES)
def test_a_run_that_fails_is_a_row_of_failures_and_of_nothing_else(
    bench, behaviour, status, exit_code, signal_name, words
):
    spec = light_spec(batch_size=32, epochs=5)
    failure = bench.measure(behaviour, spec=spec, place={"grid_id": "grid-1"})
    assert bench.failed == [failure]
    assert bench.rows == []
    assert not (bench.log_dir / "a.json").exists()
    assert (failure.status, failure.exit_code, failure.signal) == (status, exit_code, signal_name)
    assert words in failure.message
    assert failure.epoch_times_json == (FIRST_SEC, EPOCH_SEC)
    assert (failure.run_id, failure.grid_id, failure.epochs) == ("a", "grid-1", 5)
    assert (failure.depth, failure.base_filters, failure.batch_size) == (1, 2, 32)
    assert RunSpec(**json.loads(failure.spec_json)) == spec
    assert failure.wall_sec > 0
    assert bench.log().splitlines()[-1] == bench.said[-1] == f"FAILED: {json.dumps(to_json_dict(failure))}"


def test_a_hung_child_is_ended_at_the_timeout_with_the_epochs_timed_so_far(bench):
    failure = bench.measure("hang", timeout_sec=HANGING_SEC)
    assert bench.failed == [failure]
    assert bench.rows == []
    assert (failure.status, failure.signal) == ("timeout", "SIGTERM")
    assert failure.epoch_times_json == (FIRST_SEC, EPOCH_SEC)
    assert failure.wall_sec >= HANGING_SEC
    (start,) = starts(bench.trace)
    assert not is_alive(start["pid"])


def test_a_hung_child_that_ignores_sigterm_is_killed_after_a_grace(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(child, "GRACE_SEC", 0.5)
    failure = bench.measure("hang-ignoring-signals", str(tmp_path / "deaf"), timeout_sec=HANGING_SEC)
    assert (tmp_path / "deaf").exists()
    assert (failure.status, failure.signal) == ("timeout", "SIGKILL")
    assert failure.wall_sec >= HANGING_SEC + 0.5
    (start,) = starts(bench.trace)
    assert not is_alive(start["pid"])


@pytest.mark.parametrize("then", ["ok", "sigkill", "exit-3"])
def test_what_a_child_started_does_not_outlive_it(bench, tmp_path, then):
    start = time.monotonic()
    bench.measure("grandchild", str(tmp_path / "pid"), then)
    assert time.monotonic() - start < 60  # and its open pipes are not waited for
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not is_alive(pid))


def test_a_measuring_command_that_does_not_exist_is_an_error_before_any_row(bench):
    with pytest.raises(FileNotFoundError):
        run(light_spec(), "a", RunPlace(bench.runs, bench.log_dir, child=("/no/such/program",)))
    assert bench.rows == bench.failed == []


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


def when_said(words, do):
    """A `say` that acts once, at the first line with these words."""
    waiting = [do]

    def say(line):
        if words in line and waiting:
            waiting.pop()()

    return say


def send_self(number):
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_stop_ends_the_child_and_is_a_row_of_failures(bench, number):
    handler = signal.getsignal(number)
    failure = bench.measure("hang", say=when_said("epoch 2/", send_self(number)))
    assert failure.status == "interrupted"
    assert failure.epoch_times_json == (FIRST_SEC, EPOCH_SEC)
    assert bench.failed == [failure]
    assert bench.rows == []
    assert signal.getsignal(number) is handler


def test_a_second_ctrl_c_does_not_wait_for_the_grace(bench, tmp_path):
    deaf = tmp_path / "deaf"

    def twice():
        wait_for(deaf.exists)
        send_self(signal.SIGINT)()
        send_self(signal.SIGINT)()

    failure = bench.measure("hang-ignoring-signals", str(deaf), say=when_said("epoch 2/", twice))
    assert (failure.status, failure.signal) == ("interrupted", "SIGKILL")
    assert failure.wall_sec < GRACE_SEC


def test_ctrl_c_that_comes_as_a_run_finishes_does_not_cost_the_row(bench):
    row = bench.measure("interrupt-parent-and-finish")
    assert bench.rows == [row]
    assert bench.failed == []


def test_a_caller_that_notes_signals_itself_learns_of_one_that_came_as_a_run_finished(bench):
    with noted_interrupts() as interrupts:
        row = bench.measure("interrupt-parent-and-finish", interrupts=interrupts)
    assert bench.rows == [row]
    assert interrupts == [signal.SIGINT]


def test_a_signal_that_was_ignored_from_the_start_stays_ignored(bench):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as `&` in a script does
    try:
        row = bench.measure("lasting", "0.5", say=when_said("epoch 2/", send_self(signal.SIGINT)))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert bench.rows == [row]


def test_a_run_may_be_measured_from_another_thread(bench):
    thread = threading.Thread(target=bench.measure, args=("ok",))
    thread.start()
    thread.join(60)
    assert [row.run_id for row in bench.rows] == ["a"]


# --- runs that are refused --------------------------------------------------------------------------------------------


def test_a_refusal_is_an_error_and_no_row(bench):
    with pytest.raises(RunRefusedError, match="this box has no such device"):
        bench.measure("refuse")
    assert bench.rows == bench.failed == []


@pytest.mark.parametrize("run_id", ["", ".", "..", "../up", "a/b", ".hidden", "-r1", "a b", "a\n", "ä", "x" * 201])
def test_a_run_id_that_makes_no_file_name_is_refused(bench, run_id):
    with pytest.raises(ValueError, match="run_id"):
        bench.measure("ok", run_id=run_id)
    assert starts(bench.trace) == []
    assert not bench.runs.exists()


def test_an_existing_run_id_is_refused_before_measuring(bench):
    bench.measure("ok")
    with pytest.raises(RunExistsError, match=re.escape(f"{bench.runs} holds a run a already")):
        bench.measure("ok")
    assert len(starts(bench.trace)) == len(bench.rows) == 1


def test_a_run_id_that_is_being_measured_is_refused(bench):
    with (
        claimed_log(bench.log_dir, "a"),
        pytest.raises(RunClaimedError, match="run a is being measured by another process"),
    ):
        bench.measure("ok")
    assert starts(bench.trace) == []
    assert bench.measure("ok").run_id == "a"


def test_a_finished_run_that_waits_to_be_recovered_is_not_written_over(bench):
    bench.measure("ok")
    kept = bench.sidecar()
    bench.runs.write_text(bench.runs.read_text().splitlines(keepends=True)[0])
    with pytest.raises(ValueError, match=r"keeps a finished run a that is not in .*epochcast recover"):
        bench.measure("ok")
    assert bench.sidecar() == kept
    assert len(starts(bench.trace)) == 1


def test_the_same_run_may_be_measured_into_another_table(bench, tmp_path):
    bench.measure("ok")
    other = tmp_path / "other" / "runs.csv"
    bench.measure("ok", place={"runs": other})
    assert len(read_table(other, RunRecord)) == len(bench.rows) == 1


def test_a_run_of_one_name_is_measured_into_a_table_by_one_process_wherever_the_logs_lie(bench, tmp_path):
    with (
        claimed_run(bench.runs, "a"),
        pytest.raises(RunClaimedError, match="run a is being measured by another process"),
    ):
        bench.measure("ok", place={"log_dir": tmp_path / "other logs"})
    assert starts(bench.trace) == []
    assert bench.measure("ok", place={"log_dir": tmp_path / "other logs"}).run_id == "a"


def test_a_claim_that_is_only_looked_at_is_waited_for(bench, tmp_path):
    """By who removes leftovers, or by a child that a killed process was about to start."""
    with ThreadPoolExecutor() as pool, ExitStack() as held:
        held.enter_context(claimed_run(bench.runs, "a"))
        measured = pool.submit(bench.measure, "ok", place={"log_dir": tmp_path / "other logs"})
        time.sleep(0.1)
        held.close()
        assert measured.result().run_id == "a"


def test_a_row_that_another_process_appended_meanwhile_is_not_doubled(bench, tmp_path):
    """Two machines on one disk know nothing of each other's claims: the table is asked under the append's lock."""
    first = bench.measure("ok")
    line = bench.runs.read_text()
    bench.runs.write_text(line.splitlines(keepends=True)[0])
    other = tmp_path / "other logs"
    with pytest.raises(RunExistsError, match=r"Another process measured it meanwhile; this one is kept in .*a\.json"):
        bench.measure("replace", str(bench.runs), line, place={"log_dir": other})
    assert bench.rows == [first]
    assert json.loads((other / "a.json").read_text())["row"]["run_id"] == "a"
    assert recover(bench.runs, other).appended == []


def spoil_header(bench):
    bench.runs.write_text(WRONG_TABLE)


def spoil_folder(bench):
    bench.runs.mkdir()


def spoil_older_schema(bench):
    bench.runs.write_text(PUBLISHED + "\n")


def spoil_failures(bench):
    bench.failures.write_text(WRONG_TABLE)


def spoil_log_dir(bench):
    bench.log_dir.write_text("a file")


@pytest.mark.parametrize("spoil", [spoil_header, spoil_folder, spoil_older_schema, spoil_failures, spoil_log_dir])
def test_what_could_not_be_written_is_refused_before_measuring(bench, spoil):
    bench.runs.parent.mkdir()
    spoil(bench)
    with pytest.raises((ValueError, OSError)) as error:
        bench.measure("ok")
    assert str(bench.runs.parent.parent) in str(error.value)
    assert starts(bench.trace) == []


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_spec_has_one_name_on_a_device_and_another_wherever_anything_differs(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    spec = RunSpec()
    others = {"depth": 4, "base_filters": 8, "batch_size": 64, "epochs": 9, "window_steps": 5, "seed": 1}
    others |= {"dataset": "synthetic", "data_dir": "/data", "train_n": 512, "pipeline": "arrays"}
    others |= {"precision": "mixed_float16", "jit_compile": "on", "device": "cpu", "compile_cache": "on"}
    others |= {"steps_per_execution": 8, "target_ci": 0.1, "max_epochs": 9, "max_sec": 60.0}
    assert others.keys() == {f.name for f in fields(RunSpec)}
    names = [spec_id(replace(spec, **{name: value}), "A100") for name, value in others.items()]
    names += [spec_id(spec, "A100"), spec_id(spec, "H100")]
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    names.append(spec_id(spec, "A100"))
    assert len(set(names)) == len(names)
    assert spec_id(RunSpec(**asdict(spec)), "A100") == spec_id(spec, "A100")
    assert all(RUN_ID.fullmatch(name) for name in names)


def test_runs_measured_by_hand_get_names_of_their_own():
    names = {new_run_id(RunSpec(depth=2, base_filters=16, batch_size=64)) for _ in range(3)}  # of 65,536 endings
    assert len(names) == 3
    assert all(RUN_ID.fullmatch(name) and name.startswith("d2_f16_b64-20") for name in names)


# --- the real measuring process ---------------------------------------------------------------------------------------

NO_CORE_FILE = "import resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
QUICKLY_KNOWN = """
import epochcast.steady_time
epochcast.steady_time.MIN_TIMED_SEC = 0.05
"""
OPTIONAL_FAILS = """
import epochcast.machine.device_memory, epochcast.machine.framework, keras
def fails(*_, **__): raise RuntimeError("not today")
epochcast.machine.device_memory.peak_memory_bytes = keras.Model.evaluate = fails
epochcast.machine.framework.framework_details = fails
"""
INFINITE_STEPS = """
import functools, keras
keras.optimizers.Adam = functools.partial(keras.optimizers.Adam, learning_rate=float("inf"))
"""


@pytest.fixture
def on_jax(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("PYTHONPATH", lean_keras(tmp_path))
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiling is half of such a test's time
    return real(BLOCK_TENSORFLOW)


@pytest.fixture
def on_tensorflow(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")


def test_an_epoch_is_timed_on_jax_without_tensorflow_and_what_no_time_depends_on_may_fail(bench, on_jax, tmp_path):
    """One child for both: starting JAX is most of it. The windows below are of a child in which nothing fails."""
    spec = light_spec(
        train_n=20,
        batch_size=10,
        epochs=3,
        device="cpu",
        pipeline="auto",
        dataset="cifar10",
        data_dir=str(tmp_path / "cifar10.npz"),
    )
    make_npz(tmp_path / "cifar10.npz")
    fails = real(BLOCK_TENSORFLOW, OPTIONAL_FAILS)
    row = run(spec, "a", RunPlace(bench.runs, bench.log_dir, child=fails))
    assert isinstance(row, RunRecord), row
    assert bench.rows == [row]
    assert (row.backend, row.tf_version, row.pipeline, row.tf32) == ("jax", None, "arrays", "off")
    assert (row.epochs, row.n_timed, row.timing_mode, row.train_n) == (3, 2, "full_epoch", 20)
    assert row.params == count_params(RunConfig(1, 2))
    assert row.avg_time_sec == pytest.approx(fmean(row.epoch_times_json[1:]), rel=1e-12)
    assert 0 < row.overhead_sec < row.wall_sec
    assert (row.test_acc, row.peak_memory_bytes) == (None, None)
    problems = bench.sidecar()["problems"]
    for name in ("test_acc", "peak_memory_bytes", "framework"):
        assert problems[name] == "RuntimeError: not today"


@pytest.mark.slow  # windows are those of the diverged run below; what JAX does without TensorFlow is timed above
def test_windows_are_timed_on_jax_without_tensorflow(bench, on_jax):
    spec = light_spec(train_n=1000, batch_size=64, epochs=3, window_steps=2, device="cpu", pipeline="arrays")
    row = run(spec, "a", RunPlace(bench.runs, bench.log_dir, child=on_jax))
    assert isinstance(row, RunRecord), row
    assert (row.timing_mode, row.window_steps, row.pipeline) == ("steps_extrapolated", 2, "arrays")
    assert row.avg_time_sec == pytest.approx(fmean(row.epoch_times_json[1:]) * 16 / 2, rel=1e-12)
    assert row.images_per_sec == pytest.approx(1000 / row.avg_time_sec, rel=1e-12)


def test_jax_that_runs_out_of_memory_is_oom_by_its_message(bench, on_jax):
    spec = light_spec(base_filters=128, batch_size=2048, train_n=2048, epochs=2, device="cpu")  # 11 GB, at once
    child = real(BLOCK_TENSORFLOW, LIMIT_MEMORY)
    failure = run(spec, "a", RunPlace(bench.runs, bench.log_dir, child=child), timeout_sec=100)
    assert (failure.status, failure.exit_code) == ("oom", 1), failure
    assert "out of memory" in failure.message.lower()
    assert bench.failed == [failure]
    assert bench.rows == []


@pytest.mark.slow  # TensorFlow waits ten seconds for memory, then ends by a segmentation fault on a CPU
def test_tensorflow_that_runs_out_of_memory_is_no_row_and_is_not_repeated(bench, on_tensorflow):
    spec = light_spec(base_filters=1024, batch_size=1024, train_n=1024, epochs=2, device="cpu")
    child = real(NO_CORE_FILE, LIMIT_MEMORY)
    failure = run(spec, "a", RunPlace(bench.runs, bench.log_dir, child=child), timeout_sec=100)
    assert failure.status in ("oom", "crash"), failure
    assert bench.rows == []


def test_training_whose_loss_becomes_nan_ends_in_a_diverged_row_once_its_time_is_known(bench, on_jax):
    """One child for both, which times windows: starting JAX, the quicker framework, is most of it."""
    images = np.zeros((256, 32, 32, 3), np.uint8)
    labels = np.arange(256, dtype=np.uint8) % 10
    data = bench.runs.parents[1] / "data.npz"
    np.savez(data, x_train=images, y_train=labels, x_test=images, y_test=labels)
    known = {"epochs": None, "target_ci": 1.0, "max_epochs": 1000, "max_sec": 60.0}
    spec = light_spec(
        train_n=224, batch_size=32, window_steps=2, device="cpu", dataset="auto", data_dir=str(data), **known
    )
    row = run(
        spec, "a", RunPlace(bench.runs, bench.log_dir, child=real(BLOCK_TENSORFLOW, QUICKLY_KNOWN, INFINITE_STEPS))
    )
    assert isinstance(row, RunRecord), row
    assert (row.dataset, row.test_acc) == ("cifar10_npz", None)
    assert "diverged" in row.flags
    assert (row.timing_mode, row.window_steps, row.train_n) == ("steps_extrapolated", 2, 224)
    assert row.avg_time_sec == pytest.approx(fmean(row.epoch_times_json[1:]) * 7 / 2, rel=1e-12)
    assert row.images_per_sec == pytest.approx(224 / row.avg_time_sec, rel=1e-12)
    assert bench.rows == [row]
    assert row.stop_reason == "target_ci"
    assert 5 < row.epochs < 1000
    assert row.rel_ci95 <= 1.0


def test_of_an_open_number_of_epochs_ever_fewer_are_shown_and_all_are_kept(bench):
    row = bench.measure("times", ",".join(["0.0001"] * 230), spec=light_spec(epochs=None, max_epochs=230))
    assert (row.epochs, row.stop_reason) == (230, "max_epochs")
    shown = [int(line.split()[1].rstrip(":")) for line in bench.said if line.startswith("epoch ")]
    assert shown == [*range(1, 11), *range(20, 101, 10), 200]
    assert any("the limit of epochs was reached before the target" in line for line in bench.said)
    assert any(line.startswith("flag short: stopped by a limit with too few timed epochs") for line in bench.said)


def test_a_driver_that_talks_nonsense_does_not_cost_the_run(bench, monkeypatch):
    def nonsense(self, report):
        return Observations(columns={"sm_clock_mhz": 0.0})

    monkeypatch.setattr(Watch, "observations", nonsense)
    row = bench.measure("ok")
    assert bench.rows == [row]
    assert row.sm_clock_mhz is None
    assert any(line.startswith("WARNING: ") and "sm_clock_mhz" in line for line in bench.said)
    assert "sm_clock_mhz" in bench.sidecar()["problems"]["row"][0]


def test_a_watch_that_fails_does_not_cost_the_run(bench, monkeypatch):
    def fails(self, report):
        raise RuntimeError("the driver is gone")

    monkeypatch.setattr(Watch, "observations", fails)
    row = bench.measure("ok")
    assert bench.rows == [row]
    assert any("what went on beside the run is not known: RuntimeError: the driver is gone" in s for s in bench.said)


@pytest.mark.slow  # the rule stands in test_stopping.py; the diverged run above is a real one by the other limit
def test_a_real_run_ends_at_its_limit_of_seconds(bench, on_tensorflow):
    spec = light_spec(epochs=None, target_ci=1e-9, max_sec=2.0, train_n=64, batch_size=32, device="cpu")
    row = run(spec, "a", RunPlace(bench.runs, bench.log_dir, child=real()))
    assert isinstance(row, RunRecord), row
    assert row.stop_reason == "max_sec"
    assert sum(row.epoch_times_json) >= 2.0
    assert row.epochs == 2 or sum(row.epoch_times_json[:-1]) < 2.0


def test_the_first_epoch_is_told_with_the_state_of_the_compilation_cache(bench):
    row = bench.measure("ok")
    told = [" ".join(result_lines(replace(row, compile_cache=state))) for state in (None, "off", "cold", "warm")]
    assert ["first epoch" in line for line in told] == [False, False, True, True]
    assert "; first epoch 0.00400 s, warm compilation cache" in told[-1]
