"""A time that was scaled to another GPU, corrected by other configurations measured there.

measured / scaled of each is a factor that the GPUs' ratio missed; a further configuration is off by their median, and
scatters around it as they do: in logs by t * sd * sqrt(1 + 1 / n), t the quantile of Student's distribution. That is
the error factor inside the range of what was measured on both; outside it that of the scaling is kept if it is wider.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from epochcast.facts.assumptions import assumption
from epochcast.gpus.rates import limit_of
from epochcast.gpus.ratio import GpuArithmetic, Ratio, device_ratio, source_device
from epochcast.gpus.scaled_time import ScaledTime, scaled_time
from epochcast.interval import COVERAGE, Interval
from epochcast.model.time_model.intervals import HALF_WIDTH_SDS, WITHIN, Range
from epochcast.model.time_model.physics import device_share
from epochcast.model.time_model.saved_model import SavedModel
from epochcast.roofline.network import attainable_sec
from epochcast.schema import AggRow, RunConfig
from epochcast.stats import t_quantile
from epochcast.workload.shape import trained_cnn

MIN_CONFIGS = 3  # two tell no spread worth the name


@dataclass(frozen=True, slots=True)
class Correction:
    """By how much configurations measured on a GPU differ from the times scaled to it."""

    factor: float  # median of measured over scaled
    half: float  # half-width of a further configuration's interval, natural log
    range: Range
    n: int  # configurations

    def of(self, time: ScaledTime, config: RunConfig, domain: str) -> ScaledTime:
        """Return a scaled time corrected and limited by the roofline again; `domain` as of the model's range."""
        return time.set_to(self._interval(time.seconds, config, domain))

    def _interval(self, steady: Interval, config: RunConfig, domain: str) -> Interval:
        value = steady.value * self.factor
        own = Interval.of_log(value, self.half)
        if self.is_inside(config, domain):
            return own
        if steady.low is None or steady.high is None or own.low is None or own.high is None:
            return Interval(value)
        return Interval(value, min(own.low, steady.low * self.factor), max(own.high, steady.high * self.factor))

    def is_inside(self, config: RunConfig, domain: str) -> bool:
        """Return whether the spread was measured around such a configuration, on both GPUs."""
        return domain == WITHIN and not self.range.axes_outside(config)

    def words(self, config: RunConfig, domain: str) -> str:
        error_factor = f"x/÷{math.exp(self.half):.2f} by their spread"
        kept = "" if self.is_inside(config, domain) else "; outside their range no narrower than carried"
        return f"times {self.factor:.3f}, the median of measured over carried, {error_factor}{kept}"


def cnn_ratio(saved: SavedModel, config: RunConfig, target: GpuArithmetic) -> Ratio:
    """Return the ratio of a target's seconds of a configuration to those of the model's GPU.

    Raises:
        ValueError: if nothing is known of the model's device.
    """
    return device_ratio(source_device(saved.conditions), target, trained_cnn(config, saved.train_n, target.precision))


def scaled_steady_time(saved: SavedModel, config: RunConfig, target: GpuArithmetic) -> ScaledTime:
    """Return the model's steady time of a configuration scaled to a target, limited by its roofline."""
    network = trained_cnn(config, saved.train_n, target.precision)
    limit = limit_of(target.gpu, target.arithmetic)
    share = device_share(saved.plain_law, network.work)
    ratio = cnn_ratio(saved, config, target)
    return scaled_time(saved.forecast(config).steady, share, ratio, attainable_sec(network, limit))


def correction_by(measured: Mapping[RunConfig, AggRow], saved: SavedModel, target: GpuArithmetic) -> Correction | None:
    """Return the correction by the rows of configurations measured on the GPU; None of fewer than MIN_CONFIGS."""
    if len(measured) < MIN_CONFIGS:
        return None
    logs = [
        math.log(row.avg_time_mean / scaled_steady_time(saved, config, target).seconds.value)
        for config, row in measured.items()
    ]
    n = len(logs)
    spread = t_quantile((1 + COVERAGE) / 2, n - 1) * statistics.stdev(logs) * math.sqrt(1 + 1 / n)
    repeats = HALF_WIDTH_SDS * assumption("repeat_sd_steady", "gpu").value
    return Correction(math.exp(statistics.median(logs)), max(spread, repeats), Range.of(list(measured)), n)
