"""What a law of a step's seconds is told of each measured row, as arrays."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.external.before import cnn_seconds, least_seconds
from benchmarks.external.records import Records
from benchmarks.external.tables import MIXED, PLAIN, PURE_HALF, Measured
from epochcast.gpus.lookup import BYTES_PER_GB
from epochcast.gpus.rates import FLOPS_PER_TFLOPS, roof_of
from epochcast.roofline.network_law import Rates, StepWork, layer_work
from epochcast.roofline.roofline import LayerRecord, layer_bytes

Array = npt.NDArray[np.float64]
KINDS = ("conv1", "conv", "grouped", "depthwise", "dense", "attention", "norm", "activation", "merge", "other")
ELEMENTWISE = ("norm", "activation", "merge")


@dataclass(frozen=True)
class Features:
    """Rows with their work, in all and by kind of layer, and their GPUs' rates."""

    rows: tuple[Measured, ...]
    seconds: Array
    work: StepWork
    rates: Rates
    flop: Array
    bytes: Array
    weight_bytes: Array  # of weights, their gradients and the optimizer
    layers: npt.NDArray[
        np.object_
    ]  # of each pass, forward and backward, of each layer: FLOP, bytes, small kernel's FLOP
    today: Array  # seconds by the law of the CNN, as they were answered before; nan where there was no answer
    roof: Array  # least seconds by the data sheet

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: npt.NDArray[np.bool_]) -> Features:
        """Return the chosen rows."""
        rows = tuple(row for row, is_in in zip(self.rows, chosen, strict=True) if is_in)
        arrays = {f.name: _taken(getattr(self, f.name), chosen) for f in fields(self) if f.name != "rows"}
        return replace(self, rows=rows, **arrays)

    @functools.cached_property
    def passes(self) -> tuple[Array, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return all rows' passes side by side, where each row begins, and each pass's row."""
        sizes = [each.shape[1] for each in self.layers]
        begins = np.cumsum([0, *sizes[:-1]])
        return np.hstack(list(self.layers)), begins, np.repeat(np.arange(len(sizes)), sizes)

    def where(self, claim: Any) -> Array:  # a function of a row
        """Return 1 for each row of which a claim holds, else 0."""
        return np.array([float(claim(row)) for row in self.rows])

    def labels(self, of: Any) -> npt.NDArray[np.str_]:  # a function of a row
        """Return a text for each row."""
        return np.array([str(of(row)) for row in self.rows])

    def kind(self, name: str, what: str = "flop") -> Array:
        """Return the FLOP or bytes of one kind of layer."""
        array: Array = getattr(self, what)[:, KINDS.index(name)]
        return array


def _taken(value: Any, chosen: npt.NDArray[np.bool_]) -> Any:
    if isinstance(value, StepWork | Rates):
        return type(value)(*(getattr(value, f.name)[chosen] for f in fields(value)))
    return value[chosen]


def kind_of(record: LayerRecord) -> str:
    """Return which of KINDS a layer is."""
    if record.kind == "conv":
        return "grouped" if record.groups > 1 else "conv1" if record.taps == 1 else "conv"
    return record.kind if record.kind in KINDS else "other"


def features_of(rows: Sequence[Measured], records: Mapping[tuple[str, int], Records]) -> Features:
    """Return the features of rows, of whose networks the records are given."""
    works = [_works(row, records[row.name, row.size]) for row in rows]
    totals = [sum((work for _, work in own), start=StepWork(0, 0, 0, 0, 0)) for own in works]
    gpus = [row.gpu for row in rows]
    return Features(
        rows=tuple(rows),
        seconds=np.array([row.step_sec for row in rows]),
        work=StepWork(*(np.array([float(getattr(work, f.name)) for work in totals]) for f in fields(StepWork))),
        rates=Rates(
            np.array([FLOPS_PER_TFLOPS * (row.gpu.tflops(row.arithmetic) or 0.0) for row in rows]),
            np.array([FLOPS_PER_TFLOPS * (gpu.fp32_tflops or 0.0) for gpu in gpus]),
            np.array([BYTES_PER_GB * gpu.memory_bandwidth_gbs for gpu in gpus]),
            np.array([float(row.precision == PLAIN and row.arithmetic == "fp32") for row in rows]),
        ),
        flop=_by_kind(works, "flop"),
        bytes=_by_kind(works, "bytes"),
        weight_bytes=np.array([_weight_bytes(row, records[row.name, row.size]) for row in rows]),
        layers=_layers(rows, records),
        today=np.array([cnn_seconds(row, records[row.name, row.size]).value for row in rows]),
        roof=np.array([least_seconds(row, records[row.name, row.size], roof_of) for row in rows]),
    )


def _works(row: Measured, records: Records) -> list[tuple[str, StepWork]]:
    return [(kind_of(each), layer_work(each, row.batch, row.element_bytes, row.passes)) for each in records]


def _layers(rows: Sequence[Measured], records: Mapping[tuple[str, int], Records]) -> npt.NDArray[np.object_]:
    found = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        own = records[row.name, row.size]
        flop = [row.batch * each for record in own for each in (record.forward_flop, record.backward_flop)]
        moved = [each for record in own for each in layer_bytes(record, row.batch, row.element_bytes)]
        is_small = [record.is_small_kernel for record in own for _ in range(2)]
        found[i] = np.array([flop, moved, np.multiply(flop, is_small)], float)
    return found


def _by_kind(works: Sequence[Sequence[tuple[str, StepWork]]], what: str) -> Array:
    sums = np.zeros((len(works), len(KINDS)))
    for i, own in enumerate(works):
        for kind, work in own:
            sums[i, KINDS.index(kind)] += getattr(work, what)
    return sums


def _weight_bytes(row: Measured, records: Records) -> float:
    """Return the bytes of a step that do not grow with the batch."""
    one, two = (
        sum(layer_work(each, batch, row.element_bytes, row.passes).bytes for each in records) for batch in (1, 2)
    )
    return float(2 * one - two)


# --- groups of rows ---------------------------------------------------------------------------------------------------

GROUPS: Mapping[str, Any] = {  # what is left out together: functions of a row
    "GPU": lambda row: row.gpu.name,
    "family": lambda row: row.network.family,
    "set": lambda row: row.dataset,
    "generation": lambda row: f"{row.gpu.vendor} {row.gpu.family.split('_')[0]}",
}
PRECISIONS = (PLAIN, PURE_HALF, MIXED)
