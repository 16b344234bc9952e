"""What a run's energy was, from readings taken beside it: by the best source that covers its timed epochs.

It is board energy: that of the whole GPU board, idle power, memory and neighbours included; no host, no fans, no
power supply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from epochcast.energy.samples import (
    Energy,
    PowerSample,
    between,
    counted,
    idle_power,
    longest_gap,
    polled,
    possible,
    series,
    temperature_at,
    time_weighted_mean,
)
from epochcast.gpus.board_power import board_power
from epochcast.gpus.lookup import tdp_w
from epochcast.machine.disturbance import is_throttled, throttle_words
from epochcast.machine.gpu.sensor_bounds import (
    MOST_BOARD_W,
    MOST_PACKAGE_W,
    MOST_PACKAGES,
    board_power_bounds,
    possible_limit_w,
)

if TYPE_CHECKING:
    from epochcast.schema import RunRecord

METER_VERSION = 2  # a change that moves energies raises it
ENERGY_FLAGS = {  # name: what an energy so flagged tells
    "short_window": "under 10 s: too few readings of a counter that moves ten times a second",
    "gap": "more than five periods without a reading",
    "counter_poll_mismatch": "the energy counter and the polled power differ by more than 10 %",
    "counter_reset": "the energy counter went backwards (a driver reloaded): not used",
    "counter_jump": "the energy counter grew faster than the board can draw: not used",
    "impossible_power": "power that the board can't draw was read, and left out",
    "energy_partial": "a source failed on the way: not used",
    "mig_shared": "the GPU is cut into instances: the energy is that of all of them",
    "module_scope": "power of a whole module (GPU, CPU, memory), not of the board",
    "shared_gpu": "another process was on the GPU: its energy is in it",
}
SHORT_WINDOW_SEC = 10.0
GAP_PERIODS = 5
STATE_EVERY = 5  # readings from one of clock, its reasons and packages to the next: half a second
MISMATCH = 0.10


class Window(NamedTuple):
    """The block of timed epochs, by the monotonic clock."""

    start: float
    end: float
    n_epochs: int
    idle: tuple[float, float] | None = None  # when the run held the GPU with nothing to do

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Board:
    """What stays the same of a metered GPU through a run."""

    uuid: str | None
    power_limit_w: float | None
    counter_source: str | None  # nvml_counter | None: it counts no energy
    power_source: str | None  # nvml_poll_instant | nvml_poll_avg1s | None: no power reading
    is_mig: bool = False
    power_is_module: bool = False
    tdp_w: float | None = None  # by the data sheet, where the facts know the board

    @property
    def has_counter(self) -> bool:
        """Whether it counts its energy."""
        return self.counter_source is not None

    @property
    def reads_power(self) -> bool:
        """Whether its energy or its power can be read."""
        return self.has_counter or self.power_source is not None

    @property
    def power_bounds_w(self) -> tuple[float, float]:
        """The least and the most that a reading of its power can be."""
        return board_power_bounds(self.power_limit_w, self.tdp_w, self.power_is_module)


@dataclass(frozen=True, slots=True)
class EnergyReading:
    """The columns of a row that tell of energy and of the GPU while epochs were timed; units as in `RunRecord`.

    "Per epoch" is per epoch or window as they were counted to the meter.
    """

    gpu_uuid: str | None = None
    sm_clock_mhz: float | None = None
    throttle_reasons: str | None = None
    power_limit_w: float | None = None
    temp_start_c: float | None = None
    temp_end_c: float | None = None
    energy_source: str = "none"
    energy_estimated: int | None = None
    energy_j_per_epoch: float | None = None
    energy_lo_j: float | None = None
    energy_hi_j: float | None = None
    energy_net_j_per_epoch: float | None = None
    energy_j_window: float | None = None
    energy_window_sec: float | None = None
    energy_n_epochs: int | None = None
    mean_power_w: float | None = None
    max_power_w: float | None = None
    idle_power_w: float | None = None
    power_samples: int | None = None
    power_dt_sec: float | None = None
    max_gap_sec: float | None = None
    counter_poll_ratio: float | None = None
    energy_flags: tuple[str, ...] = ()
    cpu_energy_j: float | None = None
    meter_version: int = METER_VERSION
    row_flags: tuple[str, ...] = ()  # of `throttled`, `shared_gpu`: for the row's own `flags`


def read_energy(
    board: Board | None,
    samples: Sequence[PowerSample],
    window: Window,
    *,
    is_shared: bool,
    period_sec: float,
    report: Callable[[str], None] = lambda problem: None,
) -> EnergyReading:
    """The energy of a window, and the GPU's state meanwhile.

    Args:
        board: the GPU metered, None without one.
        samples: readings in the order of their times, from before the window to after it.
        is_shared: whether another process was on the GPU.
        period_sec: time between readings as intended.
        report: gets a sentence about readings that were left out.
    """
    start, end = window.start, window.end
    samples, left_out = possible(samples, (0.0, MOST_BOARD_W) if board is None else board.power_bounds_w)
    most_cpu_w = MOST_PACKAGES * MOST_PACKAGE_W
    cpu_energy_j = counted(samples, "cpu_j", start, end, GAP_PERIODS * STATE_EVERY * period_sec, most_cpu_w).joules
    if board is None:
        return EnergyReading(cpu_energy_j=cpu_energy_j)
    if board.reads_power:
        n_left_out = sum(start <= time <= end for time in left_out)
        if n_left_out:
            least_w, most_w = board.power_bounds_w
            report(f"{n_left_out} readings of power left out: not from {least_w:.3g} to {most_w:.4g} W")
        reading = _measured(board, samples, window, is_shared, period_sec, n_left_out)
    else:
        reading = _modelled(board, window)
    inside = between(samples, start, end)
    reasons = [sample.throttle_reasons for sample in inside]
    times, clocks = series(inside, "sm_clock_mhz")
    is_slowed = is_throttled(reasons, [sample.sm_clock_mhz for sample in inside])
    judged = {"throttled": is_slowed, "shared_gpu": is_shared}
    return replace(
        reading,
        gpu_uuid=board.uuid,
        sm_clock_mhz=time_weighted_mean(times, clocks, start) if times and times[-1] > start else None,
        throttle_reasons=throttle_words(reasons),
        power_limit_w=board.power_limit_w,
        temp_start_c=temperature_at(samples, start, is_start=True),
        temp_end_c=temperature_at(samples, end, is_start=False),
        cpu_energy_j=cpu_energy_j,
        row_flags=tuple(flag for flag, is_so in judged.items() if is_so),
    )


def _measured(
    board: Board, samples: Sequence[PowerSample], window: Window, is_shared: bool, period_sec: float, n_left_out: int
) -> EnergyReading:
    """Energy by the counter, else by polled power; source `none` where neither covers the window."""
    start, end, n_epochs, idle = window
    times = [sample.time_sec for sample in samples if (sample.counter_j, sample.power_w) != (None, None)]
    inside = [time for time in times if start <= time <= end]
    dt_sec = median(later - earlier for earlier, later in pairwise(inside)) if len(inside) > 1 else None
    longest_sec = GAP_PERIODS * max(period_sec, dt_sec or 0.0)
    most_w = board.power_bounds_w[1]
    counter = counted(samples, "counter_j", start, end, longest_sec, most_w) if board.has_counter else Energy(None)
    poll = polled(samples, start, end, longest_sec) if board.power_source is not None else Energy(None)
    is_counted = bool(counter.joules)
    source, energy_j = (board.counter_source, counter.joules) if is_counted else (board.power_source, poll.joules)
    flags = counter.faults
    if not is_counted:
        flags |= poll.faults | ({"impossible_power"} if n_left_out else set())
    if source is None or energy_j is None:
        return EnergyReading(energy_flags=_in_order(flags))
    max_gap_sec = longest_gap([sample.time_sec for sample in samples], start, end)
    ratio = counter.joules / poll.joules if counter.joules and poll.joules else None
    is_short = window.seconds < SHORT_WINDOW_SEC
    found = {
        "short_window": is_short,
        "gap": max_gap_sec > longest_sec,
        "counter_poll_mismatch": ratio is not None and abs(ratio - 1) > MISMATCH and not is_short,
        "mig_shared": board.is_mig,
        "module_scope": board.power_is_module and not is_counted,
        "shared_gpu": is_shared,
    }
    idle_power_w = None if idle is None else idle_power(samples, idle, longest_sec, most_w)
    return EnergyReading(
        energy_source=source,
        energy_estimated=0,
        energy_j_per_epoch=energy_j / n_epochs,
        energy_net_j_per_epoch=None if idle_power_w is None else (energy_j - idle_power_w * window.seconds) / n_epochs,
        energy_j_window=energy_j,
        energy_window_sec=window.seconds,
        energy_n_epochs=n_epochs,
        mean_power_w=energy_j / window.seconds,
        max_power_w=max(series(between(samples, start, end), "power_w")[1], default=None),
        idle_power_w=idle_power_w,
        power_samples=len(inside),
        power_dt_sec=dt_sec,
        max_gap_sec=max_gap_sec,
        counter_poll_ratio=ratio,
        energy_flags=_in_order(flags | {name for name, is_so in found.items() if is_so}),
    )


def _modelled(board: Board, window: Window) -> EnergyReading:
    """Return the energy by the board-power model, where only the limit is reported."""
    if board.power_limit_w is None:
        return EnergyReading()
    watts = board_power(board.power_limit_w, tdp_w=board.tdp_w)
    assert watts.low is not None and watts.high is not None  # the model has a range
    return EnergyReading(
        energy_source="board_power_model",
        energy_estimated=1,
        energy_j_per_epoch=watts.value * window.seconds / window.n_epochs,
        energy_lo_j=watts.low * window.seconds / window.n_epochs,
        energy_hi_j=watts.high * window.seconds / window.n_epochs,
        energy_j_window=watts.value * window.seconds,
        energy_window_sec=window.seconds,
        energy_n_epochs=window.n_epochs,
        mean_power_w=watts.value,
        energy_flags=("mig_shared",) if board.is_mig else (),
    )


def impossible_power(record: RunRecord) -> str | None:
    """Why a row's board energy can't be right, by its power and its board; None if it can."""
    tdp = tdp_w(record.device_name, record.device_memory_bytes)
    limit_w = possible_limit_w(record.power_limit_w, tdp)
    least_w, most_w = board_power_bounds(limit_w, tdp, "module_scope" in record.energy_flags)
    mean_w, peak_w = record.mean_power_w, record.max_power_w
    if mean_w is not None and not least_w <= mean_w <= most_w:
        return f"mean_power_w {mean_w:.4g}, where the board draws {least_w:.2g} to {most_w:.4g} W"
    is_polled = "_poll_" in (record.energy_source or "")
    if is_polled and peak_w is not None and peak_w > most_w:  # it is in the mean
        return f"max_power_w {peak_w:.4g}, where the board draws at most {most_w:.4g} W"
    return None


def _in_order(flags: frozenset[str]) -> tuple[str, ...]:
    return tuple(name for name in ENERGY_FLAGS if name in flags)
