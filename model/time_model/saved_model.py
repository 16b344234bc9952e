"""Answer with a saved time model, by NumPy and h5py alone: no TensorFlow start-up for one prediction.

A model is a `.keras` file and the JSON card beside it. The network takes standardised features, shape (n, f), and gives
its members' log residuals on the law in the card, shape (n, members), in units of `residual_scale`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from epochcast.gpus.device_names import are_same_conditions
from epochcast.gpus.lookup import index_in_box, is_same_device
from epochcast.interval import Interval
from epochcast.model.time_model.card import read_card
from epochcast.model.time_model.ensemble import ACTIVATIONS
from epochcast.model.time_model.intervals import Range, Widths, half_width_sds
from epochcast.model.time_model.network_file import read_ensemble
from epochcast.model.time_model.own_models import OwnCard, ranked, why_first
from epochcast.model.time_model.physics import Law
from epochcast.model.time_model.saved_files import read_pair
from epochcast.model.time_model.startup import Excess, Overhead, WholeRun, from_json, whole_run
from epochcast.model.time_model.time_model import Inputs, TimeModel
from epochcast.paths import demo_dir, models_dir, pretrained_dir
from epochcast.schema import TRAIN_N, Conditions, RunConfig
from epochcast.storage.cells import columns

if TYPE_CHECKING:
    from epochcast.aggregate.averages.condition_sets import ChosenSet

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class PredictedTimes:
    """What one configuration takes by a model, with intervals."""

    domain: str  # model.time_model.intervals: within, beyond or far from the measured range
    outside: list[str]
    steady: Interval
    run: WholeRun


@dataclass(frozen=True, slots=True, eq=False)
class SavedModel:
    """A time model with its card: what it was trained on, how far it reaches, how well it predicts."""

    path: Path
    card: dict[str, Any]
    time_model: TimeModel
    range: Range
    plain_law: Law
    widths: Widths
    excess: Excess | None
    overhead: Overhead | None

    @property
    def device_name(self) -> str | None:
        return self.conditions.device_name

    @property
    def is_of_this_box(self) -> bool:
        """Whether it was learned on a device of this box."""
        return index_in_box(self.device_name) is not None

    @property
    def conditions(self) -> Conditions:
        return Conditions(**self.card["conditions"])

    @property
    def coverage(self) -> float:
        """Return the share of true values that its intervals hold, by its card."""
        return float(self.card["intervals"]["coverage"])

    def at_coverage(self, coverage: float) -> SavedModel:
        """Return the model with intervals of another coverage, errors taken as normal.

        Whoever adds them to intervals of rows needs this; an answer of the model alone keeps the card's own.
        """
        factor = half_width_sds(coverage) / half_width_sds(self.coverage)
        if factor == 1:
            return self
        excess, overhead = self.excess, self.overhead
        excess = None if excess is None else replace(excess, widths=excess.widths.times(factor))
        overhead = None if overhead is None else replace(overhead, widths=overhead.widths.times(factor))
        card = {**self.card, "intervals": {**self.card["intervals"], "coverage": coverage}}
        return replace(self, card=card, widths=self.widths.times(factor), excess=excess, overhead=overhead)

    @property
    def train_n(self) -> int:
        """Images per epoch of the rows it learned from."""
        return self.time_model.train_n

    def outside(self, config: RunConfig) -> list[str]:
        """What of a configuration lies outside the measured range, in words; empty if nothing does."""
        return self.range.outside(config)

    def forecast(self, config: RunConfig, epochs: int | None = None) -> PredictedTimes:
        """Steady time, first epoch and overhead of one configuration, and with `epochs` a run's total.

        Raises:
            ValueError: if the configuration is too far outside to be predicted at all.
        """
        domain = self.range.domain(config, self.widths.axes)
        seconds = float(self.time_model.times([config])[0])
        steady = Interval.of_log(seconds, self.widths.of(domain))
        run = whole_run(config, steady, domain, self.excess, self.overhead, epochs)
        return PredictedTimes(domain, self.range.outside(config), steady, run)


def _law(values: dict[str, Any], train_n: int) -> Law:
    return Law(values["form"], np.array(values["coefficients"], np.float64), train_n)


def load_model(path: Path) -> SavedModel:
    """A saved time model, checked against its card.

    Raises:
        FileNotFoundError: if the model or its card is missing.
        ValueError: if the file is not the one that the card describes, or takes other features than ours.
    """
    path = path.absolute()
    data, card = read_pair(path)
    if card["activation"] not in ACTIVATIONS:
        raise ValueError(f"{path}: activation {card['activation']!r} is not known to this version. Train it again.")
    try:
        network = read_ensemble(data, card["activation"], len(card["feature_names"]))
    except ValueError as error:
        raise ValueError(f"{path}: not a time model: {error}. Train it again.") from None
    train_n = card["conditions"]["train_n"] or TRAIN_N
    law = card["law"]
    n_features = len(card["feature_names"])
    inputs = Inputs(
        tuple(card["feature_names"]),
        np.array(card["feature_mean"], np.float64),
        np.array(card["feature_scale"], np.float64),
        np.full(n_features, -np.inf) if card["feature_low"] is None else np.array(card["feature_low"], np.float64),
        np.full(n_features, np.inf) if card["feature_high"] is None else np.array(card["feature_high"], np.float64),
    )
    time_model = TimeModel(
        None if law is None else _law(law, train_n),
        network,
        inputs,
        card["residual_scale"],
        train_n,
    )
    ranges = Range.from_json(card["range"])
    intervals = card["intervals"]
    widths = Widths(
        intervals["within"],
        intervals["beyond"],
        intervals["n"],
        intervals["n_levels"],
        tuple(intervals["axes"]),
        sum(level["n"] for level in card["levels"]),
    )
    return SavedModel(
        path, card, time_model, ranges, _law(card["plain_law"], train_n), widths, *from_json(card, train_n)
    )


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The model that answers, and why it and no other."""

    model: SavedModel
    reason: str


