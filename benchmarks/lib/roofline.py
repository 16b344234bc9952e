"""The speed that arithmetic and memory allow a GPU at most, and what share of it was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.lib.pipeline_rates import Rate
from benchmarks.lib.reference_table import steady_rows
from epochcast.facts.assumptions import device_kind_of
from epochcast.gpus.lookup import UnknownGpuError, find_gpu
from epochcast.output.text import table_text
from epochcast.paths import reference_data
from epochcast.roofline.roofline import Roof, step_roof
from epochcast.schema import RunConfig
from epochcast.workload.shape import layer_records

ROOFLINE_CONFIGS = ((2, 16), (3, 32), (4, 64))  # depth, base_filters
ROOFLINE_BATCH_SIZE = 2048
REFERENCE_GPU = "NVIDIA A100 80GB PCIe"  # of the published measurements, which were made in TF32


def roofline_images_per_sec(depth: int, base_filters: int, peak_tflops: float, peak_gb_per_sec: float) -> float:
    """The most images a second that arithmetic and memory allow in float32, layer by layer; no launches."""
    roof = Roof(peak_tflops * 1e12, peak_gb_per_sec * 1e9)
    return ROOFLINE_BATCH_SIZE / step_roof(layer_records(RunConfig(depth, base_filters)), ROOFLINE_BATCH_SIZE, roof).sec


def roofline_table(
    rates: Sequence[Rate], peak_tflops: float | None = None, peak_gb_per_sec: float | None = None
) -> str:
    """Shares of the roofline at batch 2048: the published A100 rows, if they are at hand, and ours on a GPU.

    Its peaks are those known of a GPU of its name, unless they are given.
    """
    lines: list[tuple[str | float | None, ...]] = []
    configs = {f"{depth},{filters}": (depth, filters) for depth, filters in ROOFLINE_CONFIGS}
    reference = find_gpu(REFERENCE_GPU)
    if reference.tf32_tflops is not None and reference_data().is_dir():
        by_config = {(r.depth, r.base_filters, r.batch_size): r for r in steady_rows()}
        for model, (depth, filters) in configs.items():
            speed = by_config[depth, filters, ROOFLINE_BATCH_SIZE].thr_mean
            bound = roofline_images_per_sec(depth, filters, reference.tf32_tflops, reference.memory_bandwidth_gbs)
            lines.append((f"{REFERENCE_GPU}, published", model, "tfdata", "tf32", speed, bound, 100 * speed / bound))
    for rate in rates:
        if rate.model in configs and rate.batch_size == ROOFLINE_BATCH_SIZE and device_kind_of(rate.device) == "gpu":
            speed = rate.train_n / statistics.median(rate.epoch_sec)
            tflops, gb_per_sec = _peaks_of(rate.device, rate.precision, peak_tflops, peak_gb_per_sec)
            most = None
            if tflops is not None and gb_per_sec is not None:
                most = roofline_images_per_sec(*configs[rate.model], tflops, gb_per_sec)
            share = None if most is None else 100 * speed / most
            name = f"{rate.backend}: {rate.setting}, XLA {rate.jit_compile}"
            lines.append((rate.device, rate.model, name, rate.precision, speed, most, share))
    header = ("device", "model", "pipeline", "precision", "images/s", "roofline images/s", "share %")
    return table_text(header, lines)


def peaks_notes(rates: Iterable[Rate], peak_tflops: float | None, peak_gb_per_sec: float | None) -> list[str]:
    """A line for each GPU in `rates`: its peaks and where they come from, or that they are not known."""
    notes = []
    for device, precision in sorted({(r.device, r.precision) for r in rates if device_kind_of(r.device) == "gpu"}):
        tflops, gb_per_sec = _peaks_of(device, precision, peak_tflops, peak_gb_per_sec)
        if tflops is None or gb_per_sec is None:
            notes.append(
                f"{device}: its peaks are not known (epochcast facts gpus): "
                "give --peak_tflops and --peak_gb_per_sec for its share."
            )
            continue
        flags = {"--peak_tflops": peak_tflops, "--peak_gb_per_sec": peak_gb_per_sec}
        sources = [flag for flag, given in flags.items() if given]
        if len(sources) < len(flags):
            sources.append(find_gpu(device).source)
        notes.append(f"{device}: {precision} {tflops:g} TFLOP/s, {gb_per_sec:g} GB/s: {'; '.join(sources)}")
    return notes


def _peaks_of(
    device: str, precision: str, peak_tflops: float | None, peak_gb_per_sec: float | None
) -> tuple[float | None, float | None]:
    """TFLOP/s and GB/s: those given, else those known of a GPU of this name."""
    try:
        gpu = find_gpu(device)
    except UnknownGpuError:
        return peak_tflops, peak_gb_per_sec
    return peak_tflops or gpu.tflops(precision), peak_gb_per_sec or gpu.memory_bandwidth_gbs
