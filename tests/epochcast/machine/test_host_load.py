"""What other programs take of the processor: a real one that competes, and made-up files of the kernel."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from epochcast.machine import host_load
from epochcast.machine.host_load import HostCpu, host_cpu_times, is_busy_host, other_cores

NEEDS_PROC = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="this system has no /proc/stat")
WINDOW_SEC = 1.5
# says its session, works, and says which share of a core it got: on a busy box that may be little
BURN = """
import os, sys, time
print(os.getsid(0), flush=True)
start = time.monotonic()
while time.monotonic() < start + float(sys.argv[1]): pass
print(time.process_time() / (time.monotonic() - start), flush=True)
"""
# ends at once, so that what it started is nobody's child any more
LAUNCH = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', *sys.argv[1:]], start_new_session=True)"


@contextlib.contextmanager
def burner(sec, is_detached=False):
    """A process that works for `sec`: its session, and a function that gives its share of a core once it has ended."""
    program = [LAUNCH, BURN] if is_detached else [BURN]
    command = [sys.executable, "-c", *program, str(sec)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        if is_detached:
            process.wait()
        yield int(process.stdout.readline()), lambda: float(process.stdout.readline())


def cores_of(before, after):
    cores = other_cores(before, after)
    assert cores is not None
    return cores


@NEEDS_PROC
def test_a_program_that_competes_is_seen_as_another_s_work():
    """Claimed as our own in the same moment it is not: the difference is the program, whatever else this box does."""
    with burner(WINDOW_SEC + 0.3, is_detached=True) as (session, share):
        before, before_claimed = host_cpu_times(), host_cpu_times((session,))
        time.sleep(WINDOW_SEC)
        after, after_claimed = host_cpu_times(), host_cpu_times((session,))
        got = share()
    as_another, as_our_own = cores_of(before, after), cores_of(before_claimed, after_claimed)
    assert as_another - as_our_own >= min(0.3, 0.7 * got)
    assert as_another >= 0.7 * got
    assert is_busy_host(as_another, 2, "cpu") or got < 0.3  # then others hardly let it work


@NEEDS_PROC
def test_the_work_of_our_own_child_is_not_taken_for_another_s():
    with burner(WINDOW_SEC + 0.3) as (_, share):
        before, start = host_cpu_times(), time.monotonic()
        time.sleep(WINDOW_SEC)
        after, end = host_cpu_times(), time.monotonic()
        got = share()
    assert before is not None and after is not None
    own_cores = (after.own_sec - before.own_sec) / (end - start)
    busy_cores = (after.busy_sec - before.busy_sec) / (end - start)
    assert own_cores == pytest.approx(got, abs=0.25)
    assert cores_of(before, after) == pytest.approx(max(0, busy_cores - own_cores), abs=0.05)


@NEEDS_PROC
def test_the_work_of_a_child_that_has_ended_stays_our_own():
    before = host_cpu_times()
    with burner(0.5) as (_, share):
        got = share()
    after = host_cpu_times()
    assert before is not None and after is not None
    assert after.own_sec - before.own_sec >= 0.8 * 0.5 * got


# --- made-up files of the kernel --------------------------------------------------------------------------------------


@pytest.fixture
def proc(tmp_path, monkeypatch):
    monkeypatch.setattr(host_load, "PROC", tmp_path)
    monkeypatch.setattr(host_load, "usable_cores", lambda: {0, 2})
    return tmp_path


def put_process(proc, pid, parent, session, ticks, name="python"):
    (proc / str(pid)).mkdir(exist_ok=True)
    utime, stime, cutime, cstime = ticks
    text = f"{pid} ({name}) S {parent} {pid} {session} 0 -1 4194560 1 2 3 4 {utime} {stime} {cutime} {cstime} 20 0 1 0"
    (proc / str(pid) / "stat").write_text(text)


def test_busy_time_is_of_our_cores_and_counts_what_other_guests_of_the_machine_steal(proc):
    # user nice system idle iowait irq softirq steal guest guest_nice; guest is a part of user
    (proc / "stat").write_text(
        "cpu  9999 9999 9999 9999 9999 0 0 0 0 0\n"
        "cpu0 100 10 20 5000 700 1 2 4 50 0\n"
        "cpu1 5000 0 0 0 0 0 0 0 0 0\n"
        "cpu2 200 0 0 5000 0 0 0 0 0 0\n"
        "intr 12345\nbtime 1700000000\n"
    )
    times = host_cpu_times()
    assert times is not None
    assert times.busy_sec * os.sysconf("SC_CLK_TCK") == pytest.approx(137 + 200)


def test_our_own_are_this_process_its_descendants_and_its_children_s_sessions(proc):
    (proc / "stat").write_text("cpu0 1 0 0 0 0 0 0 0\n")
    me = os.getpid()
    put_process(proc, me, 1, 1, (1, 2, 4, 8))
    put_process(proc, me + 1, me, me + 1, (16, 0, 0, 0), name="a) R 1 (b")
    put_process(proc, me + 2, me + 1, me + 1, (32, 0, 0, 0))
    put_process(proc, me + 3, 1, me + 1, (64, 0, 0, 0))  # left behind by the child: only its session tells
    put_process(proc, me + 4, 1, 1, (128, 0, 0, 0))
    (proc / str(me + 5)).mkdir()  # it ended while we looked
    (proc / "self").mkdir()
    ticks_of = {(): 1 + 2 + 4 + 8 + 16 + 32, (me + 1,): 1 + 2 + 4 + 8 + 16 + 32 + 64}
    for sessions, ticks in ticks_of.items():
        times = host_cpu_times(sessions)
        assert times is not None
        assert times.own_sec * os.sysconf("SC_CLK_TCK") == pytest.approx(ticks)


@pytest.mark.parametrize(
    "text",
    [None, "", "cpu0 0 0 0 0 0 0 0 0\ncpu2 0 0 0 0 0 0 0 0\n", "cpu1 5 5 5 5 5 5 5 5\n", "cpu0 many\n", "cpu0\n"],
    ids=["missing", "empty", "zeros", "other-cores", "not-numbers", "no-numbers"],
)
def test_a_kernel_that_does_not_count_is_unknown_not_idle(proc, text):
    if text is not None:
        (proc / "stat").write_text(text)
    assert host_cpu_times() is None
    assert other_cores(host_cpu_times(), host_cpu_times()) is None


@pytest.mark.parametrize(
    ("elapsed", "busy", "own", "others"),
    [
        (10, 12, 9, 0.3),
        (10, 9, 9.05, 0),  # ticks
        (10, 0, 0, 0),
        (10, 0, 9, None),  # blind to our own work: nor does it see others'
        (10, 5, 9, None),
        (10, -1, 0, None),  # a core was taken away
        (10, 5, -1, None),
        (0.1, 0.1, 0, None),  # over too short a time to tell
    ],
)
def test_others_are_what_is_busy_and_not_our_own(elapsed, busy, own, others):
    before, after = HostCpu(100, 1000, 500), HostCpu(100 + elapsed, 1000 + busy, 500 + own)
    found = other_cores(before, after)
    assert found is None if others is None else found == pytest.approx(others)
    assert other_cores(None, after) is other_cores(before, None) is None


def test_a_run_on_the_processor_is_spoiled_sooner_than_one_on_a_gpu():
    assert not is_busy_host(0.19, 2, "cpu")
    assert is_busy_host(0.21, 2, "cpu")
    assert not is_busy_host(0.99, 2, "gpu")
    assert is_busy_host(1.01, 2, "gpu")
    assert not is_busy_host(None, 2, "cpu")
