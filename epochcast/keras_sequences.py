"""The parts of embeddings, recurrent layers and attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

from epochcast.keras_parts import ACTIVATION_FLOP, Layer, Parts, Shape, activation_name, part, present

GATES = {"SimpleRNNCell": 1, "GRUCell": 3, "LSTMCell": 4}
SOFTMAX_FLOP = ACTIVATION_FLOP["softmax"]


def embedding(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    """A lookup: it reads the numbers and their rows of the table, which belong to the sample, not to the batch."""
    moved = prod(inputs[0]) + prod(output)
    weights = layer.weights
    return [part("embedding", output, moved, layer=layer, weights=weights, weight_reads=0, keeps_output=False)]


def has_known_cells(layer: Layer) -> bool:
    """Whether all cells of a recurrent layer, or of both directions of one, have parts here."""
    layers = [layer.forward_layer, layer.backward_layer] if hasattr(layer, "forward_layer") else [layer]
    return all(type(cell).__name__ in GATES for one in layers for cell in _cells_of(one))


def recurrent(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    """The parts of all its cells; one that stands on another is named by its number."""
    parts: Parts = []
    shape = inputs[0]
    for number, cell in enumerate(_cells_of(layer), 1):
        for found in _cell_parts(cell, shape):
            name = f"cell{number}/{found.name}" if number > 1 else found.name
            parts.append(replace(found, name=name, has_input_gradient=number > 1 or found.has_input_gradient))
        shape = parts[-1].output_shape
    return parts


def bidirectional(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    """The parts of both directions, then what merges their outputs."""
    parts = [
        replace(found, name=f"{one.name}/{found.name}")
        for one in (layer.forward_layer, layer.backward_layer)
        for found in recurrent(one, inputs, output)
    ]
    if layer.merge_mode is None:
        return parts
    read = prod(output) * (1 if layer.merge_mode == "concat" else 2)
    flop = {"concat": 0, "sum": 1, "mul": 1, "ave": 2}[layer.merge_mode] * prod(output)
    is_product = layer.merge_mode == "mul"
    keeps = {"keeps_input": is_product, "keeps_output": False, "has_input_gradient": True}
    return [*parts, part("merge", output, read, flop=flop, name=layer.merge_mode, **keeps)]


def attention(query: Shape, key: Shape, value: Shape, *, groups: int = 1, is_scaled: bool = True) -> Parts:
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

    parts = attention(flat(query), flat(key), flat(value), groups=groups)
    if config.get("dropout"):
        scores = parts[1].output_shape
        drop = part("dropout", scores, prod(scores), name="dropout", keeps_input=False, has_input_gradient=True)
        parts.insert(2, drop)
    return parts


def dot_attention(layer: Layer, inputs: Sequence[Shape], output: Shape) -> Parts:
    """Attention without weights, in one head, of given queries, values and, if they are others, keys."""
    query, value, key = ((positions, 1, size) for positions, size in (*inputs, *inputs[1:])[:3])
    return attention(query, key, value, is_scaled=False)


def _cells_of(layer: Layer) -> list[Layer]:
    """The cells of a recurrent layer, first to last."""
    return list(getattr(layer.cell, "cells", [layer.cell]))


def _cell_parts(cell: Layer, inputs: Shape) -> Parts:
    """All steps of one cell: its inputs' product, which waits for no step, then the recurrent one, step by step."""
    steps, units = inputs[0], cell.units
    width = GATES[type(cell).__name__] * units
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
        weight_reads=steps * prod(cell.recurrent_kernel.shape),
        n_kernels=steps,
        has_input_gradient=True,
    )
    return [projection, product]


def _elementwise_flop(cell: Layer) -> int:
    """FLOP for each unit and step: adding both products, the gates, and the state's update."""
    squash = ACTIVATION_FLOP.get(activation_name(cell.activation), 0)
    if type(cell).__name__ == "SimpleRNNCell":
        return 1 + squash
    gate = ACTIVATION_FLOP.get(activation_name(cell.recurrent_activation), 0)
    if type(cell).__name__ == "LSTMCell":  # c = f c + i tanh(g), h = o tanh(c)
        return 4 + 3 * gate + 2 * squash + 4
    return 3 + 2 * gate + squash + 5  # h = z h + (1 - z) tanh(x + r u)
