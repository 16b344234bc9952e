"""Which setting makes a fit fastest, by how much, and whether the spread supports that."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from epochcast.interval import Interval
from epochcast.live.tuning.halving import LEAST_PAIRS, WORTH, Race, gain_of
from epochcast.live.tuning.settings import Change, Setting, changes


@dataclass(frozen=True, slots=True)
class Prepared:
    """A setting that is ready to be timed."""

    setting: Setting
    first_step_sec: float  # with what is compiled; of the script's own with what is built
    data_sec: float  # to make other data than the script's own, and to fill their cache
    lines: tuple[str, ...]  # that make its data


@dataclass(frozen=True, slots=True)
class Candidate:
    """A setting that was timed, in seconds by the wall clock."""

    setting: Setting
    n_blocks: int
    epoch_sec: float | None  # the median of its blocks; None without one
    first_step_sec: float
    data_sec: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning a fit found; `fit_sec` is of all epochs, without validations, checkpoints and other callbacks."""

    model: str
    params: int
    epochs: int
    batches: int
    backend: str
    device_name: str
    baseline: Setting  # the script's own
    fastest: Setting  # of all that were timed
    setting: Setting  # the answer: the fastest where its gain is supported, else the script's own
    gain: Interval | None  # how many times as fast the fastest is; None if it is the script's own
    n_pairs: int  # of blocks, that the gain is from
    why_kept: str | None  # why the script's own setting is the answer; None if another is
    epoch_sec: float | None  # of the script's own; None if unknown
    fastest_epoch_sec: float | None
    fit_sec: float | None
    fastest_fit_sec: float | None  # with what it compiles more and the filling of a cache
    changes: tuple[Change, ...]  # from the script's own to the answer
    lines: tuple[str, ...]  # of Python, to change in the script
    candidates: tuple[Candidate, ...]
    not_tried: dict[str, str]  # why, by values
    budget_sec: float
    measured_sec: float
    prepared_sec: float  # building, compiling and filling of caches, by all settings
    script_sec: float  # until the fit, of all runs of the script
    other_cores: float | None  # that other programs kept busy meanwhile; None is unknown
    is_contended: bool
    notes: tuple[str, ...]  # sentences

    def to_json(self) -> dict[str, Any]:
        """Return all values as JSON has them."""
        return asdict(self)


def judged(
    race: Race[Setting], prepared: Sequence[Prepared], epochs: int, **known: Any
) -> Tuned:  # Any: the fields of a Tuned that are known already
    """Return the answer that a race gives.

    Args:
        prepared: all settings of the race, the script's own first.
        known: the other fields of Tuned.
    """
    by_setting = {each.setting: each for each in prepared}
    baseline, fastest = prepared[0].setting, race.chosen
    gain = gain_of(race.pairs)
    own: float | None = race.standings[0].epoch_sec
    its = own if fastest == baseline else None
    if race.pairs:
        own, its = (math.exp(statistics.fmean(map(math.log, secs))) for secs in zip(*race.pairs, strict=True))
    fit_sec = None if own is None else epochs * own
    fastest_fit_sec = None if its is None else epochs * its + _more_once(by_setting, baseline, fastest)
    why_kept = _why_kept(race, len(prepared), gain, fit_sec, fastest_fit_sec)
    answer = fastest if why_kept is None else baseline
    return Tuned(
        epochs=epochs,
        baseline=baseline,
        fastest=fastest,
        setting=answer,
        gain=gain,
        n_pairs=len(race.pairs),
        why_kept=why_kept,
        epoch_sec=own,
        fastest_epoch_sec=its,
        fit_sec=fit_sec,
        fastest_fit_sec=fastest_fit_sec,
        changes=changes(baseline, answer),
        lines=(*_lines(baseline, answer), *by_setting[answer].lines),
        candidates=tuple(_candidate(by_setting[each.setting], race) for each in race.standings),
        measured_sec=race.measured_sec,
        **known,
    )


def _candidate(prepared: Prepared, race: Race[Setting]) -> Candidate:
    secs = race.blocks_of(prepared.setting)
    sec = statistics.median(secs) if secs else None
    return Candidate(prepared.setting, len(secs), sec, prepared.first_step_sec, prepared.data_sec)


def _more_once(prepared: Mapping[Setting, Prepared], baseline: Setting, fastest: Setting) -> float:
    """Return the seconds that a setting compiles and fills longer than the script's own."""
    compiled = {
        setting: max(each.first_step_sec for each in prepared.values() if each.setting.way == setting.way)
        for setting in (baseline, fastest)
    }
    data = (fastest.input, fastest.batch_size)
    made_sec = max(e.data_sec for e in prepared.values() if (e.setting.input, e.setting.batch_size) == data)
    return max(0.0, compiled[fastest] - compiled[baseline]) + made_sec


def _why_kept(
    race: Race[Setting], n_settings: int, gain: Interval | None, fit_sec: float | None, fastest_fit_sec: float | None
) -> str | None:
    """Return why the script's own setting stays; None if the fastest is better."""
    if n_settings == 1:
        return "No other setting can be tried."
    if gain is None:
        n_others = sum(bool(each.epoch_secs) for each in race.standings) - 1
        if n_others < 1 or race.chosen != race.standings[0].setting:
            return "The budget is too small to compare settings. A larger --budget_sec is needed."
        return f"None of {n_others} other setting{'s' * (n_others != 1)} was faster."
    if gain.low is None:
        few = f"{len(race.pairs)} of at least {LEAST_PAIRS} pairs of blocks fit the budget."
        return f"{few} A larger --budget_sec gives more."
    if gain.low <= 1:
        return "The spread supports no gain."
    if gain.value < 1 + WORTH:
        return f"A gain of less than {WORTH:.0%} is no reason to change a script."
    if fit_sec is not None and fastest_fit_sec is not None and fastest_fit_sec >= fit_sec:
        return "In so few epochs it does not save what it costs once."
    return None


def _lines(baseline: Setting, setting: Setting) -> list[str]:
    """Return the lines of Python that change precision and compilation."""
    lines = []
    if setting.precision != baseline.precision:
        lines.append(f'keras.config.set_dtype_policy("{setting.precision}")  # before the model is made')
    given = []
    if setting.jit_compile != baseline.jit_compile:
        given.append(f"jit_compile={setting.jit_compile == 'on'}")
    if setting.steps_per_execution != baseline.steps_per_execution:
        given.append(f"steps_per_execution={setting.steps_per_execution}")
    return [*lines, f"model.compile(..., {', '.join(given)})"] if given else lines
