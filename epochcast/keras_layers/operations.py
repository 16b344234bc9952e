"""The parts of Keras's operations that stand in a Functional model without a layer: x + y, keras.ops.relu(x)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from epochcast.keras_layers.parts import (
    ACTIVATION_FLOP,
    NEEDS_INPUT,
    Layer,
    Parts,
    Rule,
    Shape,
    keras_class,
    nothing,
    part,
)


def _operation(flop: int, keeps_input: bool) -> Rule:
    def rule(operation: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
        keeps: dict[str, Any] = {"keeps_input": keeps_input, "keeps_output": False}
        return [part("operation", output, sum(map(prod, inputs)), flop=flop * prod(output), **keeps)]

    return rule


def _squashing(name: str) -> Rule:
    def rule(operation: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
        needs_input = name in NEEDS_INPUT
        flop = ACTIVATION_FLOP[name] * prod(output)
        keeps: dict[str, Any] = {"keeps_input": needs_input, "keeps_output": not needs_input}
        return [part("activation", output, prod(inputs[0]), flop=flop, **keeps)]

    return rule


def _get_item(operation: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    return [part("operation", output, prod(output), keeps_input=False, keeps_output=False)]


def _matmul(operation: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    macs = prod(output) * inputs[0][-1]
    return [part("attention", output, sum(map(prod, inputs)), macs=macs, keeps_output=False)]


OPERATIONS: dict[str, Rule] = {"Matmul": _matmul, "GetItem": _get_item}
OPERATIONS |= dict.fromkeys(("Add", "Subtract", "Negative"), _operation(1, keeps_input=False))
OPERATIONS |= dict.fromkeys(("Multiply", "Divide", "TrueDivide", "Maximum", "Minimum"), _operation(1, keeps_input=True))
OPERATIONS |= dict.fromkeys(("Square", "Sqrt", "Exp", "Log", "Abs", "Power"), _operation(1, keeps_input=True))
OPERATIONS |= dict.fromkeys(("Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual"), _operation(0, False))
OPERATIONS |= dict.fromkeys(("LogicalAnd", "LogicalOr", "LogicalNot", "Where"), _operation(0, keeps_input=True))
OPERATIONS |= dict.fromkeys(("Transpose", "Concatenate", "Stack", "Pad", "Repeat"), _operation(0, False))
# with those above, what Keras's own layers make masks of: Masking, Concatenate, Attention
OPERATIONS |= dict.fromkeys(("Any", "All", "ZerosLike", "OnesLike"), _operation(0, keeps_input=False))
OPERATIONS |= dict.fromkeys(("Reshape", "Squeeze", "ExpandDims", "Cast", "ConvertToTensor", "StopGradient"), nothing)
OPERATIONS |= {
    _kind: _squashing(_name)
    for _kind, _name in {
        "Relu": "relu",
        "Relu6": "relu6",
        "Sigmoid": "sigmoid",
        "HardSigmoid": "hard_sigmoid",
        "HardSilu": "hard_silu",
        "Tanh": "tanh",
        "Silu": "silu",
        "Gelu": "gelu",
        "Softmax": "softmax",
    }.items()
}


def is_of_samples(operation: Layer, args: Any, outputs: list[Any]) -> bool:
    """Whether an operation outside layers works on each sample apart, without a weight, or a product's left factor,
    that is the same for all."""
    import keras

    operands = [value for value in keras.tree.flatten(args) if hasattr(value, "shape")]
    if any(isinstance(value, keras.Variable) for value in operands):
        return False
    if keras_class(operation) == "Matmul" and is_constant(operands[0]):
        return False
    samples = {tuple(value.shape[:1]) for value in (*operands, *outputs) if not is_constant(value)}
    return len(samples) == 1


def is_constant(value: Any) -> bool:
    """Whether its numbers are there, while all that depends on the inputs has none in a trace."""
    try:
        np.asarray(value)
    except (TypeError, NotImplementedError):  # JAX's and TensorFlow's answer
        return False
    return True
