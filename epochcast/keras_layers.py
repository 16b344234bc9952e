"""Layer records of any built Keras model, read while it is traced once with a sample's shapes, without computing.

Keras tells no one which layers a model calls, with which shapes and how often: a model's own `call` may do as it likes.
So its classes tell us while the model is traced. A Functional or Sequential model is seen whole; of a subclassed model
or layer the layers that it calls are seen, but not what it computes between them: it is named in `partial`, or in
`unknown` if it has weights of its own or calls no layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from epochcast.keras_parts import Layer, Shape
from epochcast.keras_trace import Trace, listening
from epochcast.roofline import LayerRecord

Shapes = Sequence[int] | Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class NetworkLayers:
    """What a model computes for one sample, and what of it is not known."""

    records: tuple[LayerRecord, ...]
    unknown: tuple[str, ...]  # name and class of layers and operations without a record
    partial: tuple[str, ...]  # subclassed: their layers are in `records`, what they compute in between is not
    params: int
    sample_shape: tuple[Shape, ...]  # of each input


def read_layers(model: Layer, shape: Shapes | None = None) -> NetworkLayers:
    """Records of all layers that a built model calls, in the order of their calls.

    What moves nothing (Flatten, Reshape, InputLayer, Identity, a Dropout of rate 0) has no record. A layer inside
    another carries its path as name; the second call of a shared layer ends in `:2` and is marked a repeat. `shape`, of
    one sample, fixes dimensions that the model leaves open; the shapes of several inputs are given by their names.

    Raises:
        ValueError: if the model is not built, or the shape of an input, or of a tensor inside, is not known.
    """
    import keras

    specs = _input_specs(model, shape)
    trace = Trace()

    class Probe(keras.Operation):  # type: ignore[misc] # mypy does not follow Keras
        def call(self, inputs: Any) -> Any:  # a tensor of the backend's
            with listening(trace):
                return model(inputs, training=False)

    Probe().compute_output_spec(specs)
    shapes = tuple(tuple(spec.shape[1:]) for spec in keras.tree.flatten(specs))
    if trace.undefined:
        raise ValueError(
            f"model {model.name!r}, layer {trace.undefined[0]}: its shapes are not known for inputs of {shapes}: they "
            "depend on data. Replace the layer by one of a fixed shape."
        )
    unknown, partial = tuple(trace.unknown), tuple(trace.partial)
    return NetworkLayers(tuple(trace.records), unknown, partial, model.count_params(), shapes)


def _input_specs(model: Layer, shape: Shapes | None) -> Any:  # symbolic tensors in the structure that the model takes
    import keras

    if not model.built:
        raise ValueError(f"model {model.name!r} is not built: call it once on a batch or build it, then read it again.")
    inputs = getattr(model, "inputs", None)
    if not inputs:  # a subclassed model
        sample = _built_shape(model) if shape is None else shape
        if sample is None or isinstance(sample, Mapping):
            raise ValueError(
                f"model {model.name!r} does not tell the shape of its input: give that of a sample (shape=)."
            )
        return keras.KerasTensor((1, *_closed(sample, model, "input")), dtype=model.compute_dtype)
    names = [tensor.name for tensor in inputs]
    if shape is None or isinstance(shape, Mapping):
        given = dict(shape or {})
    else:
        given = dict.fromkeys(names, shape)
    if set(given) - set(names) or (len(names) > 1 and not isinstance(shape, Mapping | None)):
        raise ValueError(f"model {model.name!r} has the inputs {', '.join(names)}: give shapes by these names.")

    def spec(tensor: Any) -> Any:  # of Keras's symbolic ones
        closed = _closed(given.get(tensor.name, tensor.shape[1:]), model, tensor.name)
        return keras.KerasTensor((tensor.shape[0] or 1, *closed), dtype=tensor.dtype)

    return keras.tree.map_structure(spec, inputs[0] if isinstance(model, keras.Sequential) else model.input)


def _built_shape(model: Layer) -> Sequence[int] | None:
    """A sample's shape as a subclassed model with one input was built with."""
    shape = (model.get_build_config() or {}).get("input_shape")
    is_plain = isinstance(shape, list | tuple) and all(size is None or isinstance(size, int) for size in shape)
    return shape[1:] if shape and is_plain else None


def _closed(shape: Sequence[int | None], model: Layer, name: str) -> Shape:
    closed = tuple(size for size in shape if size is not None and size > 0)
    if len(closed) < len(shape):
        raise ValueError(
            f"model {model.name!r}, input {name!r}: a sample has the shape {tuple(shape)}, and the work depends on "
            "what is open in it. Give the shape that you train with (shape=)."
        )
    return closed
