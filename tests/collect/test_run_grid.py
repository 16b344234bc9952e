"""A grid of runs: what it measures, in which order, and that nothing is lost or doubled however it is stopped."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

import pytest

from epochcast.collect import run_grid as grid
from epochcast.collect.grid.grid_loop import GridOptions, Limits, run_grid
from epochcast.collect.grid.specs import grid_name, grid_runs
from epochcast.collect.records.recovery import recover
from epochcast.collect.run import child
from epochcast.collect.run.listener import Listener
from epochcast.collect.run.place import RunPlace
from epochcast.collect.run.runner import RunRefusedError
from epochcast.paths import CODE_ROOT
from epochcast.schema import Exclusion, FailureRecord, RunRecord
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import read_table
from tests.support.light_child import (
    EPOCH_SEC,
    FIRST_SEC,
    command,
    environment,
    is_alive,
    isolate,
    light_spec,
    run_grid_command,
    starts,
    wait_for,
)
from tests.support.machines.made_up_host import others_use
from tests.support.rows import run_row

DATA = ["--train_n", "1000", "--dataset", "synthetic", "--epochs", "4"]
SMALL = ["--depth", "1", "--base_filters", "2", *DATA]


class Bench:
    """A folder to measure in, and what was written there."""

    def __init__(self, folder):
        self.folder = folder
        self.runs, self.log_dir = folder / "results" / "runs.csv", folder / "logs"
        self.trace = folder / "trace"
        self.gate = folder / "gate"
        self.said = []

    def measure(
        self,
        *behaviour,
        batch_sizes=(16, 32, 64),
        repeats=1,
        excluded=None,
        report=None,
        place=MappingProxyType({}),
        **options,
    ):
        planned = grid_runs([light_spec(batch_size=b) for b in batch_sizes], repeats, excluded or {})
        where = RunPlace(**{"runs": self.runs, "log_dir": self.log_dir, "child": command(*behaviour), **place})
        return run_grid(planned, where, GridOptions(**options), Listener(report or self.said.append))

    def start(self, *behaviour, flags, shared=SMALL):
        """The whole command in a process group of its own, with a light child; what it prints goes to `output`."""
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                run_grid_command(*behaviour, flags=[*shared, *flags]),
                env=environment(EPOCHCAST_HOME=str(self.folder), LIGHT_CHILD_TRACE=str(self.trace)),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def call(self, *behaviour, flags, shared=SMALL):
        """The same command in this process; its exit code."""
        with (
            pytest.MonkeyPatch.context() as patch,
            (self.folder / "output").open("a") as output,
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
        ):
            patch.setattr(child, "CHILD", command(*behaviour))
            return grid.main([*shared, *flags])

    @property
    def output(self):
        return (self.folder / "output").read_text()

    @property
    def rows(self):
        return read_table(self.runs, RunRecord) if self.runs.exists() else []

    @property
    def failed(self):
        table = self.runs.with_name("failures.csv")
        return read_table(table, FailureRecord) if table.exists() else []

    @property
    def measured(self):
        """Batch sizes in the table, in order."""
        return [row.batch_size for row in self.rows]

    @property
    def started(self):
        """Batch sizes that a child was started for, in order."""
        return [start["batch_size"] for start in starts(self.trace)]


@pytest.fixture
def bench(tmp_path, monkeypatch):
    bench = Bench(tmp_path)
    isolate(monkeypatch, tmp_path, bench.trace)
    others_use(0.0, monkeypatch)  # whatever this box does
    return bench


# --- which runs -------------------------------------------------------------------------------------------------------


def test_every_configuration_is_measured_as_often_as_asked(bench):
    result = bench.measure("ok", repeats=2)
    assert Counter(bench.measured) == {16: 2, 32: 2, 64: 2}
    assert result.measured == bench.rows
    assert len({row.run_id for row in bench.rows}) == 6
    assert {row.grid_id for row in bench.rows} == {grid_name(grid_runs(map_specs(16, 32, 64), 2, {}))}
    assert not result.failures
    assert not result.was_interrupted


@pytest.mark.parametrize("reader", ["left", "full"])
def test_a_grid_goes_on_though_nobody_can_read_its_lines(reader, bench):
    if reader == "left":
        end, output = os.pipe()
        os.close(end)
    else:
        output = os.open("/dev/full", os.O_WRONLY)
    flags = [*SMALL, "--batch_size", "16,32", "--runs", str(bench.runs), "--log_dir", str(bench.folder / "logs")]
    done = subprocess.run(
        run_grid_command("ok", flags=flags),
        env=environment(EPOCHCAST_HOME=str(bench.folder), LIGHT_CHILD_TRACE=str(bench.trace)),
        stdout=output,
        stderr=output,
        check=False,
    )
    os.close(output)
    assert sorted(bench.measured) == [16, 32]
    assert done.returncode == 0


def map_specs(*batch_sizes):
    return [light_spec(batch_size=b) for b in batch_sizes]


def test_a_grid_has_one_name_whatever_its_order_and_another_for_other_runs():
    name = grid_name(grid_runs(map_specs(16, 32), 1, {}))
    assert name == grid_name(grid_runs(map_specs(32, 16, 16), 1, {}))
    assert name != grid_name(grid_runs(map_specs(16, 32), 2, {}))
    assert name != grid_name(grid_runs(map_specs(16, 64), 1, {}))


def test_an_empty_grid_is_refused():
    with pytest.raises(ValueError, match="the grid is empty"):
        grid_runs([], 1, {})


def test_the_order_is_random_by_seed_and_the_same_for_the_same_seed(bench, monkeypatch):
    batch_sizes = (16, 32, 64, 128, 256)
    orders = []

    def measured(spec, run_id, place, listener, **how):
        """No process is started: the order is that of the calls."""
        orders[-1].append(spec.batch_size)
        row = run_row(config=(1, 2, spec.batch_size), run_id=run_id, steady_time_sec=1.0, wall_sec=3.0, train_n=1000)
        append_row(place.runs, row)
        return row

    monkeypatch.setattr("epochcast.collect.grid.sequence.run", measured)
    for number, seed in enumerate((1, 1, 2)):
        orders.append([])
        folder = bench.folder / str(number)
        bench.measure(
            "ok", batch_sizes=batch_sizes, order_seed=seed, place={"runs": folder / "runs.csv", "log_dir": folder}
        )
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == list(batch_sizes)
    assert list(batch_sizes) not in orders


def test_the_command_takes_lists_and_repeats(bench, capsys):
    flags = "--depth 1:2 --base_filters 2,4 --batch_size 16:64:x2 --precision float32,mixed_bfloat16 --seed 1,2"
    assert grid.main([*flags.split(), "--repeats", "3", "--dry_run"]) == 0
    assert f"{2 * 2 * 3 * 2 * 2 * 3} runs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--batch_size 64:32", "the range '64:32' is empty"),
        ("--batch_size 0", "expected a whole number of at least 1, got 0"),
        ("--precision float8", "expected some of float32, mixed_float16, mixed_bfloat16, got 'float8'"),
        ("--seed 1,x", "'x'"),
        ("--repeats 0", "--repeats"),
        ("--epochs 1", "epochs must be at least 2"),
        ("--timeout_sec 0", "--timeout_sec"),
        ("--order_seed -1", "--order_seed"),
        ("--configs no_such_file.csv", "no_such_file.csv"),
    ],
)
def test_a_bad_flag_is_one_clear_error_exit_code_2_and_nothing_written(bench, capsys, flags, words):
    with pytest.raises(SystemExit) as exit_:
        grid.main(flags.split())
    assert exit_.value.code == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert words in error
    assert hint == "See epochcast grid --help."
    assert list(bench.folder.iterdir()) == []


# --- configurations from a file ---------------------------------------------------------------------------------------


def test_the_command_measures_what_the_file_names_once_each(bench):
    path = bench.folder / "configs.csv"
    path.write_text("depth,base_filters,batch_size\n1,2,16\n1,2,32\n1,2,16\n")
    assert bench.call("ok", flags=["--configs", str(path), "--epochs", "3"], shared=DATA) == 0, bench.output
    assert sorted(bench.measured) == [16, 32]
    assert {row.epochs for row in bench.rows} == {3}


def test_a_bad_file_of_configurations_is_one_clear_error(tmp_path, capsys):
    path = tmp_path / "configs.csv"
    path.write_text("depth\n2\nmany\n")
    with pytest.raises(SystemExit) as exit_:
        grid.main(["--configs", str(path), "--dry_run"])
    assert exit_.value.code == 2
    assert f"error: {path}:3, column 'depth': expected a whole number, got 'many'." in capsys.readouterr().err


def test_where_there_is_no_file_of_configurations_the_command_that_is_named_makes_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    path = tmp_path / "next runs.csv"
    with pytest.raises(SystemExit):
        grid.main(["--configs", str(path), "--dry_run"])
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    before, typed = said.split(" Make one: ")
    assert before == f"error: {path}: No such file or directory."
    subprocess.run(["sh", "-c", typed], check=True, capture_output=True, timeout=30)
    assert grid.main(["--configs", str(path), "--dry_run"]) == 0


def test_a_file_and_lists_of_configurations_exclude_each_other(tmp_path, capsys):
    path = tmp_path / "configs.csv"
    path.write_text("depth\n2\n")
    with pytest.raises(SystemExit):
        grid.main(["--configs", str(path), "--depth", "2:4"])
    assert "leave out --depth" in capsys.readouterr().err


# --- what it says -----------------------------------------------------------------------------------------------------


def test_a_dry_run_says_how_many_and_until_when_and_does_nothing(bench, capsys):
    assert grid.main([*SMALL, "--batch_size", "16:64:x2", "--repeats", "2", "--dry_run"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    match = re.fullmatch(
        r"grid-[0-9a-f]{8}: 6 runs, 6 to measure, about (\d+) (s|min \d\d s) \(up to .* if runs are disturbed and "
        r"measured again\), until (\S+ \S+); rough: assumed for a [CG]PU, no run of this box is finished yet",
        line,
    )
    assert match, line
    assert datetime.fromisoformat(match[3]).replace(second=59) >= datetime.now().replace(microsecond=0)
    assert list(bench.folder.iterdir()) == []


def test_a_dry_run_of_a_grid_that_is_half_done_counts_what_is_left(bench):
    bench.measure("ok", batch_sizes=(16, 32))
    before = sorted(bench.folder.rglob("*"))
    bench.measure("ok", batch_sizes=(16, 32, 64), is_dry=True)
    assert re.search(
        r"3 runs \(2 measured before\), 1 to measure, about .*; by 2 finished runs of this box", bench.said[-1]
    )
    assert sorted(bench.folder.rglob("*")) == before
    bench.measure("ok", batch_sizes=(16, 32), is_dry=True)
    assert bench.said[-1].endswith("2 runs (2 measured before), nothing left to measure")


def test_progress_is_done_of_total_with_the_time_left_and_a_summary_closes_it(bench):
    bench.measure("16=ok,32=oom-message,64=nan")
    opening, *progress, closing = bench.said
    assert "3 runs, 3 to measure" in opening
    assert [line.partition("]")[0] for line in progress] == ["[1/3", "[2/3", "[3/3"]
    assert all(re.search(r"; \d+ s left$|; \d+ min \d\d s left$", line) for line in progress)
    assert progress[-1].endswith("; 0 s left")
    by_size = {size: line for line in progress for size in (16, 32, 64) if f"(1,2,{size})" in line}
    assert re.search(r"0\.00200 s/epoch, 500,000 images/s, \S+ s in all;", by_size[16])
    assert "OOM (1,2,32): ResourceExhaustedError" in by_size[32]
    assert "[diverged]" in by_size[64]
    assert closing.startswith("2 of 3 runs measured in ")
    assert "1 oom, 1 flagged (diverged 1)" in closing
    assert f"rows in {bench.runs}, failures in {bench.runs.with_name('failures.csv')}" in closing


def test_exit_code_is_0_when_all_are_measured_and_1_when_one_failed(bench):
    flags = ["--batch_size", "16,32"]
    assert bench.call("16=ok,32=sigkill", flags=flags) == 1, bench.output
    assert bench.call("ok", flags=flags) == 0, bench.output
    assert sorted(bench.measured) == [16, 32]


# --- going on ---------------------------------------------------------------------------------------------------------


def test_going_on_repeats_what_was_killed_or_timed_out_and_nothing_else(bench):
    sizes = (16, 32, 64, 128, 256)
    bench.measure("16=ok,32=oom-message,64=sigkill,128=exit-3", batch_sizes=sizes[:-1])
    bench.measure("hang", batch_sizes=sizes[-1:], limits=Limits(0.3))
    statuses = {failure.batch_size: failure.status for failure in bench.failed}
    assert statuses == {32: "oom", 64: "killed", 128: "crash", 256: "timeout"}
    bench.trace.unlink()
    second = bench.measure("ok", batch_sizes=sizes)
    assert sorted(bench.started) == [64, 256]
    assert (second.n_done_before, second.n_failed_before) == (1, 2)
    assert sorted(bench.measured) == [16, 64, 256]
    bench.trace.unlink()
    third = bench.measure("ok", batch_sizes=sizes)
    assert (bench.started, third.measured) == ([], [])
    assert "5 runs (3 measured before, 2 out of memory or crashed before), nothing left to measure" in bench.said[-2]
    fourth = bench.measure("ok", batch_sizes=sizes, retries_crashed=True)
    assert [row.batch_size for row in fourth.measured] == [128]  # what crashed; what ran out of memory does so again


def test_runs_that_were_taken_back_are_measured_again_under_a_new_name(bench):
    bench.measure("ok", batch_sizes=(16, 32))
    wrong = next(row for row in bench.rows if row.batch_size == 32)
    exclusion = Exclusion(wrong.run_id, "a neighbour trained as well", "2026-01-02")
    append_row(bench.runs.with_name("excluded.csv"), exclusion)
    for _ in range(2):
        assert bench.call("ok", flags=["--batch_size", "16,32"]) == 0, bench.output
    assert sorted(bench.measured) == [16, 32, 32]
    assert [row.run_id for row in bench.rows if row.batch_size == 32] == [wrong.run_id, f"{wrong.run_id}.2"]
    twice = {wrong.run_id: exclusion, f"{wrong.run_id}.2": exclusion}
    assert bench.measure("ok", batch_sizes=(32,), excluded=twice).measured[0].run_id == f"{wrong.run_id}.3"


def test_rows_that_were_kept_but_not_appended_are_not_measured_again(bench):
    bench.measure("ok", batch_sizes=(16, 32))
    lines = bench.runs.read_text().splitlines(keepends=True)
    bench.runs.write_text("".join(lines[:-1]))
    bench.trace.unlink()
    result = bench.measure("ok", batch_sizes=(16, 32))
    assert (bench.started, result.n_done_before) == ([], 2)
    assert bench.runs.read_text() == "".join(lines)
    assert any(line.startswith("recovered ") for line in bench.said)


def test_a_grid_does_not_take_up_rows_of_another_table_that_is_gone(bench):
    bench.measure("ok", batch_sizes=(16,), place={"runs": bench.folder / "try" / "runs.csv"})
    (bench.folder / "try" / "runs.csv").unlink()
    bench.measure("ok", batch_sizes=(32,))
    assert bench.measured == [32]


def test_a_refused_run_stops_the_grid_with_the_reason(bench):
    with pytest.raises(RunRefusedError, match="this box has no such device"):
        bench.measure("refuse")
    assert len(bench.started) == 1
    assert bench.rows == bench.failed == []
    assert bench.call("refuse", flags=["--batch_size", "16,32"]) == 1
    assert bench.output.splitlines()[-1] == "error: this box has no such device."


def test_a_table_that_is_not_ours_stops_the_grid_before_measuring(bench):
    bench.runs.parent.mkdir()
    bench.runs.write_text("who,what\nme,that\n")
    with pytest.raises(ValueError, match=r"runs\.csv:1: not a table"):
        bench.measure("ok")
    assert bench.started == []


# --- stopped on the way -----------------------------------------------------------------------------------------------

GATED = ["--batch_size", "16,32,64"]


def started_waiting(bench, n):
    """Wait until the nth child has been started and waits at the gate; its process id."""
    wait_for(lambda: len(bench.started) == n)
    wait_for(lambda: any("epoch 2/" in log.read_text() for log in logs_of_last(bench)))
    return starts(bench.trace)[-1]["pid"]


def logs_of_last(bench):
    return bench.log_dir.glob(f"d1_f2_b{bench.started[-1]}-*.txt")


def test_a_grid_that_is_stopped_ends_cleanly_and_goes_on_with_the_same_command(bench):
    """By one signal; that both end a run stands in test_runner.py."""
    behaviour = ["16=ok,32=gate,64=gate", str(bench.gate)]
    process = bench.start(*behaviour, flags=[*GATED, "--order_seed", "3"])
    wait_for(lambda: bench.started and bench.started[-1] != 16)
    pid = started_waiting(bench, len(bench.started))
    stopped_at = bench.started
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130, bench.output
    assert not is_alive(pid)
    assert bench.measured == stopped_at[:-1]
    (failure,) = bench.failed
    assert (failure.status, failure.batch_size) == ("interrupted", stopped_at[-1])
    assert failure.epoch_times_json == (FIRST_SEC, EPOCH_SEC)
    last = bench.output.splitlines()[-1]
    assert f"{len(stopped_at) - 1} of 3 runs measured" in last
    assert "1 interrupted" in last
    assert "interrupted: the same command goes on from here" in last
    assert "Traceback" not in bench.output
    bench.gate.touch()
    assert bench.call(*behaviour, flags=GATED) == 0, bench.output
    assert sorted(bench.measured) == [16, 32, 64]
    assert len(bench.failed) == 1


def test_ctrl_c_that_comes_as_a_run_finishes_keeps_its_row_and_stops_the_grid(bench):
    process = bench.start("interrupt-parent-and-finish", flags=GATED)
    assert process.wait(60) == 130, bench.output
    assert len(bench.rows) == len(bench.started) == 1
    assert bench.failed == []
    assert "interrupted: the same command goes on from here" in bench.output


def test_a_killed_grid_takes_its_child_along_and_goes_on_without_loss(bench):
    behaviour = ["16=ok,32=gate,64=gate", str(bench.gate)]
    process = bench.start(*behaviour, flags=GATED)
    wait_for(lambda: bench.started and bench.started[-1] != 16)
    pid = started_waiting(bench, len(bench.started))
    done = list(bench.measured)
    process.kill()
    process.wait(30)
    if sys.platform.startswith("linux"):
        wait_for(lambda: not is_alive(pid), seconds=10)
    assert bench.measured == done
    bench.gate.touch()
    bench.trace.unlink()
    assert bench.call(*behaviour, flags=GATED) == 0, bench.output
    assert sorted(bench.measured) == [16, 32, 64]
    assert sorted(bench.started) == sorted({16, 32, 64} - set(done))


def measuring_child(parent):
    """The process id of the real measuring process that `parent` started, None while there is none."""
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with contextlib.suppress(OSError):
            if b"measure.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    return None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the child under /proc")
def test_ctrl_c_ends_the_real_command_while_its_child_starts(bench):
    process = subprocess.Popen(
        [sys.executable, str(CODE_ROOT / "collect" / "run_grid.py"), *SMALL, "--device", "cpu", *GATED],
        cwd=bench.folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        child = wait_for(lambda: measuring_child(process.pid))
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert not is_alive(child)
    assert [failure.status for failure in bench.failed] == ["interrupted"]
    assert "0 of 3 runs measured" in output.splitlines()[-1]
    assert bench.rows == []


# --- two at once ------------------------------------------------------------------------------------------------------


def raw_lines(bench):
    text = bench.runs.read_text()
    assert text.endswith("\n")
    return text.splitlines()


def test_two_grids_append_to_one_table_without_a_torn_or_doubled_row(bench):
    sizes = ["16,32,64", "128,256,512"]
    processes = [bench.start("ok", flags=["--batch_size", part]) for part in sizes]
    assert [process.wait(60) for process in processes] == [0, 0], bench.output
    assert sorted(bench.measured) == [16, 32, 64, 128, 256, 512]
    assert len({row.grid_id for row in bench.rows}) == 2
    assert len(raw_lines(bench)) == 1 + 6


def test_the_same_grid_started_twice_measures_each_run_once(bench):
    """In the same order, so that both want the same run at the same time."""
    flags = ["--batch_size", "16,32,64,128"]
    processes = [bench.start("ok", flags=flags) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0], bench.output
    assert sorted(bench.measured) == [16, 32, 64, 128]
    assert sorted(bench.started) == [16, 32, 64, 128]
    assert len(raw_lines(bench)) == 1 + 4


def test_runs_that_another_process_finished_meanwhile_are_left_to_it(bench):
    waiting = [lambda: bench.measure("ok", report=lambda line: None)]

    def say(line):
        bench.said.append(line)
        if waiting:  # this grid has just read the table; another one measures everything before it begins
            waiting.pop()()

    result = bench.measure("ok", report=say)
    assert (len(result.measured), result.n_elsewhere) == (0, 3)
    assert sorted(bench.measured) == sorted(bench.started) == [16, 32, 64]
    assert "0 of 3 runs measured" in bench.said[-1]
    assert "3 left to another process" in bench.said[-1]


def test_a_kept_row_and_a_grid_that_starts_beside_it_do_not_double_it(bench):
    bench.measure("ok", batch_sizes=(16,))
    (row,) = bench.rows
    for _ in range(2):
        assert recover(bench.runs, bench.log_dir).appended == []
        bench.measure("ok", batch_sizes=(16,))
    assert bench.rows == [row]


def test_a_grid_of_more_than_ten_thousand_configurations_is_refused_at_once(capsys):
    with pytest.raises(SystemExit) as end:
        grid.main(["--depth", "1:16", "--base_filters", "1:1000", "--batch_size", "1:1000", "--dry_run"])
    assert end.value.code == 2
    assert "a grid of 16,000,000 configurations: at most 10,000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--repeats", "1001"], "argument --repeats: at most 1,000, got '1001'"),
        (["--batch_size", "1:200", "--repeats", "1000"], "200,000 runs: at most 100,000 are taken. Lower --repeats"),
    ],
)
def test_more_repeats_than_anybody_waits_for_are_refused_at_once(flags, words, capsys):
    with pytest.raises(SystemExit) as end:
        grid.main([*flags, "--dry_run"])
    assert end.value.code == 2
    assert f"error: {words}" in capsys.readouterr().err


# --- runs that something disturbed ------------------------------------------------------------------------------------

STALLED, CALM = "0.004,0.002,0.002,0.009,0.002", "0.004,0.002,0.002,0.002,0.002"


def test_a_flagged_run_is_measured_once_more_and_both_rows_stay(bench):
    result = bench.measure("times", STALLED, batch_sizes=(16,), repeats_flagged=True)
    first, second = bench.rows
    assert second.run_id == f"{first.run_id}-again"
    assert "stalled" in first.flags and "stalled" in second.flags  # and not a third time
    assert result.measured == [first, second]
    assert re.search(r"1 of 1 runs measured and 1 once more in .*, 2 flagged \(stalled 2\)", bench.said[-1])


def test_what_would_come_out_the_same_is_not_measured_again(bench):
    bench.measure("times", CALM, batch_sizes=(16,), repeats_flagged=True)
    assert [row.flags for row in bench.rows] == [()]
    bench.measure("nan", batch_sizes=(32,), repeats_flagged=True)
    assert [row.flags for row in bench.rows] == [(), ("diverged",)]


def test_flagged_runs_are_kept_as_they_are_where_that_is_asked_for(bench):
    assert bench.call("times", STALLED, flags=["--batch_size", "16", "--keep_flagged"]) == 0, bench.output
    assert bench.measured == [16]
    assert bench.call("times", CALM, flags=["--batch_size", "16"]) == 0, bench.output
    assert bench.measured == [16, 16]  # a later call measures it again
    assert bench.call("times", CALM, flags=["--batch_size", "16"]) == 0, bench.output
    assert bench.measured == [16, 16]
    assert "nothing left to measure" in bench.output


def test_the_second_run_comes_after_all_others(bench):
    bench.measure("16=times,32=ok,64=ok", STALLED, repeats_flagged=True)
    assert bench.started[-1] == 16
    assert Counter(bench.started) == {16: 2, 32: 1, 64: 1}


def test_no_run_begins_after_the_time_given(bench):
    result = bench.measure("ok", limits=Limits(begin_sec=0.0))
    assert (result.measured, bench.started) == ([], [])
    assert bench.said[-1].startswith("0 of 3 runs measured")
    assert len(bench.measure("ok", limits=Limits(begin_sec=60.0)).measured) == 3
