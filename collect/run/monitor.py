"""What goes on beside a run while it is timed, seen from the parent: power, clocks, neighbours, the host's load.

The measuring process is left alone: it tells when its epochs began and ended, by a clock that both processes read.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from epochcast.collect.run.child import ChildReport
from epochcast.energy.meter import PowerMeter
from epochcast.energy.reading import EnergyReading
from epochcast.facts.assumptions import device_kind_of
from epochcast.machine.environment import snapshot
from epochcast.machine.gpu.vendor import Driver, GpuSensors
from epochcast.machine.gpu_driver import device_of, driver_problem, gpu_of, open_driver
from epochcast.machine.gpu_snapshot import driver_snapshot
from epochcast.machine.host.host import cpu_count, cpu_quota_cores, memory_bytes
from epochcast.machine.host.load import HostCpu, host_cpu_times, is_busy_host, other_cores
from epochcast.schema import WARMUP_EPOCHS, RunSpec

HOST_PERIOD_SEC = 0.5
PATIENCE_SEC = 2.0  # with a driver that does not answer
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Observations:
    """What a watch saw: columns of the row, its flags, and the environment before and after, for the JSON."""

    columns: dict[str, Any] = field(default_factory=dict)
    flags: frozenset[str] = frozenset()
    environment: dict[str, Any] = field(default_factory=dict)


class Watch:
    """A `with` block around one run: `started` and `take` hear of the child, `observations` are what was seen.

    Args:
        spec: what is run; a run on the processor leaves GPUs alone.
        checkpoint: where the energy counter is noted at the end of every epoch, in case this process dies.
        is_shared: whether another run is on the device, which the row is flagged for.
    """

    def __init__(self, spec: RunSpec, checkpoint: Path, *, is_shared: bool = False) -> None:
        self._is_shared = is_shared
        self._problems: list[str] = []
        self._device = spec.device
        self._driver: Driver | None = open_driver(spec.device)
        driver = self._driver
        self._gpu: GpuSensors | None = None if driver is None else self._try(lambda: gpu_of(driver, spec.device))
        if driver is None and (problem := driver_problem(spec.device)) is not None:
            self._problems.append(problem)
        if self._gpu is None:  # else they stand with the GPU
            reported = self._try(lambda: device_of(spec.device).problems) or ()
            self._problems += [words for words in reported if words not in self._problems]
        self._meter = PowerMeter(self._gpu, checkpoint=checkpoint if self._gpu is not None else None)
        self._before = self._try(self._snapshot) or {}
        self._after: dict[str, Any] = {}
        self._pid: int | None = None
        self.n_epochs = 0
        self._host: list[HostCpu | None] = []  # at the end of the untimed epochs, and last

    def __enter__(self) -> Watch:
        self._meter.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._meter.stop() and self._driver is not None:  # else the driver hangs, and would hang this as well
            self._driver.close()

    @property
    def reads_power(self) -> bool:
        """Whether the GPU's power can be read, so that waiting for its idle power is worth the time."""
        return self._meter.reads_power

    def started(self, pid: int) -> None:
        """The measuring process, which leads a session of its own, has been started."""
        self._pid = pid

    def take(self, event: dict[str, Any]) -> None:
        """Hear an event of the measuring process."""
        if event["event"] == "epoch":
            self.n_epochs += 1
            self._meter.checkpoint(self.n_epochs)
            if self.n_epochs == WARMUP_EPOCHS:
                self._host = [self._host_now()] * 2
            elif self._host and (self._host[-1] is None or time.monotonic() - self._host[-1].at_sec > HOST_PERIOD_SEC):
                self._host[-1] = self._host_now()  # a look takes milliseconds: not at each of short epochs
        elif event["event"] == "done":
            # a driver that hangs must not keep this process from its timeout, or from Ctrl-C
            look = threading.Thread(target=self._look_again, daemon=True)
            look.start()
            look.join(PATIENCE_SEC)

    def observations(self, report: ChildReport) -> Observations:
        """Return what was seen of a run that finished, over the block of its timed epochs."""
        kind = device_kind_of(report.started["device_name"])
        others = other_cores(*self._host)
        first, last = report.edges[WARMUP_EPOCHS], report.edges[-1]
        if first is None or last is None:
            raise ValueError("the measuring process did not say when its epochs began and ended")
        start, end = first[0], last[1]
        n_epochs, own_pids = len(report.edges) - WARMUP_EPOCHS, self._own_pids()
        reading = (
            self._try(lambda: self._meter.reading(start, end, n_epochs, idle=report.idle_edges, own_pids=own_pids))
            or EnergyReading()
        )
        if kind == "cpu":  # also on a box with a GPU that the framework was kept from: its energy is not the run's
            reading = EnergyReading(cpu_energy_j=reading.cpu_energy_j)
        columns = asdict(reading)
        flags = set(columns.pop("row_flags"))
        if is_busy_host(others, min(cpu_count(), cpu_quota_cores() or math.inf), kind):
            flags.add("busy_host")
        if kind == "cpu":
            device_bytes = memory_bytes()[0]
        else:
            device_bytes = (self._before.get("gpu") or {}).get("memory_total_bytes")
        idle_sec = None if report.idle_edges is None else report.idle_edges[1] - report.idle_edges[0]
        columns |= {
            "host_busy_cores": others,
            "idle_sec": idle_sec,
            "driver_version": None if self._driver is None or self._gpu is None else self._driver.driver_version,
            "device_memory_bytes": device_bytes,
            "git_commit": self._before.get("git_commit"),  # the code that was started
        }
        found = self._meter.problems.items()
        problems = [*self._problems, *(f"{n} x {problem}" if n > 1 else problem for problem, n in found)]
        environment = {"before": self._before, "after": self._after, "problems": problems}
        return Observations(columns, self.shared_flags(report) | flags, environment)

    def shared_flags(self, report: ChildReport) -> frozenset[str]:
        """Return the flag of a run that shared its device with another run; no flag of any other."""
        if not self._is_shared:
            return frozenset()
        is_on_cpu = device_kind_of(report.started.get("device_name")) == "cpu"
        return frozenset({"busy_host" if is_on_cpu else "shared_gpu"})

    def _try(self, ask: Callable[[], Answer]) -> Answer | None:
        """The answer of a driver or the system; None of any failure, whose words go to the run's JSON."""
        try:
            return ask()
        except Exception as error:  # whatever it is, the run is measured
            self._problems.append(f"{type(error).__name__}: {error}")
            return None

    def _snapshot(self) -> dict[str, Any]:
        return snapshot(driver_snapshot(self._device, self._driver, self._gpu))

    def _look_again(self) -> None:
        self._after = self._try(self._snapshot) or {}

    def _host_now(self) -> HostCpu | None:
        return host_cpu_times(() if self._pid is None else (self._pid,))

    def _own_pids(self) -> set[int]:
        return {os.getpid()} if self._pid is None else {os.getpid(), self._pid}