def choose_model(
    path: Path | None = None,
    conditions: Conditions | None = None,
    wanted: Mapping[str, str] | None = None,
    precision: str | None = None,
) -> Choice:
    """Return the model that answers: `path`, else one of this box, else the pretrained one.

    Of this box's models those of the device that a run uses go before those of its other GPUs, then those below
    results/models before the demonstration's. Of several sets of conditions the first by `averages.condition_order`
    answers, by its newest model. A model or card that is broken is passed over and named. No configuration changes the
    choice: one outside the measured range is marked so in the answer.

    Args:
        conditions: of a table that the answer goes with: only a model learned under just these answers, of any device.
        wanted: conditions by name and text; only a model that is known to meet each answers.
        precision: that a model of this box is preferred to have been learned in.

    Raises:
        FileNotFoundError, ValueError: if `path` is no sound model, or no model fits the conditions.
    """
    wanted = wanted or {}
    if path is not None:
        saved = load_model(path)
        if conditions is not None and (differing := _contradictions(saved.conditions, conditions)):
            raise ValueError(f"{path}: learned under other conditions than the table's: {differing}. Name another.")
        return _meeting(Choice(saved, "named by --model"), wanted)
    own, reasons = _own_cards(conditions, wanted)
    sets = ranked(own, precision)
    for i, cards in enumerate(sets):
        for found in cards:
            whose = found.whose if conditions is None else "of the table's conditions"
            try:
                return Choice(load_model(found.path), why_first(sets[i:], precision, whose))
            except (ValueError, OSError) as error:
                reasons.append(_passed_over(error))
    why = "; ".join(reasons) or f"none in {models_dir()}"
    if conditions is not None:
        raise ValueError(f"no model of the table's conditions ({why}). Train one: epochcast train, or name --model.")
    return _meeting(pretrained(f"as no local one fits: {why}"), wanted)


