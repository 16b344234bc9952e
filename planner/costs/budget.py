"""What a plan may use, in the unit that it is counted in: seconds, energy, money or CO2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from epochcast.interval import Interval
from epochcast.output.text import clock, significant

ROUNDING = Fraction(1, 10**12)  # what sums of a few thousand floats may be off by, relative to their value


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of budgets and costs."""

    name: str  # as plan.json's `budget_unit` says it
    key: str  # as names of flags and columns end: --budget_kwh, total_kwh
    word: str  # for people
    one: str  # the same for one of it: gain per second
    fineness: int  # whole numbers of the exact search in one

    def up(self, amount: float) -> int:
        """The smallest whole number of the search that covers `amount`.

        A float stands for the decimal that Python prints for it: 0.001 s is 1 ms, although the binary number behind it
        is a little larger and would make 2 ms. Raises ValueError if `amount` is negative or not finite.
        """
        return math.ceil(self._exact(amount))

    def down(self, amount: float) -> int:
        """The largest whole number of the search within `amount`; reads floats and raises as `up` does.

        What is below a whole number by no more than sums of floats are off is that number: a plan fits a budget of its
        own total, however that was added up.
        """
        exact = self._exact(amount)
        nearest = round(exact)
        return nearest if 0 < nearest - exact <= exact * ROUNDING else math.floor(exact)

    def charged(self, amount: float) -> float:
        """An amount as the exact search counts it: rounded up to a whole number of it."""
        return self.up(amount) / self.fineness

    def _exact(self, amount: float) -> Fraction:
        if not (math.isfinite(amount) and amount >= 0):
            raise ValueError(f"Expected a finite number of at least 0 {self.word}, got {amount!r}.")
        return Fraction(repr(float(amount))) * self.fineness

    def text(self, amount: float, digits: int = 3) -> str:
        """An amount with its unit."""
        return f"{significant(amount, digits)} {self.word}"

    def apart(self, amount: float, other: float) -> tuple[str, str]:
        """Two amounts with as many digits as tell them apart, at least 3."""
        for digits in range(3, 17):
            texts = self.text(amount, digits), self.text(other, digits)
            if texts[0] != texts[1]:
                break
        return texts

    def clock(self, amount: float) -> str:
        """The same, seconds as a clock shows them."""
        return clock(amount) if self == SECONDS else self.text(amount)


SECONDS = Unit("s", "sec", "s", "second", 10**3)
# 1e-8 kWh is 0.036 J: fine beside any run, and the costs of runs up to 21 kWh may still be squared in 64 bits
KWH = Unit("kwh", "kwh", "kWh", "kWh", 10**8)
USD = Unit("usd", "usd", "USD", "USD", 10**8)
KGCO2 = Unit("kgco2", "kgco2", "kgCO2e", "kgCO2e", 10**8)
UNITS = {unit.name: unit for unit in (SECONDS, KWH, USD, KGCO2)}


@dataclass(frozen=True, slots=True)
class BoardShare:
    """What of a price is the energy of the GPU board."""

    watts: float  # mean over the whole run, as planned
    per_j: float  # what a joule of it costs in the plan's unit


@dataclass(frozen=True, slots=True)
class Price:
    """What each second of a run costs in the plan's unit.

    The ends of `per_sec` hold what is common to all runs (a price's spread, the band of a power model): they widen what
    a plan may cost in all, and average out over no number of runs. It has none where the energy's error is unknown.
    """

    per_sec: Interval
    sd: float | None = None  # relative standard deviation of this configuration's own energy; None: unknown
    board: BoardShare | None = None  # None: energy measured later would say nothing, as of a rent
    shared: tuple[str, ...] = ()  # what is common to all runs and has a known spread: power, price, carbon, making
    unknown: tuple[str, ...] = ()  # what nothing tells the error of: energy, formula, price, carbon

    @property
    def known(self) -> Interval:
        """Return `per_sec`, without a range if its error is unknown."""
        return self.per_sec if self.shared or not self.unknown else Interval(self.per_sec.value)


@dataclass(frozen=True, slots=True)
class Budget:
    """So much of a unit."""

    amount: float
    unit: Unit = SECONDS

    @property
    def text(self) -> str:
        return self.unit.text(self.amount)

    def used(self, amount: float) -> str:
        """How much of it is used: `10 s of 1 min 00 s`, `0.420 of 0.500 kWh`."""
        if self.unit == SECONDS:
            return f"{clock(amount)} of {clock(self.amount)}"
        return f"{significant(amount)} of {self.text}"
