"""How long a grid will take, roughly: assumed rates, corrected by the runs that this box has finished."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from epochcast.assumptions import assumption, device_kind
from epochcast.environment import box_device_name, cpu_count
from epochcast.schema import TRAIN_N, WARMUP_EPOCHS, RunConfig, RunRecord, RunSpec
from workload.shape import train_flop


class WallEstimate:
    """Wall seconds of a run before it is done: assumed rates give the shape, finished runs of this box the scale."""

    def __init__(self, finished: Iterable[RunRecord]) -> None:
        device = box_device_name()
        self._kind = device_kind()
        self._ratios = [
            row.wall_sec / self._assumed_sec(row.config, row.epochs, row.window_steps, row.train_n or TRAIN_N)
            for row in finished
            if row.wall_sec is not None and row.device_name == device
        ]

    @property
    def n_runs(self) -> int:
        """Finished runs that the scale is taken from; 0 means that the estimate rests on assumptions alone."""
        return len(self._ratios)

    def add(self, spec: RunSpec, wall_sec: float) -> None:
        """Learn from one more finished run."""
        self._ratios.append(wall_sec / self._assumed_of(spec))

    def expected_sec(self, spec: RunSpec) -> float:
        """Expected wall seconds of one run."""
        return self._assumed_of(spec) * (statistics.median(self._ratios) if self._ratios else 1.0)

    def _assumed_of(self, spec: RunSpec) -> float:
        return self._assumed_sec(spec.config, spec.epochs, spec.window_steps, spec.train_n)

    def _assumed_sec(self, config: RunConfig, epochs: int, window_steps: int | None, train_n: int) -> float:
        if self._kind == "gpu":
            flops = self._value("train_flops")
        else:
            flops = self._value("train_flops_per_core") * cpu_count()
        step_flop = train_flop(config.depth, config.base_filters) * config.batch_size
        step_sec = self._value("step_floor_sec") + step_flop / flops
        steps = window_steps or train_n / config.batch_size
        first_sec = WARMUP_EPOCHS * self._value("first_epoch_excess_sec")
        return self._value("overhead_sec") + first_sec + epochs * steps * step_sec

    def _value(self, name: str) -> float:
        return assumption(name, self._kind).value