def choose_model_of(chosen: ChosenSet, path: Path | None = None) -> Choice:
    """Return the model of a set of conditions of a table: `path`, else one that was learned under just these.

    Raises:
        ValueError: if there is none: names the set, and the flags of the other sets that have a model.
    """
    conditions = chosen.rows[0].conditions
    try:
        return choose_model(path, conditions)
    except ValueError as error:
        if path is not None:
            raise
        used = chosen.reason or f"the table's conditions: {conditions.describe()}"
        flags = [other.flag for other in chosen.others if _own_cards(other.conditions, {})[0]]
        instead = f" Or take a set that has a model: {' or '.join(flags)}." if flags else ""
        raise ValueError(f"{error}{instead} ({used})") from None


def pretrained(reason: str) -> Choice:
    """Return the shipped model as a choice."""
    return Choice(load_model(pretrained_dir() / "a100.keras"), f"the pretrained model, {reason}")


def _own_cards(conditions: Conditions | None, wanted: Mapping[str, str]) -> tuple[list[OwnCard], list[str]]:
    """The models that may answer, of this box (or of the table's conditions), and why each other may not."""
    found, reasons = [], []
    folders = ((models_dir(), True), (demo_dir() / "models", False))
    for card_file, is_local in ((file, own) for folder, own in folders for file in sorted(folder.glob("*.json"))):
        try:
            card = read_card(card_file)
        except (ValueError, OSError) as error:
            reasons.append(_passed_over(error))
            continue
        own = Conditions(**card["conditions"])
        if conditions is not None and not are_same_conditions(own, conditions):
            reasons.append(f"{card_file.stem} was learned under other conditions")
        elif (nth := index_in_box(own.device_name)) is None and conditions is None and "device_name" not in wanted:
            reasons.append(f"{card_file.stem} is of {own.device_name or 'an unknown device'}")
        elif differing := contradicted(own, wanted):
            reasons.append(f"{card_file.stem} was learned under {differing}")
        else:
            path = card_file.with_suffix(".keras")
            counts = card["n_configurations"], card["n_runs"], card["created_utc"]
            found.append(OwnCard(path, is_local, own, *counts, nth))
    return found, reasons


def _passed_over(error: Exception) -> str:
    logger.warning("passed over: %s", error)  # one bad card must not keep the others from answering
    return f"passed over: {error}"


def _meeting(choice: Choice, wanted: Mapping[str, str]) -> Choice:
    """The choice, unless it is not known to meet the conditions wanted: then a ValueError."""
    if differing := contradicted(choice.model.conditions, wanted):
        raise ValueError(f"{choice.model.path} ({choice.reason}) was learned under {differing}.")
    return choice


def contradicted(conditions: Conditions, wanted: Mapping[str, str]) -> str:
    """Which of the wanted conditions a model's are not known to meet, in words; empty if none.

    Raises:
        ValueError: if a name is no condition.
    """
    if unknown := [name for name in wanted if name not in columns(Conditions)]:
        raise ValueError(f"{', '.join(unknown)}: not a condition; use {', '.join(columns(Conditions))}.")
    known = {name: getattr(conditions, name) for name in wanted}
    found = {name: "" if value is None else str(value) for name, value in known.items()}  # as in a filter
    return ", ".join(
        f"{name} {found[name] or 'unknown'}, not {value or 'unknown'}"
        for name, value in wanted.items()
        if found[name] != value and not (name == "device_name" and is_same_device(conditions.device_name, value))
    )


def _contradictions(one: Conditions, other: Conditions) -> str:
    """The conditions that are known in both and differ, in words; what one does not know is no contradiction."""
    if is_same_device(one.device_name, other.device_name):
        one = replace(one, device_name=other.device_name)
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in columns(Conditions)}
    return ", ".join(f"{n} {a}, not {b}" for n, (a, b) in pairs.items() if a != b and a is not None and b is not None)
