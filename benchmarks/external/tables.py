"""The tables of measured training steps (`gpu_times`), and why some rows are not used."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.external.networks import ALL, NETWORKS, TIMM_NAMES, Network
from epochcast.facts.tables import Gpu
from epochcast.gpus.lookup import UnknownGpuError, find_gpu
from epochcast.paths import reference_data
from epochcast.roofline.roofline import optimizer_passes

TRAINING = ("train_step", "fwd_bwd", "epoch")
DETECTORS = ("ssd", "maskrcnn", "efficientdet")
PLAIN, PURE_HALF, MIXED = "fp32", "fp16", "amp"
LANGUAGES = ("bert", "gpt", "opt")


@dataclass(frozen=True)
class Measured:
    """One measured training step."""

    dataset: str
    setting: str
    gpu: Gpu
    name: str  # of the network, in ALL
    size: int  # pixels a side, or tokens
    batch: int
    precision: str  # PLAIN | PURE_HALF | MIXED
    has_tf32: bool  # whether float32 may be multiplied as TF32 where the GPU can
    framework: str
    passes: int  # of the optimizer over the parameters; 0: none was timed
    step_sec: float

    @property
    def network(self) -> Network:
        return ALL[self.name]

    @property
    def arithmetic(self) -> str:
        """Return in what the products are computed: of `epochcast.facts.tables.ARITHMETIC`."""
        if self.precision == PLAIN:
            return "tf32" if self.has_tf32 and self.gpu.tf32_tflops is not None else "fp32"
        return "fp16" if self.gpu.fp16_tflops is not None else "fp32"

    @property
    def element_bytes(self) -> int:
        return 4 if self.precision == PLAIN else 2

    @property
    def is_tensorflow(self) -> bool:
        return self.framework == "tensorflow"

    @property
    def is_xla(self) -> bool:
        return "XLA" in self.setting


@dataclass
class Tables:
    """All usable rows, and how many others there are by reason."""

    rows: list[Measured] = field(default_factory=list)
    excluded: Counter[tuple[str, str]] = field(default_factory=Counter)  # by table and reason


def gpu_times_dir() -> Path:
    return reference_data() / "gpu_times"


def read_tables(folder: Path | None = None) -> Tables:
    """Return the measured steps of every table in a folder.

    Raises:
        FileNotFoundError: if there is no table.
    """
    folder = folder or gpu_times_dir()
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise FileNotFoundError(
            f"{folder}: no tables of measured steps. Name their folder's parent by $EPOCHCAST_REFERENCE_DATA."
        )
    found = Tables()
    for path in paths:
        with path.open(encoding="utf-8", newline="") as file:
            for cells in csv.DictReader(file):
                row = _row(cells)
                if isinstance(row, Measured):
                    found.rows.append(row)
                else:
                    found.excluded[path.stem, row] += 1
    return found


def _row(cells: dict[str, str]) -> Measured | str:
    """Return a row, or why it is not used."""
    if cells["measure"] not in TRAINING:
        return f"{cells['measure']}: no training step"
    name = _network(cells)
    if name not in ALL:
        return name
    if not (size := cells["input"].split("^")[0]).isdigit():
        return "size of the input not said"
    try:
        gpu = find_gpu(cells["gpu"] or cells["gpu_reported"])
    except UnknownGpuError:
        return f"board that the facts lack: {cells['gpu_reported']}"
    if gpu.fp32_tflops is None:
        return f"plain rate of {gpu.name} not known"
    return Measured(
        cells["dataset"],
        cells["setting"],
        gpu,
        name,
        int(size),
        int(cells["batch"]),
        PLAIN if cells["precision"].startswith("fp32") else cells["precision"],
        has_tf32=_has_tf32(cells),
        framework="pytorch" if cells["framework"].startswith("pytorch") else cells["framework"],
        passes=_passes(cells["optimizer"]),
        step_sec=float(cells["step_ms"]) / 1e3,
    )


def _network(cells: dict[str, str]) -> str:
    """Return the network's name in ALL, or why there is none."""
    name = cells["network"]
    if cells["dataset"].startswith("timm"):
        return TIMM_NAMES.get(name, "image model that is not rebuilt")
    if name in NETWORKS:
        return name
    if name.startswith(DETECTORS):
        return "detector: its anchors and losses are in no layer"
    if name.startswith("switch"):
        return "mixture of experts: not rebuilt"
    return "network that is not rebuilt: " + name


def _has_tf32(cells: dict[str, str]) -> bool:
    """Return whether float32 products were TF32 where the GPU can: the framework's default of the time.

    TensorFlow has it from 2.4 on (release notes), NVIDIA's build of 1.15 and PyTorch 1.7 have it, too.
    """
    return cells["precision"] != "fp32_ieee" and not cells["setting"].startswith("TF2.3")


def _passes(optimizer: str) -> int:
    name = {"none": "", "lamb": "adam", "sgd_momentum": "sgd_momentum"}.get(optimizer, optimizer)
    return optimizer_passes(name) if name else 0
