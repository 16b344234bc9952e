"""How true the model of board power is of measured power: python benchmarks/external/power_judge.py

On Zeus's power trace (`power_runs` of the reference data): mean board power of six trainings of five networks on two
GPUs, over batch sizes and power limits. Every form is fitted without one network, and without one GPU, and judged on
what was left out. Its range is read off networks that were left out among the others, so that nothing of the judged one
is in it. The shipped numbers, fitted to all runs, stand in epochcast/data/assumptions.csv.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

import numpy as np
import numpy.typing as npt

from benchmarks.claim_parts.claim import Claim, claims_text
from benchmarks.external.networks import NETWORKS, TRANSFORMER, Network
from benchmarks.external.records import read
from epochcast.cli import add_json_flag, make_parser, run_command
from epochcast.facts.assumptions import assumption
from epochcast.facts.tables import Gpu
from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.rates import law_rates
from epochcast.output.text import json_line, table_text
from epochcast.paths import home, reference_data
from epochcast.roofline.network_law import LawNumbers, busy_share, law_seconds, step_work
from epochcast.roofline.roofline import optimizer_passes
from epochcast.storage.files import write_json_atomically

Array = npt.NDArray[np.float64]
LEAST_HELD = 85.0  # % of the runs of networks left out
SHARE = 0.95  # of left-out errors that give a range its width, as of peak memory; every network with the same weight
ALIKE = 0.02  # shipped numbers may be rounded so much
TODAY = (0.16, 0.86)  # of the limit: the band before, read off the ShuffleNet runs


@dataclass(frozen=True)
class Job:
    """A training of the trace: which network it is, and how large a sample."""

    network: str  # two jobs of one network are left out together
    built: Network
    size: int | None  # pixels a side, tokens or frames; the trace says none of these
    other_sizes: tuple[int, ...] = ()  # that it might have as well, where the size is assumed


BERT = Network("bert", "transformers.bert", {"depth": 12, "width": 768, "heads": 12}, None, TRANSFORMER,
               sized_by="positions")  # fmt: skip
JOBS: Mapping[str, Job] = {
    "resnet50": Job("resnet50", NETWORKS["resnet50"], 224),
    "shufflenet_v2_cifar": Job("shufflenet", Network("shufflenet", "power_networks.small_image_shufflenet_v2"), 32),
    "bert_base_uncased_squad": Job("bert", BERT, 384),  # what scripts of that task cut contexts to
    "bert_base_uncased_sentiment140": Job(
        "bert", BERT, 64, (32, 128)
    ),  # tweets, padded to the longest of a batch: assumed
    "ncf_movielens-1m": Job("ncf", Network("ncf", "power_networks.neural_collaborative_filter", sized_by=None), None),
    "deepspeech2_librispeech": Job(  # 12.3 s of speech, the mean of LibriSpeech, at 100 frames a second
        "deepspeech2", Network("deepspeech2", "power_networks.deep_speech_2", sized_by="frames"), 1230, (600, 1600)
    ),
}


@dataclass(frozen=True)
class Runs:
    """Measured runs as arrays, and what the law of networks says of their steps."""

    network: npt.NDArray[np.str_]
    gpu: npt.NDArray[np.str_]
    power_w: Array
    limit_w: Array
    tdp_w: Array
    busy: Array  # share of arithmetic and memory in a step
    arithmetic: Array  # share of arithmetic in a step
    intensity: Array  # FLOP per byte, over the GPU's ridge

    def __len__(self) -> int:
        return len(self.power_w)

    def take(self, chosen: npt.NDArray[np.bool_]) -> Runs:
        return Runs(*(getattr(self, f.name)[chosen] for f in fields(self)))

    @property
    def weights(self) -> Array:
        """Return a weight for each run: every network has the same in all."""
        names, counts = np.unique(self.network, return_counts=True)
        n = dict(zip(names.tolist(), counts.tolist(), strict=True))
        return np.array([1 / n[name] for name in self.network])


def read_runs(path: Path | None = None, jobs: Mapping[str, Job] = JOBS) -> Runs:
    """Return all measured runs; `jobs` say what each trains on.

    Raises:
        FileNotFoundError: if there is no trace.
    """
    path = path or reference_data() / "power_runs" / "zeus_a40_v100.csv"
    with path.open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    records = {name: read(job.built, job.size or 0) for name, job in jobs.items()}
    numbers = LawNumbers.shipped()
    columns: list[tuple[Any, ...]] = []
    for row in cells:
        gpu = find_gpu(row["gpu"])
        work = step_work(
            records[row["network"]], int(row["batch"]), optimizer_passes=optimizer_passes(row["optimizer"])
        )
        arithmetic = arithmetic_of_run(gpu)
        rates = law_rates(gpu, arithmetic)
        assert rates is not None and gpu.tdp_w is not None  # of both GPUs the facts have all
        parts = law_seconds(work, rates, numbers)
        columns.append(
            (
                jobs[row["network"]].network,
                gpu.name,
                float(row["power_w"]),
                float(row["power_limit_w"]),
                gpu.tdp_w,
                busy_share(work, rates, numbers),
                parts.arithmetic / (numbers.step_sec + parts.total),
                work.flop / work.bytes / (rates.dense_flops / rates.bytes_per_sec),
            )
        )
    return Runs(*(np.array(column) for column in zip(*columns, strict=True)))


def arithmetic_of_run(gpu: Gpu) -> str:
    """Return in what PyTorch of the time multiplied float32: as TF32 where the GPU can."""
    return "fp32" if gpu.tf32_tflops is None else "tf32"


# --- forms ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """A model of power: words, share of the TDP, and where the search begins."""

    words: str
    share: Callable[[Sequence[float], Runs], Array]
    start: tuple[float, ...]
    is_of_limit: bool = False  # the share is of the limit in force, not of the TDP and at most the limit

    def watts(self, numbers: Sequence[float], runs: Runs) -> Array:
        share = np.maximum(self.share(numbers, runs), 1e-3)
        return share * runs.limit_w if self.is_of_limit else np.minimum(share * runs.tdp_w, runs.limit_w)

    def errors(self, numbers: Sequence[float], runs: Runs) -> Array:
        """Return the natural logs of measured over predicted power."""
        return np.asarray(np.log(runs.power_w / self.watts(numbers, runs)))

    def fitted(self, runs: Runs) -> tuple[float, ...]:
        """Return the numbers of least mean square log error, networks weighing alike.

        Boards differ in what they draw idle: the mean lies between them, where a median would be one of them.
        """
        from scipy.optimize import minimize

        weights = runs.weights

        def loss(numbers: Sequence[float]) -> float:
            return float(np.average(self.errors(numbers, runs) ** 2, weights=weights))

        starts = [scale * np.array(self.start) for scale in (1.0, 0.7, 1.3)]
        found = [minimize(loss, start, method="Nelder-Mead", options={"maxiter": 600}) for start in starts]
        best = min(found, key=lambda each: each.fun)
        return tuple(map(float, best.x))


def _curved(busy: Array, bend: float) -> Array:
    """Return b / (b + bend (1 - b)), above b where bend < 1."""
    return busy / (busy + max(bend, 1e-3) * (1 - busy))


CONSTANT, OURS = "constant", "linear"
LEFT_OUT_WORDS = {
    "network": "network left out",
    "GPU": "GPU left out, range by the other alone",
    "GPU_by_range_of_all": "GPU left out, range by both",
}
FORMS: Mapping[str, Form] = {
    "constant of limit": Form("a constant share of the limit", lambda x, r: x[0] + 0 * r.busy, (0.6,), True),
    CONSTANT: Form("a constant share of the TDP", lambda x, r: x[0] + 0 * r.busy, (0.6,)),
    "linear of limit": Form("a + b busy, of the limit", lambda x, r: x[0] + x[1] * r.busy, (0.25, 0.6), True),
    OURS: Form("a + b busy", lambda x, r: x[0] + x[1] * r.busy, (0.25, 0.6)),
    "curved": Form("a + b busy / (busy + c idle)", lambda x, r: x[0] + x[1] * _curved(r.busy, x[2]), (0.2, 0.65, 0.3)),
    "parts": Form(
        "a + b arithmetic + c memory",
        lambda x, r: x[0] + x[1] * r.arithmetic + x[2] * (r.busy - r.arithmetic),
        (0.25, 0.6, 0.6),
    ),
    "intensity": Form("a + b log intensity", lambda x, r: x[0] + x[1] * np.log(r.intensity), (0.5, 0.1)),
}


# --- left out ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LeftOut:
    """A form's errors on a group left out of its fit, and its range's half-width in logs."""

    errors: Array
    half: Array

    def is_inside(self, runs: Runs) -> npt.NDArray[np.bool_]:
        """Return which runs are in the range, whose high end is the limit at most."""
        is_below_limit = runs.power_w <= runs.limit_w
        return (np.abs(self.errors) <= self.half) & is_below_limit


def quantile(values: Array, weights: Array, share: float) -> float:
    """Return the least value that such a share of the weights is at or below."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(np.searchsorted(reached, share - 1e-9), len(values) - 1)])


