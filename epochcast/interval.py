"""A value with the ends of what is known of it, their coverage, and what becomes of them in sums and products."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

COVERAGE = 0.90  # the share of true values that intervals are made to hold; a saved model's card says its own
OWN_COVERAGE = 0.95  # of the interval that a run's own epochs give, `rel_ci95`


def coverage_text(coverage: float | None = None) -> str:
    """Return a coverage in words, `90 %`; without one COVERAGE."""
    return f"{coverage_digits(coverage)} %"


def coverage_digits(coverage: float | None = None) -> str:
    """Return the number of `coverage_text` alone, for names: `90`."""
    return f"{100 * (COVERAGE if coverage is None else coverage):g}"


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the ends of what is known of it: of a prediction its interval, of facts their spread.

    `low` and `high` are None where neither is known.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of_log(cls, value: float, half: float | None) -> Interval:
        """From a half-width in natural logs."""
        return cls(value) if half is None else cls(value, value * math.exp(-half), value * math.exp(half))

    @classmethod
    def of_relative(cls, value: float, half: float | None) -> Interval:
        """From a half-width relative to the value; no time is below 0."""
        return cls.of_absolute(value, None if half is None else half * value)

    @classmethod
    def of_factor(cls, value: float, half: float | None) -> Interval:
        """Return the interval from value / (1 + half) to value * (1 + half).

        A small half-width is the relative one both ways; a large one never reaches down to 0.
        """
        return cls.of_log(value, None if half is None else math.log1p(half))

    @classmethod
    def of_absolute(cls, value: float, half: float | None) -> Interval:
        """From a half-width in the value's unit; no time is below 0."""
        return cls(value) if half is None else cls(value, max(0.0, value - half), value + half)

    def times(self, factor: float) -> Interval:
        """Of a multiple."""
        if self.low is None or self.high is None:
            return Interval(self.value * factor)
        return Interval(self.value * factor, self.low * factor, self.high * factor)

    def inverse(self, numerator: float) -> Interval:
        """Of numerator / value."""
        if self.low is None or self.high is None:
            return Interval(numerator / self.value)
        return Interval(numerator / self.value, numerator / self.high, numerator / self.low)

    def by(self, other: Interval) -> Interval:
        """The product with another that is not below 0, from its lowest to its highest: nothing says that they differ
        independently. No ends where either has none."""
        value = self.value * other.value
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return Interval(value)
        return Interval(value, self.low * other.low, self.high * other.high)

    @classmethod
    def of_spread(cls, value: float, others: Iterable[float]) -> Interval:
        """From what several sources say; `value` is the one that is used."""
        values = [value, *others]
        return cls(value, min(values), max(values))


def total(parts: Sequence[Interval]) -> Interval:
    """The sum of parts whose errors are independent: half-widths add as squares, above and below by themselves.

    No interval where a part has none.
    """
    value = math.fsum(p.value for p in parts)
    below, above = [], []
    for part in parts:
        if part.low is None or part.high is None:
            return Interval(value)
        below.append(part.value - part.low)
        above.append(part.high - part.value)
    return Interval(value, value - math.hypot(*below), value + math.hypot(*above))


def with_ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    """Return a value and its ends for JSON: `name`, `name_low`, `name_high`; None is unknown."""
    if interval is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
