"""The order in which sets of conditions are preferred: one for the sets of a table and for those of saved models.

After an upgrade of the framework the few new rows are of what runs now, so backend and version go before the size of a
set. That counts from the fewest rows on that a time model learns from: one trial under another version must not end all
training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from epochcast.machine.packages import backend_name, installed_minor
from epochcast.schema import Conditions

LEARNABLE_ROWS = 6  # the fewest configurations that a time model learns from


class Standing(NamedTuple):
    """What decides between sets of conditions, the first first; the greater tuple is preferred."""

    is_learnable: bool
    framework: int  # of learnable sets: 2 of the backend and version that a run on this box takes, 1 of the backend, 0
    n_configurations: int
    n_runs: int
    newest: Any = None  # comparable: a time, or a place in a table


def standing(conditions: Conditions, n_configurations: int, n_runs: int, newest: Any = None) -> Standing:
    """Return the standing of a set of conditions on this box."""
    backend, framework = backend_name(), 0
    is_learnable = n_configurations >= LEARNABLE_ROWS
    if is_learnable and conditions.backend == backend:
        framework = 2 if installed_minor(backend) in (None, conditions.backend_version) else 1
    return Standing(is_learnable, framework, n_configurations, n_runs, newest)


def standing_words(best: Standing, newest: str = "the newest") -> list[str]:
    """Return what each field of the best `Standing` says of its set, where that field decides."""
    backend = backend_name()
    version = installed_minor(backend) if best.framework == 2 else None
    return [
        f"the one with {LEARNABLE_ROWS} configurations or more",
        f"the one of the {f'installed {backend} {version}' if version else f'backend in use, {backend}'}",
        "the largest",
        "the one with most runs",
        newest,
    ]


def decisive(best: Sequence[Any], others: Iterable[Sequence[Any]], words: Sequence[str]) -> str:
    """Return which criteria put `best` before the others, in words; empty where none did.

    Of each criterion in turn: whether a set that was level until then fell back by it.
    """
    level, found = list(others), []
    for i, said in enumerate(words):
        ahead = [other for other in level if other[i] == best[i]]
        if len(ahead) < len(level):
            found.append(said)
        level = ahead
    return ", of those ".join(found)
