"""FLOP by layer records, beside what frameworks count: python benchmarks/estimates/bench_layers.py

One sample's forward pass: the sum over the records that `keras_layers.read_layers` reads, `total_float_ops` of
TensorFlow's profiler, and `flops` of the cost analysis of JAX's compiler. Both frameworks count on a processor, each in
a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from benchmarks.lib.framework_flop import jax_flop, profiler_flop
from benchmarks.lib.layer_models import MODELS
from epochcast.output.text import table_text
from epochcast.paths import CODE_ROOT, home
from epochcast.storage.files import write_json_atomically

TARGET_PERCENT = 5.0  # of the profiler or of JAX; of the profiler exactly for our CNN
NOT_KNOWN = "NOT KNOWN"
COUNTS = {"tensorflow": profiler_flop, "jax": jax_flop}
PADDING = "XLA leaves out taps on padding, the more of all the smaller the image"
REASONS = {  # of differences above the target
    ("CNN 2,16", "jax"): PADDING,
    ("CNN 3,32", "jax"): PADDING,
    ("CNN 6,2", "jax"): PADDING,
    ("transposed convolutions", "jax"): PADDING,
    ("Transformer block", "tensorflow"): "the profiler counts no Einsum, by which attention multiplies two activations",
}


@dataclass(frozen=True, slots=True)
class Compared:
    """One model's FLOP by its records and by both frameworks."""

    model: str
    params: int
    flop: int
    profiler_flop: int
    jax_flop: int

    @property
    def profiler_percent(self) -> float:
        """By how much the records have more than the profiler."""
        return 100 * (self.flop / self.profiler_flop - 1)

    @property
    def jax_percent(self) -> float:
        return 100 * (self.flop / self.jax_flop - 1)

    @property
    def is_reached(self) -> bool:
        """Exact for our CNN, else within the target of one framework, and what is further off has a known reason."""
        if NOT_KNOWN in self.reason:
            return False
        if self.model.startswith("CNN "):
            return self.flop == self.profiler_flop
        return min(abs(self.profiler_percent), abs(self.jax_percent)) <= TARGET_PERCENT

    @property
    def reason(self) -> str:
        """Why one framework counts otherwise, where it is more than the target."""
        percents = {"tensorflow": self.profiler_percent, "jax": self.jax_percent}
        far = [framework for framework, percent in percents.items() if abs(percent) > TARGET_PERCENT]
        return "; ".join(REASONS.get((self.model, framework), NOT_KNOWN) for framework in far)


def count_on_this_box(models: Iterable[str]) -> dict[str, list[int]]:
    """Params, FLOP by records and FLOP by the framework that Keras runs on here, of each model."""
    import keras

    from epochcast.keras_layers.read_layers import read_layers

    counted = {}
    for name in models:
        model = MODELS[name]()
        network = read_layers(model)
        if network.unknown or network.partial:
            raise ValueError(f"{name}: layers without a record: {', '.join(network.unknown + network.partial)}.")
        ours = sum(record.forward_flop for record in network.records)
        counted[name] = [network.params, ours, COUNTS[keras.backend.backend()](model)]
    return counted


def count_apart(backend: str, models: Iterable[str]) -> dict[str, list[int]]:
    """`count_on_this_box` in a process of its own, with Keras on `backend` and without a GPU."""
    environ = os.environ | {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, "--inside", "--models", *models]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, cwd=CODE_ROOT)
    if done.returncode:
        raise RuntimeError(f"counting on {backend} failed ({done.returncode}): {done.stderr[-2000:]}")
    counted: dict[str, list[int]] = json.loads(done.stdout.splitlines()[-1])
    return counted


def compare(models: Iterable[str]) -> list[Compared]:
    """Both frameworks' counts of each model beside ours.

    Raises:
        ValueError: if the records read on both differ.
    """
    models = list(models)
    by_profiler, by_jax = (count_apart(backend, models) for backend in COUNTS)
    for name in models:
        if by_profiler[name][:2] != by_jax[name][:2]:
            raise ValueError(
                f"{name}: {by_profiler[name][:2]} params and FLOP on TensorFlow, {by_jax[name][:2]} on JAX."
            )
    return [Compared(name, *by_profiler[name], by_jax[name][2]) for name in models]


def report(compared: Iterable[Compared]) -> str:
    header = ("model", "params", "our MFLOP", "profiler MFLOP", "%", "JAX MFLOP", "%", "reached", "why above 5 %")
    rows = [
        (
            one.model,
            f"{one.params:,}",
            *(f"{one.flop / 1e6:,.3f}", f"{one.profiler_flop / 1e6:,.3f}", f"{one.profiler_percent:+.2f}"),
            *(f"{one.jax_flop / 1e6:,.3f}", f"{one.jax_percent:+.2f}", "yes" if one.is_reached else "NO", one.reason),
        )
        for one in compared
    ]
    return table_text(header, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="(default: all)")
    parser.add_argument("--out", type=Path, default=home() / "results" / "benchmarks" / "layers.json")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        print(json.dumps(count_on_this_box(arguments.models)))
        return 0
    compared = compare(arguments.models)
    print(report(compared))
    found = [
        asdict(one) | {"profiler_percent": one.profiler_percent, "jax_percent": one.jax_percent, "reason": one.reason}
        for one in compared
    ]
    write_json_atomically(arguments.out, found)
    print(f"written: {arguments.out.absolute()}")
    return 0 if all(one.is_reached for one in compared) else 1
