"""An explanation in words and tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from epochcast.gpus.lookup import BYTES_PER_GB
from epochcast.gpus.network_time import NETWORK_LAW
from epochcast.gpus.rates import FLOPS_PER_TFLOPS
from epochcast.gpus.scaled_time import LIMITED
from epochcast.model.answers.prediction_text import device_words
from epochcast.model.explanation.epoch_time import UNKNOWN_INPUT, Scaling
from epochcast.model.explanation.explanation import ExplainedLayer, Explanation
from epochcast.model.explanation.network_time import law_words
from epochcast.model.time_model.physics import HOST_GROUP, STEPS_GROUP
from epochcast.output.text import percent, range_text, significant, table_text
from epochcast.roofline.network import EpochRoofline

_OF_NO_LAYER = {"per_epoch": "(input and host)", "per_step": "(each step)"}


def explanation_text(answer: Explanation) -> str:
    """Return the answer for people; first of all, which device it is of."""
    network, n_steps = answer.network, answer.network.work.steps
    by = f"model {answer.device.choice.model.path.name}" if answer.has_model else "no model"
    lines = [
        f"explained: {explained_device_words(answer)}, epochs of {network.images:,} images, "
        f"{precision_words(answer)}; {by}",
        f"network: {network.name}, {network.params:,} parameters, batch size {network.batch_size:,}: "
        f"{n_steps:,} step{'' if n_steps == 1 else 's'} an epoch of {network.images:,}",
    ]
    if network.not_counted:
        lines.append(f"not counted: {', '.join(network.not_counted)}")
    lines += _time_lines(answer)
    lines += _roof_lines(answer)
    lines += [] if answer.memory is None else answer.memory.lines()
    lines += ["", layer_table(answer), ""]
    lines += _efficiency_lines(answer)
    lines += [f"note: {note}" for note in answer.notes]
    return "\n".join(lines)


def explained_device_words(answer: Explanation) -> str:
    """Return the device, and whether it is this box's."""
    return device_words(answer.device.name, answer.this_box, answer.is_this_box)


def precision_words(answer: Explanation) -> str:
    """Return the precision, with the arithmetic where that is known."""
    device = answer.device
    return device.precision + (f" in {device.arithmetic}" if device.arithmetic else "")


def _time_lines(answer: Explanation) -> list[str]:
    time = answer.time
    value, bounds = time.seconds.value, range_text(time.seconds.low, time.seconds.high, "interval unknown")
    lines = [f"predicted_avg_time_sec: {significant(value)} ({bounds})", f"basis: {time.words}"]
    if time.scaling is not None and time.scaling.ratio is not None:
        lines.append(_scaled_line(answer, time.scaling))
    if answer.parts is not None:
        parts = ", ".join(f"{group} {_part_words(sec, value)}" for group, sec in answer.parts.items())
        lines.append(f"where it goes: {parts}")
    return lines


def _part_words(sec: float | None, time: float) -> str:
    return UNKNOWN_INPUT if sec is None else f"{significant(sec)} s ({percent(sec / time)})"


def _scaled_line(answer: Explanation, scaling: Scaling) -> str:
    ratio = scaling.ratio
    assert ratio is not None  # the caller asked
    bounds = range_text(ratio.low, ratio.high, "range unknown")
    if scaling.limited == LIMITED:
        bounds += ", held at the roof"
    elif ratio.low is not None and ratio.high is not None and math.isclose(ratio.low * ratio.high, ratio.value**2):
        bounds = f"x/÷{ratio.high / ratio.value:.3g}: {bounds}"
    return (
        f"scaled: arithmetic and memory, {percent(scaling.share)} on {_elsewhere(answer)}, "
        f"x {significant(ratio.value)} ({bounds})"
    )


def _elsewhere(answer: Explanation) -> str:
    own = answer.model_conditions
    return f"{own.device_name or 'an unknown device'} in {own.precision or 'an unknown precision'}"