def errors_left_out(form: Form, runs: Runs, group: npt.NDArray[np.str_]) -> Array:
    """Return each run's error by the form fitted without its group."""
    found = np.zeros(len(runs))
    for label in np.unique(group):
        is_out = group == label
        found[is_out] = form.errors(form.fitted(runs.take(~is_out)), runs.take(is_out))
    return found


def half_width(form: Form, runs: Runs) -> float:
    """Return the half-width, in logs, that holds SHARE of the runs left out.

    Of one GPU nothing tells how others differ: its range is too narrow for another, which the report shows.
    """
    groups = [group for group in (runs.network, runs.gpu) if len(np.unique(group)) > 1]
    return max(quantile(np.abs(errors_left_out(form, runs, group)), runs.weights, SHARE) for group in groups)


def left_out(form: Form, runs: Runs, group: npt.NDArray[np.str_]) -> LeftOut:
    """Return errors and range of every group by a form fitted to the others alone."""
    half = np.zeros(len(runs))
    for label in np.unique(group):
        half[group == label] = half_width(form, runs.take(group != label))
    return LeftOut(errors_left_out(form, runs, group), half)


def today(runs: Runs) -> LeftOut:
    """Return the earlier band in the same shape; it was fitted to ShuffleNet's runs."""
    low, high = TODAY
    middle = np.sqrt(low * high) * runs.limit_w
    return LeftOut(np.log(runs.power_w / middle), np.full(len(runs), np.log(high / low) / 2))


