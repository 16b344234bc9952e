"""Images per second of every pipeline beside the reference, in turn, under TensorFlow and JAX.

The reference is `tfdata` one step at a time without XLA under TensorFlow, `arrays` under JAX: the ratio is that of the
epochs of the same round, its median and range over the rounds. Inside the timed region: a whole epoch, the second of
two. Models: a tiny one (average pool and one dense layer), where the pipeline is nearly all, and CNNs by depth and
filters. On a GPU further rows set `device` against the roofline, beside the published A100 measurements.

A backend that is not installed or can't use the device is skipped and named. Every rate is written when it comes, so
that an interrupted run keeps what it measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from benchmarks.lib.pipeline_rates import TINY, Job, Rate, Setting, read_rate
from benchmarks.lib.roofline import ROOFLINE_BATCH_SIZE, ROOFLINE_CONFIGS, peaks_notes, roofline_table
from epochcast.cli import run_command
from epochcast.facts.assumptions import device_kind_of
from epochcast.flag_types import positive_float, positive_int
from epochcast.machine.environment import utc_now
from epochcast.machine.gpu_driver import device_of
from epochcast.output.progress import progress
from epochcast.output.text import percent, significant, table_text
from epochcast.paths import CODE_ROOT, home
from epochcast.schema import TRAIN_N
from epochcast.storage.files import write_json_atomically

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
IN_LOOP_JOB: dict[str, Any] = {"model": "2,16", "batch_size": 64, "train_n": 256, "rounds": 1}  # Any: of a Job
RATES_COMMAND = (sys.executable, "-m", "benchmarks.lib.pipeline_rates")
LONGEST_REASON = 500  # characters
NOISE = 0.03  # two settings closer than this are as fast as each other


@dataclass(frozen=True, slots=True)
class Target:
    """What the benchmark should show, and what it showed."""

    what: str
    found: str
    is_reached: bool


@dataclass(frozen=True, slots=True)
class Skipped:
    """A backend that is not measured, or not to the end, and why."""

    backend: str
    n_measured: int
    n_planned: int
    reason: str

    def __str__(self) -> str:
        how = f"ended after {self.n_measured} of {self.n_planned} rates" if self.n_measured else "skipped"
        return f"{self.backend} {how}: {self.reason}"


@dataclass(slots=True)
class Report:
    """What was measured so far."""

    rates: list[Rate]
    skipped: list[Skipped]
    is_complete: bool  # every backend had its turn

    @property
    def targets(self) -> list[Target]:
        """None is set for a GPU but its share of the roofline."""
        return targets([rate for rate in self.rates if device_kind_of(rate.device) == "cpu"])

    def write(self, out: Path) -> None:
        """Replace the JSON file `out`."""
        report = {
            "created_utc": utc_now(),
            "load_avg_1min": os.getloadavg()[0],
            "is_complete": self.is_complete,
            "skipped": [asdict(backend) for backend in self.skipped],
            "targets": [asdict(target) for target in self.targets],
            "rates": [{**asdict(rate), "ratios": ratios(rate, self.rates)} for rate in self.rates],
        }
        write_json_atomically(out, report)


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
            models = [f"{depth},{filters}" for depth, filters in ROOFLINE_CONFIGS[1:]]
            planned[backend] += [Job(model, ROOFLINE_BATCH_SIZE, TRAIN_N, rounds, device) for model in models]
        else:
            planned[backend].append(Job(**IN_LOOP_JOB, settings=settings))
    return planned


def measure(
    backend: str,
    planned: Sequence[Job],
    keep: Callable[[Rate], None],
    command: Sequence[str] = RATES_COMMAND,
) -> str | None:
    """Run one backend's jobs in a process of its own and `keep` each rate as it comes; why it ended early, if it did.

    `command` is given the path of a JSON file with the jobs, and prints the rates.
    """
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file, tempfile.TemporaryFile("w+") as errors:
        json.dump([asdict(job) for job in planned], file)
        file.flush()
        with subprocess.Popen(
            [*command, file.name], cwd=CODE_ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as child:
            try:
                for line in child.stdout or ():
                    if line.endswith("\n"):  # a kill may cut the last line short
                        keep(read_rate(line))
            except BaseException:  # Ctrl-C, too: nothing is left that reads what it prints
                child.kill()
                raise
        if not child.returncode:
            return None
        errors.seek(0)
        lines = errors.read().strip().splitlines()
        how = f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
        return lines[-1][:LONGEST_REASON] if lines and child.returncode > 0 else how


def measure_all(planned: Mapping[str, Sequence[Job]], out: Path, command: Sequence[str] = RATES_COMMAND) -> Report:
    """Measure one backend after the other; `out` holds what there is after every rate."""
    n_rates = sum(len(job.settings) for jobs in planned.values() for job in jobs)
    say = progress("pipelines")
    report = Report([], [], is_complete=False)

    def keep(rate: Rate) -> None:
        report.rates.append(rate)
        report.write(out)
        say(len(report.rates) / n_rates)

    for backend, own in planned.items():
        reason = measure(backend, own, keep, command)
        if reason is not None:
            n_measured = sum(rate.backend == backend for rate in report.rates)
            report.skipped.append(Skipped(backend, n_measured, sum(len(job.settings) for job in own), reason))
            print(report.skipped[-1], file=sys.stderr, flush=True)
    report.is_complete = True
    if report.rates:  # else what an earlier run left there is worth more
        report.write(out)
    return report


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
    """Those that `rates` of a processor tell of."""
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
        looped = next((r for r in own if r.setting == settings[-1]), None)
        default = next((r for r in own if r.setting == settings[1]), None)
        if looped is None or default is None:  # it ended before
            continue
        times = statistics.median(looped.epoch_sec) / statistics.median(default.epoch_sec)
        what = f"2,16, {backend}: convolutions in an XLA loop slower than the default, 30 to 120 x"
        found.append(Target(what, f"{significant(times)} x", times >= 30))
    return found


def report_text(report: Report, peak_tflops: float | None = None, peak_gb_per_sec: float | None = None) -> str:
    """All tables: rates, backends that were skipped, targets and roofline."""
    parts = [rates_table(report.rates)]
    if report.skipped:
        backends = [(s.backend, f"{s.n_measured} of {s.n_planned}", s.reason) for s in report.skipped]
        parts.append(table_text(("skipped", "rates", "reason"), backends))
    if report.targets:
        lines = [(t.what, t.found, "yes" if t.is_reached else "NO") for t in report.targets]
        parts.append(table_text(("target", "found", "reached"), lines))
    parts.append(roofline_table(report.rates, peak_tflops, peak_gb_per_sec))
    parts += peaks_notes(report.rates, peak_tflops, peak_gb_per_sec)
    return "\n\n".join(parts)


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
    for flag, what in (
        ("--peak_tflops", "TFLOP/s in the precision of float32"),
        ("--peak_gb_per_sec", "GB/s of memory"),
    ):
        help_text = f"this GPU's {what}, for its roofline (default: by its name, epochcast facts gpus)"
        parser.add_argument(flag, type=positive_float, help=help_text)
    args = parser.parse_args(argv)

    def work() -> int:
        if unknown := set(args.backends.split(",")).difference(IN_LOOP):
            raise ValueError(f"--backends: expected some of {both}, got {', '.join(sorted(unknown))}.")
        planned = jobs(device_of().kind == "gpu", args.rounds, args.tiny_n, args.cnn_n)
        report = measure_all({backend: planned[backend] for backend in args.backends.split(",")}, args.out)
        print(report_text(report, args.peak_tflops, args.peak_gb_per_sec))
        print(f"load average now {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs: only ratios mean something")
        if not report.rates:
            print("error: no backend could be measured", file=sys.stderr)
            return 1
        print(f"written: {args.out.absolute()}")
        return 0

    return run_command(work)
