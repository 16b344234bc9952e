"""Which layers a Keras model calls, with which shapes: told by Keras's own classes during one trace of the model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from epochcast.keras_layers.operations import PRODUCTS, is_constant, is_of_samples
from epochcast.keras_layers.parts import Layer, Parts, Shape, keras_base, keras_class
from epochcast.keras_layers.rules import RULES, rule_of, unknown_activation, uses_all_weights, why_no_rule
from epochcast.keras_layers.sequences import attention_of
from epochcast.roofline.roofline import LayerRecord

CONTAINERS = frozenset({"Functional", "Sequential"})
ATTENTIONS = frozenset({"MultiHeadAttention", "GroupedQueryAttention"})
Tensor = Any  # of whichever backend traces
_TRACING = threading.Lock()  # one trace at a time changes Keras's classes


@contextmanager
def listening(trace: Trace) -> Iterator[None]:
    """For a while, calls of layers and of operations outside layers go through `trace`; in this thread alone.

    Keras has no hook for this; `clone_model(call_function=...)` sees Functional models alone, and copies them.
    """
    import keras

    thread = threading.get_ident()

    def hooked(original: Any, is_of_layers: bool) -> Any:
        def call(operation: Layer, *args: Any, **kwargs: Any) -> Tensor:
            if threading.get_ident() != thread or isinstance(operation, keras.layers.Layer) != is_of_layers:
                return original(operation, *args, **kwargs)
            try:
                return trace.call(original, operation, args, kwargs)
            except Exception:  # of whatever kind the author's code raises: it goes on, once its layer is noted
                trace.failed = trace.failed or f"{operation.name} ({type(operation).__name__})"  # the innermost
                raise

        return call

    with _TRACING:
        of_layers, of_operations = keras.layers.Layer.__call__, keras.Operation.__call__
        keras.layers.Layer.__call__ = hooked(of_layers, True)
        keras.Operation.__call__ = hooked(of_operations, False)
        try:
            yield
        finally:
            keras.layers.Layer.__call__, keras.Operation.__call__ = of_layers, of_operations


@dataclass(slots=True)
class _Frame:
    """A call that holds other calls."""

    path: str
    needs_gradient: bool  # its inputs
    is_whole: bool  # all that it does are calls
    is_attention: bool = False
    repeats: int = 1
    weights: set[int] = field(default_factory=set)  # ids of those that the calls inside use
    has_trained: bool = False  # a call inside has weights to train
    n_calls: int = 0
    projections: dict[str, Shape] = field(default_factory=dict)  # of attention


class Trace:
    """What one trace of a model has met."""

    def __init__(self) -> None:
        self.records: list[LayerRecord] = []
        self.unknown: dict[str, str] = {}  # why, in words that follow the name
        self.partial: dict[str, None] = {}  # an ordered set
        self.undefined: list[str] = []  # layers with shapes that are not known
        self.unbuilt: list[str] = []  # layers that the model calls, but has not called before
        self.failed: str | None = None  # the layer or operation that raised an error
        self._frames: list[_Frame] = []
        self._n_calls: dict[int, int] = {}  # by a layer's id
        self._gradients: dict[int, tuple[Tensor, bool]] = {}  # by id, which is a tensor's own while we keep it
        self._is_inside = False  # a call that is known whole, or not at all

    def call(self, original: Any, operation: Layer, args: Any, kwargs: Any) -> Tensor:
        """Make the call, and write down what it is."""
        kind = keras_class(operation)
        if _is_layer(operation) and not operation.built:  # calling it would make its weights
            self.unbuilt.append(f"{operation.name} ({type(operation).__name__})")
            raise ValueError(f"{self.unbuilt[0]} is not built")
        if self._is_inside or (self._frames and self._frames[-1].is_attention and kind != "EinsumDense"):
            return original(operation, *args, **kwargs)
        inputs = _tensors(args, {name: value for name, value in kwargs.items() if not _is_mask(name)})
        for tensor in inputs:  # while its surroundings are known
            self._gradients.setdefault(id(tensor), (tensor, self._needs_gradient(tensor)))
        needs_gradient = any(self._needs_gradient(tensor) for tensor in inputs)
        path = self._path(operation)
        if kind in CONTAINERS or kind in ATTENTIONS or (kind is None and _is_open(operation)):
            frame = _Frame(path, needs_gradient, is_whole=kind in CONTAINERS, is_attention=kind in ATTENTIONS)
            outputs = self._hold(frame, original, operation, args, kwargs)
            if kind in ATTENTIONS:
                last = self.records.pop()  # the output's projection
                self._add(operation, path, attention_of(operation, frame.projections), needs_gradient)
                self.records.append(last)
            elif kind is None:
                self._judge(operation, frame)
        else:
            self._is_inside = True
            try:
                outputs = original(operation, *args, **kwargs)
            finally:
                self._is_inside = False
            if kind == "TimeDistributed" and inputs[0].shape[1] is not None:
                # it has called its layer past our ears: again, on one step
                frame = _Frame(path, needs_gradient, is_whole=True, repeats=inputs[0].shape[1])
                self._hold(frame, type(operation.layer).__call__, operation.layer, (inputs[0][:, 0],), {})
            else:
                self._add_leaf(operation, path, (args, kwargs), inputs, _tensors(outputs))
        self._pass_on(operation, outputs, needs_gradient)
        return outputs

    def _hold(self, frame: _Frame, original: Any, operation: Layer, args: Any, kwargs: Any) -> Tensor:
        """Make a call that holds others."""
        self._frames.append(frame)
        try:
            return original(operation, *args, **kwargs)
        finally:
            self._frames.pop()

    def _add_leaf(self, operation: Layer, path: str, args: Any, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """The records of a call that holds no other, or its name among the unknown."""
        rule = rule_of(operation)
        is_known = rule is not None and (_is_layer(operation) or is_of_samples(operation, args, outputs))
        if not _is_layer(operation):
            inputs = [tensor for tensor in inputs if not is_constant(tensor)]
        title = f"{path} ({type(operation).__name__})"
        shapes = [tuple(tensor.shape[1:]) for tensor in (*inputs, *outputs[:1])]
        if any(size is None for shape in shapes for size in shape):
            self.undefined.append(title)
            return
        if rule is None:
            self.unknown[title] = why_no_rule(operation)
            return
        if not (is_known and inputs and outputs):
            self.unknown[title] = "mixes samples or uses a weight"
            return
        parts = rule(operation, shapes[:-1], shapes[-1])
        if not uses_all_weights(parts, operation):
            self.unknown[title] = "has other weights than its class"
            return
        if (activation := unknown_activation(operation)) is not None:
            self.unknown[f"{path} (activation {activation})"] = "has no known FLOP"
        needing = sum(map(self._needs_gradient, inputs))
        if keras_class(operation) in {*PRODUCTS, "Dot"}:
            parts = [replace(part, n_factors=needing) for part in parts]
        self._add(operation, path, parts, needing > 0)
        if self._frames and self._frames[-1].is_attention:
            self._frames[-1].projections[operation.name] = shapes[-1]

    def _add(self, operation: Layer, path: str, parts: Parts, needs_gradient: bool) -> None:
        repeats = prod(frame.repeats for frame in self._frames)
        trains = _trains(operation)
        is_repeat = self._n_calls.get(id(operation), 0) > 1
        for part in parts:
            self.records.append(
                replace(
                    part,
                    name=f"{path}/{part.name}" if part.name else path,
                    output_shape=(repeats, *part.output_shape) if repeats > 1 else part.output_shape,
                    macs=repeats * part.macs,
                    inputs=repeats * part.inputs,
                    outputs=repeats * part.outputs,
                    forward_flop=repeats * part.forward_flop,
                    lookups=repeats * part.lookups,
                    n_kernels=repeats * part.n_kernels,
                    has_input_gradient=needs_gradient or (part.has_input_gradient and trains),
                    is_repeat=is_repeat,
                )
            )

    def _judge(self, operation: Layer, frame: _Frame) -> None:
        """Name a subclassed layer: unknown if it has weights of its own or calls no layer, else known in part."""
        title = f"{frame.path or operation.name} ({type(operation).__name__})"
        if not {id(weight) for weight in operation.weights} <= frame.weights:
            self.unknown[title] = "computes with weights of its own"
        elif not frame.n_calls:
            self.unknown[title] = "calls no layer of Keras"
        else:
            self.partial[title] = None

    def _path(self, operation: Layer) -> str:
        """The layer's name behind those that hold it, all but the model's own, and the number of a later call."""
        if not self._frames:
            return ""
        number = self._n_calls[id(operation)] = self._n_calls.get(id(operation), 0) + 1
        name = operation.name if number == 1 else f"{operation.name}:{number}"
        return f"{self._frames[-1].path}/{name}" if self._frames[-1].path else name

    def _needs_gradient(self, tensor: Tensor) -> bool:
        """Whether what made it has weights to train; of a tensor that no call made, as far as its surroundings tell."""
        if not _is_float(tensor):
            return False
        if id(tensor) in self._gradients:
            return self._gradients[id(tensor)][1]
        frame = self._frames[-1] if self._frames else None
        return frame is not None and (frame.needs_gradient or (frame.has_trained and not frame.is_whole))

    def _pass_on(self, operation: Layer, outputs: Tensor, needs_gradient: bool) -> None:
        """Remember what a call has made, and tell the call that holds it."""
        passes = (needs_gradient or _trains(operation)) and keras_class(operation) != "StopGradient"
        for tensor in _tensors(outputs):
            self._gradients.setdefault(id(tensor), (tensor, passes))
        if self._frames:
            frame = self._frames[-1]
            frame.n_calls += 1
            frame.weights.update(map(id, getattr(operation, "weights", ())))
            frame.has_trained |= _trains(operation)


def _is_layer(operation: Layer) -> bool:
    return hasattr(operation, "trainable_weights")


def _is_open(operation: Layer) -> bool:
    """Whether the layers that a user's class calls tell what it does: a changed layer of Keras's is unknown whole."""
    return _is_layer(operation) and keras_base(operation) not in {*RULES, *ATTENTIONS, "TimeDistributed"}


def _is_mask(name: str) -> bool:
    return name == "mask" or name.endswith("_mask")


def _is_float(tensor: Tensor) -> bool:
    import keras

    return bool(keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype)))


def _trains(operation: Layer) -> bool:
    return _is_layer(operation) and bool(operation.trainable_weights)


def _tensors(*values: Any) -> list[Tensor]:
    import keras

    return [value for value in keras.tree.flatten(values) if keras.ops.is_tensor(value)]
