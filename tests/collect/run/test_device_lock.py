"""One run at a time on a device, whichever homes they are of: who waits, how long, and what a kill frees."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter

import pytest

from epochcast.collect import run_one
from epochcast.collect.run import child, device_lock
from epochcast.collect.run.device_lock import WAITING, DeviceBusyError, Sharing, device_access, device_key
from epochcast.collect.run.listener import ignore
from epochcast.collect.run.place import RunPlace
from epochcast.collect.run.runner import run
from epochcast.paths import locks_dir
from epochcast.planner import demo, run_plan
from epochcast.schema import FailureRecord, RunRecord
from epochcast.storage import locks
from epochcast.storage.tables import read_table
from tests.support.light_child import (
    command,
    environment,
    isolate,
    light_spec,
    run_grid_command,
    run_one_command,
    starts,
    wait_for,
)
from tests.support.machines.boxes import Board, plug_in, uuid_of

SMALL = ["--depth", "1", "--base_filters", "2", "--train_n", "1000", "--dataset", "synthetic"]
SMALL += ["--epochs", "4", "--device", "cpu"]


class Home:
    """A home of its own; all share the folder of locks."""

    def __init__(self, folder):
        self.folder, self.trace, self.gate = folder, folder / "trace", folder / "gate"
        self.runs, self.log_dir = folder / "results" / "runs.csv", folder / "logs"
        folder.mkdir(exist_ok=True)

    def start(self, *behaviour, flags=(), of=run_one_command):
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                of(*behaviour, flags=[*SMALL, *flags]),
                env=environment(EPOCHCAST_HOME=str(self.folder), LIGHT_CHILD_TRACE=str(self.trace)),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_at_the_gate(self, run_id="first"):
        process = self.start("gate", str(self.gate), flags=["--run_id", run_id])
        wait_for(lambda: self.n_started == 1)
        return process

    @property
    def output(self):
        return (self.folder / "output").read_text()

    @property
    def n_started(self):
        return len(starts(self.trace))

    @property
    def rows(self):
        return read_table(self.runs, RunRecord) if self.runs.exists() else []


@pytest.fixture
def homes(tmp_path, monkeypatch):
    isolate(monkeypatch, tmp_path, tmp_path / "trace")
    return [Home(tmp_path / str(i)) for i in range(3)]


def test_a_second_run_waits_for_the_first_and_says_for_whom(homes):
    one, two, _ = homes
    first = one.start_at_the_gate("my-first")
    second = two.start("ok")
    wait_for(lambda: "another run is on this device" in two.output)
    assert f"(pid {first.pid}, run_id my-first): waiting for it, at most 1 h 00 min" in two.output
    time.sleep(0.3)
    assert two.n_started == 0
    one.gate.touch()
    assert [first.wait(30), second.wait(30)] == [0, 0]
    assert (one.rows[0].flags, two.rows[0].flags) == ((), ()) or "busy_host" in (*one.rows[0].flags, *two.rows[0].flags)
    assert "another run" not in one.output


def test_a_killed_holder_frees_the_device_at_once(homes):
    one, two, _ = homes
    first = one.start_at_the_gate()
    second = two.start("ok")
    wait_for(lambda: "another run is on this device" in two.output)
    first.kill()
    killed_at = time.monotonic()
    first.wait(10)
    wait_for(lambda: two.n_started == 1)
    assert time.monotonic() - killed_at < 5
    assert second.wait(30) == 0, two.output


@contextlib.contextmanager
def held_by_us(run_id="long"):
    """The processor, held as by a run of this process."""
    with device_access("cpu", run_id, WAITING, ignore, []) as access:
        assert not access.is_shared
        yield f"another run is on this device (pid {os.getpid()}, run_id {run_id})"


def test_who_waits_can_be_stopped_at_once_and_nothing_is_measured(homes):
    _, two, _ = homes
    with held_by_us() as words:
        second = two.start("ok")
        wait_for(lambda: words in two.output)
        stopped_at = time.monotonic()
        os.killpg(second.pid, signal.SIGINT)
        assert second.wait(10) == 130
        assert time.monotonic() - stopped_at < 3
    assert (two.n_started, two.rows) == (0, [])
    assert "error: the run ended as interrupted" in two.output
    assert "Traceback" not in two.output


def measure_in_our_home(home, monkeypatch, *flags):
    """Run the command in this process, with a light child; its exit code."""
    isolate(monkeypatch, home.folder, home.trace)
    monkeypatch.setattr(child, "CHILD", command("ok"))
    return run_one.main([*SMALL, *flags])


def test_the_wait_has_an_end_that_names_both_ways_out(homes, monkeypatch, capsys):
    _, two, _ = homes
    with held_by_us() as words:
        assert measure_in_our_home(two, monkeypatch, "--wait", "1s") == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {words} still after 1 s. Wait longer (--wait TIME), or measure all the same, flagged (--share_device)."
    )
    assert (two.n_started, two.rows) == (0, [])


def test_a_shared_device_is_measured_on_at_once_and_the_row_is_flagged(homes, monkeypatch, capsys):
    _, two, _ = homes
    with held_by_us() as words:
        assert measure_in_our_home(two, monkeypatch, "--share_device") == 0
    printed = "".join(capsys.readouterr())
    assert f"{words}: measured all the same, as --share_device asks for, and flagged" in printed
    assert "busy_host" in two.rows[0].flags  # on a processor; on a GPU it is shared_gpu


def test_two_grids_of_two_homes_take_turns(homes):
    one, two, _ = homes
    sizes = ["--batch_size", "16,32", "--keep_flagged"]
    processes = [home.start("lasting", "0.6", flags=sizes, of=run_grid_command) for home in (one, two)]
    assert [process.wait(60) for process in processes] == [0, 0], one.output + two.output
    ends = sorted((row.timestamp_utc, home) for home, rows in ((1, one.rows), (2, two.rows)) for row in rows)
    assert Counter(home for _, home in ends) == {1: 2, 2: 2}
    for home, process in ((one, processes[1]), (two, processes[0])):
        assert f"another run is on this device (pid {process.pid}" in home.output


# --- within one process -----------------------------------------------------------------------------------------------


def held(device="cpu", said=None):
    lines = [] if said is None else said
    return device_access(device, "r", Sharing(wait_sec=0.1), lines.append, [])


@pytest.fixture
def gpu_box(monkeypatch, tmp_path):
    """A box with two GPUs; the driver is faked at the edge of its Python package."""
    plug_in(monkeypatch, tmp_path, [Board("NVIDIA H200"), Board("NVIDIA L4")])


def test_processor_and_gpus_are_different_devices_and_one_gpu_is_one_by_any_name(gpu_box, monkeypatch):
    monkeypatch.setattr(device_lock, "NOTICE_SEC", 0.0)
    with held("cpu"), held("gpu:0"), held("gpu:1"):
        for same in ("auto", "gpu", "gpu:0", uuid_of(1), "cpu"):
            with pytest.raises(DeviceBusyError), held(same):
                pass
    with held("auto"), held(uuid_of(1)):  # all are free again
        pass


def test_the_processor_is_named_by_itself_and_a_gpu_by_its_uuid(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, [Board("NVIDIA H200"), Board("NVIDIA L4")])
    assert (device_key("cpu"), device_key("auto"), device_key("gpu:1")) == ("cpu", uuid_of(0), uuid_of(1))
    lost = RuntimeError("driver/library mismatch")
    plug_in(monkeypatch, tmp_path, [Board("NVIDIA H200", uuid=lost), Board("NVIDIA H200", uuid=lost)])
    assert device_key("auto") == device_key("gpu:0") == "NVIDIA H200 0" != device_key("gpu:1")
    plug_in(monkeypatch, tmp_path)
    assert device_key("auto") == "cpu"


def test_where_the_file_system_has_no_locks_it_is_said_and_the_run_goes_on(tmp_path, monkeypatch, caplog):
    def no_locks(descriptor, path, is_shared=False):
        raise locks.NoLocksError(errno.ENOLCK, "this file system has no locks", str(path))

    monkeypatch.setattr(device_lock, "try_lock", no_locks)
    with held() as access, held():
        assert not access.is_shared
    assert "no lock on the device, another run on it would not be noticed" in caplog.text


@pytest.mark.parametrize("kind", ["written by others", "a file", "a link"])
def test_a_folder_of_locks_that_is_not_ours_alone_is_not_used(tmp_path, monkeypatch, caplog, kind):
    folder = tmp_path / "locks"
    if kind == "a file":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    if kind == "a link":
        (tmp_path / "link").symlink_to(folder)
        folder = tmp_path / "link"
    monkeypatch.setenv("EPOCHCAST_LOCK_DIR", str(folder))
    with held(), held():
        pass
    assert "no lock on the device" in caplog.text


def test_whatever_the_holder_said_of_itself_the_wait_is_reported_in_a_line(monkeypatch):
    monkeypatch.setattr(device_lock, "NOTICE_SEC", 0.0)
    contents = [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff" * 2000, b'{"pid": 1, "run_id": "a\\u001b[31m"}']
    for content in contents:
        lines = []
        with held():
            (path,) = locks_dir().glob("*.lock")
            path.write_bytes(content)
            with pytest.raises(DeviceBusyError) as refused, held(said=lines):
                pass
        assert "\x1b" not in str(refused.value) and "\n" not in str(refused.value)
        assert len(lines) == 1 and "\x1b" not in lines[0] and "\n" not in lines[0]


def test_a_wait_that_is_interrupted_leaves_a_failure_that_is_repeated(tmp_path, monkeypatch):
    isolate(monkeypatch, tmp_path, tmp_path / "trace")
    interrupts = []
    threading.Timer(0.2, lambda: interrupts.append(2)).start()
    with held():
        outcome = run(
            light_spec(device="cpu"),
            "a",
            RunPlace(tmp_path / "runs.csv", tmp_path / "logs", child=command("ok")),
            interrupts=interrupts,
        )
    assert isinstance(outcome, FailureRecord)
    assert (outcome.status, outcome.epoch_times_json) == ("interrupted", ())
    assert starts(tmp_path / "trace") == []
    assert json.loads((tmp_path / "logs" / "a.txt").read_text().partition("FAILED: ")[2])["run_id"] == "a"


@pytest.mark.parametrize("main", [run_one.main, run_plan.main, demo.main])
def test_every_command_that_measures_explains_both_flags(main, capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--wait TIME" in text and "e.g. 90s or 2h (default: 1h)" in text
    assert "--share_device" in text
