"""Estimate how long runs will take: the one clock of `grid`, `next_runs` and the demonstration.

Assumed rates give the shape, the runs that this box has finished the scale.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Iterable

from epochcast.facts.assumptions import assumption
from epochcast.gpus.lookup import is_same_device
from epochcast.machine.gpu.vendor import Device
from epochcast.machine.gpu_driver import device_of
from epochcast.machine.host.host import cpu_count
from epochcast.schema import TRAIN_N, WARMUP_EPOCHS, RunConfig, RunRecord, RunSpec
from epochcast.steady_time import MIN_TIMED_EPOCHS, MIN_TIMED_SEC
from epochcast.workload.shape import train_flop


def least_epochs(spec: RunSpec, epoch_sec: float) -> int:
    """The epochs asked for; else those that a run without noise takes until its time is known."""
    if spec.epochs is not None:
        return spec.epochs
    timed = max(MIN_TIMED_EPOCHS, math.ceil(min(MIN_TIMED_SEC, spec.max_sec) / epoch_sec))
    affordable = max(WARMUP_EPOCHS + 1, math.ceil(spec.max_sec / epoch_sec))
    return min(WARMUP_EPOCHS + timed, affordable, spec.max_epochs)


class WallEstimate:
    """Wall seconds of a run before it is done: assumed rates give the shape, finished runs of this box the scale."""

    def __init__(self, finished: Iterable[RunRecord], devices: Collection[str] = ("auto",)) -> None:
        self._finished = [row for row in finished if row.wall_sec is not None]
        self._by_device: dict[str, list[float]] = {}  # by its name: seconds of its runs over the assumed ones
        self._kinds = list(dict.fromkeys(device_of(device).kind.upper() for device in sorted(devices)))
        for device in devices:
            self._ratios(device_of(device))

    @property
    def n_runs(self) -> int:
        """Finished runs that the scale is taken from; 0 means that the estimate rests on assumptions alone."""
        return sum(map(len, self._by_device.values()))

    @property
    def basis(self) -> str:
        """What the estimate rests on, in words."""
        if n := self.n_runs:
            return f"by {n} finished run{'s' if n > 1 else ''} of this box"
        return f"rough: assumed for a {' and a '.join(self._kinds)}, no run of this box is finished yet"

    def add(self, spec: RunSpec, wall_sec: float) -> None:
        """Learn from one more finished run."""
        self._ratios(device_of(spec.device)).append(wall_sec / _assumed_of(spec))

    def expected_sec(self, spec: RunSpec) -> float:
        """Expected wall seconds of one run."""
        ratios = self._ratios(device_of(spec.device))
        return _assumed_of(spec) * (statistics.median(ratios) if ratios else 1.0)

    def _ratios(self, device: Device) -> list[float]:
        if device.name not in self._by_device:
            self._by_device[device.name] = [
                row.wall_sec / _assumed_of_row(row, device.kind)
                for row in self._finished
                if row.wall_sec is not None and is_same_device(row.device_name, device.name)
            ]
        return self._by_device[device.name]


def _assumed_of(spec: RunSpec) -> float:
    kind = device_of(spec.device).kind
    return _assumed_sec(
        kind, spec.config, spec.window_steps, spec.train_n, lambda epoch_sec: least_epochs(spec, epoch_sec)
    )


def _assumed_of_row(row: RunRecord, kind: str) -> float:
    return _assumed_sec(kind, row.config, row.window_steps, row.train_n or TRAIN_N, lambda epoch_sec: row.epochs)


def _assumed_sec(
    kind: str, config: RunConfig, window_steps: int | None, train_n: int, epochs_of: Callable[[float], int]
) -> float:
    """`epochs_of` gives the run's epochs (or windows) from the seconds of one."""

    def value(name: str) -> float:
        return assumption(name, kind).value

    flops = value("train_flops") if kind == "gpu" else value("train_flops_per_core") * cpu_count()
    step_flop = train_flop(config) * config.batch_size
    step_sec = value("step_floor_sec") + step_flop / flops
    steps = window_steps or train_n / config.batch_size
    epochs = epochs_of(steps * step_sec)
    first_sec = WARMUP_EPOCHS * value("first_epoch_excess_sec")
    return value("overhead_sec") + first_sec + epochs * steps * step_sec
