"""Settings that a fit may be done with, and what each changes besides time."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

NO, ROUNDING, ORDER, YES = "no", "rounding", "order", "yes"  # whether a training's result changes
_RANKS = {NO: 0, ROUNDING: 1, ORDER: 2, YES: 3}
CHECK = "Check the accuracy of a real training."
INPUTS = ("arrays", "tfdata", "prefetched", "cached")  # forms of data that are tried; other kinds stay as they are


@dataclass(frozen=True, slots=True)
class Setting:
    """How a fit is done, all values as resolved."""

    precision: str  # the dtype policy
    jit_compile: str  # on | off
    steps_per_execution: int
    input: str  # one of INPUTS, or the kind of other data
    batch_size: int | None  # None: the data's own, which is not known

    @property
    def way(self) -> tuple[Any, ...]:
        """What a compilation depends on: settings with the same share it."""
        return self.precision, self.jit_compile, self.steps_per_execution, self.batch_size


NAMES = tuple(field.name for field in fields(Setting))


@dataclass(frozen=True, slots=True)
class Change:
    """One value that differs from what the script has."""

    name: str  # one of NAMES
    before: Any
    after: Any
    changes_result: str  # NO, ROUNDING, ORDER or YES
    why: str  # words and sentences


def changes(baseline: Setting, setting: Setting) -> tuple[Change, ...]:
    """Return what a setting changes of the baseline."""
    before, after = asdict(baseline), asdict(setting)
    return tuple(
        Change(name, before[name], after[name], *_effect(name, before[name], after[name]))
        for name in NAMES
        if before[name] != after[name]
    )


def _effect(name: str, before: Any, after: Any) -> tuple[str, str]:
    """Return whether a change of one value changes the training's result, in words too."""
    if name == "jit_compile":
        return ROUNDING, "the result differs by rounding only: the same arithmetic in another order."
    if name == "steps_per_execution":
        often = "at each step" if after == 1 else f"once in {after} steps"
        return NO, f"the result is the same. Callbacks and logs see batches {often}, and a stop waits for that."
    if name == "precision":
        scaled = " The loss is scaled, so that small gradients are not lost." if after == "mixed_float16" else ""
        return YES, f"changes the result: layers compute in {after.removeprefix('mixed_')}. {CHECK}{scaled}"
    if name == "batch_size":
        return YES, f"changes the result: other updates of the weights, for which time alone is no reason. {CHECK}"
    if after == "cached" and before == "arrays":
        return YES, "changes the result: each epoch has the same batches, in another order."
    if after == "cached":
        return YES, (
            "changes the result where what comes before the cache is random (shuffling, augmentation): that is drawn "
            "once, for all epochs."
        )
    if after == "tfdata":
        return ORDER, "the result differs as by another seed: the samples come in another random order."
    return NO, "the result is the same: batches are made while others are trained on."


def keeps_result(baseline: Setting, setting: Setting) -> bool:
    """Whether a setting keeps a training's result, but for rounding and order of samples."""
    return all(each.changes_result != YES for each in changes(baseline, setting))


def combinations(baseline: Setting, values: Mapping[str, Sequence[Any]]) -> list[Setting]:
    """Return all settings of these values: the baseline, then those that change least.

    Args:
        values: of some of NAMES; each has its value of the baseline in any case.
    """
    lists = [dict.fromkeys([getattr(baseline, name), *values.get(name, ())]) for name in NAMES]
    return sorted((Setting(*each) for each in itertools.product(*lists)), key=lambda each: _weight(baseline, each))


def _weight(baseline: Setting, setting: Setting) -> tuple[int, int]:
    """Return how much a setting changes the result, and how many values it changes."""
    found = changes(baseline, setting)
    return sum(_RANKS[each.changes_result] for each in found), len(found)
