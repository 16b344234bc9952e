"""A prediction for people: lines of one configuration, a table of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from epochcast.interval import Interval, coverage_digits, coverage_text
from epochcast.model.answers.prediction import NoPrediction, Prediction, memory_gib, run_parts
from epochcast.model.time_model.card_text import error_text, half_width_text
from epochcast.model.time_model.intervals import DOMAINS, FAR, WITHIN
from epochcast.output.text import range_text, significant, table_text

FORM_NOTES = {"physics": " (physics alone)", "transferred": " (started from another device's)"}


def device_words(name: str | None, this_box: str, is_this_box: bool) -> str:
    """Return the device of an answer, and whether it is this box's."""
    return f"this box ({name})" if is_this_box else f"{name or 'an unknown device'} (NOT this box: {this_box})"


def under_words(prediction: Prediction) -> str:
    """Return under what a prediction holds: device, length of an epoch, framework, precision, model."""
    saved = prediction.saved
    conditions = saved.conditions
    framework = f"{conditions.backend or 'an unknown framework'} {conditions.backend_version or ''}".strip()
    return (
        f"{device_words(saved.device_name, prediction.this_box, saved.is_of_this_box)}, epochs of {saved.train_n:,} "
        f"images, {framework}, {conditions.precision or 'an unknown precision'}; model {saved.path.name}"
    )


def domain_words(prediction: Prediction) -> str:
    """Return where a configuration lies against what was measured, and how wide its interval is there."""
    outside = "".join(f", {words}" for words in prediction.times.outside)
    return f"{prediction.domain}{outside}: {_width_words(prediction)}"


def _width_words(prediction: Prediction) -> str:
    if prediction.half_width_log is not None:
        how = "" if prediction.domain == WITHIN else "extrapolating, "
        return how + half_width_text(prediction.half_width_log)
    how = "extrapolating further than any check reaches: " if prediction.domain == FAR else ""
    return f"{how}{prediction.range_unknown}"


def prediction_lines(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction line by line: each interval below its value, the rest in words."""
    saved, coverage = prediction.saved, prediction.saved.coverage
    lines: dict[str, Any] = {
        "device": under_words(prediction),
        **asdict(prediction.config),
        "params": prediction.params,
        "steps_per_epoch": prediction.steps_per_epoch,
        **_interval_lines("predicted_avg_time_sec", prediction.times.steady, coverage),
        **_interval_lines("predicted_images_per_sec_derived", prediction.images_per_sec, coverage),
    }
    if prediction.epochs is not None:
        lines["epochs"] = prediction.epochs
        for name, part in run_parts(prediction.times.run).items():
            lines |= _interval_lines(name, part, coverage)
    if (measured := prediction.measured) is not None:
        lines |= _interval_lines("measured_avg_time_sec", measured.steady)
        lines["measured_basis"] = measured.basis
    gib = memory_gib(prediction.memory)
    lines |= {"peak_memory_gib": gib.value, "peak_memory_band_gib": _ends(gib)}
    lines["peak_memory_basis"] = prediction.memory.basis
    if (energy := prediction.energy) is not None:
        lines |= {"board_energy_j_per_epoch": energy.joules.value, "board_energy_band_j": _ends(energy.joules)}
        lines["board_energy_basis"] = energy.basis
    return lines | {
        "domain": domain_words(prediction),
        "model": f"{saved.path}{FORM_NOTES.get(saved.card['form'], '')}",
        "answered_because": prediction.choice.reason,
        "conditions": saved.conditions.describe(),
        "error": error_text(saved.card["errors"]),
    }


def _interval_lines(name: str, interval: Interval | None, coverage: float | None = None) -> dict[str, Any]:
    """Return a value and its ends; without `coverage` they are of COVERAGE."""
    name_of_ends = f"{name}_{coverage_digits(coverage)}"
    return (
        {name: None, name_of_ends: None} if interval is None else {name: interval.value, name_of_ends: _ends(interval)}
    )


def _ends(interval: Interval) -> str:
    return range_text(interval.low, interval.high)


def prediction_table(answers: Sequence[Prediction | NoPrediction]) -> str:
    """Return several batch sizes as a table: values with their intervals, and where each lies."""
    first, *_ = known = [answer for answer in answers if isinstance(answer, Prediction)]
    share = coverage_text(first.saved.coverage)
    has_runs, has_energy = first.epochs is not None, any(answer.energy is not None for answer in known)
    header = ["batch_size", "steps", "s/epoch", share, "images/s", share]
    header += ["first epoch s", f"wall s, {first.epochs} epochs", share] if has_runs else []
    header += ["peak GiB", "band", *(["board J/epoch", "band"] if has_energy else []), "domain"]
    rows = []
    for answer in answers:
        cells: list[Any] = [None] * (len(header) - 2)
        if isinstance(answer, Prediction):
            cells = [answer.steps_per_epoch, *_cells(answer, has_runs, has_energy)]
        rows.append([answer.config.batch_size, *cells, answer.domain])
    return table_text(header, rows)


def _cells(prediction: Prediction, has_runs: bool, has_energy: bool) -> list[Any]:
    run, gib, energy = prediction.times.run, memory_gib(prediction.memory), prediction.energy
    cells = [*_pair(prediction.times.steady), *_pair(prediction.images_per_sec)]
    if has_runs:
        cells += [None if run.first_epoch is None else run.first_epoch.value, *_pair(run.wall)]
    cells += [gib.value, _ends(gib)]
    if has_energy:
        cells += [None, "unknown"] if energy is None else [energy.joules.value, _ends(energy.joules)]
    return cells


def _pair(interval: Interval | None) -> list[Any]:
    """Return a value and its range, for two cells of a table."""
    if interval is None:
        return [None, "range unknown"]
    return [interval.value, range_text(interval.low, interval.high, "range unknown")]


def measured_lines(predictions: Sequence[Prediction]) -> list[str]:
    """Return what was measured of the rows of a table."""
    return [
        f"batch_size {each.config.batch_size}: {significant(measured.steady.value)} s/epoch "
        f"({_ends(measured.steady)}), {measured.basis}"
        for each in predictions
        if (measured := each.measured) is not None
    ]


def domain_lines(answers: Sequence[Prediction | NoPrediction]) -> list[str]:
    """Return what a table's column `domain` means, a line for each kind that needs one; rows without a number last."""
    lines = []
    for domain in DOMAINS:
        own = [answer for answer in answers if isinstance(answer, Prediction) and answer.domain == domain]
        if not own or (domain == WITHIN and own[0].half_width_log is not None):
            continue
        out = dict.fromkeys(axis for answer in own for axis in own[0].saved.range.axes_outside(answer.config))
        ends = asdict(own[0].saved.range)
        measured = ", ".join(f"{axis} {_ends_text(*ends[axis])}" for axis in out)
        sizes = ", ".join(str(answer.config.batch_size) for answer in own)
        where = f" (batch_size {sizes}), measured were {measured}" if out else ""
        lines.append(f"{domain}{where}: {_width_words(own[0])}")
    problems = [answer for answer in answers if isinstance(answer, NoPrediction)]
    return lines + [f"batch_size {answer.config.batch_size}: {answer.problem}" for answer in problems]


def _ends_text(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"
