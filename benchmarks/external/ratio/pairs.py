"""Pairs of measured steps of one network on two GPUs, from all tables.

A pair shares source, network, size of the input, batch size, precision and optimizer; its software may differ within
the source. Published speeds say no batch size: theirs are seconds for a sample. Runs with a power limit count at the
largest limit of their board.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from benchmarks.external.features import Array
from benchmarks.external.left_out import Mask
from benchmarks.external.networks import ALL
from benchmarks.external.tables import MIXED, PLAIN, Measured
from epochcast.facts.tables import CONVOLUTIONAL, Gpu, speed_rows
from epochcast.gpus.lookup import BYTES_PER_GB, find_gpu
from epochcast.gpus.ratio import SMALL_BATCH
from epochcast.paths import reference_data
from epochcast.roofline.roofline import optimizer_passes

SPEEDS, POWER_RUNS = "gpu_speed", "power_runs"
# as fast in fp16 as in fp32, in the median over GPUs: they did not compute in half precision
NOT_HALF = ("tacotron2", "waveglow")
SMALL_SIZE = 32  # pixels a side


@dataclass(frozen=True)
class Step:
    """The seconds of a step on one GPU."""

    source: str
    setting: str  # software
    network: str
    size: int | None  # pixels a side, or tokens
    batch: int | None  # None: the seconds are of a sample
    precision: str  # PLAIN | PURE_HALF | MIXED
    optimizer: Hashable
    gpu: Gpu
    kind: str  # of network
    arithmetic: str
    seconds: float
    row: Measured | None = None  # whose layers are known

    @property
    def element_bytes(self) -> int:
        return 4 if self.precision == PLAIN else 2

    @property
    def is_small(self) -> bool:
        """Whether it is of small images in small batches."""
        is_known = self.size is not None and self.batch is not None
        is_few = is_known and self.size <= SMALL_SIZE and self.batch <= SMALL_BATCH  # type: ignore[operator]  # known
        return bool(self.kind == CONVOLUTIONAL and is_few)

    @property
    def is_answered(self) -> bool:
        """Whether answers are given: half precision on a board without a rate for it is refused."""
        return self.precision == PLAIN or self.gpu.fp16_tflops is not None

    @property
    def rates(self) -> tuple[float, float, float]:
        """Return dense and plain TFLOP/s and the values that the memory moves in a second."""
        dense, plain = self.gpu.tflops(self.arithmetic), self.gpu.fp32_tflops
        assert dense is not None and plain is not None  # rows of other boards are excluded
        return dense, plain, self.gpu.memory_bandwidth_gbs * BYTES_PER_GB / self.element_bytes


@dataclass(frozen=True)
class Pairs:
    """Pairs of steps by their indices, with the log of the second's seconds over the first's."""

    steps: tuple[Step, ...]
    first: npt.NDArray[np.intp]
    second: npt.NDArray[np.intp]
    log_ratio: Array

    @classmethod
    def of(cls, steps: Sequence[Step], to_half: bool = False) -> Pairs:
        """Return all pairs on two GPUs in one precision; `to_half`: from fp32 to half."""
        groups = defaultdict(list)
        for i, step in enumerate(steps):
            shared = (step.source, step.network, step.size, step.batch, step.optimizer)
            groups[shared if to_half else (*shared, step.precision)].append(i)
        found = [pair for own in groups.values() for pair in combinations(own, 2)]
        if to_half:
            found = [pair if steps[pair[0]].precision == PLAIN else pair[::-1] for pair in found]
            wanted = [steps[i].precision == PLAIN != steps[j].precision for i, j in found]
        else:
            wanted = [steps[i].gpu.name != steps[j].gpu.name for i, j in found]
        kept = np.array([pair for pair, is_in in zip(found, wanted, strict=True) if is_in], np.intp).reshape(-1, 2)
        log_seconds = np.log([step.seconds for step in steps])
        return cls(tuple(steps), kept[:, 0], kept[:, 1], log_seconds[kept[:, 1]] - log_seconds[kept[:, 0]])

    def __len__(self) -> int:
        return len(self.first)

    @property
    def gpu_names(self) -> list[str]:
        return sorted({self.steps[i].gpu.name for i in (*self.first, *self.second)})

    def has_gpu(self, name: str) -> Mask:
        """Return which pairs have a GPU on either side."""
        return self.either(lambda step: step.gpu.name == name)

    def either(self, claim: Callable[[Step], bool]) -> Mask:
        """Return of which pairs a claim holds for one step or both."""
        holds = np.array([claim(step) for step in self.steps])
        return np.asarray(holds[self.first] | holds[self.second])

    def both(self, claim: Callable[[Step], bool]) -> Mask:
        """Return of which pairs a claim holds for both steps."""
        holds = np.array([claim(step) for step in self.steps])
        return np.asarray(holds[self.first] & holds[self.second])

    def alike(self, of: Callable[[Step], Hashable]) -> Mask:
        """Return which pairs have the same of something on both sides."""
        values = [of(step) for step in self.steps]
        return np.array([values[i] == values[j] for i, j in zip(self.first, self.second, strict=True)], bool)

    def differences(self, values: Array) -> Array:
        """Return the second step's value less the first's; rows of `values` are steps."""
        return np.asarray(values[self.second] - values[self.first])


def steps_of(rows: Iterable[Measured]) -> list[Step]:
    """Return the steps of rows whose layers are known."""
    return [
        Step(
            *(row.dataset, row.setting, row.name, row.size, row.batch, row.precision, row.passes),
            *(row.gpu, row.network.kind, row.arithmetic, row.step_sec, row),
        )
        for row in rows
    ]


def speed_steps() -> list[Step]:
    """Return seconds for a sample of published speeds.

    They are of NVIDIA's containers: TF32 is on, and what they call fp16 is AMP.
    """
    steps = []
    for row in speed_rows():
        if row.gpus == 1 and not (row.precision == "fp16" and row.task in NOT_HALF):
            gpu, precision = find_gpu(row.gpu), MIXED if row.precision == "fp16" else PLAIN
            arithmetic = _arithmetic(gpu) if precision == PLAIN else "fp16"
            known = (SPEEDS, row.source, row.task, None, None, precision, None)
            steps.append(Step(*known, gpu, row.kind, arithmetic, 1 / row.throughput))
    return steps


def power_steps() -> tuple[list[Measured], list[Step]]:
    """Return runs at their board's largest limit: those of known layers, and the others.

    PyTorch of their years has TF32 on; their time has the input in it.
    """
    with (reference_data() / POWER_RUNS / "zeus_a40_v100.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    largest: dict[str, float] = defaultdict(float)
    for row in rows:
        largest[row["gpu"]] = max(largest[row["gpu"]], float(row["power_limit_w"]))
    known, others = [], []
    for row in rows:
        if float(row["power_limit_w"]) < largest[row["gpu"]]:
            continue
        gpu, name, setting, seconds = find_gpu(row["gpu"]), row["network"], row["setting"], float(row["step_ms"]) / 1e3
        size, batch = int(row["input"]) if row["input"] else None, int(row["batch"])
        if name in ALL and size is not None:
            passes = optimizer_passes(row["optimizer"])
            known.append(Measured(POWER_RUNS, setting, gpu, name, size, batch, PLAIN, True, "pytorch", passes, seconds))
        else:
            shared = (POWER_RUNS, setting, name, size, batch, PLAIN, row["optimizer"])
            others.append(Step(*shared, gpu, row["kind"], _arithmetic(gpu), seconds))
    return known, others


def _arithmetic(gpu: Gpu) -> str:
    """Return in what a GPU multiplies in fp32 where TF32 is on."""
    return "fp32" if gpu.tf32_tflops is None else "tf32"
