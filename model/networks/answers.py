"""What training any Keras network takes and costs on GPUs that it never ran on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from epochcast.facts.tables import Gpu
from epochcast.footprint.footprint import Footprint, asked_energy, footprint, modelled_energy, rates_of
from epochcast.footprint.rules import FootprintRules
from epochcast.footprint.text import footprint_json
from epochcast.gpus.network_time import NetworkFactor
from epochcast.gpus.rates import network_busy_share
from epochcast.interval import Interval, with_ends
from epochcast.keras_files.file_network import FileNetwork
from epochcast.model.answers.prediction import SORTS
from epochcast.model.explanation.device import FLOAT32, ExplainedDevice, device_of_network, scaling_choices
from epochcast.model.explanation.epoch_time import EpochTime, time_of
from epochcast.model.explanation.memory import NetworkMemory, network_memory
from epochcast.model.time_model.saved_model import choose_model
from epochcast.roofline.network import TrainedNetwork, epoch_layers, epoch_roofline
from epochcast.schema import PRECISIONS

DEVICE, INPUT, EITHER = "device", "input", "either"  # what an epoch waits for


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """What is asked of a network besides GPUs and batch sizes."""

    network: FileNetwork
    precision: str
    train_n: int | None = None  # samples of an epoch; None: only a step is asked for
    epochs: int | None = None  # of a training; with train_n
    input_images_per_sec: float | None = None  # that are loaded and prepared; None is unknown
    rules: FootprintRules = field(default_factory=FootprintRules)
    factors: Sequence[NetworkFactor] = ()  # of networks that were measured here
    wants_largest: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"no precision {self.precision!r}; use one of {', '.join(PRECISIONS)}.")
        if self.epochs is not None and self.train_n is None:
            raise ValueError("epochs need the samples of one: give train_n, too.")


@dataclass(frozen=True, slots=True)
class NetworkAnswer:
    """A network at one batch size on one GPU; without an input, the device's share."""

    gpu: Gpu
    batch_size: int
    step: Interval  # seconds
    images_per_sec: Interval
    epoch: Interval | None  # seconds; None: not asked for
    training: Interval | None  # seconds of all epochs; None: not asked for
    binds: str | None  # DEVICE, INPUT or EITHER; None: the input is not known
    time: EpochTime
    memory: NetworkMemory
    notes: tuple[str, ...]
    footprints: tuple[Footprint, ...] = ()  # one for each place; none without epochs

    def to_json(self) -> dict[str, Any]:
        """Return everything in full precision; null is unknown."""
        return {
            "gpu": self.gpu.name,
            "batch_size": self.batch_size,
            **with_ends("step_sec", self.step),
            **with_ends("images_per_sec", self.images_per_sec),
            **with_ends("epoch_sec", self.epoch),
            **with_ends("training_sec", self.training),
            "is_device_share_alone": self.binds is None,
            "binds": self.binds,
            "basis": self.time.basis,
            "basis_words": self.time.words,
            "memory": self.memory.to_json(),
            "footprints": [footprint_json(each) for each in self.footprints],
            "notes": list(self.notes),
        }


def default_precision(network: FileNetwork) -> str:
    """Return the precision that a network was saved in, float32 where that is unclear."""
    (own,) = network.policies if len(network.policies) == 1 else (FLOAT32,)
    return own if own in PRECISIONS else FLOAT32


def network_answers(
    request: NetworkRequest, gpus: Sequence[Gpu], batch_sizes: Sequence[int], sort: str = SORTS[0]
) -> tuple[list[NetworkAnswer], dict[str, str]]:
    """Return the answer for each batch size on each GPU, and why GPUs have none.

    Args:
        sort: one of SORTS, of the GPUs of one batch size; unknown is last.

    Raises:
        ValueError: if no GPU has an answer.
    """
    choice = choose_model(precision=request.precision)
    choices = [choice, *scaling_choices(choice)]
    found: list[NetworkAnswer] = []
    without: dict[str, str] = {}
    for gpu in gpus:
        try:
            device = device_of_network(gpu, request.precision, choices)
            assert device is not None  # the shipped model scales to every GPU
            device = device.with_factor_of(request.factors)
            found += [_answer(request, device, gpu, batch_size) for batch_size in batch_sizes]
        except ValueError as error:  # of an arithmetic that it lacks
            without[gpu.name] = str(error)
    if not found:
        raise ValueError("; ".join(dict.fromkeys(without.values())))
    return sorted(found, key=lambda each: (each.batch_size, *_rank(each, sort))), without


def _rank(answer: NetworkAnswer, sort: str) -> tuple[bool, float]:
    value: float | None = answer.step.value
    if sort != SORTS[0]:
        place = answer.footprints[0] if answer.footprints else None
        amount = None if place is None else place.cloud_usd if sort == "cost" else place.operational_kg_co2e
        value = None if amount is None else amount.value
    return value is None, value or 0.0


def _answer(request: NetworkRequest, device: ExplainedDevice, gpu: Gpu, batch_size: int) -> NetworkAnswer:
    network = request.network.trained(batch_size, request.train_n or batch_size, request.precision)
    least = None
    if device.roof is not None:
        least = epoch_roofline(network, epoch_layers(network, device.roof), device.roof)
    time = time_of(device, network, None, least)
    seconds, binds = _with_input(time.seconds, network, request.input_images_per_sec)
    memory = network_memory(device, network, request.wants_largest)
    assert memory is not None  # a GPU has one
    found = NetworkAnswer(
        gpu=gpu,
        batch_size=batch_size,
        step=seconds.times(1 / network.work.steps),
        images_per_sec=seconds.inverse(network.images),
        epoch=None if request.train_n is None else seconds,
        training=None if request.epochs is None else seconds.times(request.epochs),
        binds=binds,
        time=time,
        memory=memory,
        notes=(*device.notes, *network.notes),
    )
    if found.training is None:
        return found
    energy = asked_energy(found.training, request.rules, gpu, False)
    if energy is None:
        busy = None if device.arithmetic is None else network_busy_share(network, gpu, device.arithmetic)
        if busy is not None:  # a GPU that waits for its input is idle
            busy *= time.seconds.value / seconds.value
        energy = modelled_energy(found.training, request.rules, gpu, False, busy_share=busy)
    prices = tuple(footprint(energy, found.training, rates) for rates in rates_of(request.rules, gpu))
    return replace(found, footprints=prices)


def _with_input(device: Interval, network: TrainedNetwork, images_per_sec: float | None) -> tuple[Interval, str | None]:
    """Return the seconds of an epoch with its input, and which of both binds."""
    if images_per_sec is None:
        return device, None
    sec = network.images / images_per_sec
    low, high = (device.value if end is None else end for end in (device.low, device.high))
    binds = INPUT if sec >= high else DEVICE if sec <= low else EITHER
    if device.low is None or device.high is None:
        return Interval(max(device.value, sec)), binds
    return Interval(max(device.value, sec), max(device.low, sec), max(device.high, sec)), binds


def names_by_words(words: Mapping[str, str]) -> dict[str, list[str]]:
    """Return names by the words that they have, in their order."""
    found: dict[str, list[str]] = {}
    for name, text in words.items():
        found.setdefault(text, []).append(name)
    return found
