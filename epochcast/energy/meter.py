"""The energy meter: reads a GPU's energy and power beside a run, from outside of the process that is measured.

The meter runs in a thread of the parent. The measuring process tells when its epochs began and ended by the monotonic
clock, which all processes of a box share, so nothing is asked of it while it is timed. Between `start` and `stop` only
the thread asks the driver, so one that hangs delays nobody else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from epochcast.energy.rapl import POWERCAP, Rapl, open_rapl
from epochcast.energy.reading import STATE_EVERY, Board, EnergyReading, Window, read_energy
from epochcast.energy.samples import PowerSample
from epochcast.gpus.lookup import tdp_w
from epochcast.machine.disturbance import ProcessSnapshot, is_shared
from epochcast.machine.gpu.sensor_bounds import possible_limit_w
from epochcast.machine.gpu.vendor import PowerSensors

log = logging.getLogger(__name__)
_HANGS = "the NVIDIA driver does not come back from a question"
SHORTEST_PERIOD_SEC = 0.05  # asked more often, drivers answer 0 or not at all
SLOW_PERIOD_SEC = 2.0  # of temperature and processes
_Values = tuple[Any, ...]  # the values of a PowerSample: to make one takes a tenth of a reading's time, so that waits
MOST_PROBLEMS = 20  # different ones; one whose text changes with every reading must not fill a run's JSON
PATIENCE_SEC = 2.0  # for a driver that does not come back from a question


class PowerMeter:
    """Readings of one GPU and of the processor packages, from `start` to `stop`.

    Which source there is shows once, at the start, by asking; one that fails later is not replaced by another kind of
    reading. Without a GPU and without readable packages nothing runs.

    Args:
        gpu: the GPU that the run will use; None without one.
        period_sec: time between readings, at least 0.05.
        rapl_root: where Linux shows the packages' energy.
        checkpoint: a file to add the energy counter to at every `checkpoint`, for a run that is killed.
        clock: seconds of the clock that epochs are told by.
    """

    def __init__(
        self,
        gpu: PowerSensors | None,
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
        self._samples: list[_Values] = []
        self._baseline: ProcessSnapshot | None = None
        self._snapshots: list[ProcessSnapshot] = []
        self._slow_at = 0.0
        self._problem: str | None = None
        self.problems: Counter[str] = Counter()  # what went wrong with readings, and how often
        self._started_utc = ""
        self._noted: _Values | None = None  # the last reading in the checkpoint file
        self._is_asked = False  # for a reading of everything
        self._answered = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def reads_power(self) -> bool:
        """Whether the GPU's energy or power can be read; known after `start`."""
        return self._board is not None and self._board.reads_power

    def start(self, *, polls: bool = True) -> None:
        """Begin to read; the processes that are on the GPU now are taken as not the run's.

        Without `polls` there is no thread: readings are those of `sample`.
        """
        self._started_utc = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            self._rapl = open_rapl(self._rapl_root, self._clock)
            if self._gpu is not None:
                self._board = self._probe(self._gpu)
                self._baseline = self._take_snapshot(self._gpu, is_first=True)
        except Exception as error:  # whatever a driver does, the run is measured
            self._note(f"{type(error).__name__}: {error}")
        if self._board is None and self._rapl is None:
            return
        self.sample()
        if polls:
            self._thread = threading.Thread(target=self._poll, name="power meter", daemon=True)
            self._thread.start()

    def stop(self) -> bool:
        """End, with a last reading; False where the driver hangs and is better not closed. May be called again."""
        if self._thread is not None:
            self._stopped.set()
            self._thread.join(PATIENCE_SEC)
            if self._thread.is_alive():
                self._note(_HANGS)
            else:
                self._thread = None
        if self._rapl is not None:
            self._rapl.close()
            self._rapl = None
        if self._checkpoints is not None:
            self._checkpoints.close()
            self._checkpoints = None
        if self._problem is not None:
            log.warning("the power meter missed readings: %s", self._problem)
            self._problem = None
        return self._thread is None

    def checkpoint(self, epoch: int) -> None:
        """Note the last reading's counter and time at the end of an epoch; nothing where there is no newer reading."""
        if self._checkpoint_path is None or not self._samples:
            return
        values = self._samples[-1]
        sample = PowerSample(*values)
        if sample.counter_j is None or values is self._noted:
            return
        try:
            if self._checkpoints is None:
                self._checkpoints = self._checkpoint_path.open("a", encoding="utf-8", newline="")
                if self._checkpoints.tell() == 0:
                    self._checkpoints.write("epoch,monotonic_sec,board_energy_j,started_utc\n")
            self._checkpoints.write(f"{epoch},{sample.time_sec!r},{sample.counter_j!r},{self._started_utc}\n")
            self._checkpoints.flush()
            self._noted = values
        except OSError as error:  # a full disk must not cost the run
            self._note(str(error))
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
        if self._thread is not None:  # it is to read once more, after `end`
            self._answered.clear()
            self._is_asked = True
            if not self._answered.wait(PATIENCE_SEC):
                self._note(_HANGS)
        samples, snapshots = [PowerSample(*values) for values in list(self._samples)], list(self._snapshots)
        own = own_pids() if callable(own_pids) else own_pids
        return read_energy(
            self._board,
            samples,
            Window(start, end, n_epochs, idle),
            is_shared=self._baseline is not None and is_shared(self._baseline, snapshots, start, end, own),
            period_sec=self._period_sec,
            report=self._note,
        )

    def sample(self, *, everything: bool = False) -> None:
        """Take one reading now, of `everything` or of what is due."""
        before = self._clock()
        try:
            values = self._read(before, everything)
        except Exception as error:  # whatever a driver does, the run that is measured goes on
            self._note(f"{type(error).__name__}: {error}")
            values = (before,)
        self._samples.append(values)

    def _note(self, problem: str) -> None:
        self._problem = problem
        if problem in self.problems or len(self.problems) < MOST_PROBLEMS:
            self.problems[problem] += 1

    def _read(self, before: float, everything: bool) -> _Values:
        gpu, board = self._gpu, self._board
        is_state_due = everything or len(self._samples) % STATE_EVERY == 0
        cpu_j = None if self._rapl is None or not (is_state_due or gpu is None) else self._rapl.energy_j()
        if gpu is None or board is None:
            return tuple(PowerSample(before, cpu_j=cpu_j))
        counter_j = gpu.energy_j() if board.has_counter else None
        power_w = self._ask_power()
        time_sec = (before + self._clock()) / 2
        if not is_state_due:
            return time_sec, counter_j, power_w
        temperature_c = None
        if everything or time_sec >= self._slow_at:
            self._slow_at = time_sec + SLOW_PERIOD_SEC
            temperature_c = gpu.temperature_c()
            if self._baseline is not None and (snapshot := self._take_snapshot(gpu)) is not None:
                self._snapshots.append(snapshot)
        clock_mhz, reasons = gpu.sm_clock_mhz(), gpu.throttle_reasons()
        return time_sec, counter_j, power_w, clock_mhz, reasons, temperature_c, cpu_j

    def _probe(self, gpu: PowerSensors) -> Board:
        sources = (("poll_instant", gpu.power_instant_w), ("poll_avg1s", gpu.power_average_w))
        source, self._ask_power = next(
            ((f"{gpu.library}_{name}", ask) for name, ask in sources if ask() is not None), (None, self._ask_power)
        )
        tdp = tdp_w(gpu.name)
        return Board(
            uuid=gpu.uuid,
            power_limit_w=possible_limit_w(gpu.power_limit_w(), tdp),
            counter_source=None if gpu.energy_j() is None else f"{gpu.library}_counter",
            power_source=source,
            is_mig=gpu.is_mig,
            power_is_module=gpu.power_is_module,
            tdp_w=tdp,
        )

    def _take_snapshot(self, gpu: PowerSensors, is_first: bool = False) -> ProcessSnapshot | None:
        """Who computes on the GPU now; at first also who draws there, for a desktop that is there already is none."""
        computing = gpu.compute_processes()
        if computing is None:
            return None
        pids = frozenset(pid for pid, _ in computing)
        drawing = (gpu.processes() or []) if is_first else []
        return ProcessSnapshot(self._clock(), pids, frozenset(pid for pid, _ in drawing) | pids)

    def _poll(self) -> None:
        first, n = self._clock(), 0
        while not self._stopped.is_set():
            # the next deadline that lies ahead: a late reading does not delay the ones after it
            passed = self._clock() - first
            n = max(n + 1, int(passed / self._period_sec) + 1)
            # costs less processor time than Event.wait, and whoever waits for the thread has a tenth of a second
            time.sleep(n * self._period_sec - passed)
            if is_asked := self._is_asked:
                self._is_asked = False
            self.sample(everything=is_asked or self._stopped.is_set())
            if is_asked:
                self._answered.set()
