"""What runs are worth, and which of them a user rules out or insists on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from epochcast.planner.costs.candidates import Candidate
from epochcast.schema import AXIS_NAMES
from epochcast.storage.filters import matches

SUMS = ("acc", "thr", "count")  # the value of a plan is the sum over its runs
VALUES = (*SUMS, "best_acc", "info")
VALUE_LABELS = {
    "acc": "sum of test accuracies",
    "thr": "sum of throughputs (images/s)",
    "count": "configurations",
    "best_acc": "best test accuracy",
    "info": "share of the variance explained",
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What must be in a plan, and what must not."""

    must: Sequence[Mapping[str, str]] = ()
    exclude: Sequence[Mapping[str, str]] = ()
    exclude_measured: bool = False
    min_acc: float | None = None
    max_params: int | None = None
    include_diverged: bool = False


def choose_value(candidates: Sequence[Candidate]) -> str:
    """`acc` if every candidate has a measured accuracy, else `count`."""
    return "acc" if all(c.acc is not None for c in candidates) else "count"


def select(
    candidates: Sequence[Candidate], value: str, wishes: Wishes
) -> tuple[list[Candidate], list[Candidate], list[str]]:
    """The runs that must be done, those that may be, each with what it is worth; notes on those left out.

    A run that must be done stays whatever else rules it out; where its value is unknown it counts nothing.

    Raises:
        ValueError: if a wish names no candidate, two contradict each other, or nothing is left.
    """
    for name, filters in (("--must", wishes.must), ("--exclude", wishes.exclude)):
        for pairs in filters:
            if not any(matches(c.config, [pairs]) for c in candidates):
                words = ",".join(f"{key}={text}" for key, text in pairs.items())
                raise ValueError(f"{name} {words}: no candidate is like that. {_choices(candidates)}")
    must = [c for c in candidates if matches(c.config, wishes.must)]
    if both := [c for c in must if matches(c.config, wishes.exclude)]:
        raise ValueError(f"--must and --exclude both name {both[0].config}: narrow one of them.")
    kept = [c for c in candidates if not matches(c.config, wishes.must)]
    notes = []
    if must:
        notes.append(f"{len(must)} of {len(candidates)} candidates must be in, whatever else would leave them out")
    rules: list[tuple[str, Callable[[Candidate], bool]]] = [
        ("excluded by --exclude", lambda c: matches(c.config, wishes.exclude)),
        ("measured already", lambda c: wishes.exclude_measured and c.was_measured),
        (f"more than {wishes.max_params or 0:,} parameters", lambda c: _is_above(c.params, wishes.max_params)),
        (
            "diverged when measured (--include_diverged keeps them)",
            lambda c: c.has_diverged and not wishes.include_diverged,
        ),
        ("no accuracy was measured", lambda c: c.acc is None and (wishes.min_acc is not None or "acc" in value)),
        (f"accuracy below {wishes.min_acc or 0:g}", lambda c: _is_above(wishes.min_acc, c.acc)),
    ]
    for words, is_out in rules:
        left = [c for c in kept if not is_out(c)]
        if len(left) < len(kept):
            notes.append(f"{len(kept) - len(left)} of {len(candidates)} candidates left out: {words}")
        kept = left
    if not kept and not must:
        raise ValueError(f"no candidate is left of {len(candidates)}: {'; '.join(notes)}.")
    return [replace(c, value=_worth(c, value)) for c in must], [replace(c, value=_worth(c, value)) for c in kept], notes


def _is_above(number: float | None, limit: float | None) -> bool:
    return number is not None and limit is not None and number > limit


def _worth(candidate: Candidate, value: str) -> float:
    """What one run adds to a sum; `info` depends on the others and is told by the search."""
    if value == "info":
        return 0.0
    if value == "count":
        return 1.0
    return candidate.images_per_sec if value == "thr" else candidate.acc or 0.0


def _choices(candidates: Sequence[Candidate]) -> str:
    found = {name: sorted({getattr(c.config, name) for c in candidates}) for name in AXIS_NAMES}
    return "There are " + "; ".join(f"{name} {', '.join(map(str, values))}" for name, values in found.items()) + "."
