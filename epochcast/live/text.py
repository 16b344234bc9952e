"""Estimates in words."""

from __future__ import annotations

from typing import Any

from epochcast.facts.assumptions import device_kind_of
from epochcast.interval import OWN_COVERAGE, Interval, coverage_text
from epochcast.output.text import clock, percent, significant


def estimate_lines(caught: dict[str, Any], found: dict[str, Any]) -> dict[str, str]:
    """Return the answer, a text for each name.

    Args:
        caught: which model it is.
        found: the values of an `Estimate`.
    """
    total, epoch = Interval(**found["total"]), Interval(**found["epoch"]["interval"])
    epochs, half = found["epochs"], found["epoch"]["half"]
    parameters = f"{caught['params']:,} parameters" if caught["params"] else "not yet built"
    lines = {"training": _time_text(total)}
    lines["of"] = (
        f"{caught['model']}, {parameters}, {epochs} epoch{'s' * (epochs != 1)} of {found['batches']:,} batches, "
        f"{found['backend']} on {found['device_name']}"
    )
    spread = "" if half is None else f" +-{percent(half)}"
    lines["epoch"] = f"{significant(epoch.value)} s{spread}, from {found['epoch']['n']} {_kind(found['samples'])}"
    if device_kind_of(found["device_name"]) == "cpu":
        lines["epoch_processor_time"] = f"{significant(found['epoch_cpu']['interval']['value'])} s"
    lines["once"] = f"{significant(found['once_sec'])} s to build, compile and start"
    if found["validation"] is not None:
        lines["validation"] = f"{significant(found['validation']['sec'])} s, {found['n_validations']} times"
    if found["save_sec"] is not None:
        lines["checkpoint"] = f"{significant(found['save_sec'])} s, {found['n_saves']} times"
    if "script_sec" in caught:
        lines["before_the_fit"] = (
            f"{significant(caught['script_sec'])} s of the script's own, not in the training's time"
        )
    return lines


def _kind(samples: dict[str, Any]) -> str:
    if samples["steps"] is None:
        return "whole epochs"
    short, long = samples["steps"]
    return f"pairs of {short} and {long} steps"


def _time_text(total: Interval) -> str:
    if total.low is None or total.high is None:
        return f"{clock(total.value)} (range unknown: too few samples; a larger budget_sec gives more)"
    return f"{clock(total.value)} ({clock(total.low)} to {clock(total.high)}, {coverage_text(OWN_COVERAGE)})"


def estimate_notes(found: dict[str, Any]) -> list[str]:
    """Return what stands below the answer, a sentence each."""
    notes = list(found["notes"])
    if found["is_contended"]:
        notes.append(
            f"other programs kept {found['other_cores']:.1f} cores busy meanwhile; the time holds if they go on."
        )
    return notes
