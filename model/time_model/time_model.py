"""A fitted time model: a law in seconds, and a network's correction to its logarithm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from epochcast.model.time_model.ensemble import Ensemble
from epochcast.model.time_model.features import feature_matrix
from epochcast.model.time_model.physics import Array, Law
from epochcast.schema import TRAIN_N, AggRow, RunConfig

LARGEST_LOG_TIME = 500.0  # natural; a time of 1e217 s, or its inverse, is still a number


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What is learned from: one row for each configuration, with its steady seconds per epoch, shape (n,)."""

    configs: list[RunConfig]
    seconds: Array
    train_n: int

    @classmethod
    def of(cls, rows: Sequence[AggRow]) -> Table:
        return cls([r.config for r in rows], np.array([r.avg_time_mean for r in rows]), rows[0].train_n or TRAIN_N)

    def __len__(self) -> int:
        return len(self.configs)

    def take(self, mask: npt.NDArray[np.bool_]) -> Table:
        """The rows that the mask, shape (n,), lets through."""
        kept = [c for c, is_in in zip(self.configs, mask, strict=True) if is_in]
        return Table(kept, self.seconds[mask], self.train_n)


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """A network's inputs: which features, the box that they are clamped to, and their scaling; each of shape (f,).

    Outside the box the network gives what it gives on its border: a residual has little to say of what lies beyond.
    """

    names: tuple[str, ...]
    mean: Array
    scale: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, features: Array, names: Sequence[str], is_clamped: bool = True) -> Inputs:
        """Scaling and box of unscaled features, shape (n, f)."""
        scale = features.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)  # what does not vary has no effect
        low, high = features.min(axis=0), features.max(axis=0)
        if not is_clamped:
            low, high = np.full_like(low, -np.inf), np.full_like(high, np.inf)
        return cls(tuple(names), features.mean(axis=0), scale, low, high)

    def standardised(self, features: Array) -> Array:
        """Clamped and standardised, shape (n, f)."""
        return np.asarray((np.clip(features, self.low, self.high) - self.mean) / self.scale)


def _median(values: Array) -> Array:
    """Median of each row, shape (n,); NumPy's own imports masked arrays for it, at every start of a prediction."""
    ordered = np.sort(values, axis=1)
    n = values.shape[1]
    return np.asarray((ordered[:, (n - 1) // 2] + ordered[:, n // 2]) / 2)


@dataclass(frozen=True, slots=True, eq=False)
class TimeModel:
    """log time = log law + residual_scale * median member of the network; the law is 1 s where there is none."""

    law: Law | None
    ensemble: Ensemble
    inputs: Inputs
    residual_scale: float
    train_n: int

    def times(self, configs: Sequence[RunConfig]) -> Array:
        """Predicted steady seconds per epoch, shape (n,).

        Raises:
            ValueError: if a configuration lies so far outside that its time is no number.
        """
        x = self.inputs.standardised(feature_matrix(configs, self.inputs.names, self.train_n))
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            log_time = _median(self.ensemble.outputs(x)) * self.residual_scale
            if self.law is not None:
                log_time = log_time + np.log(self.law.seconds(configs))
        if absurd := [str(c) for c, t in zip(configs, log_time, strict=True) if not abs(t) < LARGEST_LOG_TIME]:
            raise ValueError(f"{' '.join(absurd)}: too far outside what the model learned from to be predicted at all.")
        return np.asarray(np.exp(log_time))

    def reaching(self, name: str, steps: float) -> TimeModel:
        """The same model, its residual following one input that many units beyond the box on either side."""
        step = np.array([steps if own == name else 0.0 for own in self.inputs.names])
        inputs = replace(self.inputs, low=self.inputs.low - step, high=self.inputs.high + step)
        return replace(self, inputs=inputs)
