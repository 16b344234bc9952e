"""The roofline (Williams, Waterman, Patterson 2009): what a layer takes at least, by arithmetic or by memory.

A layer that does F FLOP and moves B bytes takes at least max(F / peak FLOP/s, B / peak bytes/s). B counts a layer as
one pass for each thing it makes. Forward it reads its inputs and weights and writes its outputs. Backward it reads what
it kept: its input, and its output if that masks an activation. Then it reads the gradient of its output and writes that
of its weights, and reads it and its weights again and writes the gradient of its inputs; either only if it is wanted: a
frozen layer has no gradient of weights, and none of inputs if no layer before it is trained. On top come what is not
fused, a second look at the inputs for their mean and variance, the cast of float32 weights to half precision, and the
weights of a recurrent layer at each step again if no cache holds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

COMPUTE_BOUND, MEMORY_BOUND = "compute", "memory"
WEIGHT_BYTES = 4  # they are float32 in every precision
BYTES_PER_FLOAT = 4  # of a number in float32
SMALL_KERNELS = (9, 25)  # taps of 3x3 and 5x5 (Lavin and Gray 2016, after Winograd)
# moments and the like that an optimizer keeps for each parameter, by Keras's defaults; Adafactor's are smaller, LAMB
# and Muon do more than update, so that they are not here
OPTIMIZER_SLOTS = {
    "sgd": 0,
    "sgd_momentum": 1,
    "rmsprop": 1,
    "adagrad": 1,
    "lion": 1,
    "adam": 2,
    "adamw": 2,
    "nadam": 2,
    "adamax": 2,
    "adadelta": 2,
    "ftrl": 2,
}


def optimizer_passes(name: str) -> int:
    """Passes over the parameters: reads weight and gradient and writes the weight, reads and writes each slot.

    Raises:
        ValueError: if no optimizer of OPTIMIZER_SLOTS has this name, in whatever case, with or without underscores.
    """
    slots = {known.replace("_", ""): n for known, n in OPTIMIZER_SLOTS.items()}
    if (plain := name.lower().replace("_", "")) not in slots:
        raise ValueError(f"optimizer {name!r}: what it moves is known of {', '.join(OPTIMIZER_SLOTS)} alone.")
    return passes_of_slots(slots[plain])


def passes_of_slots(slots: int) -> int:
    """Passes of an optimizer that keeps so many things for each parameter."""
    return 3 + 2 * slots


ADAM_PASSES = optimizer_passes("adam")


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
    weight_reads: int  # elements of weights that one forward pass of a batch reads, once each
    n_kernels: int = 1  # launches of one forward pass, at least
    has_input_gradient: bool = True  # False: no layer before it has weights to train
    frozen_params: int = 0  # of `params`: not trained
    is_repeat: bool = False  # a further call of a layer whose weights an earlier record counts
    keeps_input: bool = True  # the backward pass reads the layer's input
    keeps_output: bool = True  # the backward pass reads its output: for the mask of an activation, say
    is_linear: bool = True  # in its input, which a frozen layer's backward pass then does not read
    n_factors: int = 2  # of a product of two activations: those whose gradient is wanted, if any is
    lookups: int = 0  # elements of a table in float32 that each sample reads
    filters: int = 0  # of a convolution: channels of its output
    taps: int = 0  # of a convolution: positions of its kernel
    groups: int = 1  # of a convolution: channels of its input meet those of the output in their own group alone
    strides: int = 1  # of a convolution: positions of its input for one of its output

    @property
    def trainable_params(self) -> int:
        return self.params - self.frozen_params

    @property
    def n_gradients(self) -> int:
        """Gradients that the backward pass computes, each a pass of its own: of the weights, of the inputs.

        Without weights it is that of all inputs, but a product of two activations has one for each that is wanted.
        """
        if not self.params:
            return self.has_input_gradient * (self.n_factors if self.macs else 1)
        return (self.trainable_params > 0) + self.has_input_gradient

    @property
    def step_kernels(self) -> int:
        """Launches of the forward and backward pass."""
        return self.n_kernels * (1 + self.n_gradients)

    @property
    def is_small_kernel(self) -> bool:
        """Whether libraries can do this convolution with fewer multiplications than it has taps."""
        is_flat = self.kind == "conv" and len(self.output_shape) == 3
        return is_flat and self.taps in SMALL_KERNELS and self.groups == self.strides == 1

    @property
    def train_flop(self) -> int:
        """FLOP of the forward and backward pass, multiply-adds alone: as many for each gradient as forward."""
        return 2 * self.macs * (1 + self.n_gradients)

    @property
    def backward_flop(self) -> int:
        """FLOP of the backward pass: multiply-adds for each gradient, the rest once."""
        products = 2 * self.macs
        return self.train_flop - products + (self.forward_flop - products) * (self.n_gradients > 0)

    @property
    def backward_elements(self) -> int:
        """Activation elements that the backward pass reads and writes."""
        if not self.n_gradients:
            return 0
        # the gradient of a linear layer's weights alone reads its input
        is_needless = self.params > 0 and not self.trainable_params and self.is_linear
        kept = (self.keeps_input and not is_needless) * self.inputs + self.keeps_output * self.outputs
        return kept + self.n_gradients * self.outputs + self.has_input_gradient * self.inputs


@dataclass(frozen=True, slots=True)
class Roof:
    """A device's dense peaks, and what launching one kernel costs."""

    flops: float  # FLOP/s at the precision that is used
    bytes_per_sec: float
    launch_sec: float = 0.0
    small_kernel_share: float = 1.0  # of the multiplications of small kernels: those that are done

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
    bound: str  # COMPUTE_BOUND or MEMORY_BOUND: what most of its time is bound by

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
    n_kernels: int  # launches: the layers', and one update for each layer with weights to train
    launch_sec: float

    @property
    def sec(self) -> float:
        """Attainable seconds a step."""
        return sum(layer.sec for layer in self.layers) + self.optimizer_sec + self.launch_sec

    @property
    def flop(self) -> int:
        return sum(layer.flop for layer in self.layers)