def _roof_lines(answer: Explanation) -> list[str]:
    least, reached = answer.roofline, []
    if answer.flops is not None:
        rate = significant(answer.flops / FLOPS_PER_TFLOPS)
        reached = [f"reached: {rate} TFLOP/s of multiply-adds over the whole epoch"]
    if least is None:
        return [f"{line}; peaks unknown, so no roofs" for line in reached]
    if answer.share_of_peak is not None:
        reached = [f"{line}, {percent(answer.share_of_peak)} of the peak (MFU)" for line in reached]
    roof = least.roof
    return [
        f"peaks: {roof.flops / FLOPS_PER_TFLOPS:,g} TFLOP/s, {roof.bytes_per_sec / BYTES_PER_GB:,g} GB/s; ridge at "
        f"{significant(roof.ridge)} FLOP/byte",
        f"attainable: {significant(least.attainable_sec)} s an epoch by the roofs, and "
        f"{significant(least.launch_sec)} s to launch {least.n_kernels} kernels a step",
        _bound_line(least, answer.parts),
        *reached,
    ]


def _bound_line(least: EpochRoofline, parts: Mapping[str, float | None] | None) -> str:
    line = f"roof that binds: {least.bound}, {percent(least.bound_share)} of the attainable time"
    if parts is None:
        return line
    known = {group: sec for group, sec in parts.items() if sec is not None}
    whole, fixed = sum(known.values()), known.get(HOST_GROUP, 0.0) + known[STEPS_GROUP]
    if fixed <= whole / 2:
        return line
    what = "steps and host" if HOST_GROUP in known else "steps"
    return f"{line}; but {percent(fixed / whole)} of the epoch is under no roof: {what}"


def layer_table(answer: Explanation) -> str:
    """Return the layers of an epoch as a table; below, what belongs to no layer."""
    least, split = answer.roofline, answer.time.attribution
    columns: dict[str, Callable[[ExplainedLayer], Any]] = {  # Any: whatever a cell of a table may be
        "layer": lambda of: of.record.name,
        "kind": lambda of: of.record.kind,
        "output": lambda of: "x".join(map(str, of.record.output_shape)),
        "GFLOP": lambda of: of.layer.flop / 1e9,
        "GB": lambda of: of.layer.bytes / BYTES_PER_GB,
        "FLOP/B": lambda of: of.layer.intensity,
    }
    if least is not None:
        columns |= {"bound": lambda of: of.bound, "roof s": lambda of: of.attainable_sec}
    if split is not None:
        columns["time s"] = lambda of: of.attributed_sec
        columns |= {f"{group} s": partial(_attributed, group) for group in ("arithmetic", "memory", "steps")}
    if least is not None and split is not None:
        columns["of roof"] = lambda of: None if of.share_of_roof is None else percent(of.share_of_roof)
    rows = [[cell(layer) for cell in columns.values()] for layer in answer.layers]
    for term, sec in ({} if split is None else split.of_no_layer).items():
        rows.append(_row(columns, {"layer": _OF_NO_LAYER.get(term, f"({term})"), "time s": sec}))
    total = {"layer": "total", "GFLOP": sum(of.layer.flop for of in answer.layers) / 1e9}
    total["GB"] = sum(of.layer.bytes for of in answer.layers) / BYTES_PER_GB
    total["roof s"] = None if least is None else least.attainable_sec
    total["time s"] = answer.time.seconds.value
    rows.append(_row(columns, total))
    return table_text(list(columns), rows)


def _attributed(group: str, of: ExplainedLayer) -> float | None:
    return None if of.attributed is None else of.attributed[group]


def _row(columns: Iterable[str], cells: Mapping[str, Any]) -> list[Any]:  # Any: as in `layer_table`
    return [cells.get(name, "") for name in columns]


def _efficiency_lines(answer: Explanation) -> list[str]:
    device = answer.device
    if answer.time.basis == NETWORK_LAW:
        return [f"{NETWORK_LAW}: {law_words()}"]
    if answer.efficiencies is None:
        readings = ", ".join(words for words in answer.readings.values() if words != "none")
        lines = [
            f"efficiency: unknown, as no law was fitted to rows of {device.name} in {device.precision}",
            f"efficiency elsewhere, on {_elsewhere(answer)}: {readings}",
        ]
    else:
        lines = [f"efficiency: {efficiency}" for efficiency in answer.efficiencies]
    if not answer.has_model:
        return lines
    conditions = answer.model_conditions.describe()
    return [*lines, f"model: {device.choice.model.path}, {device.choice.reason}", f"conditions: {conditions}"]
