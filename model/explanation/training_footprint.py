"""A training of a network in seconds, energy, money and CO2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from epochcast.facts.assumptions import device_kind_of
from epochcast.footprint.footprint import Footprint, asked_energy, footprint, metered_energy, modelled_energy, rates_of
from epochcast.footprint.rules import FootprintRules
from epochcast.footprint.text import footprint_json, regions_lines
from epochcast.gpus.network_time import NETWORK_LAW
from epochcast.gpus.rates import network_busy_share
from epochcast.interval import Interval, with_ends
from epochcast.model.explanation.device import ExplainedDevice
from epochcast.model.explanation.epoch_time import EpochTime
from epochcast.output.text import range_text, significant
from epochcast.roofline.network import TrainedNetwork


@dataclass(frozen=True, slots=True)
class NetworkTraining:
    """All epochs of a training, without its start."""

    epochs: int
    seconds: Interval
    has_input: bool  # whether input and host are in the seconds
    footprints: Sequence[Footprint]  # one for each region

    def lines(self) -> list[str]:
        """Return the answer for people."""
        bounds = range_text(self.seconds.low, self.seconds.high, "interval unknown")
        epochs = f"{self.epochs:,} epoch{'' if self.epochs == 1 else 's'}"
        without = "without start" if self.has_input else "without start, input and host"
        sec = f"training_sec: {significant(self.seconds.value)} ({bounds}), {epochs} {without}"
        return [sec, *regions_lines(self.footprints)]


def training_json(training: NetworkTraining | None) -> dict[str, Any]:
    """Return everything of a training in full precision; null where none is asked for."""
    return {
        "epochs": None if training is None else training.epochs,
        **with_ends("training_sec", None if training is None else training.seconds),
        "footprints": [] if training is None else [footprint_json(each) for each in training.footprints],
    }


def network_training(
    network: TrainedNetwork, device: ExplainedDevice, epoch: EpochTime, epochs: int, rules: FootprintRules
) -> NetworkTraining:
    """Return a training of so many epochs.

    Raises:
        ValueError: if MLCost's formula is asked for and the device's TDP is unknown.
    """
    seconds = epoch.seconds.times(epochs)
    return NetworkTraining(
        epochs, seconds, epoch.has_input, training_footprints(network, device, epoch, seconds, rules)
    )


def training_footprints(
    network: TrainedNetwork,
    device: ExplainedDevice,
    time: EpochTime,
    training: Interval,
    rules: FootprintRules,
    device_share: float = 1.0,
) -> tuple[Footprint, ...]:
    """Return what a training of so many seconds takes, costs and emits, one for each region.

    Measured joules go first. How busy the GPU is the law of networks tells where it is the one that answers.

    Args:
        time: of whatever part of the training.
        device_share: of the training, in which the device does not wait for its input.

    Raises:
        ValueError: if MLCost's formula is asked for and the device's TDP is unknown.
    """
    gpu = device.gpu
    is_processor = gpu is None and device_kind_of(device.name) == "cpu"
    energy = asked_energy(training, rules, gpu, is_processor)
    if energy is None and time.own is not None and time.own.joules is not None:
        watts = time.own.joules / time.own.seconds.value
        energy = metered_energy(training, watts, f"of its steps, by {time.own.run_ids[-1]} of results/fits.csv")
    if energy is None:
        busy = None
        if gpu is not None and device.arithmetic is not None and time.basis == NETWORK_LAW:
            busy = network_busy_share(network, gpu, device.arithmetic)
        if busy is not None:  # a GPU that waits for its input is idle
            busy *= device_share
        energy = modelled_energy(training, rules, gpu, is_processor, busy_share=busy)
    return tuple(footprint(energy, training, rates) for rates in rates_of(rules, gpu))