def layer_bytes(record: LayerRecord, batch_size: int, element_bytes: int = 4) -> tuple[int, int]:
    """Return the bytes that one layer's forward and backward pass move; `element_bytes` of an activation."""
    weights = record.weight_reads * element_bytes
    per_sample = (record.inputs + record.outputs) * element_bytes + record.lookups * WEIGHT_BYTES
    backward = batch_size * record.backward_elements * element_bytes
    backward += weights * record.has_input_gradient + record.trainable_params * WEIGHT_BYTES
    return batch_size * per_sample + weights, backward


def layer_roof(record: LayerRecord, batch_size: int, roof: Roof, element_bytes: int = 4) -> LayerRoof:
    """One layer at one batch size under a roof; `element_bytes` of an activation (`epochcast.schema.PRECISIONS`)."""
    forward_bytes, backward_bytes = layer_bytes(record, batch_size, element_bytes)
    forward, backward = batch_size * record.forward_flop, batch_size * record.backward_flop
    flops = roof.flops / roof.small_kernel_share if record.is_small_kernel else roof.flops
    forward_sec = max(forward / flops, forward_bytes / roof.bytes_per_sec)
    backward_sec = max(backward / flops, backward_bytes / roof.bytes_per_sec)
    compute_sec = (forward + backward) / flops
    return LayerRoof(
        record=record,
        forward_flop=forward,
        backward_flop=backward,
        forward_bytes=forward_bytes,
        backward_bytes=backward_bytes,
        forward_sec=forward_sec,
        backward_sec=backward_sec,
        n_kernels=record.step_kernels,
        bound=COMPUTE_BOUND if compute_sec > (forward_bytes + backward_bytes) / roof.bytes_per_sec else MEMORY_BOUND,
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
    trained = [record for record in records if record.trainable_params and not record.is_repeat]
    optimizer_bytes = optimizer_passes * WEIGHT_BYTES * sum(record.trainable_params for record in trained)
    n_kernels = sum(layer.n_kernels for layer in layers) + len(trained)
    return StepRoof(
        layers=layers,
        optimizer_bytes=optimizer_bytes,
        optimizer_sec=optimizer_bytes / roof.bytes_per_sec,
        n_kernels=n_kernels,
        launch_sec=n_kernels * roof.launch_sec,
    )
