"""The parts of Keras's operations that stand in a Functional model without a layer: x + y, keras.ops.relu(x)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from epochcast.keras_parts import ACTIVATION_FLOP, NEEDS_INPUT, Layer, Parts, Rule, Shape, nothing, part


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


def _matmul(operation: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    macs = prod(output) * inputs[0][-1]
    return [part("attention", output, sum(map(prod, inputs)), macs=macs, keeps_output=False)]


OPERATIONS: dict[str, Rule] = {"Matmul": _matmul}
OPERATIONS |= dict.fromkeys(("Add", "Subtract", "Negative"), _operation(1, keeps_input=False))
OPERATIONS |= dict.fromkeys(("Multiply", "Divide", "TrueDivide", "Maximum", "Minimum"), _operation(1, keeps_input=True))
OPERATIONS |= dict.fromkeys(("Square", "Sqrt", "Exp", "Log", "Abs", "Power"), _operation(1, keeps_input=True))
OPERATIONS |= dict.fromkeys(("Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual"), _operation(0, False))
OPERATIONS |= dict.fromkeys(("LogicalAnd", "LogicalOr", "LogicalNot", "Where"), _operation(0, keeps_input=True))
OPERATIONS |= dict.fromkeys(("Transpose", "Concatenate", "Stack", "GetItem", "Pad", "Repeat"), _operation(0, False))
OPERATIONS |= dict.fromkeys(("Reshape", "Squeeze", "ExpandDims", "Identity", "Cast", "StopGradient"), nothing)
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
