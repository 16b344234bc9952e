"""Layers and functions that stand where a network has code that is not there: same shapes, nothing computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from epochcast.text_sinks import shortened

AUTHOR = "author"  # the module that a function of the author's is shown with

MOST_OUTPUTS = 1000

Json = dict[str, Any]  # Any: what a file holds
Shape = tuple[int | None, ...]


def identity(name: str) -> Callable[[Any], Any]:
    """A function of that name, of no module of Keras, that returns what it is given."""

    def function(x: Any) -> Any:  # Any: a tensor of the backend's
        return x

    function.__name__ = function.__qualname__ = name
    function.__module__ = AUTHOR
    return function


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor that a layer has made, as a network's file describes it."""

    shape: Shape  # with the batch
    dtype: str


@dataclass(slots=True)
class Stand:
    """A layer in a network's list that has to be stood in for."""

    layers: list[Any]
    index: int
    is_inner: bool  # of a network that is a layer itself: what its last layer makes goes on outside

    @property
    def layer(self) -> Json:
        found: Json = self.layers[self.index]
        return found

    @property
    def name(self) -> str:
        inner = self.layer.get("config")
        name = inner.get("name") if isinstance(inner, dict) else None
        return str(self.layer.get("name") or name or f"layer_{self.index}")

    def replace(self, registered_name: str) -> None:
        """Put the stand-in that is registered under a name in the layer's place."""
        new: Json = {"module": "epochcast", "class_name": "StandIn", "registered_name": registered_name}
        kept: Json = {key: self.layer[key] for key in ("name", "inbound_nodes") if key in self.layer}
        self.layers[self.index] = {**new, **kept, "config": {"name": self.name}}

    def outputs(self) -> list[Output]:
        """What the layer makes, as the layers behind it take it; empty where none says."""
        made: dict[tuple[int, int], Output] = {}
        for layer in self.layers:
            for tensor in _tensors(layer.get("inbound_nodes") if isinstance(layer, dict) else None):
                name, node, number = tensor["keras_history"]
                if name == self.name and isinstance(number, int) and 0 <= number < MOST_OUTPUTS:
                    made[node, number] = Output(tuple(tensor["shape"]), str(tensor["dtype"]))
        if not made and "inbound_nodes" not in self.layer and self.index + 1 < len(self.layers):  # of a Sequential
            following = self.layers[self.index + 1]
            shape = (following.get("build_config") or {}).get("input_shape") if isinstance(following, dict) else None
            if shape is not None and _is_shape(shape):
                made[0, 0] = Output(tuple(shape), "float32")
        calls: dict[int, dict[int, Output]] = {}
        for (node, number), output in made.items():
            calls.setdefault(node, {})[number] = output
        # a tensor that nobody takes may have any shape
        found = [[of.get(i, next(iter(of.values()))) for i in range(max(of) + 1)] for of in calls.values()]
        if any(outputs != found[0] for outputs in found):
            raise ValueError(f"{shortened(self.name, 20)} makes another shape at each call")
        return found[0] if found else []

    def is_last(self) -> bool:
        """Whether nothing takes what the layer makes."""
        if self.is_inner:
            return False
        if "inbound_nodes" not in self.layer:
            return self.index + 1 == len(self.layers)
        return not any(
            name == self.name
            for layer in self.layers
            if isinstance(layer, dict)
            for name in _taken(layer.get("inbound_nodes"))
        )


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and all(size is None or isinstance(size, int) for size in shape) and bool(shape)


def _tensors(value: Any) -> Iterator[Json]:
    """Descriptions of the tensors that a layer takes."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            inner = value.get("config")
            if value.get("class_name") != "__keras_tensor__" or not isinstance(inner, dict):
                waiting += value.values()
            elif _is_shape(inner.get("shape")) and len(inner.get("keras_history") or ()) == 3:
                yield {"dtype": "float32", **inner}


def _taken(value: Any) -> Iterator[str]:
    """Names of the layers whose tensors a layer takes, in the form of Keras 3 and of Keras 2."""
    yield from (tensor["keras_history"][0] for tensor in _tensors(value))
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            if len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int):
                yield value[0]
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()


def stand_in(stand: Stand) -> type:
    """A Keras layer class, named as the layer's own, that makes what the layer makes.

    Raises:
        ValueError: if the file doesn't say what that is.
    """
    import keras

    outputs, is_last, name = stand.outputs(), stand.is_last(), shortened(stand.name, 20)
    if not outputs and not is_last:
        raise ValueError(f"what {name} makes is not in the file")
    if any(size is None for output in outputs for size in output.shape[1:]):
        raise ValueError(f"the size of what {name} makes is open in the file")

    class StandIn(keras.layers.Layer):  # type: ignore[misc] # mypy does not follow Keras
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.built = self.supports_masking = True

        def _made(self, make: Callable[[Shape, str], Any], taken: list[Any]) -> Any:
            if not outputs:  # nobody takes it
                return make(tuple(taken[0].shape), "float32")
            sizes = [(taken[0].shape[0], *output.shape[1:]) for output in outputs]
            made = [make(shape, output.dtype) for shape, output in zip(sizes, outputs, strict=True)]
            return made[0] if len(made) == 1 else made

        def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
            taken = [value for value in keras.tree.flatten((args, kwargs)) if hasattr(value, "shape")]
            return self._made(lambda shape, dtype: keras.KerasTensor(shape, dtype=dtype), taken)

        def call(self, *args: Any, **kwargs: Any) -> Any:
            taken = [value for value in keras.tree.flatten((args, kwargs)) if hasattr(value, "shape")]
            first = taken[0]
            if keras.backend.standardize_dtype(first.dtype) == "string":
                return self._made(keras.ops.zeros, taken)
            # it depends on the input, as what the layer makes does: a constant would not be followed
            return self._made(
                lambda shape, dtype: keras.ops.zeros(shape, dtype) + keras.ops.cast(keras.ops.ravel(first)[0], dtype),
                taken,
            )

    StandIn.__name__ = StandIn.__qualname__ = shortened(str(stand.layer.get("class_name")), 40) or "Layer"
    return StandIn
