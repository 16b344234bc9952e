"""What is known of a running fit, epoch by epoch, and what was forecast of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from epochcast.interval import Interval, with_ends
from epochcast.live.forecast.expected import Prior
from epochcast.live.forecast.usage import Used
from epochcast.live.sampling.estimator import EpochTime, Moment

SCHEMA = 1  # of the JSON


@dataclass(frozen=True, slots=True)
class EpochDone:
    """An epoch from its begin to the next one's, or to the end of the fit."""

    number: int  # from 1, as Keras shows it
    sec: Moment  # by both clocks, callbacks included, validation apart
    timed_sec: float  # wall, until this callback's own hook at its end
    validation_sec: float | None = None
    is_first: bool = False  # something may have been compiled in it
    is_cut: bool = False  # it was stopped before its last step


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is left of a fit after some of its epochs, in wall seconds."""

    after_epoch: int  # as Keras counts; before the first one it is the epoch that the fit begins after
    elapsed_sec: float
    remaining: Interval  # if all epochs are trained; ends None: the range is unknown
    epoch: EpochTime
    earliest_stop: int | None = None  # the first epoch after which an EarlyStopping may end it
    to_date: Used | None = None
    at_end: Used | None = None

    @property
    def total(self) -> Interval:
        """Seconds of the whole fit."""
        ends = (None if end is None else end + self.elapsed_sec for end in (self.remaining.low, self.remaining.high))
        return Interval(self.remaining.value + self.elapsed_sec, *ends)

    def to_json(self) -> dict[str, Any]:
        return {
            "after_epoch": self.after_epoch,
            "elapsed_sec": self.elapsed_sec,
            **with_ends("remaining_sec", self.remaining),
            **with_ends("total_sec", self.total),
            **with_ends("epoch_sec", self.epoch.interval),
            "earliest_stop": self.earliest_stop,
            "to_date": None if self.to_date is None else self.to_date.to_json(),
            "at_end": None if self.at_end is None else self.at_end.to_json(),
        }


@dataclass
class FitHistory:
    """One fit: what it was to be, its epochs and its forecasts."""

    began_utc: str
    model: str  # its class
    epochs: int  # the epoch that it is to end with
    steps: int | None  # batches of an epoch
    initial_epoch: int = 0
    prior: Prior | None = None
    done: list[EpochDone] = field(default_factory=list)
    forecasts: list[Forecast] = field(default_factory=list)
    ended: str | None = None  # None: it runs, or was interrupted
    sec: float | None = None  # wall, from the begin of training to its end
    run_id: str | None = None  # its row in fits.csv
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "forecasts": [each.to_json() for each in self.forecasts]}


def history_json(fits: Sequence[FitHistory]) -> dict[str, Any]:
    """Return the fits of one callback, in the order of time, as JSON values."""
    return {"schema": SCHEMA, "fits": [each.to_json() for each in fits]}
