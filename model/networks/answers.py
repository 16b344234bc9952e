"""What training any Keras network takes and costs on GPUs that it never ran on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from epochcast.facts.tables import Gpu
from epochcast.footprint.footprint import Footprint
from epochcast.footprint.rules import FootprintRules
from epochcast.footprint.text import footprint_json
from epochcast.interval import Interval, with_ends
from epochcast.keras_files.file_network import FileNetwork
from epochcast.live.fits import FitRecord
from epochcast.model.answers.prediction import SORTS
from epochcast.model.explanation.device import FLOAT32, ExplainedDevice, device_of_network, scaling_choices
from epochcast.model.explanation.epoch_time import EpochTime, time_of
from epochcast.model.explanation.memory import NetworkMemory, network_memory
from epochcast.model.explanation.own_rows import own_rows
from epochcast.model.explanation.training_footprint import training_footprints
from epochcast.model.time_model.saved_model import choose_model
from epochcast.roofline.network import TrainedNetwork, epoch_layers, epoch_roofline
from epochcast.schema import PRECISIONS
from epochcast.workload.memory import PeakMemory

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
    rows: Sequence[FitRecord] | None = None  # of networks that were measured; None: of this home's fits.csv
    wants_largest: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"no precision {self.precision!r}; use one of {', '.join(PRECISIONS)}.")
        for name in ("train_n", "epochs"):
            _require_whole(name, getattr(self, name))
        if self.epochs is not None and self.train_n is None:
            raise ValueError("epochs need the samples of one: give train_n, too.")
        rate = self.input_images_per_sec
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"input_images_per_sec must be a finite number above 0, got {rate!r}.")


@dataclass(frozen=True, slots=True)
class NetworkAnswer:
    """A network at one batch size on one GPU; without an input, the device's share."""

    gpu: Gpu
    arithmetic: str | None  # in which it multiplies; None is unknown
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
            "arithmetic": self.arithmetic,
            "batch_size": self.batch_size,
            **with_ends("step_sec", self.step),
            **with_ends("images_per_sec", self.images_per_sec),
            **with_ends("epoch_sec", self.epoch),
            **with_ends("training_sec", self.training),
            "is_device_share_alone": self.binds is None and not self.time.has_input,
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


def _require_whole(name: str, value: int | None) -> None:
    if value is not None and not (isinstance(value, int) and value >= 1):
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")


def network_answers(
    request: NetworkRequest, gpus: Sequence[Gpu], batch_sizes: Sequence[int], sort: str = SORTS[0]
) -> tuple[list[NetworkAnswer], dict[str, str]]:
    """Return the answer for each batch size on each GPU, and why GPUs have none.

    Args:
        sort: one of SORTS, of the GPUs of one batch size; unknown is last.

    Raises:
        ValueError: if nothing is asked, a batch size is none, or no GPU has an answer.
    """
    if not gpus or not batch_sizes:
        raise ValueError(f"a GPU and a batch size are needed, got {len(gpus)} and {len(batch_sizes)}.")
    for batch_size in batch_sizes:
        _require_whole("a batch size", batch_size)
    if sort not in SORTS:
        raise ValueError(f"no order {sort!r}; use one of {', '.join(SORTS)}.")
    rows = own_rows()[0] if request.rows is None else request.rows
    choice = choose_model(precision=request.precision)
    choices = [choice, *scaling_choices(choice)]
    found: list[NetworkAnswer] = []
    without: dict[str, str] = {}
    for gpu in gpus:
        try:
            device = device_of_network(gpu, request.precision, choices)
            assert device is not None  # the shipped model scales to every GPU
            device = device.with_rows_of(rows)
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
    samples = batch_size if request.train_n is None else min(batch_size, request.train_n)  # of a whole step
    one_step = request.network.trained(samples, samples, request.precision)
    time = _time_of(device, one_step)
    step, binds = _with_input(time.seconds, one_step, request.input_images_per_sec)
    epoch = None
    if request.train_n is not None:
        network = request.network.trained(samples, request.train_n, request.precision)
        epoch, _ = _with_input(_time_of(device, network).seconds, network, request.input_images_per_sec)
    memory = network_memory(device, one_step, request.wants_largest)
    assert memory is not None  # a GPU has one
    if time.own is not None and time.own.memory_bytes is not None:
        memory = replace(memory, peak=PeakMemory.measured(time.own.memory_bytes).with_context())
    found = NetworkAnswer(
        gpu=gpu,
        arithmetic=device.arithmetic,
        batch_size=batch_size,
        step=step,
        images_per_sec=step.inverse(samples),
        epoch=epoch,
        training=None if epoch is None or request.epochs is None else epoch.times(request.epochs),
        binds=binds,
        time=time,
        memory=memory,
        notes=(*device.notes, *request.network.trained(batch_size, batch_size, request.precision).notes),
    )
    if found.training is None:
        return found
    waits = time.seconds.value / step.value  # a GPU that waits for its input is idle
    prices = training_footprints(one_step, device, time, found.training, request.rules, waits)
    return replace(found, footprints=prices)


def _time_of(device: ExplainedDevice, network: TrainedNetwork) -> EpochTime:
    least = None
    if device.roof is not None:
        least = epoch_roofline(network, epoch_layers(network, device.roof), device.roof)
    return time_of(device, network, None, least)


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
