"""How much of this box's processor other programs take while a run is measured."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from epochcast.machine.host import usable_cores

PROC = Path("/proc")
# Share of the cores' time that others may take. A run on the processor competes for every core: 10 % is far above what
# an idle system's own services take, and is already felt. A GPU's run needs the host only to feed it: half is enough.
BUSY_SHARE = {"cpu": 0.10, "gpu": 0.50}
MIN_WINDOW_SEC = 0.2  # the kernel counts in ticks of 10 ms per core: over less time they are all there is to see
_TICK_SEC = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class HostCpu:
    """Processor time used so far; only differences of two mean something."""

    at_sec: float  # time.monotonic
    busy_sec: float  # of the cores that this process may use, by whomever, also other guests of the machine (steal)
    own_sec: float  # of this process, its descendants, and the sessions that are its own


def host_cpu_times(own_sessions: Collection[int] = ()) -> HostCpu | None:
    """Processor time used so far; None where the kernel does not tell, or only zeros.

    `own_sessions` are the process ids of children that lead a session: what they leave behind is still our own.
    """
    at_sec = time.monotonic()
    try:
        busy_sec = _busy_sec()
        return None if busy_sec is None else HostCpu(at_sec, busy_sec, _own_sec(own_sessions))
    except (OSError, ValueError):
        return None


def other_cores(before: HostCpu | None, after: HostCpu | None) -> float | None:
    """Cores that others kept busy between two moments, on average; None where that can't be told."""
    if before is None or after is None:
        return None
    elapsed = after.at_sec - before.at_sec
    busy, own = after.busy_sec - before.busy_sec, after.own_sec - before.own_sec
    # a kernel that shows another machine's counters (a sandbox), or whose cores come and go, does not see our own work
    is_blind = busy < 0 or own < 0 or own - busy > max(10 * _TICK_SEC, 0.2 * own)
    if elapsed < MIN_WINDOW_SEC or is_blind:
        return None
    return max(0.0, busy - own) / elapsed


def is_busy_host(others: float | None, cores: float, device_kind: str) -> bool:
    """Whether `others` cores in use by other programs spoil a run on a `cpu` or a `gpu`; unknown spoils nothing."""
    return others is not None and others > BUSY_SHARE[device_kind] * cores


def _busy_sec() -> float | None:
    """Busy time of the cores that this process may use, by the `cpuN` lines of /proc/stat (proc(5))."""
    lines = (PROC / "stat").read_text().splitlines()
    usable = usable_cores()
    cores = [[int(ticks) for ticks in line.split()[1:9]] for line in lines if _core_of(line) in usable]
    if not any(any(ticks) for ticks in cores):
        return None  # no such line, or a kernel that does not count
    idle, iowait = 3, 4
    return sum(sum(ticks) - ticks[idle] - sum(ticks[iowait : iowait + 1]) for ticks in cores) * _TICK_SEC


def _core_of(line: str) -> int | None:
    word = line.partition(" ")[0]
    return int(word[3:]) if word.startswith("cpu") and word[3:].isdecimal() else None


def _own_sec(own_sessions: Collection[int]) -> float:
    """Processor time of our own living processes, and of the children that they have waited for."""
    processes = {pid: (parent, session, sec) for pid, parent, session, sec in _processes()}
    own = {pid for pid, (_, session, _) in processes.items() if pid == os.getpid() or session in own_sessions}
    while grown := {pid for pid, (parent, _, _) in processes.items() if parent in own} - own:
        own |= grown
    return sum(processes[pid][2] for pid in own)


def _processes() -> Iterator[tuple[int, int, int, float]]:
    """Process id, parent, session and processor seconds of every process that can be seen."""
    folder = str(PROC)
    for name in os.listdir(folder):  # noqa: PTH208  # with Path objects a call takes twice as long
        if not name.isdecimal():
            continue
        try:
            with open(f"{folder}/{name}/stat", "rb", buffering=0) as file:  # noqa: PTH123  # as above
                fields = file.read().rpartition(b")")[2].split()  # the command's name before it may hold anything
            seconds = sum(map(int, fields[11:15])) * _TICK_SEC  # utime, stime, cutime, cstime
            yield int(name), int(fields[1]), int(fields[3]), seconds
        except (OSError, ValueError, IndexError):
            continue  # it ended meanwhile, or is not ours to see
