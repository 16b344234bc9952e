"""The seconds of a run outside its steady epochs: the first epoch's excess and the process's overhead.

Excess = first epoch - steady time: a law of four terms where enough rows know it, else their median. Overhead = wall
time - all epochs: a median. Either is unknown where no row has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from epochcast.interval import Interval, total
from epochcast.model.time_model.intervals import DOMAINS, Range, Widths
from epochcast.model.time_model.physics import Array, Law
from epochcast.schema import RunConfig

FORM = "first_epoch_4"


@dataclass(frozen=True, slots=True, eq=False)
class Excess:
    """Seconds of a first epoch beyond a steady one; `widths` are relative to the predicted first epoch."""

    law: Law | None  # None: `median` answers
    median: float
    n: int
    range: Range  # of the rows that know their first epoch
    widths: Widths

    def seconds(self, configs: Sequence[RunConfig]) -> Array:
        """Shape (n,)."""
        return np.full(len(configs), self.median) if self.law is None else self.law.seconds(configs)


@dataclass(frozen=True, slots=True)
class Overhead:
    """Seconds of a process outside its epochs.

    `widths` are relative to the median; from 1 on they are factors about it.
    """

    median: float
    n: int
    widths: Widths

    def interval(self, domain: str) -> Interval:
        """Return the seconds with their range in a domain, which never reaches down to 0."""
        half = self.widths.of(domain)
        if half is None or half < 1:
            return Interval.of_relative(self.median, half)
        return Interval.of_factor(self.median, half)


@dataclass(frozen=True, slots=True)
class WholeRun:
    """What a run takes in parts and in all, seconds with their intervals; None is unknown."""

    first_epoch: Interval | None
    overhead: Interval | None
    training: Interval | None  # all epochs
    wall: Interval | None  # overhead and training


def whole_run(
    config: RunConfig,
    steady: Interval,
    domain: str,
    excess: Excess | None,
    overhead: Overhead | None,
    epochs: int | None = None,
) -> WholeRun:
    """total = overhead + excess of the first epoch + epochs x steady time; their errors are taken as independent.

    `domain` is where the configuration lies, as of `model.time_model.intervals`; without `epochs` there is no total.
    """
    process = None if overhead is None else overhead.interval(domain)
    if excess is None:
        return WholeRun(None, process, None, None)
    beyond_steady = float(excess.seconds([config])[0])
    known_domain = max(domain, excess.range.domain(config, excess.widths.axes), key=DOMAINS.index)
    half = excess.widths.of(known_domain)  # calibrated relative to the first epoch as a whole
    start = Interval.of_absolute(beyond_steady, None if half is None else half * (beyond_steady + steady.value))
    training = None if epochs is None else total([start, steady.times(epochs)])
    wall = None if epochs is None or process is None else total([process, start, steady.times(epochs)])
    return WholeRun(total([start, steady]), process, training, wall)


def to_json(excess: Excess | None, overhead: Overhead | None) -> dict[str, Any]:
    """The two parts of a model's card."""
    return {
        "first_epoch_excess_sec": None
        if excess is None
        else {
            "median": excess.median,
            "n": excess.n,
            "form": None if excess.law is None else FORM,
            "coefficients": None if excess.law is None else excess.law.coefficients.tolist(),
            "readings": None if excess.law is None else excess.law.readings(),
            "within": excess.widths.within,
            "beyond": excess.widths.beyond,
            "n_errors": excess.widths.n,
            "n_levels": excess.widths.n_levels,
            "range": excess.range.to_json(),
            "axes": list(excess.widths.axes),
        },
        "overhead_sec": None
        if overhead is None
        else {"median": overhead.median, "n": overhead.n, "within": overhead.widths.within},
    }


def from_json(card: dict[str, Any], train_n: int) -> tuple[Excess | None, Overhead | None]:
    """Back from a model's card."""
    first, other = card["first_epoch_excess_sec"], card["overhead_sec"]
    excess = overhead = None
    if first is not None:
        law = None if first["form"] is None else Law(first["form"], np.array(first["coefficients"], float), train_n)
        widths = Widths(first["within"], first["beyond"], first["n_errors"], first["n_levels"], tuple(first["axes"]))
        excess = Excess(law, first["median"], first["n"], Range.from_json(first["range"]), widths)
    if other is not None:
        overhead = Overhead(other["median"], other["n"], Widths(other["within"], other["within"], other["n"]))
    return excess, overhead
