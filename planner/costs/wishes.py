"""Which candidates a user rules out or insists on, and the value of each that is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from epochcast.planner.costs.candidates import Candidate
from epochcast.planner.costs.values import Value
from epochcast.schema import AXIS_NAMES
from epochcast.storage.filters import matches


@dataclass(frozen=True, slots=True)
class Wishes:
    """What must be in a plan, and what must not."""

    must: Sequence[Mapping[str, str]] = ()
    exclude: Sequence[Mapping[str, str]] = ()
    exclude_measured: bool = False
    min_acc: float | None = None
    max_params: int | None = None
    include_diverged: bool = False


def select(
    candidates: Sequence[Candidate], value: Value, wishes: Wishes
) -> tuple[list[Candidate], list[Candidate], list[str]]:
    """Return the runs that must be done and those that may be, valued, and notes on the others.

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
    for words, is_excluded in _rules(value, wishes):
        left = [c for c in kept if not is_excluded(c)]
        if len(left) < len(kept):
            notes.append(f"{len(kept) - len(left)} of {len(candidates)} candidates left out: {words}")
        kept = left
    if not kept and not must:
        raise ValueError(f"no candidate is left of {len(candidates)}: {'; '.join(notes)}.")
    return [replace(c, value=value.of(c)) for c in must], [replace(c, value=value.of(c)) for c in kept], notes


def _rules(value: Value, wishes: Wishes) -> list[tuple[str, Callable[[Candidate], bool]]]:
    """Return why candidates are excluded, each reason in words and as a test of one."""
    needs_accuracy = wishes.min_acc is not None or value.needs_accuracy
    return [
        ("excluded by --exclude", lambda c: matches(c.config, wishes.exclude)),
        ("measured already", lambda c: wishes.exclude_measured and c.was_measured),
        (f"more than {wishes.max_params or 0:,} parameters", lambda c: _is_above(c.params, wishes.max_params)),
        (
            "diverged when measured (--include_diverged keeps them)",
            lambda c: c.has_diverged and not wishes.include_diverged,
        ),
        ("no accuracy was measured", lambda c: c.acc is None and needs_accuracy),
        (f"accuracy below {wishes.min_acc or 0:g}", lambda c: _is_above(wishes.min_acc, c.acc)),
    ]


def _is_above(number: float | None, limit: float | None) -> bool:
    return number is not None and limit is not None and number > limit


def _choices(candidates: Sequence[Candidate]) -> str:
    found = {name: sorted({getattr(c.config, name) for c in candidates}) for name in AXIS_NAMES}
    return "There are " + "; ".join(f"{name} {', '.join(map(str, values))}" for name, values in found.items()) + "."
