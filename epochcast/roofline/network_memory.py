"""Peak device memory of a training step of any network, counted from its layer records.

A step holds its state (weights, optimizer's slots, in mixed precision a half-precision copy of the weights), every
activation that the backward pass reads, and gradients. The backward pass is walked from the last layer to the first:
activations go, gradients of weights come, and each layer needs room to work in. The peak is the most that is held at
any layer. What frameworks keep beside their arrays is fitted: see `MemoryLaw`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from epochcast.facts.assumptions import assumption
from epochcast.interval import Interval
from epochcast.roofline.roofline import LayerRecord

MIB = 2**20
FLOAT_BYTES, HALF_BYTES = 4, 2
MOST_SAMPLES = 2**24  # of a batch that is looked for
OF_SEVERAL = frozenset({"merge", "attention", "operation"})  # kinds of layers that may read several tensors
Sizes = dict[int, list[int]]  # layers by the elements of their output, in their order


@dataclass(frozen=True, slots=True)
class Formats:
    """Bytes of an activation, and of a weight, a gradient and an optimizer's slot."""

    activation: int
    weight: int

    @property
    def is_mixed(self) -> bool:
        """Whether weights are also held as half-precision copies, and some layers compute in float32."""
        return self.activation < self.weight


FLOAT32 = Formats(FLOAT_BYTES, FLOAT_BYTES)
MIXED = Formats(HALF_BYTES, FLOAT_BYTES)
PURE_HALF = Formats(HALF_BYTES, HALF_BYTES)


def formats_of(element_bytes: int) -> Formats:
    """Return the formats of a Keras policy by the bytes of an activation."""
    return Formats(element_bytes, FLOAT_BYTES)


@dataclass(frozen=True, slots=True)
class Place:
    """What is held when the backward pass is at one layer, besides the state."""

    kept: int  # bytes of activations for each sample: of this layer and all before it
    layer: int  # bytes for each sample of what this layer reads and writes
    gradients: int  # bytes of gradients of weights: of this layer and all behind it


@dataclass(frozen=True, slots=True)
class CountedMemory:
    """The arrays of a training step, for any batch size."""

    weights: int  # bytes
    slots: int  # bytes that the optimizer keeps
    casts: int  # bytes of half-precision copies of weights
    gradients: int  # bytes of all
    kept: int  # bytes of activations for each sample when the backward pass begins
    places: tuple[Place, ...]

    @property
    def state(self) -> int:
        return self.weights + self.slots + self.casts

    def peak(self, batch_size: int, slack: float = 1.0, work: float = 1.0) -> float:
        """Return the most bytes that are held at once.

        Args:
            slack: what activations take over what they fill.
            work: arrays as large as a layer's inputs and outputs that its backward pass needs.
        """
        most = max(
            place.gradients + batch_size * (slack * place.kept + work * place.layer)
            for place in (*self.places, Place(0, 0, self.gradients))
        )
        return self.state + most


def count_memory(
    records: Sequence[LayerRecord], slots: int, formats: Formats = FLOAT32, fuses_attention: bool = False
) -> CountedMemory:
    """Return the arrays of a training step.

    Args:
        slots: numbers that the optimizer keeps for each parameter.
        fuses_attention: whether scores of attention are computed again in the backward pass, and never kept.

    Raises:
        ValueError: if there is no layer.
    """
    if not records:
        raise ValueError("the memory of a step needs layers, got none.")
    own = [record for record in records if not record.is_repeat]
    params, trained = (sum(getattr(record, name) for record in own) for name in ("params", "trainable_params"))
    kept, of_inputs = _kept_bytes(records, formats, fuses_attention)
    gradients = formats.weight * trained
    held, behind, places = of_inputs, gradients, []
    for record, bytes_kept in zip(records, kept, strict=True):
        held += bytes_kept
        layer = formats.activation * (record.inputs + record.outputs)
        places.append(Place(held, 0 if fuses_attention and _is_of_scores(record) else layer, behind))
        behind -= 0 if record.is_repeat else formats.weight * record.trainable_params
    return CountedMemory(
        weights=formats.weight * params,
        slots=slots * formats.weight * trained,
        casts=formats.activation * params if formats.is_mixed else 0,
        gradients=gradients,
        kept=held,
        places=tuple(places),
    )


def _is_of_scores(record: LayerRecord) -> bool:
    """Whether a part of attention is as large as its scores."""
    is_dropped = record.kind == "dropout" and record.name.endswith("/dropout")
    return record.name.endswith(("/scores", "/softmax")) or is_dropped


