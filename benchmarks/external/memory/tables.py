"""Published peaks of memory, and batch sizes that just fitted a board."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.external.networks import TIMM_NAMES, Network
from benchmarks.external.tables import gpu_times_dir
from epochcast.roofline.network_memory import FLOAT32, MIXED, Formats

DRIVER, ALLOCATOR = "driver", "allocator"
PEAK_TABLES = ("catapult_vgg16", "gpu_insights_memory")
BRACKET_TABLE = "timm_rtx3090"
# batch sizes that timm's benchmark tries, from the first down: two for each power of two, as its table shows them
TRIED = (512, 384, 256, 192, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)
# GPU-Insights's runner trains by plain SGD (benchmark/runners/single_runner.py), though the table doubts it
SLOTS = {"sgd": 0, "adam": 2, "adam?": 0, "sgd_momentum": 1}
MEMORY_NETWORKS = {
    "lenet_cifar": Network("lenet", "memory_networks.lenet"),
    "resnet50_cifarstem": Network("resnet", "memory_networks.small_image_resnet50"),
    "unet_256": Network("unet", "memory_networks.normed_unet"),
    "ddpm_64": Network("diffusion", "memory_networks.diffusion"),
}
SAME_AS = {"vit_b16": "vit_base_patch16"}  # but for its ten classes


@dataclass(frozen=True)
class Peak:
    """One measured peak."""

    dataset: str
    network: str  # as the table names it
    size: int  # pixels a side
    batch: int
    precision: str
    slots: int
    whose: str  # DRIVER | ALLOCATOR
    bytes: float

    @property
    def formats(self) -> Formats:
        return FLOAT32 if self.precision == "fp32" else MIXED

    @property
    def fuses_attention(self) -> bool:
        """Return whether PyTorch 2's attention ran, which keeps no scores."""
        return self.whose == DRIVER


@dataclass(frozen=True)
class Bracket:
    """A batch size that fitted a board, and the next one tried, which did not."""

    network: str
    size: int
    fits: int
    fails: int | None


def read_peaks(folder: Path | None = None) -> list[Peak]:
    """Return all measured peaks.

    Raises:
        FileNotFoundError: if a table is missing.
    """
    return [
        Peak(
            cells["dataset"],
            cells["network"],
            int(cells["input"]),
            int(cells["batch"]),
            cells["precision"],
            SLOTS[cells["optimizer"]],
            DRIVER if "context included" in cells["mem_kind"] else ALLOCATOR,
            float(cells["peak_mem_mib"]) * 2**20,
        )
        for table in PEAK_TABLES
        for cells in _cells(table, folder)
    ]


def read_brackets(folder: Path | None = None) -> tuple[list[Bracket], int]:
    """Return timm's brackets in NCHW, each network and size once, and how many are not rebuilt.

    Raises:
        FileNotFoundError: if the table is missing.
    """
    found: dict[tuple[str, int], Bracket] = {}
    unknown = set()
    for cells in _cells(BRACKET_TABLE, folder):
        if cells["setting"] != "nchw":
            continue
        if (name := TIMM_NAMES.get(cells["network"])) is None:
            unknown.add(cells["network"])
            continue
        batch, size = int(cells["batch"]), int(cells["input"])
        at = TRIED.index(batch)
        found.setdefault((name, size), Bracket(name, size, batch, TRIED[at - 1] if at else None))
    return [found[key] for key in sorted(found)], len(unknown)


def record_name(network: str) -> str:
    """Return the name by which a table's network is built."""
    return SAME_AS.get(network, network)


def _cells(table: str, folder: Path | None) -> Iterator[dict[str, str]]:
    path = (folder or gpu_times_dir()) / f"{table}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
