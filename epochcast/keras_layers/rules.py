"""What each Keras layer computes and moves for one sample, by its class: a rule takes shapes and returns parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from epochcast.keras_layers.operations import OPERATIONS
from epochcast.keras_layers.parts import (
    ACTIVATION_FLOP,
    ACTIVATION_LAYERS,
    LINEAR,
    NEEDS_INPUT,
    Layer,
    Parts,
    Rule,
    Shape,
    activation_name,
    bias_and_activation,
    dropped,
    keras_base,
    keras_class,
    matrix_product,
    nothing,
    part,
    present,
)
from epochcast.keras_layers.sequences import (
    bidirectional,
    cell_activations,
    dot_attention,
    embedding,
    has_known_cells,
    recurrent,
    reversible_embedding,
)

BATCH_NORM_FLOP = 2  # for each element: scale and shift; folding four vectors into two costs nothing to speak of
LAYER_NORM_FLOP = 8  # a mean, a difference, its square, their mean, a division, scale, shift, and the moments' copies
RMS_NORM_FLOP = 4
UNIT_NORM_FLOP = 3


def _pixels(layer: Layer, shape: Shape) -> int:
    """Positions of a sequence, image or volume: its elements without the channels."""
    return prod(shape[:-1] if layer.data_format == "channels_last" else shape[1:])


def _dense(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    return [matrix_product("dense", layer, prod(inputs[0]), output, prod(output) * inputs[0][-1])]


def _einsum_dense(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    terms, result = layer.equation.replace(" ", "").split("->")
    labels = zip(terms.partition(",")[2], layer.kernel.shape, strict=True)
    contracted = prod(size for label, size in labels if label not in result)
    return [matrix_product("dense", layer, prod(inputs[0]), output, prod(output) * contracted)]


def _sums_before_it_multiplies(layer: Layer) -> bool:
    """Whether an axis of only one of an EinsumDense's operands is summed: fewer products than axes tell."""
    terms, result = layer.equation.replace(" ", "").split("->")
    inputs, kernel = (set(term) for term in terms.split(","))
    return bool((inputs ^ kernel) - set(result) - {"."})