def figures(found: LeftOut, runs: Runs, group: npt.NDArray[np.str_]) -> dict[str, Any]:
    """Return the share inside in %, in all and by group, the ranges' width, and errors."""
    inside, factors = found.is_inside(runs), np.exp(np.abs(found.errors))
    value, factor = runs.power_w * np.exp(-found.errors), np.exp(found.half)
    width = np.minimum(value * factor, runs.limit_w) * factor / value
    is_full = runs.limit_w == runs.tdp_w
    return {
        "inside": _percent(inside),
        "inside_at_full_limit": _percent(inside[is_full]),
        "inside_of": {str(name): _percent(inside[group == name]) for name in np.unique(group)},
        "width": float(np.median(width)),  # high over low end
        "largest_factor": float(factor.max()),
        "median": float(np.median(factors)),
        "p90": float(np.quantile(factors, 0.9)),
    }


def _percent(inside: npt.NDArray[np.bool_]) -> float:
    return float(100 * inside.mean())


def judge(runs: Runs) -> dict[str, Any]:
    """Return all figures."""
    groups = {"network": runs.network, "GPU": runs.gpu}
    band = today(runs)
    report: dict[str, Any] = {
        "n": len(runs),
        "at_full_limit": int((runs.limit_w == runs.tdp_w).sum()),
        "above_limit": _percent(runs.power_w > runs.limit_w),
        "networks": {str(name): _facts(runs.take(runs.network == name)) for name in np.unique(runs.network)},
        "GPUs": np.unique(runs.gpu).tolist(),
        "today": {name: figures(band, runs, group) for name, group in groups.items()},
        "forms": {},
    }
    for name, form in FORMS.items():
        half = half_width(form, runs)
        all_half = np.full(len(runs), half)
        report["forms"][name] = {
            "words": form.words,
            "numbers": form.fitted(runs),
            "factor": float(np.exp(half)),
            **{what: figures(left_out(form, runs, group), runs, group) for what, group in groups.items()},
            "GPU_by_range_of_all": figures(LeftOut(errors_left_out(form, runs, runs.gpu), all_half), runs, runs.gpu),
        }
    return report


