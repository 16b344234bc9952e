"""A network in training, and the least time that an epoch of it takes by a GPU's roofline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from epochcast.facts.tables import CONVOLUTIONAL
from epochcast.roofline.epoch_work import EpochWork, trained_params, work_of_layers
from epochcast.roofline.roofline import (
    ADAM_PASSES,
    COMPUTE_BOUND,
    MEMORY_BOUND,
    WEIGHT_BYTES,
    LayerRecord,
    Roof,
    step_roof,
)
from epochcast.schema import DEFAULT_PRECISION, PRECISIONS

OTHER_KIND, TRANSFORMER, RECURRENT = "other", "transformer", "recurrent"
# kinds of networks as published speeds name them, by the kind of layer that does most of the multiply-adds
NETWORK_KINDS = {
    "conv": CONVOLUTIONAL,
    "depthwise": CONVOLUTIONAL,
    "attention": TRANSFORMER,
    "recurrent": RECURRENT,
}
NO_ROOF = Roof(math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """A network's layers at one batch size, trained on so many images an epoch in one precision."""

    name: str
    records: tuple[LayerRecord, ...]
    batch_size: int
    images: int
    precision: str = DEFAULT_PRECISION
    optimizer: str = "adam"
    optimizer_passes: int = ADAM_PASSES
    not_counted: tuple[str, ...] = ()  # layers that no rule knows, by name and class
    notes: tuple[str, ...] = ()
    is_cnn: bool = True  # the CNN that laws are fitted on; of another network the input and host are not known

    @property
    def params(self) -> int:
        """Parameters of all layers, those of a shared one once."""
        return sum(record.params for record in self.records if not record.is_repeat)

    @property
    def work(self) -> EpochWork:
        return work_of_layers(self.records, self.batch_size, self.images, self.optimizer_passes)

    @property
    def network_kind(self) -> str:
        """The kind of layer with most multiply-adds, as published speeds name networks; OTHER_KIND where none has."""
        macs: dict[str, int] = {}
        for record in self.records:
            kind = NETWORK_KINDS.get(record.kind, OTHER_KIND)
            macs[kind] = macs.get(kind, 0) + record.macs
        return next((kind for kind, own in macs.items() if own > sum(macs.values()) / 2), OTHER_KIND)

    @property
    def is_convolutional(self) -> bool:
        """Whether convolutions do most of its multiply-adds."""
        return self.network_kind == CONVOLUTIONAL

    @property
    def element_bytes(self) -> int:
        """Bytes of an activation."""
        return PRECISIONS[self.precision].element_bytes


@dataclass(frozen=True, slots=True)
class EpochLayer:
    """A layer's work in an epoch, with its parameters' optimizer, and the least time for it."""

    record: LayerRecord
    flop: int
    bytes: int
    sec: float  # attainable: by arithmetic or memory, without launches; 0 without a roof
    n_kernels: int  # of a step

    @property
    def intensity(self) -> float:
        """Arithmetic intensity, FLOP per byte."""
        return self.flop / self.bytes

    def bound(self, roof: Roof) -> str:
        """Return the roof that this layer is under: COMPUTE_BOUND or MEMORY_BOUND."""
        return COMPUTE_BOUND if self.intensity > roof.ridge else MEMORY_BOUND


def epoch_layers(network: TrainedNetwork, roof: Roof) -> list[EpochLayer]:
    """Return the layers of an epoch; its last step may have fewer images."""
    full, rest = divmod(network.images, network.batch_size)
    steps = [(n, step_roof(network.records, batch, roof, network.element_bytes, network.optimizer_passes))
             for n, batch in ((full, network.batch_size), (1, rest)) if n and batch]  # fmt: skip
    found = []
    for i, record in enumerate(network.records):
        optimizer_bytes = network.optimizer_passes * WEIGHT_BYTES * trained_params(record)
        found.append(
            EpochLayer(
                record=record,
                flop=sum(n * step.layers[i].flop for n, step in steps),
                bytes=sum(n * (step.layers[i].bytes + optimizer_bytes) for n, step in steps),
                sec=sum(n * (step.layers[i].sec + optimizer_bytes / roof.bytes_per_sec) for n, step in steps),
                n_kernels=steps[0][1].layers[i].n_kernels + (trained_params(record) > 0),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class EpochRoofline:
    """The least time of a whole epoch under a roof: its layers' by what bounds them, and the launches."""

    roof: Roof
    compute_bound_sec: float
    memory_bound_sec: float
    n_kernels: int  # launches of a step
    launch_sec: float

    @property
    def attainable_sec(self) -> float:
        """Seconds of arithmetic and memory, without launches."""
        return self.compute_bound_sec + self.memory_bound_sec

    @property
    def bound(self) -> str:
        """The roof that most of the attainable time is under: COMPUTE_BOUND or MEMORY_BOUND."""
        return COMPUTE_BOUND if self.compute_bound_sec >= self.memory_bound_sec else MEMORY_BOUND

    @property
    def bound_share(self) -> float:
        """The share of the attainable time under that roof."""
        return max(self.compute_bound_sec, self.memory_bound_sec) / self.attainable_sec


def epoch_roofline(network: TrainedNetwork, layers: Sequence[EpochLayer], roof: Roof) -> EpochRoofline:
    """Return the least time of an epoch of these layers, which are the network's under this roof."""
    compute_sec, memory_sec = (
        sum(layer.sec for layer in layers if layer.bound(roof) == bound) for bound in (COMPUTE_BOUND, MEMORY_BOUND)
    )
    n_kernels = sum(layer.n_kernels for layer in layers)
    return EpochRoofline(roof, compute_sec, memory_sec, n_kernels, network.work.steps * n_kernels * roof.launch_sec)


def attainable_sec(network: TrainedNetwork, roof: Roof) -> float:
    """Return the least seconds of an epoch's arithmetic and memory, without launches of kernels."""
    return sum(layer.sec for layer in epoch_layers(network, roof))
