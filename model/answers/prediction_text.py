"""An answer for people: lines of one configuration, a table of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epochcast.interval import coverage_digits, coverage_text
from epochcast.model.time_model.card_text import error_text, half_width_text
from epochcast.model.time_model.intervals import DOMAINS, FAR, WITHIN
from epochcast.output.text import range_text, table_text
from epochcast.schema import Conditions

BAND_LINES = {"peak_memory_gib": "peak_memory_band_gib", "board_energy_j_per_epoch": "board_energy_band_j"}
FORM_NOTES = {"physics": " (physics alone)", "transferred": " (started from another device's)"}


def device_words(answer: Mapping[str, Any]) -> str:
    """The device of an answer, and whether it is this box's."""
    if answer["is_this_box"]:
        return f"this box ({answer['device']})"
    return f"{answer['device'] or 'an unknown device'} (NOT this box: {answer['this_box']})"


def under_words(answer: Mapping[str, Any]) -> str:
    """Under what an answer holds: device, length of an epoch, framework, precision, model."""
    conditions = Conditions(**answer["conditions"])
    framework = f"{conditions.backend or 'an unknown framework'} {conditions.backend_version or ''}".strip()
    return (
        f"{device_words(answer)}, epochs of {answer['train_n']:,} images, {framework}, "
        f"{conditions.precision or 'an unknown precision'}; model {Path(answer['model']).name}"
    )


def domain_words(answer: Mapping[str, Any]) -> str:
    """Where a configuration lies against what was measured, and how wide its interval is there."""
    return f"{answer['domain']}{''.join(f', {words}' for words in answer['outside'])}: {_width_words(answer)}"


def _width_words(answer: Mapping[str, Any]) -> str:
    if answer["half_width_log"] is not None:
        how = "" if answer["domain"] == WITHIN else "extrapolating, "
        return how + half_width_text(answer["half_width_log"])
    how = "extrapolating further than any check reaches: " if answer["domain"] == FAR else ""
    return f"{how}{answer['range_unknown']}"


def answer_lines(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer for people: intervals beside their values, nested parts in words."""
    form = FORM_NOTES.get(answer["form"], "")
    nested = {
        "domain": domain_words(answer),
        "model": answer["model"] + form,
        "conditions": Conditions(**answer["conditions"]).describe(),
        "error": error_text(answer["error"]),
    }
    left_out = {"outside", "declared_conditions", "coverage", "in_range", "half_width_log", "form", "range"}
    left_out |= {"device", "this_box", "is_this_box", "train_n", "more_configurations_for_range", "range_unknown"}
    if answer["measured_basis"] is None:
        left_out |= {"measured_avg_time_sec", "measured_basis"}
    if answer["board_energy_basis"] is None:  # no row measured energy: nothing to say
        left_out |= {"board_energy_j_per_epoch", "board_energy_basis"}
    lines: dict[str, Any] = {"device": under_words(answer)}
    for name, value in answer.items():
        if name.endswith(("_low", "_high")) or name in left_out:
            continue
        lines[name] = nested.get(name, value)
        if name in BAND_LINES:
            lines[BAND_LINES[name]] = bounds_text(answer, name)
        elif f"{name}_low" in answer:
            lines[f"{name}_{coverage_digits(answer['coverage'])}"] = (
                bounds_text(answer, name) if value is not None else None
            )
    return lines


def bounds_text(answer: Mapping[str, Any], name: str) -> str:
    return range_text(answer[f"{name}_low"], answer[f"{name}_high"])


def answer_table(answers: Sequence[Mapping[str, Any]]) -> str:
    """Several batch sizes as a table: each value with its interval, and where it lies against what was measured."""
    known = [answer for answer in answers if "problem" not in answer]
    has_runs = "wall_sec" in known[0]
    share = coverage_text(known[0]["coverage"])
    header = ["batch_size", "steps", "s/epoch", share, "images/s", share]
    header += ["first epoch s", f"wall s, {known[0]['epochs']} epochs", share] if has_runs else []
    header += ["peak GiB", "band"]
    has_energy = any(answer["board_energy_j_per_epoch"] is not None for answer in known)
    header += ["board J/epoch", "band"] if has_energy else []
    rows = []
    for answer in answers:
        if "problem" in answer:
            rows.append([answer["batch_size"], *[None] * (len(header) - 1), answer["domain"]])
            continue
        time, rate = answer["predicted_avg_time_sec"], answer["predicted_images_per_sec_derived"]
        row: list[Any] = [answer["batch_size"], answer["steps_per_epoch"]]
        row += [time, _range_cell(answer, "predicted_avg_time_sec")]
        row += [rate, _range_cell(answer, "predicted_images_per_sec_derived")]
        if has_runs:
            row += [answer["first_epoch_sec"], answer["wall_sec"], _range_cell(answer, "wall_sec")]
        row += [answer["peak_memory_gib"], bounds_text(answer, "peak_memory_gib")]
        if has_energy:
            row += [answer["board_energy_j_per_epoch"], bounds_text(answer, "board_energy_j_per_epoch")]
        rows.append([*row, answer["domain"]])
    return table_text([*header, "domain"], rows)


def _range_cell(answer: Mapping[str, Any], name: str) -> str:
    return range_text(answer[f"{name}_low"], answer[f"{name}_high"], "range unknown")


def domain_lines(answers: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the column `domain` of a table means, a line for each kind that needs one; rows without an answer last."""
    known = [answer for answer in answers if "problem" not in answer]
    lines = []
    for domain in DOMAINS:
        own = [answer for answer in known if answer["domain"] == domain]
        if not own or (domain == WITHIN and own[0]["half_width_log"] is not None):
            continue
        out = dict.fromkeys(name for answer in own for name in axes_outside(answer))
        measured = ", ".join(f"{name} {_ends_text(own[0]['range'][name])}" for name in out)
        sizes = ", ".join(str(answer["batch_size"]) for answer in own)
        where = f" (batch_size {sizes}), measured were {measured}" if out else ""
        lines.append(f"{domain}{where}: {_width_words(own[0])}")
    lines += [f"batch_size {answer['batch_size']}: {answer['problem']}" for answer in answers if "problem" in answer]
    return lines


def axes_outside(answer: Mapping[str, Any]) -> list[str]:
    """The axes along which an answer's configuration lies outside what was measured."""
    return [name for name, (low, high) in answer["range"].items() if not low <= answer[name] <= high]


def _ends_text(ends: Sequence[int]) -> str:
    low, high = ends
    return str(low) if low == high else f"{low} to {high}"
