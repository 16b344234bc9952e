"""How a network's time splits, and which networks the CNN's law is nearer to."""

from __future__ import annotations

from epochcast.gpus.network_time import NetworkTime
from epochcast.model.explanation.attribution import Attribution
from epochcast.model.time_model.saved_model import SavedModel
from epochcast.output.text import percent
from epochcast.roofline.network import TrainedNetwork
from epochcast.roofline.network_law import LawNumbers
from epochcast.schema import RunConfig
from epochcast.workload.shape import layer_records

CNN_KINDS = frozenset({"conv", "pool", "dense"})  # of its layers


def is_of_cnn_family(network: TrainedNetwork, saved: SavedModel) -> bool:
    """Whether a network has our CNN's kinds of layers alone, within its measured FLOP."""
    largest = RunConfig(saved.range.depth[1], saved.range.base_filters[1], 1)
    flop = sum(record.forward_flop for record in layer_records(largest))
    own = sum(record.forward_flop for record in network.records)
    return {record.kind for record in network.records} <= CNN_KINDS and own <= flop


def law_words() -> str:
    """Return what the numbers of the law of networks say."""
    numbers = LawNumbers.shipped()
    exponent = numbers.dense_exponent
    return (
        f"{percent(numbers.compute_share)} of the rate (dense to the {exponent:.2g}, plain fp32 to the "
        f"{1 - exponent:.2g}), {percent(numbers.memory_share)} of the bandwidth, {1e6 * numbers.launch_sec:.3g} µs an "
        f"operation, {1e3 * numbers.step_sec:.3g} ms a step"
    )


def attribution_of(time: NetworkTime) -> Attribution:
    """Return the split under the names of the terms of a model's law; input and host are not known."""
    scale = time.raised
    split = tuple(
        {
            "per_step_and_block": scale * layer.launches,
            "per_flop": scale * layer.arithmetic,
            "per_activation_byte": scale * layer.memory,
        }
        for layer in time.layers
    )
    totals = {name: sum(layer[name] for layer in split) for name in split[0]}
    return Attribution({"per_epoch": None, "per_step": scale * time.fixed_sec, **totals}, split)