def _conv(kind: str, is_transposed: bool = False) -> Rule:
    """Each tap of the kernel meets each position of the output, or of a transposed convolution's input."""

    def rule(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
        macs = _pixels(layer, inputs[0] if is_transposed else output) * prod(layer.kernel.shape)
        filters = layer.filters if kind == "conv" else 0
        return [matrix_product(kind, layer, prod(inputs[0]), output, macs, filters=filters, **_window(layer))]

    return rule


def _window(layer: Layer) -> dict[str, Any]:
    """Return positions of a convolution's kernel, its groups, and its strides over all axes, for `part`."""
    return {
        "taps": prod(layer.kernel_size),
        "groups": getattr(layer, "groups", 1),
        "strides": prod(layer.strides),
    }


def _separable_conv(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    """A depthwise convolution without bias and activation, then a pointwise one with the layer's own."""
    pixels, kernel = _pixels(layer, output), layer.depthwise_kernel
    channels = kernel.shape[-2] * kernel.shape[-1]
    between = (*output[:-1], channels) if layer.data_format == "channels_last" else (channels, *output[1:])
    return [
        part(
            "depthwise",
            between,
            prod(inputs[0]),
            layer=layer,
            weights=[kernel],
            macs=pixels * prod(kernel.shape),
            name="depthwise",
            keeps_output=False,
            **_window(layer),
        ),
        part(
            "conv",
            output,
            prod(between),
            layer=layer,
            weights=present(layer.pointwise_kernel, layer.bias),
            macs=pixels * prod(layer.pointwise_kernel.shape),
            name="pointwise",
            has_input_gradient=True,
            filters=layer.filters,
            taps=1,
            **bias_and_activation(layer, prod(output)),
        ),
    ]


def _pool(is_max: bool) -> Rule:
    """Each window, or all of the input, element by element; a maximum's gradient needs to know where it was."""

    def rule(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
        window = prod(layer.pool_size) if hasattr(layer, "pool_size") else prod(inputs[0]) // prod(output)
        flop = window * prod(output)
        return [part("pool", output, prod(inputs[0]), flop=flop, keeps_input=is_max, keeps_output=is_max)]

    return rule


def _elementwise(kind: str, flop: int, keeps_input: bool, is_linear: bool = True) -> Rule:
    """So many FLOP for each element, with all of the layer's weights; frozen batch normalisation is linear."""

    def rule(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
        elements = prod(output)
        keeps: dict[str, Any] = {"keeps_input": keeps_input, "keeps_output": False, "is_linear": is_linear}
        return [part(kind, output, elements, layer=layer, weights=layer.weights, flop=flop * elements, **keeps)]

    return rule


def _activation_layer(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    """ReLU with a slope or threshold and all others as their function; linear is none."""
    name = activation_name(layer.activation if keras_class(layer) == "Activation" else layer)
    if name == LINEAR:
        return []
    needs_input = name in NEEDS_INPUT or bool(layer.weights)
    flop = prod(output) * ACTIVATION_FLOP.get(name, 0)
    keeps: dict[str, Any] = {"keeps_input": needs_input, "keeps_output": not needs_input, "is_linear": False}
    return [part("activation", output, prod(output), layer=layer, weights=layer.weights, flop=flop, **keeps)]


def _merge(flop: Callable[[int], int], keeps_input: bool) -> Rule:
    """FLOP for each output by the number of inputs."""

    def rule(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
        keeps: dict[str, Any] = {"keeps_input": keeps_input, "keeps_output": False}
        return [part("merge", output, sum(map(prod, inputs)), flop=flop(len(inputs)) * prod(output), **keeps)]

    return rule


def _dot(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    contracted = inputs[0][axis if axis < 0 else axis - 1]
    macs = prod(output) * contracted
    return [part("attention", output, sum(map(prod, inputs)), macs=macs, keeps_output=False)]


def _move(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    return [part("move", output, prod(inputs[0]), keeps_input=False, keeps_output=False)]


def _dropout(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    """Its FLOP are those of inference, which are none."""
    rates = (getattr(layer, name, None) for name in ("rate", "stddev", "drop_path_rate"))
    return [dropped(output)] if any(rates) else []


RULES: dict[str, Rule] = {
    "Dense": _dense,
    "EinsumDense": _einsum_dense,
    "Activation": _activation_layer,
    "BatchNormalization": _elementwise("norm", BATCH_NORM_FLOP, keeps_input=True),
    "LayerNormalization": _elementwise("norm", LAYER_NORM_FLOP, keeps_input=True, is_linear=False),
    "GroupNormalization": _elementwise("norm", LAYER_NORM_FLOP, keeps_input=True, is_linear=False),
    "RMSNormalization": _elementwise("norm", RMS_NORM_FLOP, keeps_input=True, is_linear=False),
    "UnitNormalization": _elementwise("norm", UNIT_NORM_FLOP, keeps_input=True),
    "Rescaling": _elementwise("scale", 2, keeps_input=False),
    "Normalization": _elementwise("scale", 2, keeps_input=False),
    "Masking": _elementwise("scale", 1, keeps_input=False),
    "LayerScale": _elementwise("scale", 1, keeps_input=True),
    "Embedding": embedding,
    "ReversibleEmbedding": reversible_embedding,
    "RNN": recurrent,
    "SimpleRNN": recurrent,
    "GRU": recurrent,
    "LSTM": recurrent,
    "Bidirectional": bidirectional,
    "Attention": dot_attention,
    "Add": _merge(lambda n: n - 1, keeps_input=False),
    "Subtract": _merge(lambda n: n - 1, keeps_input=False),
    "CustomScaleLayer": _merge(lambda n: 2 * (n - 1), keeps_input=False),  # a sum of one and a share of another
    "Average": _merge(lambda n: n, keeps_input=False),
    "Multiply": _merge(lambda n: n - 1, keeps_input=True),
    "Maximum": _merge(lambda n: n - 1, keeps_input=True),
    "Minimum": _merge(lambda n: n - 1, keeps_input=True),
    "Concatenate": _merge(lambda n: 0, keeps_input=False),
    "Dot": _dot,
    "Permute": _move,
    "RepeatVector": _move,
}
RULES |= dict.fromkeys(ACTIVATION_LAYERS, _activation_layer)
RULES |= dict.fromkeys(("InputLayer", "Identity", "Flatten", "Reshape", "ActivityRegularization"), nothing)
RULES |= dict.fromkeys(("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise", "StochasticDepth"), _dropout)
for _rank in ("1D", "2D", "3D"):
    RULES |= {f"Conv{_rank}": _conv("conv"), f"Conv{_rank}Transpose": _conv("conv", is_transposed=True)}
    RULES |= {f"{_size}MaxPooling{_rank}": _pool(is_max=True) for _size in ("", "Global")}
    RULES |= {f"{_size}AveragePooling{_rank}": _pool(is_max=False) for _size in ("", "Global")}
    RULES |= {f"{_name}{_rank}": _move for _name in ("ZeroPadding", "Cropping", "UpSampling")}
    RULES[f"SpatialDropout{_rank}"] = _dropout
for _rank in ("1D", "2D"):
    RULES |= {f"DepthwiseConv{_rank}": _conv("depthwise"), f"SeparableConv{_rank}": _separable_conv}


def rule_of(operation: Layer) -> Rule | None:
    """The rule for a layer, or for an operation outside layers; None: unknown."""
    kind = keras_class(operation)
    if not hasattr(operation, "trainable_weights"):
        return OPERATIONS.get(str(kind))
    rule = RULES.get(str(kind))
    if rule in (recurrent, bidirectional):
        return rule if has_known_cells(operation) else None
    if rule is dot_attention and operation.weights:  # scores by a scale or a sum that are learnt
        return None
    if rule is _einsum_dense and _sums_before_it_multiplies(operation):
        return None
    if rule is _move and getattr(operation, "interpolation", "nearest") != "nearest":  # sums of weighted neighbours
        return None
    return rule


def why_no_rule(operation: Layer) -> str:
    """Say why `rule_of` knows none, in words that follow the name of the layer or operation."""
    if keras_class(operation) is None:
        return f"changes what Keras's {keras_base(operation)} computes"
    return "holds a cell, equation or setting without a rule" if keras_class(operation) in RULES else "has no rule"


def unknown_activation(layer: Layer) -> str | None:
    """Names of those of the layer's activations whose FLOP are not known: they are counted as none."""
    is_recurrent = RULES.get(str(keras_class(layer))) in (recurrent, bidirectional)
    activations = cell_activations(layer) if is_recurrent else [getattr(layer, "activation", None)]
    names = dict.fromkeys(map(activation_name, activations))  # an ordered set
    return ", ".join(name for name in names if name not in ACTIVATION_FLOP) or None


def uses_all_weights(parts: Parts, operation: Layer) -> bool:
    """Whether the parts have the layer's weights, all and no others: adapters, scales and a user's own are more."""

    def count(weights: str) -> int:
        return sum(prod(weight.shape) for weight in getattr(operation, weights, ()))

    used = sum(part.params for part in parts), sum(part.trainable_params for part in parts)
    return used == (count("weights"), count("trainable_weights"))
