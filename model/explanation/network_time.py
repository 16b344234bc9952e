"""The time of a network by the law of networks, and how it splits."""

from __future__ import annotations

import math
from dataclasses import dataclass

from epochcast.facts.assumptions import assumption
from epochcast.facts.tables import CONVOLUTIONAL, Gpu
from epochcast.gpus.rates import law_rates, limit_of
from epochcast.interval import Interval
from epochcast.model.explanation.attribution import Attribution
from epochcast.model.explanation.network_factor import NetworkFactor
from epochcast.model.time_model.saved_model import SavedModel
from epochcast.output.text import percent
from epochcast.roofline.network import TRANSFORMER, TrainedNetwork, attainable_sec
from epochcast.roofline.network_law import LawNumbers, LawSeconds, Rates, law_seconds, layer_work
from epochcast.schema import RunConfig
from epochcast.workload.shape import layer_records

CNN_KINDS = frozenset({"conv", "pool", "dense"})  # of its layers
# assumed factors up and down, by kind of network
RANGES = {CONVOLUTIONAL: "network_range_convolutional", TRANSFORMER: "network_range_transformer"}


@dataclass(frozen=True, slots=True)
class LawTime:
    """Seconds of an epoch by the law of networks, and their split."""

    seconds: Interval
    words: str
    attribution: Attribution


def law_time(
    network: TrainedNetwork, gpu: Gpu, arithmetic: str, measured: NetworkFactor | None = None
) -> LawTime | None:
    """Return the seconds of a network's epoch on a GPU by the law of networks.

    Args:
        measured: what other networks took there over the law.

    None where it has no number: the GPU's plain fp32 rate is not known, or a step is shorter than any that the law was
    fitted to, where what is measured of our CNN is nearer.
    """
    rates, numbers = law_rates(gpu, arithmetic), LawNumbers.shipped()
    if rates is None:
        return None
    layers = _epoch_layers(network, rates, numbers)
    steps = network.work.steps
    fixed = steps * numbers.step_sec
    by_law = fixed + sum(layer.total for layer in layers)
    if by_law < steps * assumption("network_least_step_sec", "gpu").value:
        return None
    least = attainable_sec(network, limit_of(gpu, arithmetic))
    kind = network.network_kind
    factor = assumption(RANGES.get(kind, "other_network_bar"), "gpu").value
    held = f"for 90 % of {kind} networks" if kind in RANGES else "guessed: no such network was judged"
    value, corrected = by_law, ""
    if measured is not None and kind in RANGES:  # a factor of other kinds was judged of none
        value, factor, corrected = by_law * measured.factor, measured.range_factor, f", {measured.words}"
    own = Interval.of_log(value, math.log(factor))
    assert own.low is not None and own.high is not None  # a factor is known
    seconds = Interval(max(value, least), max(own.low, least), max(own.high, least))
    limited = "; limited by the least time that its data sheet allows" if seconds.value > value else ""
    words = (
        f"a law of networks fitted to published steps on many GPUs{corrected}, within a factor of {factor:.3g} ({held})"
        f"{limited}; the device's share alone, without input and host"
    )
    return LawTime(seconds, words, _attribution(layers, fixed, seconds.value / by_law))


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


def _epoch_layers(network: TrainedNetwork, rates: Rates, numbers: LawNumbers) -> list[LawSeconds]:
    """Return the seconds of each layer in an epoch; its last step may have fewer images."""
    full, rest = divmod(network.images, network.batch_size)
    steps = [(n, batch) for n, batch in ((full, network.batch_size), (1, rest)) if n and batch]
    found = []
    for record in network.records:
        parts = [
            (n, law_seconds(layer_work(record, batch, network.element_bytes, network.optimizer_passes), rates, numbers))
            for n, batch in steps
        ]
        found.append(
            LawSeconds(
                sum(n * each.launches for n, each in parts),
                sum(n * each.arithmetic for n, each in parts),
                sum(n * each.memory for n, each in parts),
            )
        )
    return found


def _attribution(layers: list[LawSeconds], fixed: float, scale: float) -> Attribution:
    """Return the split under a model's names of terms; input and host are unknown."""
    split = tuple(
        {
            "per_step_and_block": scale * layer.launches,
            "per_flop": scale * layer.arithmetic,
            "per_activation_byte": scale * layer.memory,
        }
        for layer in layers
    )
    totals = {name: sum(layer[name] for layer in split) for name in split[0]}
    return Attribution({"per_epoch": None, "per_step": scale * fixed, **totals}, split)
