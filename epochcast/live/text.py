"""Estimates in words."""

from __future__ import annotations

from typing import Any

from epochcast.facts.assumptions import device_kind_of
from epochcast.interval import OWN_COVERAGE, Interval, coverage_text
from epochcast.live.memory.peak import COMPILER, FARTHEST
from epochcast.output.text import clock, memory_text, percent, significant

SHORT_SEC = 10.0
WORTH_SAYING_SEC = 0.1  # of asking for the memory


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
    n_own = found["epoch"]["n"] - found["epoch"]["n_earlier"]
    lines["epoch"] = f"{significant(epoch.value)} s{spread}, from {_kind(found['samples'], n_own)}"
    if device_kind_of(found["device_name"]) == "cpu":
        lines["epoch_processor_time"] = f"{significant(found['epoch_cpu']['interval']['value'])} s"
    lines["once"] = _once_text(found["once"], found["once_sec"], found["paid_sec"])
    if found["validation"] is not None:
        lines["validation"] = f"{significant(found['validation']['sec'])} s, {found['n_validations']} times"
    if found["save_sec"] is not None:
        lines["checkpoint"] = f"{significant(found['save_sec'])} s, {found['n_saves']} times"
    if found["memory"] is not None:
        lines["memory"] = _memory_text(found["memory"], device_kind_of(found["device_name"]))
    if found["max_batch"] is not None:
        lines["max_batch"] = _max_batch_text(found["max_batch"], found["memory"])
    if "script_sec" in caught:
        lines["before_the_fit"] = (
            f"{significant(caught['script_sec'])} s of the script's own, not in the training's time"
        )
    return lines


ONCE_PARTS = {  # in the order of time
    "build_sec": "to build",
    "fit_start_sec": "for fit's own start",
    "compile_sec": "to compile",
    "more_sec": "more in the first epoch",
    "validation_sec": "more in the first validation",
    "save_sec": "more in the first checkpoint",
}


def _once_text(parts: dict[str, float], sec: float, paid_sec: float) -> str:
    """Return what comes once with its parts, and what of it this process has paid."""
    whole = sec + paid_sec
    named = [f"{significant(parts[name])} {text}" for name, text in ONCE_PARTS.items() if parts[name] >= 0.01 * whole]
    text = f"{significant(whole)} s{': ' if named else ''}{', '.join(named)}"
    return f"{text}; {significant(paid_sec)} s of it are paid already" if paid_sec > 0 else text


def _memory_text(found: dict[str, Any], device_kind: str) -> str:
    """Return the peak of a training step, and whose account it is."""
    of = "of the host's" if device_kind == "cpu" else "of an unknown amount"
    if found["device_bytes"] is not None:
        of = f"of {memory_text(found['device_bytes'])}"
    size = "" if found["batch_size"] is None else f" at batch size {found['batch_size']:,}"
    whose = "the compiler's account" if found["source"] == COMPILER else "the framework's own peak"
    asked = f"; asking took {significant(found['ask_sec'])} s" if found["ask_sec"] >= WORTH_SAYING_SEC else ""
    return f"{memory_text(found['bytes'])} {of}{size}, by {whose}{asked}"


def _max_batch_text(found: dict[str, Any], memory: dict[str, Any] | None) -> str:
    """Return the largest batch size that fits, and how it is known."""
    if found["size"] is None or memory is None:
        return f"unknown ({found['why']})"
    tried = " and ".join(f"{size:,}" for size, _ in found["tried"])
    how = f"by the line through {tried}{', confirmed by the compiler' if found['is_confirmed'] else ''}"
    size = f"{found['size']:,}"
    if found["is_at_least"]:
        size = f"at least {size} ({FARTHEST} x what was tried, the farthest that is answered)"
    of = f"{memory_text(found['bytes'])} of {memory_text(memory['device_bytes'])}"
    return f"{size}: {of}, {how}; asking took {significant(found['ask_sec'])} s"


def _kind(samples: dict[str, Any], n: int) -> str:
    """Return how many samples of which kind there are."""
    several = "s" * (n != 1)
    if samples["kind"] == "blocks":
        return f"{n} block{several} of one pass"
    if samples["steps"] is None:
        return f"{n} whole epoch{several}"
    short, long = samples["steps"]
    if short == long:
        return f"{n} block{several} of {long} step{'s' * (long != 1)}"
    return f"{n} pair{several} of {short} and {long} steps"


def _time_text(total: Interval) -> str:
    if total.low is None or total.high is None:
        return f"{duration(total.value)} (range unknown: too few samples; a larger budget_sec gives more)"
    return f"{duration(total.value)} ({duration(total.low)} to {duration(total.high)}, {coverage_text(OWN_COVERAGE)})"


def duration(sec: float) -> str:
    """Return a duration for people, of a few seconds with their parts."""
    return clock(sec) if sec >= SHORT_SEC else f"{significant(sec)} s"


def estimate_notes(found: dict[str, Any]) -> list[str]:
    """Return what stands below the answer, a sentence each."""
    notes = list(found["notes"])
    if found["is_contended"]:
        notes.append(
            f"other programs kept {found['other_cores']:.1f} cores busy meanwhile; the time holds if they go on."
        )
    return notes


def sample_lines(found: dict[str, Any]) -> list[str]:
    """Return each sample of the epoch's time by both clocks, and what was measured with it."""
    lines = []
    for i, each in enumerate(found["samples"]["epochs"], 1):
        text = (
            f"{significant(each['sec']['wall_sec'])} s an epoch, {significant(each['sec']['cpu_sec'])} s of processor"
        )
        if each["start_sec"] is not None:
            text += f", starts in {significant(each['start_sec']['wall_sec'])} s"
        if each["middle_error"] is not None:
            text += f", middle off by {percent(each['middle_error'])}"
        lines.append(f"sample_{i}: {text}")
    used = f"budget_used: {significant(found['samples']['budget_used_sec'])} s"
    others = found["other_cores"]
    lines += [used, f"other_programs: {'unknown' if others is None else f'{others:.1f} cores'}"]
    return lines + _diagnostic_lines(found["diagnostics"])


def _diagnostic_lines(found: dict[str, Any]) -> list[str]:
    """Return what the samples say beside the time, each with what it can show."""
    lines = []
    for size in found["sizes"]:
        sd = "" if size["sd_sec"] is None else f", sd {significant(size['sd_sec'])} s"
        lines.append(f"first_{size['steps']}_steps: {significant(size['mean_sec'])} s, n {size['n']}{sd}")
    if (order := found["drift"]) is not None:
        lines.append(
            f"drift: Spearman's rho of time with order {order['rho']:.2f}, p {significant(order['p'])}, n {order['n']}"
        )
    if (rises := found["time_with_steps"]) is not None:
        lines.append(
            f"monotone: Spearman's rho of time with steps {rises['rho']:.3f}: more steps take longer. It is 1 for any "
            "law that rises, straight or not."
        )
    if found["middle_error"] is not None:
        lines.append(f"straight: blocks in the middle are off the line by {percent(found['middle_error'])} on average")
    if found["data_share"] is not None:
        lines.append(f"data_alone: {percent(found['data_share'])} of a step's time")
    return lines