def _kept_bytes(records: Sequence[LayerRecord], formats: Formats, fuses_attention: bool) -> tuple[list[int], int]:
    """Return bytes a sample kept for the backward pass: of each output, and of the inputs.

    Records don't say who made a layer's input: it is taken to be an output of that size which no layer has read yet,
    else the last of that size. What is overwritten in place, or read by nobody, is not kept.
    """
    made: Sizes = {}
    unread: Sizes = {}
    is_kept, foreign, wide = [False] * len(records), 0, [0] * len(records)
    has_begun = False
    for i, record in enumerate(records):
        for size in _sizes_read(record, made):
            maker = _maker(size, made, unread, is_kept)
            if maker is None:
                foreign += 0 if has_begun and not record.keeps_input else size
            elif record.keeps_input:
                is_kept[maker] = True
        has_begun = True
        is_kept[i] = record.keeps_output
        made.setdefault(record.outputs, []).append(i)
        unread.setdefault(record.outputs, []).append(i)
        if formats.is_mixed:
            wide[i] = _wide_elements(record)
    kept = []
    for i, record in enumerate(records):
        if fuses_attention and _is_of_scores(record):
            kept.append(0)
            continue
        elements = formats.activation * record.outputs if is_kept[i] else 0
        mask = record.outputs if record.kind == "dropout" else 0  # a byte each
        kept.append(elements + mask + FLOAT_BYTES * wide[i])
    return kept, foreign * (FLOAT_BYTES + (formats.activation if formats.activation < FLOAT_BYTES else 0))


def _maker(size: int, made: Sizes, unread: Sizes, is_kept: Sequence[bool]) -> int | None:
    """Return the layer whose output of this size is read next; None: no layer made one."""
    waiting = unread.get(size, [])
    if not waiting:
        return made[size][-1] if size in made else None
    # parallel branches are listed side by side: the first that nothing has read; what is kept anyway comes last
    maker = next((layer for layer in waiting if not is_kept[layer]), waiting[-1])
    waiting.remove(maker)
    return maker


def _sizes_read(record: LayerRecord, made: Sizes) -> list[int]:
    """Return the elements of each tensor that a layer reads."""
    half, rest = record.inputs // 2, record.inputs - record.outputs
    if record.kind in OF_SEVERAL and record.inputs == 2 * half and half in made:
        return [half, half]
    if record.kind in OF_SEVERAL and record.outputs in made and rest in made:
        return [record.outputs, rest]
    return [record.inputs]


def _wide_elements(record: LayerRecord) -> int:
    """Return elements of a second copy in float32: what mixed precision computes in it."""
    if record.kind == "norm" and not record.is_linear:
        return record.inputs
    return record.outputs if record.name.endswith("softmax") else 0


@dataclass(frozen=True, slots=True)
class MemoryLaw:
    """What frameworks hold beside the arrays that are counted; fitted to measured peaks."""

    base_bytes: float  # a driver's context and code, or an allocator's scratch while it tries algorithms
    slack: float  # what activations take over what they fill, as blocks of an allocator are rounded and not reused
    work: float  # arrays as large as a layer's inputs and outputs that its backward pass needs at once
    spread: float  # factor up and down that holds nine of ten peaks of networks that were left out

    @classmethod
    def shipped(cls) -> MemoryLaw:
        """Return the law that was fitted to public measurements."""
        value = {name: assumption(f"network_memory_{name}", "gpu").value for name in LAW_NUMBERS}
        return cls(value["base"] * MIB, value["slack"], value["work"], value["spread"])

    def arrays(self, counted: CountedMemory, batch_size: int) -> float:
        """Return the bytes of arrays at the peak, about what a framework's allocator counts."""
        return counted.peak(batch_size, self.slack, self.work)

    def peak(self, counted: CountedMemory, batch_size: int) -> Interval:
        """Return the peak in bytes as the driver counts it, with its 90 % range."""
        value = self.base_bytes + self.arrays(counted, batch_size)
        return Interval(value, value / self.spread, value * self.spread)


def largest_batch(fits: Callable[[int], bool]) -> int:
    """Return the largest batch that fits; 0: none does. None above MOST_SAMPLES is looked for."""
    if fits(MOST_SAMPLES):
        return MOST_SAMPLES
    low, high = 0, MOST_SAMPLES
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


LAW_NUMBERS = ("base", "slack", "work", "spread")
