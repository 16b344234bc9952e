"""Which of this box's saved models go first, by what their cards say, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from epochcast.aggregate.averages.condition_order import Standing, decisive, standing, standing_words
from epochcast.gpus.device_names import board_name
from epochcast.paths import models_dir
from epochcast.schema import Conditions


@dataclass(frozen=True, slots=True)
class OwnCard:
    """What a card says that decides whether its model answers."""

    path: Path
    is_local: bool  # below results/models, where the user's trainings go
    conditions: Conditions
    n_configurations: int
    n_runs: int
    created_utc: str
    nth_device: int | None  # of this box, 0 is the one that a run uses; None: of another box

    @property
    def whose(self) -> str:
        """Whose model it is, in words."""
        device = self.conditions.device_name or "an unknown device"
        return f"of {device}" if self.nth_device is None else f"of this box ({device})"


def ranked(cards: Sequence[OwnCard], precision: str | None) -> list[list[OwnCard]]:
    """Return the cards by set of conditions, the set that answers first, in each the newest first."""
    sets: dict[tuple[bool, Conditions], list[OwnCard]] = {}
    for card in cards:
        conditions = replace(card.conditions, device_name=board_name(card.conditions.device_name))
        sets.setdefault((card.is_local, conditions), []).append(card)
    ordered = (sorted(own, key=lambda card: card.created_utc, reverse=True) for own in sets.values())
    return sorted(ordered, key=lambda own: _rank(own, precision), reverse=True)


def _standing(own: Sequence[OwnCard]) -> Standing:
    return standing(
        own[0].conditions,
        max(card.n_configurations for card in own),
        max(card.n_runs for card in own),
        max(card.created_utc for card in own),
    )


def _rank(own: Sequence[OwnCard], precision: str | None) -> tuple[Any, ...]:
    """Device, precision asked for, own trainings, then the order of a table's sets."""
    is_used, is_in_precision = own[0].nth_device == 0, precision in (None, own[0].conditions.precision)
    return (is_used, is_in_precision, own[0].is_local, *_standing(own))


def why_first(sets: Sequence[Sequence[OwnCard]], precision: str | None, whose: str) -> str:
    """Return why the first of some ranked sets goes before the others, in words; `whose` models they are."""
    best, *others = sets
    is_local = best[0].is_local
    rivals = [own for own in others if own[0].is_local or not is_local]
    words = f"the newest local model {whose}" if is_local else f"the demonstration's model {whose}"
    if not is_local and not any(own[0].is_local for own in others):
        words += f", as none fits in {models_dir()}"
    if rivals:
        criteria = [
            "the one of the device that a run uses",
            f"the one in {precision}",
            "",
            *standing_words(_standing(best), "the last trained"),
        ]
        by = decisive(_rank(best, precision), [_rank(own, precision) for own in rivals], criteria)
        words += f", of {len(rivals) + 1} sets of conditions {by} (--conditions chooses another)"
    return words
