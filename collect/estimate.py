"""Estimate how long runs will take: the one clock of `grid`, `next_runs` and the demonstration.

Assumed rates give the shape, the runs that this box has finished the scale.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable

from epochcast.assumptions import assumption, device_kind, device_kind_of
from epochcast.environment import box_device_name, cpu_count, cpu_name
from epochcast.precision import MIN_TIMED_EPOCHS, MIN_TIMED_SEC
from epochcast.schema import TRAIN_N, WARMUP_EPOCHS, RunConfig, RunRecord, RunSpec
from workload.shape import train_flop


def least_epochs(spec: RunSpec, epoch_sec: float) -> int:
    """The epochs asked for; else those that a run without noise takes until its time is known."""
    if spec.epochs is not None:
        return spec.epochs
    timed = max(MIN_TIMED_EPOCHS, math.ceil(min(MIN_TIMED_SEC, spec.max_sec) / epoch_sec))
    affordable = max(WARMUP_EPOCHS + 1, math.ceil(spec.max_sec / epoch_sec))
    return min(WARMUP_EPOCHS + timed, affordable, spec.max_epochs)


class WallEstimate:
    """Wall seconds of a run before it is done: assumed rates give the shape, finished runs of this box the scale."""

    def __init__(self, finished: Iterable[RunRecord]) -> None:
        self._box_kind = device_kind()
        devices = {"cpu": cpu_name(), self._box_kind: box_device_name()}
        self._ratios: dict[str, list[float]] = defaultdict(list)  # by the kind of device
        for row in finished:
            kind = device_kind_of(row.device_name)
            if row.wall_sec is not None and row.device_name == devices.get(kind):
                self._ratios[kind].append(row.wall_sec / self._assumed_of_row(row, kind))

    @property
    def n_runs(self) -> int:
        """Finished runs that the scale is taken from; 0 means that the estimate rests on assumptions alone."""
        return sum(map(len, self._ratios.values()))

    @property
    def basis(self) -> str:
        """What the estimate rests on, in words."""
        if n := self.n_runs:
            return f"by {n} finished run{'s' if n > 1 else ''} of this box"
        return f"rough: assumed for a {self._box_kind.upper()}, no run of this box is finished yet"

    def add(self, spec: RunSpec, wall_sec: float) -> None:
        """Learn from one more finished run."""
        self._ratios[self._kind_of(spec)].append(wall_sec / self._assumed_of(spec))

    def expected_sec(self, spec: RunSpec) -> float:
        """Expected wall seconds of one run."""
        ratios = self._ratios[self._kind_of(spec)]
        return self._assumed_of(spec) * (statistics.median(ratios) if ratios else 1.0)

    def _kind_of(self, spec: RunSpec) -> str:
        return "cpu" if spec.device == "cpu" else self._box_kind

    def _assumed_of(self, spec: RunSpec) -> float:
        return self._assumed_sec(
            spec.config,
            spec.window_steps,
            spec.train_n,
            lambda epoch_sec: least_epochs(spec, epoch_sec),
            self._kind_of(spec),
        )

    def _assumed_of_row(self, row: RunRecord, kind: str) -> float:
        return self._assumed_sec(
            row.config, row.window_steps, row.train_n or TRAIN_N, lambda epoch_sec: row.epochs, kind
        )

    def _assumed_sec(
        self, config: RunConfig, window_steps: int | None, train_n: int, epochs_of: Callable[[float], int], kind: str
    ) -> float:
        """`epochs_of` gives the run's epochs (or windows) from the seconds of one."""
        if kind == "gpu":
            flops = assumption("train_flops", kind).value
        else:
            flops = assumption("train_flops_per_core", kind).value * cpu_count()
        step_flop = train_flop(config.depth, config.base_filters) * config.batch_size
        step_sec = assumption("step_floor_sec", kind).value + step_flop / flops
        steps = window_steps or train_n / config.batch_size
        epochs = epochs_of(steps * step_sec)
        first_sec = WARMUP_EPOCHS * assumption("first_epoch_excess_sec", kind).value
        return assumption("overhead_sec", kind).value + first_sec + epochs * steps * step_sec
