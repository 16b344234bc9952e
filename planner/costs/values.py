"""Kinds of value that a plan can have. A new kind is one entry here: flags, texts, figures and searches ask it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from epochcast.planner.costs.candidates import Candidate


class Combination(Enum):
    """How the values of runs make the value of a plan, in the words of the flag's help."""

    SUM = "their sum over the runs"
    BEST = "the best single run"
    INFORMATION = "what teaches the time model most"


@dataclass(frozen=True, slots=True)
class Value:
    """One kind of value: what a run adds, and how the values of runs combine."""

    name: str  # as --value and plan.json have it
    label: str  # of an axis or a column
    goal: str  # what a plan has most of
    of: Callable[[Candidate], float]  # the value of all repeats of one run
    combination: Combination = Combination.SUM
    scale: int = 1  # whole numbers of the exact search in one
    digits: int | None = None  # that people are shown; None: all before the point
    needs_accuracy: bool = False  # a run without a measured one has no such value

    def __reduce__(self) -> tuple[Callable[[str], Value], tuple[str]]:
        if VALUES.get(self.name) is not self:
            raise TypeError(f"{self.name}: only the kinds in VALUES can go to another process.")
        return _value_named, (self.name,)  # by name: the lambda in `of` can't be pickled

    def whole(self, candidate: Candidate) -> int:
        """Return a run's value in the whole numbers of the exact search."""
        return round(self.scale * candidate.value)

    def is_gain(self, value: float, best: float) -> bool:
        """Return whether a run of this value adds anything to runs of which the best has `best`."""
        return self.combination is not Combination.BEST or value > best


ACC = Value(
    "acc",
    "sum of test accuracies",
    "the sum of acc",
    lambda c: c.acc or 0.0,
    scale=10**6,
    digits=5,
    needs_accuracy=True,
)
THR = Value("thr", "sum of throughputs (images/s)", "the sum of thr", lambda c: c.images_per_sec, scale=10**3, digits=6)
COUNT = Value("count", "configurations", "the number of runs", lambda c: 1.0)
BEST_ACC = Value(
    "best_acc",
    "best test accuracy",
    "the best acc",
    lambda c: c.acc or 0.0,
    Combination.BEST,
    digits=4,
    needs_accuracy=True,
)
INFO = Value(
    "info",
    "share of the variance explained",
    "what the time model learns",
    lambda c: 0.0,  # depends on the other runs: the search finds it
    Combination.INFORMATION,
    digits=3,
)
VALUES = {value.name: value for value in (ACC, THR, COUNT, BEST_ACC, INFO)}


def _value_named(name: str) -> Value:
    return VALUES[name]


def values_help() -> str:
    """Return all kinds by how they combine, for the help of a flag."""
    names = {how: [value.name for value in VALUES.values() if value.combination is how] for how in Combination}
    return "; ".join(f"{', '.join(own)}: {how.value}" for how, own in names.items())


def default_value(candidates: Sequence[Candidate]) -> Value:
    """Return `acc` if every candidate has a measured accuracy, else `count`."""
    return ACC if all(c.acc is not None for c in candidates) else COUNT
