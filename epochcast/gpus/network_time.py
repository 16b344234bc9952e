"""The time of a network on a GPU by the law of networks, with its range."""

from __future__ import annotations

import math
from dataclasses import dataclass

from epochcast.facts.assumptions import assumption
from epochcast.facts.tables import CONVOLUTIONAL, Gpu
from epochcast.gpus.rates import law_rates, limit_of
from epochcast.gpus.scaled_time import at_least
from epochcast.interval import Interval
from epochcast.roofline.network import TRANSFORMER, TrainedNetwork, attainable_sec
from epochcast.roofline.network_law import (
    LawNumbers,
    LawSeconds,
    Rates,
    law_seconds,
    layer_work,
    step_seconds,
    step_work,
)

NETWORK_LAW = "law of networks"
DEVICE_ALONE = "the device's share alone, without input and host"
SEVERAL = 3  # networks, whose own spread counts
# assumed factors up and down, by kind of network
RANGES = {CONVOLUTIONAL: "network_range_convolutional", TRANSFORMER: "network_range_transformer"}


@dataclass(frozen=True, slots=True)
class NetworkFactor:
    """Measured over law of one kind of network on one GPU in one arithmetic."""

    gpu: str
    precision: str
    arithmetic: str
    kind: str
    factor: float
    range_factor: float  # up and down, that holds 90 % of other networks there
    n_networks: int
    run_ids: tuple[str, ...]  # rows of fits.csv

    @property
    def words(self) -> str:
        """Say what it rests on."""
        networks = "one network" if self.n_networks == 1 else f"{self.n_networks} networks"
        return f"times {self.factor:.3g}, what {networks} of yours took there over it with their input and host"


@dataclass(frozen=True, slots=True)
class NetworkTime:
    """Seconds of an epoch by the law of networks, and the parts that they are of."""

    seconds: Interval
    words: str
    layers: list[LawSeconds]
    fixed_sec: float  # what steps take whatever their layers

    @property
    def raised(self) -> float:
        """The time over its parts' sum: 1 but for a measured factor or the least time."""
        return float(self.seconds.value / (self.fixed_sec + sum(layer.total for layer in self.layers)))


def network_time(
    network: TrainedNetwork, gpu: Gpu, arithmetic: str, measured: NetworkFactor | None = None
) -> NetworkTime | None:
    """Return the seconds of a network's epoch on a GPU by the law of networks.

    Args:
        measured: what other networks of its kind took there over the law.

    None where it has no number: the GPU's plain fp32 rate is not known, or a step is shorter than any that the law was
    fitted to.
    """
    rates, numbers = law_rates(gpu, arithmetic), LawNumbers.shipped()
    if rates is None:
        return None
    layers = _epoch_layers(network, rates, numbers)
    steps = network.work.steps
    fixed = steps * numbers.step_sec
    by_law = fixed + sum(layer.total for layer in layers)
    samples = min(network.batch_size, network.images)  # of a whole step, whatever the last of an epoch is
    whole = step_work(network.records, samples, network.element_bytes, network.optimizer_passes)
    if step_seconds(whole, rates, numbers) < assumption("network_least_step_sec", "gpu").value:
        return None
    least = attainable_sec(network, limit_of(gpu, arithmetic))
    kind = network.network_kind
    factor = assumption(RANGES.get(kind, "other_network_bar"), "gpu").value
    held = f"for 90 % of {kind} networks" if kind in RANGES else "guessed: no such network was judged"
    value, of = by_law, f"; {DEVICE_ALONE}"
    if measured is not None:
        value, factor, of = by_law * measured.factor, measured.range_factor, ""
        held = "for 90 % of other networks" if measured.n_networks < SEVERAL else "by the spread of yours"
    seconds = at_least(Interval.of_log(value, math.log(factor)), least)
    limited = "; limited by the least time that its data sheet allows" if seconds.value > value else ""
    corrected = "" if measured is None else f", {measured.words}"
    words = (
        f"a law of networks fitted to published steps on many GPUs{corrected}, within a factor of {factor:.3g} ({held})"
        f"{limited}{of}"
    )
    return NetworkTime(seconds, words, layers, fixed)


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
