"""What a GPU can do at most by its data sheet, for the roofline: epochcast/data/gpu_peaks.csv."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from epochcast.paths import CODE_ROOT
from epochcast.tables import read_table

GPU_PEAKS = CODE_ROOT / "epochcast" / "data" / "gpu_peaks.csv"


@dataclass(frozen=True, slots=True)
class GpuPeaks:
    """Dense rates (no sparsity) in TFLOP/s and the bandwidth of device memory, under the driver's name of the GPU."""

    name: str
    fp32_tflops: float
    tf32_tflops: float
    bf16_tflops: float  # that of fp16, too
    gb_per_sec: float
    source: str

    def tflops(self, precision: str) -> float:
        """The rate of `fp32`, `tf32` or `bf16`."""
        return {"fp32": self.fp32_tflops, "tf32": self.tf32_tflops, "bf16": self.bf16_tflops}[precision]


def gpu_peaks(name: str, path: Path = GPU_PEAKS) -> GpuPeaks | None:
    """The peaks of the GPU of exactly this name, None if they are not known.

    A part of a name is no match: an RTX A1000 is no A100, and an instance of a GPU (MIG) is not the whole.
    """
    return next((peaks for peaks in read_table(path, GpuPeaks) if peaks.name == name), None)
