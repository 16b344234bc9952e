"""A law's coefficients as efficiencies of the device, and their shares of its peaks."""

from __future__ import annotations

from dataclasses import dataclass

from epochcast.model.explanation.attribution import has_term
from epochcast.model.time_model.physics import ACTIVATION_PASSES, FORMS, Law
from epochcast.output.text import percent, significant
from epochcast.roofline.network import NO_ROOF, TrainedNetwork, epoch_layers
from epochcast.roofline.roofline import ADAM_PASSES, BYTES_PER_FLOAT, WEIGHT_BYTES, Roof
from epochcast.schema import RunConfig
from epochcast.workload.shape import layer_records


@dataclass(frozen=True, slots=True)
class Efficiency:
    """One coefficient in its unit; `peak` and `share` are None where it is of no peak."""

    term: str
    value: float
    unit: str
    meaning: str
    peak: float | None = None
    share: float | None = None

    def __str__(self) -> str:
        said = f"{significant(self.value)} {self.unit} {self.meaning}"
        if self.share is None or self.peak is None:
            return said
        said += f": {percent(self.share)} of the peak of {self.peak:,g}"
        if self.share > 1:
            said += " (no device reaches that: the law counts some of this time in other terms)"
        return said


def efficiencies(law: Law, network: TrainedNetwork, roof: Roof | None, arithmetic: str | None) -> list[Efficiency]:
    """Return each coefficient that takes time as an efficiency, on the network explained."""
    found = []
    for term, b in zip(FORMS[law.form], law.coefficients.tolist(), strict=True):
        if b > 0 and has_term(network, term) and (efficiency := _efficiency(term, b, network, roof, arithmetic)):
            found.append(efficiency)
    return found


def _efficiency(
    term: str, b: float, network: TrainedNetwork, roof: Roof | None, arithmetic: str | None
) -> Efficiency | None:
    if term == "per_epoch":
        return Efficiency(term, b, "s", "an epoch for input and host")
    if term == "per_step":
        return Efficiency(term, 1e3 * b, "ms", "a step, whatever its layers")
    if term == "per_step_and_block":
        return Efficiency(term, 1e6 * b / kernels_of_a_block(), "µs", "a kernel, for launching it and waiting for it")
    if term == "per_flop":
        rate, what = 1 / b, "of multiply-adds" + (f" in {arithmetic}" if arithmetic else "")
        return _of_peak(term, rate, 1e12, "TFLOP/s", what, None if roof is None else roof.flops)
    bandwidth = None if roof is None else roof.bytes_per_sec
    if term == "per_param_step":
        rate = ADAM_PASSES * WEIGHT_BYTES / b
        return _of_peak(term, rate, 1e9, "GB/s", "of weights, gradients and moments, as Adam moves them", bandwidth)
    if term == "per_activation_byte":
        moved = network.element_bytes * sum(r.inputs + r.outputs + r.backward_elements for r in network.records)
        counted = ACTIVATION_PASSES * BYTES_PER_FLOAT * sum(r.outputs for r in network.records)
        return _of_peak(term, moved / counted / b, 1e9, "GB/s", "of activations and their gradients", bandwidth)
    return None


def _of_peak(term: str, rate: float, unit_size: float, unit: str, meaning: str, peak: float | None) -> Efficiency:
    return Efficiency(
        term,
        rate / unit_size,
        unit,
        meaning,
        None if peak is None else peak / unit_size,
        None if peak is None else rate / peak,
    )


def kernels_of_a_block() -> int:
    """Return the kernels that one more block of the CNN launches in a training step."""
    shallow, deep = (
        sum(
            layer.n_kernels
            for layer in epoch_layers(TrainedNetwork("", layer_records(RunConfig(depth, 1)), 1, 1), NO_ROOF)
        )
        for depth in (2, 3)
    )
    return deep - shallow
