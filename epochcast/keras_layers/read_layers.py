"""Layer records of any built Keras model, read while it is traced once with a sample's shapes, without computing.

Keras tells no one which layers a model calls, with which shapes and how often: a model's own `call` may do as it likes.
So its classes tell us while the model is traced. A Functional or Sequential model is seen whole; of a subclassed model
or layer the layers that it calls are seen, but not what it computes between them: it is named in `partial`, or in
`unknown` if it has weights of its own or calls no layer.

Bounds of what is seen: a gradient ends at a stop_gradient and at whole numbers, but what stands before such an end
counts a backward pass all the same; a sublayer's weight that a subclassed `call` uses on its own (tied embeddings) is
counted at that sublayer's call alone. A trace is a call: `model.losses` are cleared by it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from epochcast.keras_layers.calls import Trace, listening
from epochcast.keras_layers.parts import Layer, Shape
from epochcast.roofline.roofline import LayerRecord

Shapes = Sequence[int] | Sequence[Sequence[int]] | Mapping[str, Sequence[int]]
SAMPLES = 97  # in a trace, where none is computed: no other axis has this length by chance


@dataclass(frozen=True, slots=True)
class NetworkLayers:
    """What a model computes for one sample, and what of it is not known."""

    records: tuple[LayerRecord, ...]
    unknown: tuple[str, ...]  # name and class of layers and operations without a record
    partial: tuple[str, ...]  # subclassed: what they compute between their layers is more than `records`, and unknown
    params: int
    sample_shape: tuple[Shape, ...]  # of each input
    reasons: tuple[str, ...] = ()  # why each of `unknown` is, in words that follow its name


class UnbuiltError(ValueError):
    """A model, or a layer that it calls, is not built."""

    def __init__(self, message: str, layer: str | None = None) -> None:
        super().__init__(message)
        self.layer = layer  # with its class; None: the model itself


class DoesNotRunError(ValueError):
    """A model fails on a sample of the shape that was asked for; its cause is what was raised."""

    def __init__(self, message: str, layer: str | None = None) -> None:
        super().__init__(message)
        self.layer = layer  # that failed, with its class; None: the model itself


class DataShapeError(ValueError):
    """Shapes of a layer depend on data, so that its work is not known."""

    def __init__(self, message: str, layer: str) -> None:
        super().__init__(message)
        self.layer = layer


def read_layers(model: Layer, shape: Shapes | None = None) -> NetworkLayers:
    """Records of all layers that a built model calls, in the order of their calls.

    What moves nothing (Flatten, Reshape, InputLayer, Identity, a Dropout of rate 0) has no record. A layer inside
    another carries its path as name; the second call of a shared layer ends in `:2` and is marked a repeat. `shape`, of
    one sample, fixes dimensions that the model leaves open; shapes of several inputs are given by their names, of a
    subclassed model by the names of its `call`'s arguments or of the dictionary that it takes, or as a list.

    Raises:
        ValueError: if the model or a layer that it calls is not built, if the shape of an input, or of a tensor inside,
            is not known, or if the model does not take inputs of this shape.
    """
    import keras

    args, kwargs = input_specs(model, shape)
    shapes = tuple(tuple(spec.shape[1:]) for spec in keras.tree.flatten((args, kwargs)))
    trace = Trace()
    failed: list[Exception] = []

    class Probe(keras.Operation):  # type: ignore[misc] # mypy does not follow Keras
        def call(self, *args: Any, **kwargs: Any) -> Any:  # tensors of the backend's
            try:
                with listening(trace):
                    return model(*args, **kwargs, training=False)
            except Exception as error:
                failed.append(error)
                raise

    try:
        Probe(name="probe").compute_output_spec(*args, **kwargs)
    except Exception as error:  # of whatever kind the model's own code, Keras or its backend raises
        if trace.unbuilt:
            raise UnbuiltError(
                f"model {model.name!r}: its layer {trace.unbuilt[0]} is not built: call the model once on a batch, "
                "then read it again.",
                trace.unbuilt[0],
            ) from None
        cause = failed[0] if failed else error
        raise DoesNotRunError(
            f"model {model.name!r} does not run on a sample of {shapes}: {type(cause).__name__}: {reason_of(cause)}",
            None if trace.failed == f"{model.name} ({type(model).__name__})" else trace.failed,
        ) from cause
    if trace.undefined:
        raise DataShapeError(
            f"model {model.name!r}, layer {trace.undefined[0]}: its shapes are not known for inputs of {shapes}: they "
            "depend on data. Replace the layer by one of a fixed shape.",
            trace.undefined[0],
        )
    unknown, partial = tuple(trace.unknown), tuple(trace.partial)
    reasons = tuple(trace.unknown.values())
    return NetworkLayers(tuple(trace.records), unknown, partial, model.count_params(), shapes, reasons)


def reason_of(error: Exception) -> str:
    """The first line of what went wrong, without what Keras puts around it."""
    is_key = isinstance(error, KeyError) and len(error.args) == 1  # whose text is the repr of it
    whole = str(error.args[0] if is_key else error)
    text = re.split(r"Error encountered:|Exception encountered:", whole)[-1]
    marked = re.search(r"\x1b\[1m(.*?)\x1b\[0m", text, re.DOTALL)  # Keras sets it in bold type
    lines = (marked[1] if marked else text).strip().splitlines()
    return lines[0] if lines else "no reason given"


def input_specs(model: Layer, shape: Shapes | None) -> tuple[list[Any], dict[str, Any]]:
    """Symbolic tensors for the model's arguments, by position and by name."""
    import keras

    if not model.built:
        raise UnbuiltError(
            f"model {model.name!r} is not built: call it once on a batch or build it, then read it again."
        )
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return subclassed_specs(model, shape)
    names = [tensor.name for tensor in inputs]
    if shape is None or isinstance(shape, Mapping):
        given: dict[str, Any] = dict(shape or {})
    else:
        given = dict.fromkeys(names, shape)
    if set(given) - set(names) or (len(names) > 1 and not isinstance(shape, Mapping | None)):
        raise ValueError(f"model {model.name!r} has the inputs {', '.join(names)}: give shapes by these names.")

    samples = max((size for tensor in inputs for size in tensor.shape[:1] if size), default=SAMPLES)  # of the open ones

    def spec(tensor: Any) -> Any:  # of Keras's symbolic ones
        if not tensor.shape:  # a number that is the same for all samples
            return keras.KerasTensor((), dtype=tensor.dtype)
        closed = _closed(given.get(tensor.name, tensor.shape[1:]), model, tensor.name)
        return keras.KerasTensor((tensor.shape[0] or samples, *closed), dtype=tensor.dtype)

    taken = inputs[0] if isinstance(model, keras.Sequential) else model.input
    return [keras.tree.map_structure(spec, taken)], {}


