"""Records of Keras's operations without a layer: x + y, keras.ops.mean(x)."""

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
from epochcast.keras_layers.sequences import attention

PRODUCTS = frozenset({"Matmul", "Einsum"})  # whose rule takes the sizes of the first factor


def _operation(flop: int, keeps_input: bool) -> Rule:
    """So many FLOP for each element that comes out."""

    def rule(operation: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
        keeps: dict[str, Any] = {"keeps_input": keeps_input, "keeps_output": False}
        return [part("operation", output, sum(map(prod, inputs)), flop=flop * prod(output), **keeps)]

    return rule


def _reduction(each: int, last: int = 0, keeps_input: bool = False, keeps_output: bool = False) -> Rule:
    """So many FLOP for each element that goes in, and for each that comes out."""

    def rule(operation: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
        flop = each * prod(inputs[0]) + last * prod(output)
        keeps: dict[str, Any] = {"keeps_input": keeps_input, "keeps_output": keeps_output}
        return [part("operation", output, prod(inputs[0]), flop=flop, **keeps)]

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


def _split(operation: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    """All that goes in comes out, in pieces, of which `output` is the first."""
    return [part("operation", inputs[0], prod(inputs[0]), keeps_input=False, keeps_output=False)]


def _product(contracted: int, inputs: Sequence[Shape], output: Shape) -> Parts:
    """A product of two activations, or one and a constant, over so many terms."""
    read = sum(map(prod, inputs))
    return [part("attention", output, read, macs=prod(output) * contracted, keeps_output=False)]


def _matmul(operation: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    return _product(inputs[0][-1], inputs, output)


def _einsum(operation: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    """One operand is summed or moved; two are multiplied, as `is_of_samples` has made sure."""
    terms, result = _terms(operation)
    if len(terms) == 1:
        return _reduction(each=1, last=-1)(operation, inputs, output)
    sizes = _sizes(terms[0], inputs[0])
    return _product(prod(size for label, size in sizes.items() if label not in result), inputs, output)


def _terms(operation: Layer) -> tuple[list[str], str]:
    """Return an Einsum's labels of each operand and of the result, one character each: "." for those of "..."."""
    terms, _, result = operation.subscripts.replace(" ", "").replace("...", ".").partition("->")
    return terms.split(","), result


def _sizes(term: str, shape: Shape) -> dict[str, int]:
    """Return the sizes of an operand's labels, but for those of "..." and the first, which is the samples'."""
    before, dots, after = term.partition(".")
    first = dict(zip(before[1:], shape, strict=False))
    return first | dict(zip(after, shape[len(shape) - len(after) :], strict=True)) if dots else first


def _is_plain_einsum(operation: Layer, operands: Sequence[Any]) -> bool:
    """Whether an Einsum treats each sample apart, over axes that both factors have."""
    terms, result = _terms(operation)
    if len(terms) > 2 or not result or terms[0][:1] != result[:1]:
        return False
    if any(len(set(term)) < len(term) or ("." in term and "." not in result) for term in terms):  # a diagonal, a sum
        return False
    if len(terms) == 1:
        return True
    if not is_constant(operands[1]) and terms[1][:1] != result[:1]:  # each sample by each
        return False
    return not (set(terms[0]) ^ set(terms[1])) - set(result) - {"."}


def _dot_product_attention(operation: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    """Attention of given queries, keys and values, each (positions, heads, size of a head)."""
    query, key, value = inputs[:3]
    return attention(query, key, value)


OPERATIONS: dict[str, Rule] = {
    "Matmul": _matmul,
    "Einsum": _einsum,
    "DotProductAttention": _dot_product_attention,
    **dict.fromkeys(("GetItem", "Slice", "Take", "TakeAlongAxis"), _get_item),
    **dict.fromkeys(("Split", "Unstack"), _split),
}
OPERATIONS |= dict.fromkeys(("Add", "Subtract", "Negative"), _operation(1, keeps_input=False))
OPERATIONS |= dict.fromkeys(("Multiply", "Divide", "TrueDivide", "Maximum", "Minimum"), _operation(1, keeps_input=True))
OPERATIONS |= dict.fromkeys(("Square", "Sqrt", "Exp", "Log", "Abs", "Power"), _operation(1, keeps_input=True))
OPERATIONS |= dict.fromkeys(
    ("Absolute", "Reciprocal", "Rsqrt", "Exp2", "Expm1", "Log1p", "Log2", "Log10", "Sin", "Cos", "Erf"),
    _operation(1, keeps_input=True),
)
OPERATIONS |= dict.fromkeys(("Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual"), _operation(0, False))
OPERATIONS |= dict.fromkeys(("LogicalAnd", "LogicalOr", "LogicalNot", "Where", "Clip"), _operation(0, keeps_input=True))
OPERATIONS |= dict.fromkeys(("Sign", "Floor", "Ceil", "Round", "OneHot"), _operation(0, keeps_input=False))
OPERATIONS |= dict.fromkeys(("Transpose", "Concatenate", "Stack", "Pad", "Repeat"), _operation(0, False))
OPERATIONS |= dict.fromkeys(("Swapaxes", "Moveaxis", "Flip", "Roll", "Tile", "BroadcastTo"), _operation(0, False))
OPERATIONS |= dict.fromkeys(("Tril", "Triu", "DepthToSpace", "SpaceToDepth"), _operation(0, keeps_input=False))
# with those above, what Keras's own layers make masks of: Masking, Concatenate, Attention
OPERATIONS |= dict.fromkeys(("Any", "All", "ZerosLike", "OnesLike"), _operation(0, keeps_input=False))
OPERATIONS |= dict.fromkeys(("Reshape", "Squeeze", "ExpandDims", "Cast", "ConvertToTensor", "StopGradient"), nothing)
OPERATIONS |= {
    "Mean": _reduction(each=1),  # sums, and a division for each that comes out
    "Sum": _reduction(each=1, last=-1),
    "Prod": _reduction(each=1, last=-1, keeps_input=True, keeps_output=True),
    **dict.fromkeys(("Max", "Min", "Amax", "Amin"), _reduction(each=1, last=-1, keeps_input=True, keeps_output=True)),
    **dict.fromkeys(("Argmax", "Argmin"), _reduction(each=1, last=-1)),
    "Var": _reduction(each=4, keeps_input=True),  # a mean, a difference, its square, their mean
    "Std": _reduction(each=4, last=1, keeps_input=True, keeps_output=True),
    "Logsumexp": _reduction(each=4, keeps_input=True, keeps_output=True),  # a maximum, a difference, exp, a sum
}
OPERATIONS |= {
    _kind: _squashing(_name)
    for _kind, _name in {
        "Relu": "relu",
        "Relu6": "relu6",
        "LeakyRelu": "leaky_relu",
        "Elu": "elu",
        "Selu": "selu",
        "Celu": "celu",
        "Sigmoid": "sigmoid",
        "LogSigmoid": "log_sigmoid",
        "HardSigmoid": "hard_sigmoid",
        "HardSilu": "hard_silu",
        "HardTanh": "hard_tanh",
        "Tanh": "tanh",
        "Silu": "silu",
        "Gelu": "gelu",
        "Softplus": "softplus",
        "Softsign": "softsign",
        "Softmax": "softmax",
        "LogSoftmax": "log_softmax",
    }.items()
}


def is_of_samples(operation: Layer, args: Any, outputs: list[Any]) -> bool:
    """Whether an operation outside layers works on each sample apart, without a weight, or a product's left factor,
    that is the same for all."""
    import keras

    operands = [value for value in keras.tree.flatten(args) if hasattr(value, "shape")]
    if any(isinstance(value, keras.Variable) for value in operands):
        return False
    kind = keras_class(operation)
    if kind in PRODUCTS and is_constant(operands[0]):
        return False
    if kind == "Einsum" and not _is_plain_einsum(operation, operands):
        return False
    varying = [value for value in operands if len(value.shape) and not is_constant(value)]
    samples = {tuple(value.shape[:1]) for value in (*varying, *outputs) if not is_constant(value)}
    return len(samples) == 1


def is_constant(value: Any) -> bool:
    """Whether its numbers are there, while all that depends on the inputs has none in a trace."""
    try:
        np.asarray(value)
    except (TypeError, NotImplementedError):  # JAX's and TensorFlow's answer
        return False
    return True
