"""What other programs take of the processor: a real one that competes, and psutil faked at its edge."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from epochcast.machine.host import host
from epochcast.machine.host.load import HostCpu, host_cpu_times, is_busy_host, other_cores

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


@pytest.mark.skipif(not psutil.LINUX, reason="psutil knows of ended children on Linux alone")
def test_the_work_of_a_child_that_has_ended_stays_our_own():
    before = host_cpu_times()
    with burner(0.5) as (_, share):
        got = share()
    after = host_cpu_times()
    assert before is not None and after is not None
    assert after.own_sec - before.own_sec >= 0.8 * 0.5 * got


# --- psutil, faked at its edge ----------------------------------------------------------------------------------------

CORE = SimpleNamespace(
    user=1.0, nice=0.1, system=0.2, idle=50.0, iowait=7.0, irq=0.01, softirq=0.02, steal=0.04, guest=0.5, guest_nice=0.0
)
MAC_CORE = SimpleNamespace(user=3.0, nice=0.5, system=1.0, idle=90.0)


class Processes:
    """What psutil and the kernel say of the processes of a box: id -> parent, session, seconds as psutil has them."""

    def __init__(self, processes):
        self.processes, self.errors, self.is_hidden = processes, {}, False
        listed = self

        class Process:
            def __init__(self, pid=None):
                self.pid = os.getpid() if pid is None else pid
                if self.pid not in listed.processes:
                    raise psutil.NoSuchProcess(self.pid)

            def children(self, recursive=False):
                if listed.is_hidden:
                    raise psutil.AccessDenied(1)
                own = [Process(pid) for pid, (parent, _, _) in listed.processes.items() if parent == self.pid]
                return own + [below for child in own for below in child.children(recursive)] * recursive

            def cpu_times(self):
                if self.pid in listed.errors:
                    raise listed.errors[self.pid]
                return listed.processes[self.pid][2]

        self.Process = Process

    def pids(self):
        return [*self.processes, 10**7]  # the last ended while we looked

    def getsid(self, pid):
        if pid not in self.processes:
            raise ProcessLookupError(3, "No such process")
        return self.processes[pid][1]


@pytest.fixture
def box(tmp_path, monkeypatch):
    """A function that makes up the processes and cores of a box by psutil; this process may use cores 0 and 2 of 3."""
    monkeypatch.setattr(host, "usable_cores", lambda: {0, 2})
    monkeypatch.setattr(host, "ROOT", tmp_path)
    (online := tmp_path / "sys/devices/system/cpu/online").parent.mkdir(parents=True)
    online.write_text("0-2\n")

    def make(cores, processes=()):
        listed = Processes(dict(processes) or {os.getpid(): (1, 1, (0.0,) * 5)})
        monkeypatch.setattr(psutil, "cpu_times", lambda percpu: cores if percpu else cores[0])
        for name in ("Process", "pids"):
            monkeypatch.setattr(psutil, name, getattr(listed, name))
        monkeypatch.setattr(os, "getsid", listed.getsid)
        return listed

    return make


def test_busy_time_is_of_our_cores_and_counts_what_other_guests_of_the_machine_steal(box):
    other = SimpleNamespace(**vars(CORE) | {"user": 50.0})
    box([CORE, other, SimpleNamespace(**vars(CORE) | {"user": 2.0})])
    times = host_cpu_times()
    assert times is not None
    assert times.busy_sec == pytest.approx(1.37 + 2.37)  # guests' time is a part of the user's


def test_a_mac_s_cores_have_fewer_kinds_of_time_and_are_known_all_the_same(box):
    box([MAC_CORE, MAC_CORE])
    times = host_cpu_times()
    assert times is not None
    assert (times.busy_sec, times.own_sec) == (9.0, 0.0)


def family():
    me = os.getpid()
    return me, {
        me: (1, 1, (1.0, 2.0, 4.0, 8.0, 500.0)),  # user, system, and the same of children that ended; then waiting
        me + 1: (me, me + 1, (16.0, 0.0, 0.0, 0.0, 0.0)),
        me + 2: (me + 1, me + 1, (32.0, 0.0, 0.0, 0.0, 0.0)),
        me + 3: (1, me + 1, (64.0, 0.0, 0.0, 0.0, 0.0)),  # left behind by the child: only its session tells
        me + 4: (me + 3, me + 4, (128.0, 0.0, 0.0, 0.0, 0.0)),  # started by that one
        me + 5: (1, 1, (256.0, 0.0, 0.0, 0.0, 0.0)),
    }


def own_sec(sessions=()):
    times = host_cpu_times(sessions)
    return None if times is None else times.own_sec


def test_our_own_are_this_process_its_descendants_and_its_children_s_sessions(box):
    me, processes = family()
    box([CORE, CORE], processes)
    assert own_sec() == 1 + 2 + 4 + 8 + 16 + 32
    assert own_sec((me + 1,)) == 1 + 2 + 4 + 8 + 16 + 32 + 64 + 128


@pytest.mark.parametrize("error", [psutil.NoSuchProcess(1), psutil.ZombieProcess(1), psutil.AccessDenied(1)])
def test_a_child_that_ended_meanwhile_or_may_not_be_seen_takes_nothing_else_with_it(box, error):
    me, processes = family()
    box([CORE, CORE], processes).errors[me + 2] = error
    assert own_sec((me + 1,)) == 1 + 2 + 4 + 8 + 16 + 64 + 128


def test_a_kernel_that_hides_processes_leaves_others_unknown_and_not_the_more(box):
    """With /proc mounted hidepid=1, psutil can't find our children: their work would pass for another's."""
    box([CORE, CORE], family()[1]).is_hidden = True
    assert host_cpu_times() is None


ZERO = SimpleNamespace(user=0.0, nice=0.0, system=0.0, idle=0.0)


@pytest.mark.parametrize(
    "cores", [[], [ZERO, ZERO], [CORE], [CORE] * 4], ids=["none", "zeros", "other-cores", "more-than-there-are"]
)
def test_a_kernel_that_does_not_count_is_unknown_not_idle(box, cores):
    box(cores)
    assert host_cpu_times() is None
    assert other_cores(host_cpu_times(), host_cpu_times()) is None


@pytest.mark.parametrize("error", [FileNotFoundError(2, "none"), PermissionError(13, "no"), ValueError("cpu0 many")])
def test_cores_that_can_t_be_read_are_unknown(box, monkeypatch, error):
    def fail(percpu):
        raise error

    box([CORE, CORE])
    monkeypatch.setattr(psutil, "cpu_times", fail)
    assert host_cpu_times() is None


@pytest.mark.skipif(not psutil.LINUX, reason="psutil reads no /proc there")
@pytest.mark.parametrize("text", [None, "", "cpu0 many\n", "cpu0\n"], ids=["missing", "empty", "words", "no-numbers"])
def test_psutil_itself_without_proc_or_with_a_sandbox_s_leaves_it_unknown(tmp_path, monkeypatch, text):
    if text is not None:
        (tmp_path / "stat").write_text(text)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert host_cpu_times() is None


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