def subclassed_specs(model: Layer, shape: Shapes | None) -> tuple[list[Any], dict[str, Any]]:
    """Return symbolic tensors for a subclassed model's arguments, of the shape that it was built with or of `shape`."""
    import keras

    given: Any = built_shape(model) if shape is None else shape
    if given is None:
        raise ValueError(
            f"model {model.name!r} does not tell the shape of its input: give that of a sample (shape=), of several "
            "inputs by their names."
        )

    def spec(sizes: Any, name: str = "input") -> Any:  # a Keras tensor
        return keras.KerasTensor((SAMPLES, *_closed(sizes, model, name)), dtype=model.compute_dtype)

    if not isinstance(given, Mapping):
        return [spec(given) if _is_shape(given) else [spec(sizes) for sizes in given]], {}
    specs = {name: spec(sizes, name) for name, sizes in given.items()}
    return ([], specs) if set(specs) <= set(inspect.signature(model.call).parameters) else ([specs], {})


def built_shape(model: Layer) -> Any:
    """Return the samples' shapes that a subclassed model was built with: one, or several in its inputs' structure."""
    shape = (model.get_build_config() or {}).get("input_shape")
    if isinstance(shape, Mapping):
        return {name: sizes[1:] for name, sizes in shape.items()}
    if not isinstance(shape, list | tuple):
        return None
    return shape[1:] if _is_shape(shape) else [sizes[1:] for sizes in shape]


def _is_shape(shape: Sequence[Any]) -> bool:
    return all(size is None or isinstance(size, Integral) for size in shape)


def _closed(shape: Sequence[int | None], model: Layer, name: str) -> Shape:
    where = f"model {model.name!r}, input {name!r}: a sample has the shape {tuple(shape)}"
    if any(size is not None and (not isinstance(size, Integral) or size < 1) for size in shape):
        raise ValueError(f"{where}: sizes are whole numbers of at least 1.")
    closed = tuple(size for size in shape if size is not None)
    if len(closed) < len(shape):
        raise ValueError(
            f"{where}, and the work depends on what is open in it. Give the shape that you train with (shape=)."
        )
    return closed
