"""Board energy of a whole run: as measured as far as that reaches, else by the board's power limit.

A run is counted so: every epoch at the energy of a steady one; what the first takes on top of that at their mean power;
the process's start and end at the idle power where that was measured, else at the mean power. High ends take for both
the highest power that epochs may have; low ends the idle power, and nothing at all where it was never measured.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace

from epochcast.facts.assumptions import device_kind_of
from epochcast.facts.tables import Gpu
from epochcast.footprint.footprint import (
    BoardEnergy,
    asked_energy,
    modelled_energy,
    together,
)
from epochcast.footprint.rules import FootprintRules
from epochcast.gpus.lookup import board_limit_w, is_same_device
from epochcast.interval import Interval
from epochcast.machine.gpu.driver_names import is_instance
from epochcast.machine.gpu_driver import device_of
from epochcast.model.answers.energy import EnergyModel, EnergyPerEpoch
from epochcast.model.time_model.saved_model import PredictedTimes
from epochcast.paths import runs_csv
from epochcast.schema import RunConfig, RunRecord
from epochcast.storage.tables import read_runs

logger = logging.getLogger(__name__)


# --- the board --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MeasuredBoard:
    """What is known of a device besides the energy of its epochs; None is unknown."""

    idle_power_w: float | None = None
    power_limit_w: float | None = None
    is_processor: bool = False  # no GPU: it has no board of its own

    @classmethod
    def of(cls, device_name: str | None, records: Iterable[RunRecord]) -> MeasuredBoard:
        """The medians of the runs on this device.

        An instance of a GPU (MIG) has no limit of its own: its rows have the whole GPU's.
        """
        own = [r for r in records if device_name is not None and is_same_device(r.device_name, device_name)]
        idle = [record.idle_power_w for record in own if record.idle_power_w is not None]
        limits = [board_limit_w(r.device_name, r.power_limit_w, r.device_memory_bytes) for r in own]
        limit = [] if is_instance(device_name) else [watts for watts in limits if watts is not None]
        return cls(
            statistics.median(idle) if idle else None,
            statistics.median(limit) if limit else None,
            device_kind_of(device_name) == "cpu",
        )


def measured_board(device_name: str | None) -> MeasuredBoard:
    """The board of a device by the default runs.csv, its power limit else by this box's driver if it is this box's."""
    runs, records = runs_csv(), []
    if runs.exists():
        try:
            records = read_runs(runs).rows
        except (ValueError, OSError) as error:
            logger.warning("power limit and idle power are told without measured runs: %s", error)
    board = MeasuredBoard.of(device_name, records)
    if board.power_limit_w is None and is_same_device((box := device_of()).name, device_name):
        return replace(board, power_limit_w=board_limit_w(box.name, box.power_limit_w, box.memory_bytes))
    return board


# --- a run ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunSeconds:
    """Durations that the energy of a run is counted by; None is unknown."""

    steady: Interval  # of an epoch
    first_epoch: Interval | None
    overhead: Interval | None  # of the process outside its epochs
    whole: Interval  # of the run, as far as its parts are known
    missing: str | None = None  # what `whole` does not hold, in words

    @classmethod
    def of(cls, forecast: PredictedTimes, epochs: int) -> RunSeconds:
        """Take the durations from a forecast of so many epochs."""
        steady, run = forecast.steady, forecast.run
        if run.wall is not None:
            return cls(steady, run.first_epoch, run.overhead, run.wall)
        if run.training is not None:
            words = "without the process's start and end, which are unknown"
            return cls(steady, run.first_epoch, run.overhead, run.training, words)
        words = "without the process's start and end, the first epoch as any other: both are unknown"
        return cls(steady, run.first_epoch, run.overhead, steady.times(epochs), words)

    @property
    def excess(self) -> Interval | None:
        """Seconds of the first epoch beyond a steady one."""
        first, steady = self.first_epoch, self.steady.value
        if first is None:
            return None
        if first.low is None or first.high is None:
            return Interval(max(0.0, first.value - steady))
        return Interval(max(0.0, first.value - steady), max(0.0, first.low - steady), max(0.0, first.high - steady))


@dataclass(frozen=True, slots=True)
class RunEnergy:
    """Joules of a run, and of its epochs where rows measured energy."""

    board: BoardEnergy
    epoch: EnergyPerEpoch | None = None  # None: a power or a formula answers


def run_energy(
    config: RunConfig,
    epochs: int,
    seconds: RunSeconds,
    energy: EnergyModel,
    board: MeasuredBoard,
    gpu: Gpu | None,
    rules: FootprintRules,
    busy_share: float | None = None,
) -> RunEnergy | None:
    """Return the joules of a run; None where neither power nor a limit is known.

    A power that the user gives goes before any other. A processor has no board: its energy is that of the power given,
    else part of the host's where that is given.

    Args:
        seconds: of so many `epochs`.
        energy: what rows under the conditions of those seconds measured.
        board: the device's idle power and power limit.
        gpu: the device by the facts; None if they do not have it.
        rules: with `energy_formula` mlcost its formula answers, whatever was measured.
        busy_share: of the time in which the GPU computes or moves data; None where that is not known.

    Raises:
        ValueError: if MLCost's formula is asked for and the device's TDP is unknown.
    """
    epoch = None
    found = asked_energy(seconds.whole, rules, gpu, board.is_processor)
    if found is None and (epoch := energy.per_epoch(config, seconds.steady)) is not None:
        found = _of_epochs(epoch, epochs, seconds, board.idle_power_w)
    if found is None:
        limit_w = board.power_limit_w
        found = modelled_energy(seconds.whole, rules, gpu, board.is_processor, limit_w, busy_share=busy_share)
    if found is None:
        return None
    if seconds.missing is not None:
        found = replace(found, method=f"{found.method}; {seconds.missing}")
    return RunEnergy(found, epoch)


def _of_epochs(epoch: EnergyPerEpoch, epochs: int, seconds: RunSeconds, idle_w: float | None) -> BoardEnergy:
    """Return the energy of all epochs at that of a steady one, and of the start-up."""
    start, start_words = _start(seconds, _mean_power(epoch, seconds.steady), idle_w)
    return BoardEnergy(together(epoch.joules.times(epochs), start), f"{epoch.basis}; {start_words}")


def _mean_power(epoch: EnergyPerEpoch, steady: Interval) -> Interval:
    """Watts of a steady epoch; no ends where its energy has none.

    A measured energy is no product of the predicted time; any other is one, from its lowest power in the shortest time.
    """
    joules = epoch.joules
    if joules.low is None or joules.high is None:
        return Interval(joules.value / steady.value)
    shortest, longest = (steady.value, steady.value) if epoch.was_measured else (steady.low, steady.high)
    assert shortest is not None and longest is not None  # the energy has ends, so the time has
    return Interval(joules.value / steady.value, joules.low / shortest, joules.high / longest)


def _start(run: RunSeconds, mean_w: Interval, idle_w: float | None) -> tuple[Interval, str]:
    """Return the joules next to steady epochs, and how they are priced."""
    low_w = 0.0 if idle_w is None else min(idle_w, mean_w.value)
    at_excess = Interval(mean_w.value) if mean_w.high is None else Interval(mean_w.value, low_w, mean_w.high)
    at_overhead = at_excess if idle_w is None else replace(at_excess, value=low_w)
    joules = Interval(0.0, 0.0, 0.0)
    for seconds, watts in ((run.excess, at_excess), (run.overhead, at_overhead)):
        if seconds is not None:
            joules = together(joules, seconds.by(watts))
    ends = "range unknown" if mean_w.high is None else f"{low_w:.0f} to {mean_w.high:.0f} W"
    if idle_w is None:
        return joules, f"start-up at {mean_w.value:.0f} W ({ends})"
    words = f"first epoch's excess at {mean_w.value:.0f} W, start and end of the process at {low_w:.0f} W idle"
    return joules, f"{words} ({ends})"
