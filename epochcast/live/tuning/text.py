"""The answer of tuning in words."""

from __future__ import annotations

from typing import Any

from epochcast.interval import OWN_COVERAGE, Interval, coverage_text
from epochcast.live.tuning.answer import Tuned
from epochcast.live.tuning.settings import NAMES, Setting, changes, keeps_result
from epochcast.output.text import clock, significant, table_text

SHORT_SEC = 10.0
HEADER = ("setting", "epoch s", "times as fast", "blocks", "first step s", "data s")


def tuned_lines(found: Tuned) -> list[str]:
    """Return the answer: setting, gain, times, the lines to change and what they change."""
    if found.why_kept is None:
        lines = [f"setting: {change_text(found.baseline, found.setting)}"]
    else:
        lines = [f"setting: keep what the script has ({setting_text(found.baseline)})"]
    lines += [f"gain: {_gain_text(found)}", *_fit_lines(found)]
    lines += [f"change: {line}" for line in found.lines]
    lines += [f"{change.name}: {change.why}" for change in found.changes]
    parameters = f"{found.params:,} parameters"
    lines.append(
        f"of: {found.model}, {parameters}, {found.epochs} epoch{'s' * (found.epochs != 1)} of {found.batches:,} "
        f"batches, {found.backend} on {found.device_name}"
    )
    n_timed, n_blocks = (
        sum(each.n_blocks > 0 for each in found.candidates),
        sum(each.n_blocks for each in found.candidates),
    )
    lines.append(
        f"measured: {n_timed} of {len(found.candidates)} settings, {n_blocks} block{'s' * (n_blocks != 1)} in "
        f"{significant(found.measured_sec)} s; {significant(found.prepared_sec)} s to build, compile and fill caches "
        f"before, {significant(found.script_sec)} s of the script's own"
    )
    return lines + [f"not_tried: {values}: {why}" for values, why in found.not_tried.items()]


def _gain_text(found: Tuned) -> str:
    if found.gain is None:
        return f"none. {found.why_kept}"
    text = f"{_factor_text(found.gain)}, from {found.n_pairs} pairs of blocks"
    if found.why_kept is None:
        return text
    return f"none. The fastest other, {change_text(found.baseline, found.fastest)}: {text}. {found.why_kept}"


def _factor_text(gain: Interval) -> str:
    """Return how many times as fast, with its range."""
    text = f"{significant(gain.value)} times as fast"
    if gain.low is None or gain.high is None:
        return f"{text} (range unknown)"
    return f"{text} ({significant(gain.low)} to {significant(gain.high)}, {coverage_text(OWN_COVERAGE)})"


def _fit_lines(found: Tuned) -> list[str]:
    if found.fit_sec is None or found.epoch_sec is None:
        return []
    now = f"{_clock(found.fit_sec)} for {found.epochs} epoch{'s' * (found.epochs != 1)} of "
    now += f"{significant(found.epoch_sec)} s"
    if found.why_kept is not None or found.fastest_fit_sec is None or found.fastest_epoch_sec is None:
        return [f"fit: {now}, without validation and callbacks"]
    then = f"{_clock(found.fastest_fit_sec)}, epochs of {significant(found.fastest_epoch_sec)} s"
    return [f"fit: {then}, instead of {now}; without validation and callbacks"]


def _clock(sec: float) -> str:
    """Return a duration for people, of a few seconds with their parts."""
    return clock(sec) if sec >= SHORT_SEC else f"{significant(sec)} s"


def value_text(name: str, value: Any) -> str:
    """Return one value of a setting in words."""
    return str(value) if name == "precision" else f"{name} {'unknown' if value is None else value}"


def change_text(baseline: Setting, setting: Setting) -> str:
    """Return what a setting changes, in words."""
    return ", ".join(value_text(each.name, each.after) for each in changes(baseline, setting)) or "as it is"


def setting_text(setting: Setting) -> str:
    """Return all values of a setting in words."""
    return ", ".join(value_text(name, getattr(setting, name)) for name in NAMES)


def candidate_lines(found: Tuned) -> list[str]:
    """Return a table of all settings, the fastest first."""
    own = found.candidates[0].epoch_sec
    rows = [
        [
            change_text(found.baseline, each.setting),
            each.epoch_sec,
            None if own is None or each.epoch_sec is None else own / each.epoch_sec,
            each.n_blocks,
            each.first_step_sec,
            each.data_sec or None,
        ]
        for each in sorted(found.candidates, key=lambda each: (each.epoch_sec is None, each.epoch_sec or 0.0))
    ]
    return table_text(HEADER, rows).splitlines()


def tuned_notes(found: Tuned) -> list[str]:
    """Return what stands below the answer, a sentence each."""
    notes = list(found.notes)
    if not keeps_result(found.baseline, found.setting):
        notes.append("--keep_result tries only settings that leave the result as it is.")
    if found.is_contended and found.other_cores is not None:
        notes.append(f"other programs kept {found.other_cores:.1f} cores busy meanwhile.")
    return notes
