"""An answer for people: lines of one configuration, a table of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from epochcast.cli import range_text, table_text
from epochcast.schema import Conditions
from model.answer import range_words
from model.card import error_text

FORM_NOTES = {"physics": " (physics alone)", "transferred": " (started from another device's)"}


def answer_lines(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer for people: intervals beside their values, nested parts in words."""
    device = answer["device"] or "an unknown device"
    form = FORM_NOTES.get(answer["form"], "")
    nested = {
        "in_range": range_words(answer),
        "device": device if device == answer["this_box"] else f"{device} (NOT this box: {answer['this_box']})",
        "model": answer["model"] + form,
        "conditions": Conditions(**answer["conditions"]).describe(),
        "error": error_text(answer["error"]),
    }
    left_out = {"this_box", "outside", "declared_conditions", "coverage", "place", "half_width_log", "form"}
    left_out |= {"peak_memory_hi_gib", "board_energy_hi_j"}
    if answer["measured_basis"] is None:
        left_out |= {"measured_avg_time_sec", "measured_basis"}
    if answer["board_energy_basis"] is None:  # no row measured energy: nothing to say
        left_out |= {"board_energy_j_per_epoch", "board_energy_lo_j", "board_energy_basis"}
    lines: dict[str, Any] = {}
    for name, value in answer.items():
        if name.endswith(("_low", "_high")) or name in left_out:
            continue
        if name == "peak_memory_lo_gib":
            lines["peak_memory_band_gib"] = band_text(answer, "peak_memory_lo_gib", "peak_memory_hi_gib")
            continue
        if name == "board_energy_lo_j":
            lines["board_energy_band_j"] = band_text(answer, "board_energy_lo_j", "board_energy_hi_j")
            continue
        lines[name] = nested.get(name, value)
        if f"{name}_low" in answer:
            lines[f"{name}_90"] = bounds_text(answer, name) if value is not None else None
    return lines


def bounds_text(answer: Mapping[str, Any], name: str) -> str:
    return band_text(answer, f"{name}_low", f"{name}_high")


def band_text(answer: Mapping[str, Any], low_name: str, high_name: str) -> str:
    return range_text(answer[low_name], answer[high_name])


def answer_table(answers: Sequence[Mapping[str, Any]]) -> str:
    """Several batch sizes as a table: each value with its interval."""
    has_runs = "wall_sec" in answers[0]
    header = ["batch_size", "steps", "s/epoch", "90 %", "images/s", "90 %"]
    header += ["first epoch s", f"wall s, {answers[0]['epochs']} epochs", "90 %"] if has_runs else []
    header += ["peak GiB", "band"]
    has_energy = any(answer["board_energy_j_per_epoch"] is not None for answer in answers)
    header += ["board J/epoch", "band"] if has_energy else []
    rows = []
    for answer in answers:
        time, rate = answer["predicted_avg_time_sec"], answer["predicted_images_per_sec_derived"]
        row: list[Any] = [answer["batch_size"], answer["steps_per_epoch"]]
        row += [time, bounds_text(answer, "predicted_avg_time_sec")]
        row += [rate, bounds_text(answer, "predicted_images_per_sec_derived")]
        if has_runs:
            row += [answer["first_epoch_sec"], answer["wall_sec"], bounds_text(answer, "wall_sec")]
        row += [answer["peak_memory_gib"], band_text(answer, "peak_memory_lo_gib", "peak_memory_hi_gib")]
        if has_energy:
            row += [answer["board_energy_j_per_epoch"], band_text(answer, "board_energy_lo_j", "board_energy_hi_j")]
        rows.append([*row, "" if answer["in_range"] else "extrapolated"])
    return table_text([*header, ""], rows)