def _facts(runs: Runs) -> dict[str, Any]:
    ends = {"busy": runs.busy, "power_share": runs.power_w / runs.tdp_w}
    return {"n": len(runs), **{name: [float(each.min()), float(each.max())] for name, each in ends.items()}}


def other_sizes() -> list[list[Any]]:
    """Return job, size, factor and share inside with other sizes where they are assumed."""
    found = []
    for name, job in JOBS.items():
        for size in job.other_sizes:
            runs, form = read_runs(jobs={**JOBS, name: replace(job, size=size)}), FORMS[OURS]
            inside = left_out(form, runs, runs.network).is_inside(runs)
            found.append([name, size, f"{np.exp(half_width(form, runs)):.3g}", f"{_percent(inside):.3g}"])
    return found


def shipped_numbers() -> dict[str, tuple[float, ...]]:
    """Return the numbers in use and the factor of their range, by form."""
    names = {CONSTANT: ("share", "factor"), OURS: ("idle_share", "busy_share", "busy_factor")}
    return {form: tuple(assumption(f"board_power_{name}", "gpu").value for name in own) for form, own in names.items()}


def reach(report: dict[str, Any]) -> list[Claim]:
    """Judge the shipped forms."""
    claims = []
    for name in (OURS, CONSTANT):
        own = report["forms"][name]
        for group, words in LEFT_OUT_WORDS.items():
            found = own[group]
            held = f"{found['inside']:.3g} % of {report['n']} runs, high over low end {found['width']:.3g}"
            target = {"network": (f">= {LEAST_HELD:g} %", found["inside"] >= LEAST_HELD)}.get(group, ())
            claims.append(Claim(f"{own['words']}: inside, {words}", held, *target))
        numbers = (*own["numbers"], own["factor"])
        shipped = shipped_numbers()[name]
        alike = all(abs(ours / fit - 1) <= ALIKE for ours, fit in zip(shipped, numbers, strict=True))
        claims.append(Claim(f"{own['words']}: shipped is the fit", "yes" if alike else "no", f"{ALIKE:.0%}", alike))
    return claims


def report_text(report: dict[str, Any]) -> str:
    """Return all figures for people."""
    header = ("form", "numbers", "x/÷", *(f"{group} out {what}" for group in ("network", "GPU") for what in (
        "inside %", "at TDP %", "worst %", "high/low", "error"
    )))  # fmt: skip
    groups = ("network", "GPU")
    forms = [["band before", "", "", *(cell for group in groups for cell in _cells(report["today"][group]))]]
    forms += [
        [
            found["words"],
            ", ".join(f"{number:.3g}" for number in found["numbers"]),
            f"{found['factor']:.3g}",
            *(cell for group in groups for cell in _cells(found[group])),
        ]
        for found in report["forms"].values()
    ]
    networks = [
        [name, own["n"], *(f"{low:.2f} to {high:.2f}" for low, high in (own["busy"], own["power_share"])),
         *(f"{report['forms'][form]['network']['inside_of'][name]:.3g}" for form in (OURS, CONSTANT))]
        for name, own in report["networks"].items()
    ]  # fmt: skip
    return "\n".join(
        [
            f"{report['n']} runs of {len(report['networks'])} networks on {' and '.join(report['GPUs'])}, "
            f"{report['at_full_limit']} at their TDP; {report['above_limit']:.3g} % are above their limit, which no "
            "range reaches; errors are median / 90th percentile",
            table_text(header, forms),
            table_text(("network", "runs", "busy", "power / TDP", "inside %", "by a constant %"), networks),
            table_text(("job with another size", "size", "x/÷", "network out inside %"), report["other_sizes"]),
            claims_text(reach(report)),
        ]
    )


def _cells(found: dict[str, Any]) -> list[str]:
    numbers = (found["inside"], found["inside_at_full_limit"], min(found["inside_of"].values()), found["width"])
    return [*(f"{number:.3g}" for number in numbers), f"{found['median']:.3f} / {found['p90']:.3f}"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "power_judge.py", (__doc__ or "").partition("\n")[0], "python benchmarks/external/power_judge.py --json"
    )
    add_json_flag(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        report = judge(read_runs()) | {"other_sizes": other_sizes()}
        path = home() / "results" / "benchmarks" / "board_power.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomically(path, report)
        print(json_line(report) if arguments.json else report_text(report))
        return 0

    return run_command(work)
