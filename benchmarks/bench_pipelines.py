"""Images per second of every pipeline beside the reference, in turn, under TensorFlow and JAX.

The reference is `tfdata` one step at a time without XLA under TensorFlow, `arrays` under JAX: the ratio is that of the
epochs of the same round, its median and range over the rounds. Inside the timed region: a whole epoch, the second of
two. Models: a tiny one (average pool and one dense layer), where the pipeline is nearly all, and CNNs by depth and
filters. On a GPU further rows set `device` against the roofline, beside the published A100 measurements.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

if not __package__:  # run by path: import from the checkout, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.pipeline_rates import TINY, Job, Rate, Setting, read_rate
from benchmarks.reference_table import steady_rows
from epochcast.assumptions import device_kind_of
from epochcast.cli import percent, positive_float, positive_int, run_command, significant, table_text
from epochcast.environment import has_nvidia_driver, utc_now
from epochcast.files import write_json_atomically
from epochcast.paths import CODE_ROOT, home, reference_data
from epochcast.schema import TRAIN_N
from model.progress import Progress
from workload.shape import BYTES_PER_FLOAT, CHANNELS, IMAGE_SIZE, layer_records, train_flop

BATCH_SIZES = (64, 256, 2048)
SPE = 32
TENSORFLOW = (
    Setting("tfdata"),
    Setting("tfdata", "on"),
    Setting("tfdata", "off", SPE),
    Setting("arrays"),
    Setting("indices"),
    Setting("indices", "off", SPE),
    Setting("indices", "on", SPE),
    Setting("device"),
    Setting("device", "on"),
)
TENSORFLOW_CNN = (*(Setting(name) for name in ("tfdata", "arrays", "indices", "device")), Setting("tfdata", "on"))
JAX = (Setting("arrays", "on"), Setting("device", "on"))
JAX_TINY = (*JAX, Setting("device", "on", is_looped=True))
# what XLA makes of convolutions inside a loop: few images, or it would not end
IN_LOOP = {
    "tensorflow": (Setting("tfdata"), Setting("device"), Setting("device", "on")),
    "jax": (Setting("arrays", "on"), Setting("device", "on"), Setting("device", "on", is_looped=True)),
}
IN_LOOP_JOB = {"model": "2,16", "batch_size": 64, "train_n": 256, "rounds": 1}
ROOFLINE = ("2,16", "3,32", "4,64")  # at batch 2048
A100_TF32_TFLOPS, A100_GB_PER_SEC = 156.0, 1935.0  # the card of the reference: NVIDIA A100 80GB PCIe data sheet
NOISE = 0.03  # two settings closer than this are as fast as each other


@dataclass(frozen=True, slots=True)
class Target:
    """What the benchmark should show, and what it showed."""

    what: str
    found: str
    is_reached: bool


def jobs(is_gpu: bool, rounds: int, tiny_n: int, cnn_n: int) -> dict[str, list[Job]]:
    """What each backend measures."""
    planned: dict[str, list[Job]] = {"tensorflow": [], "jax": []}
    for batch_size in BATCH_SIZES:
        planned["tensorflow"].append(Job(TINY, batch_size, tiny_n, rounds, TENSORFLOW))
        planned["jax"].append(Job(TINY, batch_size, tiny_n, rounds, JAX_TINY))
    for batch_size in BATCH_SIZES:
        n = TRAIN_N if is_gpu else cnn_n
        planned["tensorflow"].append(Job("2,16", batch_size, n, rounds, TENSORFLOW if is_gpu else TENSORFLOW_CNN))
        planned["jax"].append(Job("2,16", batch_size, n, rounds, JAX))
    for backend, settings in IN_LOOP.items():
        if is_gpu:
            device = (settings[0], Setting("device", "on"))
            planned[backend] += [Job(model, 2048, TRAIN_N, rounds, device) for model in ROOFLINE[1:]]
        else:
            planned[backend].append(Job(**IN_LOOP_JOB, settings=settings))
    return planned


def measure(backend: str, planned: Sequence[Job], say: Callable[[int], None]) -> list[Rate]:
    """Run one backend's jobs in a process of its own; `say` is told the rates so far."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}
    rates = []
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file, tempfile.TemporaryFile("w+") as errors:
        json.dump([asdict(job) for job in planned], file)
        file.flush()
        command = [sys.executable, "-m", "benchmarks.pipeline_rates", file.name]
        with subprocess.Popen(
            command, cwd=CODE_ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as child:
            for line in child.stdout or ():
                rates.append(read_rate(line))
                say(len(rates))
        if child.returncode:
            errors.seek(0)
            raise OSError(f"the {backend} process ended with {child.returncode}: {errors.read()[-2000:]}")
    return rates


def ratios(rate: Rate, rates: Iterable[Rate]) -> list[float]:
    """Speed over the reference's, round by round."""
    reference = next(r for r in rates if _job(r) == _job(rate))
    return sorted(theirs / ours for theirs, ours in zip(reference.epoch_sec, rate.epoch_sec, strict=True))


def _job(rate: Rate) -> tuple[str, str, int, int]:
    return rate.backend, rate.model, rate.batch_size, rate.train_n


def rates_table(rates: list[Rate]) -> str:
    header = (
        *("backend", "model", "batch", "images", "pipeline", "XLA", "steps/execution"),
        *("images/s", "x reference", "min", "max", "first epoch s"),
    )
    lines = []
    for rate in rates:
        ratio = ratios(rate, rates)
        lines.append(
            (
                *(rate.backend, rate.model, rate.batch_size, rate.train_n, str(rate.setting), rate.jit_compile),
                rate.setting.steps_per_execution,
                rate.train_n / statistics.median(rate.epoch_sec),
                *(statistics.median(ratio), ratio[0], ratio[-1], rate.first_epoch_sec),
            )
        )
    return table_text(header, lines)


def targets(rates: list[Rate]) -> list[Target]:
    """Those of a processor; none was set for a GPU but its share of the roofline."""
    found = []

    def ratio_of(rate: Rate) -> float:
        return statistics.median(ratios(rate, rates))

    backends = {rate.backend for rate in rates}
    for batch_size, least in zip(BATCH_SIZES, (4, 2, 2), strict=True):
        tiny = [r for r in rates if (r.backend, r.model, r.batch_size) == ("tensorflow", TINY, batch_size)]
        if not tiny:
            continue
        best = max(tiny, key=ratio_of)
        what = f"tiny, TensorFlow's best at batch {batch_size}: {least} x the reference"
        xla = f"{best.setting}, XLA {best.jit_compile}, {best.setting.steps_per_execution} steps/execution"
        found.append(Target(what, f"{significant(ratio_of(best))} x ({xla})", ratio_of(best) >= least))
    for rate in rates:
        if rate.backend == "jax" and rate.setting == JAX[1]:
            what = f"{rate.model}, JAX device at batch {rate.batch_size}, {rate.train_n} images: no slower than arrays"
            ratio = ratio_of(rate)
            found.append(Target(f"{what} (to {percent(NOISE)})", f"{significant(ratio)} x", ratio >= 1 - NOISE))
    for backend in sorted(backends):
        settings = IN_LOOP[backend]
        own = [r for r in rates if r.backend == backend and r.train_n == IN_LOOP_JOB["train_n"]]
        looped = next(r for r in own if r.setting == settings[-1])
        default = next(r for r in own if r.setting == settings[1])
        times = statistics.median(looped.epoch_sec) / statistics.median(default.epoch_sec)
        what = f"2,16, {backend}: convolutions in an XLA loop slower than the default, 30 to 120 x"
        found.append(Target(what, f"{significant(times)} x", times >= 30))
    return found


def fused_bytes(depth: int, base_filters: int) -> float:
    """Bytes that training moves for one image in float32 if each layer is one pass, without weights.

    Forward, a layer reads its input and writes its output. Backward, a convolution or dense layer reads its output, for
    the mask of its activation, and its input, reads the gradient of its output once for the weights and once for the
    input, and writes the input's; the first convolution leaves the last two out. A pool reads and writes each once.
    """
    elements, inputs = 0, IMAGE_SIZE * IMAGE_SIZE * CHANNELS
    for number, layer in enumerate(layer_records(depth, base_filters)):
        elements += inputs + layer.outputs
        if layer.kind == "pool":
            elements += 2 * (inputs + layer.outputs)
        else:
            elements += 2 * layer.outputs + inputs + (layer.outputs + inputs if number else 0)
        inputs = layer.outputs
    return BYTES_PER_FLOAT * elements


def roofline_images_per_sec(depth: int, base_filters: int, peak_tflops: float, peak_gb_per_sec: float) -> float:
    """The most images a second that arithmetic and memory allow; no launches, no optimizer."""
    compute = peak_tflops * 1e12 / train_flop(depth, base_filters)
    return min(compute, peak_gb_per_sec * 1e9 / fused_bytes(depth, base_filters))


def roofline_table(rates: list[Rate], peak_tflops: float | None, peak_gb_per_sec: float | None) -> str:
    """Shares of the roofline at batch 2048: the published A100 rows, if they are at hand, and ours on a GPU."""
    lines: list[tuple[str | float | None, ...]] = []
    configs = {model: tuple(map(int, model.split(","))) for model in ROOFLINE}
    if reference_data().is_dir():
        by_config = {(r.depth, r.base_filters, r.batch_size): r for r in steady_rows()}
        for model, (depth, filters) in configs.items():
            speed = by_config[depth, filters, 2048].thr_mean
            bound = roofline_images_per_sec(depth, filters, A100_TF32_TFLOPS, A100_GB_PER_SEC)
            lines.append(("A100 80GB PCIe, published", model, "tfdata", speed, bound, 100 * speed / bound))
    for rate in rates:
        if rate.model in configs and rate.batch_size == 2048 and device_kind_of(rate.device) == "gpu":
            speed = rate.train_n / statistics.median(rate.epoch_sec)
            bound = share = None
            if peak_tflops and peak_gb_per_sec:
                bound = roofline_images_per_sec(*configs[rate.model], peak_tflops, peak_gb_per_sec)
                share = 100 * speed / bound
            name = f"{rate.backend}: {rate.setting}, XLA {rate.jit_compile}"
            lines.append((rate.device, rate.model, name, speed, bound, share))
    return table_text(("device", "model", "pipeline", "images/s", "roofline images/s", "share %"), lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default_out = home() / "results" / "benchmarks" / "pipelines.json"
    parser.add_argument("--out", type=Path, default=default_out, help=f"JSON file to write (default: {default_out})")
    both = ",".join(IN_LOOP)
    parser.add_argument(
        "--backends", default=both, help=f"Keras backends to measure, a comma between (default: {both})"
    )
    parser.add_argument("--rounds", type=positive_int, default=3, help="rounds after the first (default: 3)")
    parser.add_argument("--tiny_n", type=positive_int, default=TRAIN_N, help="images of the tiny model")
    parser.add_argument("--cnn_n", type=positive_int, default=2560, help="images of the CNN without a GPU")
    for flag, what, example in (
        ("--peak_tflops", "TFLOP/s at the precision in force (TF32)", "A100 156, H200 494.7"),
        ("--peak_gb_per_sec", "GB/s of device memory", "A100 80GB PCIe 1935, H200 4800"),
    ):
        parser.add_argument(flag, type=positive_float, help=f"this GPU's {what}, for its roofline; e.g. {example}")
    args = parser.parse_args(argv)

    def work() -> int:
        is_gpu = has_nvidia_driver()
        if unknown := set(args.backends.split(",")).difference(IN_LOOP):
            raise ValueError(f"--backends: expected some of {both}, got {', '.join(sorted(unknown))}.")
        planned = jobs(is_gpu, args.rounds, args.tiny_n, args.cnn_n)
        planned = {backend: planned[backend] for backend in args.backends.split(",")}
        n_rates = sum(len(job.settings) for jobs in planned.values() for job in jobs)
        progress = Progress("pipelines")
        rates: list[Rate] = []
        for backend, own in planned.items():
            n_before = len(rates)
            rates += measure(backend, own, lambda n, before=n_before: progress((before + n) / n_rates))
        reached = [] if is_gpu else targets(rates)
        print(f"{rates_table(rates)}\n")
        if reached:
            lines = [(t.what, t.found, "yes" if t.is_reached else "NO") for t in reached]
            print(f"{table_text(('target', 'found', 'reached'), lines)}\n")
        print(roofline_table(rates, args.peak_tflops, args.peak_gb_per_sec))
        if is_gpu and not (args.peak_tflops and args.peak_gb_per_sec):
            print("This GPU's roofline is unknown: give --peak_tflops and --peak_gb_per_sec.")
        print(f"load average now {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs: only ratios mean something")
        report = {
            "created_utc": utc_now(),
            "load_avg_1min": os.getloadavg()[0],
            "targets": [asdict(target) for target in reached],
            "rates": [{**asdict(rate), "ratios": ratios(rate, rates)} for rate in rates],
        }
        write_json_atomically(args.out, report)
        print(f"written: {args.out.absolute()}")
        return 0

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
