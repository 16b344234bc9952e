"""The parts of embeddings, recurrent layers and attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from epochcast.keras_layers.parts import (
    ACTIVATION_FLOP,
    Layer,
    Parts,
    Shape,
    activation_name,
    dropped,
    keras_class,
    part,
    present,
)

RECURRENT = frozenset({"RNN", "SimpleRNN", "GRU", "LSTM"})
GATES = {"SimpleRNNCell": 1, "GRUCell": 3, "LSTMCell": 4}
SOFTMAX_FLOP = ACTIVATION_FLOP["softmax"]


def embedding(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    """A lookup: each sample reads numbers and their rows of the table; backward the numbers alone are read again."""
    keeps: dict[str, Any] = {"weight_reads": 0, "lookups": prod(output), "keeps_output": False}
    return [part("embedding", output, prod(inputs[0]), layer=layer, weights=[layer.embeddings], **keeps)]


def reversible_embedding(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    """A lookup, or a product with the same table the other way."""
    if len(output) > len(inputs[0]):
        return embedding(layer, inputs, output)
    capped = 3 if layer.logit_soft_cap else 0  # a division, tanh, a product
    fields: dict[str, Any] = {"macs": prod(output) * inputs[0][-1], "flop": capped * prod(output)}
    fields["keeps_output"] = bool(capped)
    return [part("dense", output, prod(inputs[0]), layer=layer, weights=[layer.embeddings], **fields)]


def has_known_cells(layer: Layer) -> bool:
    """Whether all cells of a recurrent layer, or of both directions of one, have parts here."""
    return all(
        keras_class(one) in RECURRENT and all(keras_class(cell) in GATES for cell in _cells_of(one))
        for one in _directions_of(layer)
    )


def cell_activations(layer: Layer) -> list[Any]:
    """The activations in all cells of a recurrent layer, or of both directions of one."""
    cells = [cell for one in _directions_of(layer) for cell in _cells_of(one)]
    return [getattr(cell, name, None) for cell in cells for name in ("activation", "recurrent_activation")]


def recurrent(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    """The parts of all its cells; one that stands on another is named by its number."""
    parts: Parts = []
    shape = inputs[0]
    for number, cell in enumerate(_cells_of(layer), 1):
        for found in _cell_parts(cell, shape, 1 if _is_one_call(layer) else shape[0]):
            name = f"cell{number}/{found.name}" if number > 1 else found.name
            parts.append(replace(found, name=name, has_input_gradient=number > 1 or found.has_input_gradient))
        shape = parts[-1].output_shape
    return parts


def bidirectional(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    """The parts of both directions, then what merges their outputs."""
    parts = [
        replace(found, name=f"{one.name}/{found.name}")
        for one in _directions_of(layer)
        for found in recurrent(one, inputs, output)
    ]
    if layer.merge_mode is None:
        return parts
    read = prod(output) * (1 if layer.merge_mode == "concat" else 2)
    flop = {"concat": 0, "sum": 1, "mul": 1, "ave": 2}[layer.merge_mode] * prod(output)
    is_product = layer.merge_mode == "mul"
    keeps = {"keeps_input": is_product, "keeps_output": False, "has_input_gradient": True}
    return [*parts, part("merge", output, read, flop=flop, name=layer.merge_mode, **keeps)]


def attention(
    query: Shape, key: Shape, value: Shape, *, groups: int = 1, is_scaled: bool = True, drops: bool = False
) -> Parts:
    """Scores, softmax and weighted sum of `groups` attentions, each its own pass: Keras without a fused kernel.

    Shapes are (positions, heads, size of a head) of the projected tensors; heads of the query may share those of the
    key and value. A causal mask saves nothing: the scores that it hides are computed.
    """
    (positions, heads, size), (sources, _, value_size) = query, value
    scores = (groups, heads, positions, sources)[groups == 1 :]
    output = (groups, positions, heads, value_size)[groups == 1 :]
    n_scores, n_query = prod(scores), groups * prod(query)
    return [
        part(
            "attention",
            scores,
            n_query + groups * prod(key),
            macs=n_scores * size,
            flop=n_query * is_scaled,
            name="scores",
            keeps_output=False,
            has_input_gradient=True,
        ),
        part(
            "activation",
            scores,
            n_scores,
            flop=n_scores * SOFTMAX_FLOP,
            name="softmax",
            keeps_input=False,
            has_input_gradient=True,
        ),
        *([dropped(scores, "dropout", True)] if drops else []),
        part(
            "attention",
            output,
            n_scores + groups * prod(value),
            macs=n_scores * value_size,
            name="weighted_sum",
            keeps_output=False,
            has_input_gradient=True,
        ),
    ]


def attention_of(layer: Layer, projections: Mapping[str, Shape]) -> Parts:
    """What multi-head or grouped-query attention does between its projections, given their shapes by Keras's names.

    Each is (positions, ..., heads, size of a head); axes that `attention_axes` leaves out hold attentions of their own.
    """
    config = layer.get_config()
    query, key, value = (projections[name] for name in ("query", "key", "value"))
    axes = config.get("attention_axes") or range(1, len(query) - 1)
    groups = prod(size for axis, size in enumerate(query[:-2], 1) if axis not in axes)

    def flat(shape: Shape) -> Shape:
        return (prod(size for axis, size in enumerate(shape[:-2], 1) if axis in axes), *shape[-2:])

    parts = attention(flat(query), flat(key), flat(value), groups=groups, drops=bool(config.get("dropout")))
    if gate := projections.get("gate"):
        fields: dict[str, Any] = {"name": "gating", "keeps_output": False, "has_input_gradient": True}
        parts.append(part("merge", gate, 2 * prod(gate), flop=prod(gate), **fields))
    return parts


def dot_attention(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    """Attention without weights, in one head, of given queries, values and, if they are others, keys."""
    query, value, key = ((positions, 1, size) for positions, size in (*inputs, *inputs[1:])[:3])
    return attention(query, key, value, is_scaled=False, drops=bool(layer.dropout))


def _directions_of(layer: Layer) -> list[Layer]:
    """Both layers of a bidirectional one, else the layer."""
    return [layer.forward_layer, layer.backward_layer] if hasattr(layer, "forward_layer") else [layer]


def _cells_of(layer: Layer) -> list[Layer]:
    """The cells of a recurrent layer, first to last."""
    return list(layer.cell.cells) if keras_class(layer.cell) == "StackedRNNCells" else [layer.cell]


def _is_one_call(layer: Layer) -> bool:
    """Whether Keras hands all steps of this layer to cuDNN at once where there is a GPU."""
    cell = layer.cell
    return (
        keras_class(layer) in ("LSTM", "GRU")
        and layer.use_cudnn in ("auto", True)
        and (activation_name(cell.activation), activation_name(cell.recurrent_activation)) == ("tanh", "sigmoid")
        and cell.use_bias
        and not cell.recurrent_dropout
        and not layer.unroll
        and getattr(cell, "reset_after", True)
    )


def _cell_parts(cell: Layer, inputs: Shape, n_kernels: int) -> Parts:
    """All steps of one cell: its inputs' product, which waits for no step, then the recurrent one, step by step.

    `n_kernels` are the recurrent one's launches. Its weights are read once: a cache may hold them from step to step.
    """
    steps, units = inputs[0], cell.units
    width = GATES[str(keras_class(cell))] * units
    projection = part(
        "recurrent",
        (steps, width),
        prod(inputs),
        layer=cell,
        weights=present(cell.kernel, cell.bias),
        macs=steps * prod(cell.kernel.shape),
        flop=0 if cell.bias is None else steps * prod(cell.bias.shape),
        name="input",
        keeps_output=False,
    )
    product = part(
        "recurrent",
        (steps, units),
        steps * (width + units),
        layer=cell,
        weights=[cell.recurrent_kernel],
        macs=steps * prod(cell.recurrent_kernel.shape),
        flop=steps * units * _elementwise_flop(cell),
        name="recurrent",
        n_kernels=n_kernels,
        is_linear=False,
        has_input_gradient=True,
    )
    parts = [dropped(inputs, "dropout"), projection] if cell.dropout else [projection]
    if cell.recurrent_dropout:
        parts.append(dropped((steps, units), "recurrent_dropout", True))
    return [*parts, product]


def _elementwise_flop(cell: Layer) -> int:
    """FLOP for each unit and step: adding both products, the gates, and the state's update."""
    squash = ACTIVATION_FLOP.get(activation_name(cell.activation), 0)
    if keras_class(cell) == "SimpleRNNCell":
        return 1 + squash
    gate = ACTIVATION_FLOP.get(activation_name(cell.recurrent_activation), 0)
    if keras_class(cell) == "LSTMCell":  # c = f c + i tanh(g), h = o tanh(c)
        return 4 + 3 * gate + 2 * squash + 4
    return 3 + 2 * gate + squash + 5  # h = z h + (1 - z) tanh(x + r u)
