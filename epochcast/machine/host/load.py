"""How much of this box's processor other programs take while a run is measured."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from epochcast.machine.host.host import ask_psutil, of_usable_cores

BUSY = ("user", "nice", "system", "irq", "softirq", "steal")  # as psutil names what a core's time goes to; not all have
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
    return ask_psutil(lambda psutil: _times(psutil, own_sessions))


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


def _times(psutil: Any, own_sessions: Collection[int]) -> HostCpu | None:  # Any: the module, which has no types
    at_sec = time.monotonic()
    cores = of_usable_cores(psutil.cpu_times(percpu=True))
    busy_sec = sum(getattr(core, name, 0.0) for core in cores for name in BUSY)
    return HostCpu(at_sec, busy_sec, _own_sec(psutil, own_sessions)) if busy_sec else None


def _own_sec(psutil: Any, own_sessions: Collection[int]) -> float:  # Any: as above
    """Return the processor time of our own living processes, and (on Linux) of children that they waited for."""
    own = {each.pid: each for each in psutil.Process().children(recursive=True)} | {os.getpid(): psutil.Process()}
    for pid in psutil.pids() if own_sessions else ():
        with contextlib.suppress(psutil.NoSuchProcess, OSError):  # it ended meanwhile, or is not ours to see
            if pid not in own and os.getsid(pid) in own_sessions:  # psutil knows no sessions
                process = psutil.Process(pid)
                own |= {each.pid: each for each in [process, *process.children(recursive=True)]}
    return sum(_cpu_sec(psutil, process) for process in own.values())


def _cpu_sec(psutil: Any, process: Any) -> float:  # Any: as above
    try:
        return float(sum(process.cpu_times()[:4]))  # user, system, and the same of its children that ended
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0
