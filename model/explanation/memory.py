"""Peak memory of a network's training step, whether it fits, and the largest batch that does."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from epochcast.facts.assumptions import device_kind_of
from epochcast.facts.tables import GPU, Gpu
from epochcast.gpus.lookup import BYTES_PER_GB
from epochcast.model.answers.prediction import memory_json
from epochcast.model.explanation.device import ExplainedDevice
from epochcast.output.text import significant
from epochcast.roofline.network import TrainedNetwork
from epochcast.roofline.network_memory import count_memory, formats_of
from epochcast.roofline.roofline import passes_of_slots
from epochcast.workload.memory import LargestBatch, PeakMemory, gib_text

GIB = 2**30


@dataclass(frozen=True, slots=True)
class ExactMemory:
    """What a compiler says of the step on the device of this process."""

    bytes: int
    device: str
    ask_sec: float  # wall, compilation and start of the framework included


@dataclass(frozen=True, slots=True)
class NetworkMemory:
    """Memory of a training step as a GPU's driver counts it, in bytes."""

    peak: PeakMemory
    gpu: Gpu | None
    largest: LargestBatch | None  # None: not asked for
    exact: ExactMemory | None = None  # None: not asked for

    @property
    def fit(self) -> str | None:
        """Return whether the step fits into the GPU; None where its memory is not known."""
        return None if self.gpu is None else self.peak.fit(_bytes_of(self.gpu))

    def to_json(self) -> dict[str, Any]:
        return {
            **memory_json(self.peak),
            "memory_gb": None if self.gpu is None else self.gpu.memory_gb,
            "memory_fit": self.fit,
            "max_batch": None if self.largest is None else asdict(self.largest),
            "exact": None if self.exact is None else asdict(self.exact),
        }

    def lines(self) -> list[str]:
        """Return the answer for people."""
        low, high = (significant(end / GIB) for end in (self.peak.low, self.peak.high))
        counted_by = "by a GPU's driver" if _is_gpu(self.gpu) else "as a GPU's driver would count it"
        fit = "" if self.gpu is None else f": {self.fit} into {self.gpu.memory_gb:g} GB"
        lines = [
            f"peak memory: {gib_text(self.peak.value)} ({low} to {high} GiB) {counted_by}, "
            f"{gib_text(self.peak.arrays)} of it the framework's arrays{fit}"
        ]
        if self.largest is not None and self.gpu is not None:
            lines.append(f"largest batch in {self.gpu.memory_gb:g} GB: {self.largest.text}")
        if self.exact is not None:
            lines.append(
                f"exact: {gib_text(self.exact.bytes)} of arrays by JAX's compiler on {self.exact.device}, asked in "
                f"{significant(self.exact.ask_sec)} s"
            )
        return lines


def network_memory(
    device: ExplainedDevice, network: TrainedNetwork, wants_largest: bool = False, exact: ExactMemory | None = None
) -> NetworkMemory | None:
    """Return the memory of a training step on a GPU; None on a processor.

    Raises:
        ValueError: if the largest batch is wanted, and the memory of the device is not known.
    """
    gpu = device.gpu
    if wants_largest and gpu is None:
        raise ValueError(f"--max_batch: the memory of {device.name or 'the device'} is not known. Name one with --gpu.")
    if gpu is None and exact is None and device_kind_of(device.name) == "cpu":
        return None
    slots = (network.optimizer_passes - passes_of_slots(0)) // (passes_of_slots(1) - passes_of_slots(0))
    counted = count_memory(network.records, slots, formats_of(network.element_bytes))
    basis = _basis(network, gpu)

    def peak_of(batch_size: int) -> PeakMemory:
        return PeakMemory.by_law(counted, batch_size, basis).with_context()

    largest = LargestBatch.of(_bytes_of(gpu), peak_of) if wants_largest and gpu is not None else None
    return NetworkMemory(peak_of(network.batch_size), gpu, largest, exact)


def _basis(network: TrainedNetwork, gpu: Gpu | None) -> str:
    """Say what the memory rests on, and which networks and devices nothing was measured of."""
    lacking = ["none of them recurrent"] if any(record.kind == "recurrent" for record in network.records) else []
    if gpu is not None and not _is_gpu(gpu):
        lacking.append(f"none on any {gpu.kind.upper()}")
    among = f" ({', '.join(lacking)})" if lacking else ""
    return f"counted from its layers, slack and work space by public measurements of other networks{among}"


def _is_gpu(gpu: Gpu | None) -> bool:
    """Return whether a device is a GPU, as one is that the facts do not know."""
    return gpu is None or gpu.kind == GPU


def _bytes_of(gpu: Gpu) -> float:
    """Return the bytes of a board; those with error correction have no more."""
    return gpu.memory_gb * BYTES_PER_GB
