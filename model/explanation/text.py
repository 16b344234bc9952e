"""An explanation in words and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from epochcast.gpus.scaled_time import LIMITED
from epochcast.model.answers.prediction_text import device_words
from epochcast.model.explanation.epoch_time import UNKNOWN_INPUT
from epochcast.output.text import percent, significant, table_text
from epochcast.schema import Conditions

ABOVE_ROOF_NOTE = (
    "the law spreads memory by outputs and launches by kernels, so that single layers may come out above the roof"
)
_OF_NO_LAYER = {"per_epoch": "(input and host)", "per_step": "(each step)"}


def explanation_text(answer: Mapping[str, Any]) -> str:
    """The answer for people; first of all, which device it is of."""
    by = "no model" if answer["model"] is None else f"model {Path(answer['model']).name}"
    lines = [
        f"explained: {device_words(answer)}, epochs of {answer['train_n']:,} images, {precision_words(answer)}; {by}"
    ]
    lines.append(
        f"network: {answer['network']}, {answer['params']:,} parameters, batch size {answer['batch_size']:,}: "
        f"{answer['steps_per_epoch']:,} step{'' if answer['steps_per_epoch'] == 1 else 's'} an epoch of "
        f"{answer['train_n']:,}"
    )
    if answer["not_counted"]:
        lines.append(f"not counted: {', '.join(answer['not_counted'])}")
    lines += _time_lines(answer)
    lines += _roof_lines(answer)
    lines += ["", layer_table(answer), ""]
    lines += _efficiency_lines(answer)
    lines += [f"note: {note}" for note in answer["notes"]]
    return "\n".join(lines)


def precision_words(answer: Mapping[str, Any]) -> str:
    """How the device computes."""
    return str(answer["precision"]) + (f" in {answer['arithmetic']}" if answer["arithmetic"] else "")


def is_above_roof(layer: Mapping[str, Any]) -> bool:
    """Whether a layer is told to take less than its roof allows."""
    return layer["share_of_roof"] is not None and layer["share_of_roof"] > 1


def _time_lines(answer: Mapping[str, Any]) -> list[str]:
    low, high = answer["predicted_avg_time_sec_low"], answer["predicted_avg_time_sec_high"]
    bounds = "interval unknown" if low is None or high is None else f"{significant(low)} to {significant(high)}"
    time = answer["predicted_avg_time_sec"]
    lines = [f"predicted_avg_time_sec: {significant(time)} ({bounds})", f"basis: {answer['basis_words']}"]
    if answer["device_time_ratio"] is not None:
        lines.append(_scaled_line(answer))
    if answer["parts"] is not None:
        parts = ", ".join(f"{group} {_part_words(sec, time)}" for group, sec in answer["parts"].items())
        lines.append(f"where it goes: {parts}")
    return lines


def _part_words(sec: float | None, time: float) -> str:
    return UNKNOWN_INPUT if sec is None else f"{significant(sec)} s ({percent(sec / time)})"


def _scaled_line(answer: Mapping[str, Any]) -> str:
    ratio, low, high = (answer[f"device_time_ratio{end}"] for end in ("", "_low", "_high"))
    bar = "range unknown" if low is None else f"{significant(low)} to {significant(high)}"
    if answer["held_at_roof"] == LIMITED:
        bar += ", held at the roof"
    elif low is not None and answer["held_at_roof"] is None:
        bar = f"x/÷{high / ratio:.3g}: {bar}"
    return (
        f"scaled: arithmetic and memory, {percent(answer['device_share'])} on {_elsewhere(answer)}, "
        f"x {significant(ratio)} ({bar})"
    )


def _elsewhere(answer: Mapping[str, Any]) -> str:
    other = answer["measured_elsewhere"]
    return f"{other['device'] or 'an unknown device'} in {other['precision'] or 'an unknown precision'}"


def _roof_lines(answer: Mapping[str, Any]) -> list[str]:
    roofs, parts = answer["roofs"], answer["parts"]
    reached = []
    if answer["flops"] is not None:
        reached = [f"reached: {significant(answer['flops'] / 1e12)} TFLOP/s of multiply-adds over the whole epoch"]
    if roofs is None:
        return [f"{line}; peaks unknown, so no roofs" for line in reached]
    attainable = roofs["attainable_sec"]
    bound = max(roofs["compute_bound_sec"], roofs["memory_bound_sec"])
    binds = f"roof that binds: {roofs['binds']}, {percent(bound / attainable)} of the attainable time"
    if parts is not None:
        whole = sum(sec for sec in parts.values() if sec is not None)
        if (fixed := (parts["input and host"] or 0.0) + parts["steps"]) > whole / 2:
            what = "steps" if parts["input and host"] is None else "steps and host"
            binds += f"; but {percent(fixed / whole)} of the epoch is under no roof: {what}"
    return [
        f"peaks: {roofs['peak_tflops']:,g} TFLOP/s, {roofs['peak_gb_per_sec']:,g} GB/s; ridge at "
        f"{significant(roofs['ridge_flop_per_byte'])} FLOP/byte",
        f"attainable: {significant(attainable)} s an epoch by the roofs, and {significant(roofs['launch_sec'])} s to "
        f"launch {roofs['kernels_per_step']} kernels a step",
        binds,
        *(f"{line}, {percent(answer['share_of_peak'])} of the peak (MFU)" for line in reached),
    ]


def layer_table(answer: Mapping[str, Any]) -> str:
    """The layers in an epoch, forward, backward and optimizer; below, what belongs to no layer."""
    has_roof, has_law = answer["roofs"] is not None, answer["parts"] is not None
    columns: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "layer": lambda of: of["name"],
        "kind": lambda of: of["kind"],
        "output": lambda of: "x".join(map(str, of["output_shape"])),
        "GFLOP": lambda of: of["flop"] / 1e9,
        "GB": lambda of: of["bytes"] / 1e9,
        "FLOP/B": lambda of: of["intensity"],
    }
    if has_roof:
        columns |= {"bound": lambda of: of["bound"], "roof s": lambda of: of["attainable_sec"]}
    if has_law:
        columns["time s"] = lambda of: of["attributed_sec"]
        columns |= {f"{group} s": partial(_attributed, group) for group in ("arithmetic", "memory", "steps")}
    if has_roof and has_law:
        columns["of roof"] = lambda of: None if of["share_of_roof"] is None else percent(of["share_of_roof"])
    rows = [[cell(layer) for cell in columns.values()] for layer in answer["layers"]]
    if has_law:
        for term, sec in answer["of_no_layer"].items():
            rows.append(_row(columns, {"layer": _OF_NO_LAYER.get(term, f"({term})"), "time s": sec}))
    layers = answer["layers"]
    total = {"layer": "total", "GFLOP": sum(of["flop"] for of in layers) / 1e9}
    total["GB"] = sum(of["bytes"] for of in layers) / 1e9
    total["roof s"] = answer["roofs"]["attainable_sec"] if has_roof else None
    total["time s"] = answer["predicted_avg_time_sec"]
    rows.append(_row(columns, total))
    return table_text(list(columns), rows)


def _attributed(group: str, layer: Mapping[str, Any]) -> float:
    sec: float = layer["attributed"][group]
    return sec


def _row(columns: Iterable[str], cells: Mapping[str, Any]) -> list[Any]:
    return [cells.get(name, "") for name in columns]


def _efficiency_lines(answer: Mapping[str, Any]) -> list[str]:
    if answer["efficiencies"] is None:
        readings = ", ".join(words for words in answer["measured_elsewhere"]["readings"].values() if words != "none")
        lines = [
            f"efficiency: unknown, as no law was fitted to rows of {answer['device']} in {answer['precision']}",
            f"efficiency elsewhere, on {_elsewhere(answer)}: {readings}",
        ]
    else:
        lines = [f"efficiency: {efficiency['words']}" for efficiency in answer["efficiencies"]]
    if answer["model"] is None:
        return lines
    conditions = Conditions(**answer["conditions"]).describe()
    return [*lines, f"model: {answer['model']}, {answer['answered_because']}", f"conditions: {conditions}"]
