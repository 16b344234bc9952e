"""A run that a planner may choose: wall seconds in parts, their error, and its value."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from epochcast.interval import COVERAGE, Interval, total
from epochcast.model.time_model.intervals import HALF_WIDTH_SDS
from epochcast.planner.costs.budget import Price
from epochcast.schema import RunConfig

UPPER_SHARE = (1 + COVERAGE) / 2  # of runs that cost less than the high end
MOST_COUNT = 10**9  # of epochs or repeats: more is a slip of the pen, and no number to add with


@dataclass(frozen=True, slots=True)
class Candidate:
    """One configuration that could be run `repeats` times: wall seconds in parts, their error, and what it is worth."""

    config: RunConfig
    params: int
    epochs: int
    overhead: Interval
    first_epoch: Interval
    steady: Interval
    images_per_sec: float
    acc: float | None = None
    acc_epochs: int | None = None
    has_diverged: bool = False
    was_measured: bool = True
    is_predicted: bool = False  # the cost is the model's, not measured
    is_extrapolated: bool = False
    repeats: int = 1
    value: float = 0.0
    price: Price | None = None  # None: the plan counts seconds
    # wall seconds of one run from the start of the process to its exit; errors of the parts as independent
    run: Interval = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # summed once: a plan asks for it thousands of times
        run = total([self.overhead, self.first_epoch, self.steady.times(self.epochs - 1)])
        object.__setattr__(self, "run", run)

    @property
    def total_sec(self) -> float:
        """Wall seconds of all repeats."""
        return self.repeats * self.run.value

    @property
    def sd_sec(self) -> float | None:
        """Standard deviation of `total_sec` about what it will be; None where a part's error is unknown.

        What a model has wrong of a configuration it has wrong in every repeat; measured ones differ by themselves.
        """
        run = self.run
        if run.high is None:
            return None
        shared = self.repeats if self.is_predicted else math.sqrt(self.repeats)
        return shared * (run.high - run.value) / HALF_WIDTH_SDS

    @property
    def cost(self) -> float:
        """What all repeats take of the budget, in its unit."""
        return self.total_sec if self.price is None else self.total_sec * self.price.per_sec.value

    @property
    def cost_sd(self) -> float | None:
        """Standard deviation of `cost`, errors of time and energy as independent; None where the time's is unknown.

        An unknown error of the energy is not in it: whoever plans says so.
        """
        sd_sec = self.sd_sec
        if self.price is None or sd_sec is None:
            return sd_sec
        return math.hypot(sd_sec * self.price.per_sec.value, (self.price.sd or 0.0) * self.cost)

    @property
    def cost_high(self) -> float | None:
        """What `cost` stays within at UPPER_SHARE, all that runs share as expected; None where its error is unknown."""
        sd = self.cost_sd
        is_unknown = sd is None or (self.price is not None and self.price.sd is None)
        return None if sd is None or is_unknown else self.cost + HALF_WIDTH_SDS * sd


@dataclass(frozen=True, slots=True)
class CostRules:
    """How runs are priced: `overhead_sec` given or None (measured); `first_epoch` measured, none, or seconds."""

    epochs: int
    overhead_sec: float | None = None
    first_epoch: str | float = "measured"
    repeats: int = 1

    def __post_init__(self) -> None:
        if self.epochs < 2:
            raise ValueError(f"epochs must be at least 2, got {self.epochs}: the first is untimed.")
        for name in ("epochs", "repeats"):
            if getattr(self, name) > MOST_COUNT:
                raise ValueError(f"--{name} is at most {MOST_COUNT:,} in a plan. Lower it.")
