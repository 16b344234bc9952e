"""The roofline (Williams, Waterman, Patterson 2009): what a layer takes at least, by arithmetic or by memory.

A layer that does F FLOP and moves B bytes takes at least max(F / peak FLOP/s, B / peak bytes/s). B counts a layer as
one pass. Forward it reads its inputs and weights and writes its outputs. Backward a layer with weights reads its output
(for the mask of its activation), its input and the gradient of its output for the gradient of its weights, writes that,
reads the gradient of its output and its weights again for the gradient of its input, and writes that one; a layer
without weights reads and writes input, output and the gradients of either once. What is not fused comes on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

COMPUTE, MEMORY = "compute", "memory"
ELEMENT_BYTES = {"float32": 4, "mixed_float16": 2, "mixed_bfloat16": 2}  # of activations; weights are kept in float32
WEIGHT_BYTES = 4
ADAM_PASSES = 7  # over the parameters: reads weight, gradient and two moments, writes weight and moments


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """One layer's work for one sample. `inputs` and `outputs` are activation elements; FLOP are of the forward pass."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    macs: int  # multiply-adds with weights, or of two activations (attention)
    inputs: int
    outputs: int
    forward_flop: int
    weight_reads: int  # elements of weights that one forward pass of a batch reads: `params`, but for lookups and loops
    n_kernels: int = 1  # launches of one forward pass
    has_input_gradient: bool = True  # False: no layer before it has weights to train

    @property
    def backward_flop(self) -> int:
        """FLOP of the backward pass: gradients of weights and of inputs, each as many multiply-adds as forward."""
        elementwise = self.forward_flop - 2 * self.macs
        return 2 * self.macs * (1 + self.has_input_gradient) + elementwise

    @property
    def backward_elements(self) -> int:
        """Activation elements that the backward pass reads and writes."""
        if not self.params:
            return 2 * (self.inputs + self.outputs)
        return 2 * self.outputs + self.inputs + self.has_input_gradient * (self.outputs + self.inputs)


@dataclass(frozen=True, slots=True)
class Roof:
    """A device's dense peaks, and what launching one kernel costs."""

    flops: float  # FLOP/s at the precision that is used
    bytes_per_sec: float
    launch_sec: float = 0.0

    @property
    def ridge(self) -> float:
        """Arithmetic intensity (FLOP per byte) from which on arithmetic binds."""
        return self.flops / self.bytes_per_sec


@dataclass(frozen=True, slots=True)
class LayerRoof:
    """What one layer takes at least in a training step, forward and backward."""

    record: LayerRecord
    forward_flop: int
    backward_flop: int
    forward_bytes: int
    backward_bytes: int
    forward_sec: float
    backward_sec: float
    n_kernels: int
    bound: str  # COMPUTE or MEMORY: what most of its time is bound by

    @property
    def flop(self) -> int:
        return self.forward_flop + self.backward_flop

    @property
    def bytes(self) -> int:
        return self.forward_bytes + self.backward_bytes

    @property
    def intensity(self) -> float:
        """Arithmetic intensity of the step, FLOP per byte."""
        return self.flop / self.bytes

    @property
    def sec(self) -> float:
        """Attainable seconds a step."""
        return self.forward_sec + self.backward_sec


@dataclass(frozen=True, slots=True)
class StepRoof:
    """What a training step of a whole network takes at least: its layers, the optimizer, the launches."""

    layers: tuple[LayerRoof, ...]
    optimizer_bytes: int
    optimizer_sec: float
    launch_sec: float

    @property
    def sec(self) -> float:
        """Attainable seconds a step."""
        return sum(layer.sec for layer in self.layers) + self.optimizer_sec + self.launch_sec

    @property
    def flop(self) -> int:
        return sum(layer.flop for layer in self.layers)

    @property
    def n_kernels(self) -> int:
        return sum(layer.n_kernels for layer in self.layers)


def layer_roof(record: LayerRecord, batch_size: int, roof: Roof, element_bytes: int = 4) -> LayerRoof:
    """One layer at one batch size under a roof; `element_bytes` of an activation, by ELEMENT_BYTES."""
    weights = record.weight_reads * element_bytes
    forward_bytes = batch_size * (record.inputs + record.outputs) * element_bytes + weights
    backward_bytes = batch_size * record.backward_elements * element_bytes
    if record.params:
        backward_bytes += weights * record.has_input_gradient + record.params * WEIGHT_BYTES
    forward, backward = batch_size * record.forward_flop, batch_size * record.backward_flop
    forward_sec = max(forward / roof.flops, forward_bytes / roof.bytes_per_sec)
    backward_sec = max(backward / roof.flops, backward_bytes / roof.bytes_per_sec)
    compute_sec = (forward + backward) / roof.flops
    return LayerRoof(
        record=record,
        forward_flop=forward,
        backward_flop=backward,
        forward_bytes=forward_bytes,
        backward_bytes=backward_bytes,
        forward_sec=forward_sec,
        backward_sec=backward_sec,
        n_kernels=record.n_kernels * (2 + (record.has_input_gradient and record.params > 0)),
        bound=COMPUTE if compute_sec > (forward_bytes + backward_bytes) / roof.bytes_per_sec else MEMORY,
    )


def step_roof(
    records: Sequence[LayerRecord],
    batch_size: int,
    roof: Roof,
    element_bytes: int = 4,
    optimizer_passes: int = ADAM_PASSES,
) -> StepRoof:
    """A training step under a roof.

    Raises:
        ValueError: if there is no layer, or `batch_size` is below 1.
    """
    if not records or batch_size < 1:
        raise ValueError(f"a step needs layers and a batch of at least 1, got {len(records)} and {batch_size}.")
    layers = tuple(layer_roof(record, batch_size, roof, element_bytes) for record in records)
    optimizer_bytes = optimizer_passes * WEIGHT_BYTES * count_params(records)
    n_kernels = sum(layer.n_kernels for layer in layers) + sum(record.params > 0 for record in records)
    return StepRoof(layers, optimizer_bytes, optimizer_bytes / roof.bytes_per_sec, n_kernels * roof.launch_sec)


def count_params(records: Iterable[LayerRecord]) -> int:
    """Parameters of all layers."""
    return sum(record.params for record in records)
