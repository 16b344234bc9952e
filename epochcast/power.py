"""The energy meter: reads a GPU's energy and power beside a run, from outside of the process that is measured.

The meter runs in a thread of the parent. The measuring process tells when its epochs began and ended by the monotonic
clock, which all processes of a box share, so nothing is asked of it while it is timed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, Protocol

from epochcast.disturbance import ProcessSnapshot, is_shared
from epochcast.energy import Board, EnergyReading, Window, read_energy
from epochcast.nvml import Processes
from epochcast.power_samples import PowerSample
from epochcast.rapl import POWERCAP, Rapl, open_rapl

log = logging.getLogger(__name__)
SHORTEST_PERIOD_SEC = 0.05  # asked more often, drivers answer 0 or not at all
SLOW_PERIOD_SEC = 1.0  # of temperature and processes


class PowerBackend(Protocol):
    """What the meter asks of a GPU; `epochcast.nvml.NvmlGpu` answers. None is no answer."""

    @property
    def uuid(self) -> str | None: ...
    @property
    def is_mig(self) -> bool: ...
    @property
    def power_is_module(self) -> bool: ...
    def power_limit_w(self) -> float | None: ...
    def energy_j(self) -> float | None: ...
    def power_instant_w(self) -> float | None: ...
    def power_average_w(self) -> float | None: ...
    def temperature_c(self) -> float | None: ...
    def sm_clock_mhz(self) -> float | None: ...
    def throttle_reasons(self) -> tuple[str, ...] | None: ...
    def compute_processes(self) -> Processes | None: ...
    def processes(self) -> Processes | None: ...


class PowerMeter:
    """Readings of one GPU and of the processor packages, from `start` to `stop`.

    Which source there is shows once, at the start, by asking; one that fails later is not replaced by another kind of
    reading. Without a GPU and without readable packages nothing runs.

    Args:
        gpu: the GPU that the run will use; None without one.
        period_sec: time between readings, at least 0.05.
        rapl_root: where Linux shows the packages' energy.
        checkpoint: a file to note the energy counter in at every `checkpoint`, for a run that is killed.
        clock: seconds of the clock that epochs are told by.
    """

    def __init__(
        self,
        gpu: PowerBackend | None,
        *,
        period_sec: float = 0.1,
        rapl_root: Path = POWERCAP,
        checkpoint: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gpu = gpu
        self._period_sec = max(SHORTEST_PERIOD_SEC, period_sec)
        self._rapl_root = rapl_root
        self._checkpoint_path = checkpoint
        self._clock = clock
        self._checkpoints: IO[str] | None = None
        self._board: Board | None = None
        self._rapl: Rapl | None = None
        self._ask_power: Callable[[], float | None] = lambda: None
        self._samples: list[PowerSample] = []
        self._baseline: ProcessSnapshot | None = None
        self._snapshots: list[ProcessSnapshot] = []
        self._slow_at = 0.0
        self._problem: str | None = None
        self._lock = threading.Lock()  # one reading at a time keeps them in the order of their times
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def tells_power(self) -> bool:
        """Whether the GPU's energy or power can be read; known after `start`."""
        return self._board is not None and (self._board.has_counter or self._board.power_source is not None)

    def start(self, *, polls: bool = True) -> None:
        """Begin to read; the processes that are on the GPU now are taken as not the run's.

        Without `polls` there is no thread: readings are those of `sample` and `checkpoint`.
        """
        self._rapl = open_rapl(self._rapl_root)
        if self._gpu is not None:
            self._board = self._probe(self._gpu)
            self._baseline = self._take_snapshot(self._gpu)
        if self._gpu is None and self._rapl is None:
            return
        self.sample()
        if polls:
            self._thread = threading.Thread(target=self._poll, name="power meter", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Take a last reading and end; may be called again."""
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()
            self._thread = None
            self.sample()
        if self._rapl is not None:
            self._rapl.close()
            self._rapl = None
        if self._checkpoints is not None:
            self._checkpoints.close()
            self._checkpoints = None
        if self._problem is not None:
            log.warning("the power meter missed readings: %s", self._problem)
            self._problem = None

    def checkpoint(self, epoch: int) -> None:
        """Take a reading now, at the end of an epoch, and note the counter in the checkpoint file if there is one."""
        if self._gpu is None and self._rapl is None:
            return
        sample = self.sample()
        if self._checkpoint_path is None or sample.counter_j is None:
            return
        try:
            if self._checkpoints is None:
                self._checkpoints = self._checkpoint_path.open("w", encoding="utf-8", newline="")
                self._checkpoints.write("epoch,monotonic_sec,board_energy_j\n")
            self._checkpoints.write(f"{epoch},{sample.time_sec!r},{sample.counter_j!r}\n")
            self._checkpoints.flush()
        except OSError as error:  # a full disk must not cost the run
            self._problem = str(error)
            self._checkpoint_path = None

    def reading(
        self,
        start: float,
        end: float,
        n_epochs: int,
        idle: tuple[float, float] | None = None,
        own_pids: Collection[int] | Callable[[], Collection[int]] = (),
    ) -> EnergyReading:
        """What was read between two times of the clock, in which `n_epochs` epochs ran.

        Args:
            idle: from when to when the run held the GPU with nothing to do.
            own_pids: process ids of the run, or what tells them.
        """
        if self._thread is not None:
            self.sample()
        with self._lock:
            samples, snapshots = list(self._samples), list(self._snapshots)
        own = own_pids() if callable(own_pids) else own_pids
        return read_energy(
            self._board,
            samples,
            Window(start, end, n_epochs, idle),
            is_shared=self._baseline is not None and is_shared(self._baseline, snapshots, start, end, own),
            period_sec=self._period_sec,
        )

    def sample(self) -> PowerSample:
        """Take one reading of everything now."""
        with self._lock:
            before = self._clock()
            try:
                sample = self._read(before)
            except Exception as error:  # whatever a driver does, the run that is measured goes on
                self._problem = f"{type(error).__name__}: {error}"
                sample = PowerSample(before)
            self._samples.append(sample)
            return sample

    def _read(self, before: float) -> PowerSample:
        gpu, board = self._gpu, self._board
        cpu_j = None if self._rapl is None else self._rapl.energy_j()
        if gpu is None or board is None:
            return PowerSample(before, cpu_j=cpu_j)
        counter_j = gpu.energy_j() if board.has_counter else None
        power_w = self._ask_power()
        time_sec = (before + self._clock()) / 2
        temperature_c = None
        if time_sec >= self._slow_at:
            self._slow_at = time_sec + SLOW_PERIOD_SEC
            temperature_c = gpu.temperature_c()
            if self._baseline is not None and (snapshot := self._take_snapshot(gpu)) is not None:
                self._snapshots.append(snapshot)
        # in turn: each query costs as much as a reading of power, and neither needs ten a second
        is_clock_due = len(self._samples) % 2 == 0
        return PowerSample(
            time_sec,
            counter_j,
            power_w,
            gpu.sm_clock_mhz() if is_clock_due else None,
            None if is_clock_due else gpu.throttle_reasons(),
            temperature_c,
            cpu_j,
        )

    def _probe(self, gpu: PowerBackend) -> Board:
        sources = (("nvml_poll_instant", gpu.power_instant_w), ("nvml_poll_avg1s", gpu.power_average_w))
        source, self._ask_power = next(
            ((name, ask) for name, ask in sources if ask() is not None), (None, self._ask_power)
        )
        return Board(
            uuid=gpu.uuid,
            power_limit_w=gpu.power_limit_w(),
            has_counter=gpu.energy_j() is not None,
            power_source=source,
            is_mig=gpu.is_mig,
            power_is_module=gpu.power_is_module,
        )

    def _take_snapshot(self, gpu: PowerBackend) -> ProcessSnapshot | None:
        present = gpu.processes()
        if present is None:
            return None
        computing = gpu.compute_processes() or []
        pids = frozenset(pid for pid, _ in computing)
        return ProcessSnapshot(self._clock(), pids, frozenset(pid for pid, _ in present) | pids)

    def _poll(self) -> None:
        first, n = self._clock(), 0
        while True:
            # the next deadline that lies ahead: a late reading does not delay the ones after it
            n = max(n + 1, int((self._clock() - first) / self._period_sec) + 1)
            # costs less processor time than Event.wait, and `stop` has a tenth of a second
            time.sleep(max(0.0, first + n * self._period_sec - self._clock()))
            if self._stopped.is_set():
                return
            self.sample()
