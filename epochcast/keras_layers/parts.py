"""How a part of a Keras layer is written down as a record, and what activations compute. Keras is not imported.

FLOP are those of one forward pass at inference, as TensorFlow's profiler counts them where it counts them at all: a
multiply-add is 2, padded taps count, an elementwise operation or elementary function (exp, tanh, division) is 1 and a
comparison (ReLU, a mask) 0. In a part `name` is a suffix to the layer's, and `has_input_gradient` says that an earlier
part of the same layer feeds it; the reader (`epochcast.keras_layers.read_layers`) completes both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from epochcast.roofline.roofline import LayerRecord

Shape = tuple[int, ...]  # without the batch
Layer = Any  # a keras.layers.Layer: importing Keras for its type would cost every command seconds
Parts = list[LayerRecord]
Rule = Callable[[Layer, Sequence[Shape], Shape], Parts]  # a layer, the shapes of its inputs and of its output

LINEAR = "linear"
ACTIVATION_FLOP = {  # for each element
    LINEAR: 0,
    "relu": 0,
    "relu6": 0,
    "hard_tanh": 0,
    "tanh": 1,
    "exponential": 1,
    "leaky_relu": 1,
    "hard_sigmoid": 2,
    "hard_silu": 3,
    "elu": 3,
    "softplus": 3,
    "softsign": 3,
    "selu": 4,
    "celu": 4,
    "sigmoid": 4,
    "log_sigmoid": 4,
    "silu": 5,
    "softmax": 5,
    "log_softmax": 5,
    "mish": 5,
    "gelu": 6,
}
ACTIVATION_LAYERS = {
    "ReLU": "relu",
    "LeakyReLU": "leaky_relu",
    "PReLU": "leaky_relu",
    "ELU": "elu",
    "Softmax": "softmax",
}
NEEDS_INPUT = frozenset({"silu", "mish", "gelu", "hard_silu", "softsign"})  # its derivative needs more than its output


HARMLESS = frozenset(  # what a class may define and still compute what its base computes
    {
        "__init__",
        "__repr__",
        "__setattr__",
        "__doc__",
        "__module__",
        "__qualname__",
        "__annotations__",
        "__dict__",
        "__weakref__",
        "__static_attributes__",
        "__firstlineno__",
        "get_config",
        "from_config",
        "get_build_config",
        "build_from_config",
        "get_compile_config",
        "compile_from_config",
        "compute_output_shape",
        "compute_output_spec",
        "save_own_variables",
        "load_own_variables",
        "count_params",
        "_api_export_path",  # what Keras's own packages mark a class with
        "_api_export_symbol_id",
    }
)


def keras_base(operation: Layer) -> str:
    """Name of the nearest of Keras's own classes that this one is derived from, or is."""
    return _origin(operation)[0].__name__


def keras_class(operation: Layer) -> str | None:
    """Name of Keras's own class that says what it computes; None if a user's class changes anything of that."""
    base, derived = _origin(operation)
    own = {name for kind in derived for name in vars(kind)} - HARMLESS
    return None if any(hasattr(base, name) for name in own) else base.__name__


def _origin(operation: Layer) -> tuple[type, tuple[type, ...]]:
    """The nearest of Keras's own classes, and those derived from it; `object` if there is none."""
    kinds = type(operation).__mro__
    n = next(i for i, kind in enumerate(kinds) if _is_keras(kind) or kind is object)
    return kinds[n], kinds[:n]


def _is_keras(thing: Any) -> bool:  # a class, a function or an object
    return str(getattr(thing, "__module__", None)).partition(".")[0] == "keras"


def activation_name(activation: Any) -> str:  # a function, a layer or None
    """The name under which ACTIVATION_FLOP knows it, if it is Keras's; behind its module's, if it is a user's."""
    if activation is None:
        return LINEAR
    if (kind := keras_class(activation)) in ACTIVATION_LAYERS:
        return ACTIVATION_LAYERS[kind]
    name = getattr(activation, "__name__", type(activation).__name__)
    return str(name) if _is_keras(activation) else f"{getattr(activation, '__module__', None)}.{name}"


def part(
    kind: str,
    output_shape: Shape,
    inputs: int,
    *,
    layer: Layer = None,
    weights: Sequence[Any] = (),  # Keras variables
    macs: int = 0,
    flop: int = 0,
    **others: Any,  # further fields of LayerRecord
) -> LayerRecord:
    """A record from its multiply-adds and its other FLOP; `weights` are those of `layer` that this part uses."""
    trainable = {id(weight) for weight in layer.trainable_weights} if weights else set()
    params = sum(prod(weight.shape) for weight in weights)
    fields: dict[str, Any] = {
        "name": "",
        "kind": kind,
        "output_shape": output_shape,
        "params": params,
        "frozen_params": sum(prod(weight.shape) for weight in weights if id(weight) not in trainable),
        "macs": macs,
        "inputs": inputs,
        "outputs": prod(output_shape),
        "forward_flop": 2 * macs + flop,
        "weight_reads": params,
        "has_input_gradient": False,
    }
    return LayerRecord(**(fields | others))


def matrix_product(kind: str, layer: Layer, inputs: int, output: Shape, macs: int, **others: Any) -> LayerRecord:
    """A part with the layer's kernel, bias and activation; `others` are further fields of LayerRecord."""
    fields: dict[str, Any] = {"layer": layer, "weights": present(layer.kernel, layer.bias), "macs": macs}
    return part(kind, output, inputs, **(fields | bias_and_activation(layer, prod(output)) | others))


def bias_and_activation(layer: Layer, outputs: int) -> dict[str, Any]:
    """FLOP of a layer's bias and activation, and whether its backward pass reads its outputs, for `part`."""
    name = activation_name(layer.activation)
    flop = outputs * (ACTIVATION_FLOP.get(name, 0) + (layer.bias is not None))
    return {"flop": flop, "keeps_output": name != LINEAR}


def present(*weights: Any) -> list[Any]:
    """Those that the layer has."""
    return [weight for weight in weights if weight is not None]


def dropped(shape: Shape, name: str = "", has_input_gradient: bool = False) -> LayerRecord:
    """The part that drops some of a tensor's elements: a pass in training, which writes a mask or a copy."""
    return part("dropout", shape, prod(shape), name=name, keeps_input=False, has_input_gradient=has_input_gradient)


def nothing(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    """The rule of what computes and moves nothing."""
    return []
