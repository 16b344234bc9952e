"""Judge times scaled to another GPU on published speeds: python benchmarks/estimates/bench_gpu_scaling.py

Every GPU is left out in turn and is the one carried to, from each of the others. By rates, the weight of compute is
chosen on the pairs without it; the weight in use is shown beside. By speed rows, one network's speed on both GPUs
stands for another's, alone or as the mean of all others: nothing is chosen there. An error factor is what the larger of
predicted and published is over the smaller. The bar is that of epochcast/data/assumptions.csv; beside it stands the bar
that 90 % of the pairs without the GPU would have asked for, and what share of its own pairs that one holds. The last
columns judge the bar, and mark the lines that answers for our network rest on.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations, product
from pathlib import Path

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from epochcast.facts.assumptions import assumption
from epochcast.facts.tables import CONVOLUTIONAL, SpeedRow, speed_rows
from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.ratio import WIDE_KINDS, GpuArithmetic, log_gain, rates_error_factor
from epochcast.output.text import table_text
from epochcast.paths import home
from epochcast.storage.files import write_json_atomically

PRECISIONS = {"fp16": "mixed_float16", "fp32": "float32"}  # the rows' word: ours
WEIGHTS = tuple(i / 20 for i in range(21))
TARGET_SHARE = 0.85
BAR_SHARE = 0.90
MOST_MISSED = 2  # GPUs named
HALF_GAIN = 1.2  # below this gain of fp16 over fp32 a network did not compute in half precision

Speeds = Mapping[tuple[str, str, str], float]  # by GPU, task, precision
Errors = Mapping[tuple[str, str, str], float]  # natural logs, by source GPU, target GPU, task or pair of tasks


@dataclass(frozen=True, slots=True)
class Coverage:
    """How one route did on one group of networks; factors are error factors, shares of pairs."""

    route: str
    networks: str
    precision: str
    pairs: int
    weight: str  # chosen without the GPU: from the smallest to the largest
    median_factor: float
    p90_factor: float
    bar: float
    inside: float
    inside_in_use: float | None  # with the weight in use, where one was chosen
    bar_of_others: str
    inside_bar_of_others: float
    is_shown: bool  # whether an answer rests on this route and bar
    most_missed: str  # the GPUs on either side of most pairs outside the bar, with how many

    @property
    def verdict(self) -> str:
        """Whether the bar holds what it promises."""
        least = min(self.inside, self.inside if self.inside_in_use is None else self.inside_in_use)
        return "yes" if least >= TARGET_SHARE else "NO"


def speeds_of(rows: Iterable[SpeedRow]) -> dict[tuple[str, str, str], float]:
    return {(row.gpu, row.task, row.precision): row.throughput for row in rows}


def half_precision_gain(speeds: Speeds, task: str) -> float:
    """The median over GPUs of a network's speed in fp16 over that in fp32."""
    gpus = sorted({gpu for gpu, of, _ in speeds if of == task})
    return statistics.median(speeds[gpu, task, "fp16"] / speeds[gpu, task, "fp32"] for gpu in gpus)


# --- errors -----------------------------------------------------------------------------------------------------------


def rates_errors(speeds: Speeds, tasks: Sequence[str], source: str, target: str, weight: float) -> Errors:
    """Of carrying by rates between any two GPUs, from one precision to the same or another."""
    gpus = sorted({gpu for gpu, _, _ in speeds})
    devices = {(gpu, p): GpuArithmetic.of(find_gpu(gpu), PRECISIONS[p], "on") for gpu in gpus for p in {source, target}}
    errors = {}
    for a, b in _pairs(gpus, source, target):
        predicted = log_gain(devices[a, source], devices[b, target], weight)
        for task in tasks:
            errors[a, b, task] = predicted - math.log(speeds[b, task, target] / speeds[a, task, source])
    return errors


def rows_errors(
    speeds: Speeds, pairs: Iterable[tuple[str, Sequence[str]]], source: str, target: str
) -> dict[tuple[str, str, str], float]:
    """Of carrying each task by the mean log ratio of other tasks' speeds."""
    gpus = sorted({gpu for gpu, _, _ in speeds})
    errors = {}
    for task, others in pairs:
        for a, b in _pairs(gpus, source, target):
            own, *told = (math.log(speeds[b, t, target] / speeds[a, t, source]) for t in (task, *others))
            errors[a, b, f"{task} from {', '.join(others)}"] = statistics.fmean(told) - own
    return errors


def _pairs(gpus: Sequence[str], source: str, target: str) -> Iterable[tuple[str, str]]:
    """Any GPU to any other, and where the precision changes to itself."""
    return permutations(gpus, 2) if source == target else product(gpus, repeat=2)


# --- leaving one GPU out ----------------------------------------------------------------------------------------------


def left_out(
    route: str,
    networks: str,
    precision: str,
    errors_by_weight: Mapping[float, Errors],
    bar: float,
    is_shown: bool,
    in_use: float | None = None,
    chosen: Mapping[str, float] | None = None,
) -> Coverage:
    """One line of the report.

    Args:
        errors_by_weight: of the group, by weight; one entry where there is none to choose.
        chosen: the weight chosen without each GPU; by default on the errors of the group.
    """
    chosen = chosen or weights_chosen(errors_by_weight)
    gpus = sorted({target for _, target, _ in next(iter(errors_by_weight.values()))})
    factors, used, weights, bars, held = [], [], [], [], []
    missed: Counter[str] = Counter()
    for gpu in gpus:
        weight = chosen[gpu]
        weights.append(weight)
        own_pairs = {key: _factor(e) for key, e in errors_by_weight[weight].items() if key[1] == gpu}
        own = list(own_pairs.values())
        missed.update(g for (a, b, _), factor in own_pairs.items() if factor > bar for g in {a, b})
        others = [_factor(e) for (a, b, _), e in errors_by_weight[weight].items() if gpu not in (a, b)]
        needed = quantile(others, BAR_SHARE)
        factors += own
        bars.append(needed)
        held += [factor <= needed for factor in own]
        if in_use is not None:
            used += [_factor(e) for (_, target, _), e in errors_by_weight[in_use].items() if target == gpu]
    return Coverage(
        route,
        networks,
        precision,
        len(factors),
        "-" if in_use is None else f"{min(weights):g} to {max(weights):g}",
        statistics.median(factors),
        quantile(factors, BAR_SHARE),
        bar,
        _share(factor <= bar for factor in factors),
        _share(factor <= bar for factor in used) if used else None,
        f"{min(bars):.2f} to {max(bars):.2f}",
        _share(held),
        is_shown,
        ", ".join(f"{name} {n}" for name, n in missed.most_common(MOST_MISSED)),
    )


def weights_chosen(errors_by_weight: Mapping[float, Errors]) -> dict[str, float]:
    """Return for each GPU the weight with the least mean error on the pairs without it."""
    gpus = {target for _, target, _ in next(iter(errors_by_weight.values()))}
    if len(errors_by_weight) == 1:
        return dict.fromkeys(gpus, next(iter(errors_by_weight)))
    return {gpu: min(errors_by_weight, key=lambda w: _mean_without(errors_by_weight[w], gpu)) for gpu in gpus}


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that holds at least this share of them."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def _mean_without(errors: Errors, gpu: str) -> float:
    return statistics.fmean(abs(e) for (a, b, _), e in errors.items() if gpu not in (a, b))


def _factor(error: float) -> float:
    return math.exp(abs(error))


def _share(claims: Iterable[bool]) -> float:
    return statistics.fmean(map(float, claims))


# --- report -----------------------------------------------------------------------------------------------------------


def coverages(rows: Sequence[SpeedRow]) -> list[Coverage]:
    """Every route, group of networks and precision of the published speeds."""
    speeds = speeds_of(rows)
    tasks = sorted({row.task for row in rows})
    ours = sorted({row.task for row in rows if row.kind == CONVOLUTIONAL})
    kind_of = {row.task: row.kind for row in rows}
    bar_of_all, bar_of_rows = (assumption(f"carry_bar{name}", "gpu").value for name in ("", "_speed_row"))
    in_use = assumption("carry_compute_weight", "gpu").value
    weights = sorted({*WEIGHTS, in_use})
    halved = [task for task in tasks if half_precision_gain(speeds, task) >= HALF_GAIN]
    shown = {f"{task} and one other": task for task in ours}
    found = []
    for source, target in (("fp16", "fp16"), ("fp32", "fp32"), ("fp32", "fp16")):
        precision = source if source == target else f"{source} to {target}"
        known = tasks if target == "fp32" or source == target else halved  # what was no fp16 is no change to it
        everything = {w: rates_errors(speeds, known, source, target, w) for w in weights}
        chosen = weights_chosen(everything)
        for name, group in {"all": known, **{task: [task] for task in known}}.items():
            own = {w: {key: e for key, e in of.items() if key[2] in group} for w, of in everything.items()}
            bar = bar_of_all if name == "all" else rates_error_factor(kind_of[name])
            found.append(left_out("rates", name, precision, own, bar, name in ("all", *ours), in_use, chosen))
        same = tasks if target == "fp32" else halved  # a row that was no fp16 is none of the precision asked for
        singles = [(t, [u]) for t in same for u in same if t != u]
        groups = {
            "one from one other": singles,
            **{name: [pair for pair in singles if t in (pair[0], *pair[1])] for name, t in shown.items()},
            "one from the mean of all others": [(t, [u for u in same if u != t]) for t in same],
        }
        for name, pairs in groups.items():
            errors = rows_errors(speeds, pairs, source, target)
            found.append(left_out("speed row", name, precision, {0.0: errors}, bar_of_rows, name in shown))
    return found


def missed_lines(found: Sequence[Coverage]) -> list[str]:
    """Which lines hold less than they promise, and whose GPUs' speeds are to blame."""
    missed = [c for c in found if c.verdict == "NO"]
    if not missed:
        return ["every bar holds what it promises"]
    return [
        f"holds less: {c.route} {c.networks} {c.precision}, {100 * c.inside:.1f} %"
        f"{'' if c.inside_in_use is None else f' ({100 * c.inside_in_use:.1f} % with the weight in use)'}; "
        f"of the {round((1 - c.inside) * c.pairs)} pairs outside most have to do with {c.most_missed}"
        f"{'' if c.is_shown else '; no answer rests on it'}"
        for c in missed
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=home() / "results" / "benchmarks" / "carry.json")
    arguments = parser.parse_args()
    rows = speed_rows()
    found = coverages(rows)
    header = ["route", "networks", "precision", "pairs", "weight", "median", "90 %", "bar", "inside %", "as used %"]
    lines = [
        [
            *(c.route, c.networks, c.precision, c.pairs, c.weight),
            *(f"{c.median_factor:.2f}", f"{c.p90_factor:.2f}", f"{c.bar:g}", f"{100 * c.inside:.0f}"),
            "" if c.inside_in_use is None else f"{100 * c.inside_in_use:.0f}",
            *(c.bar_of_others, f"{100 * c.inside_bar_of_others:.0f}", c.verdict, "yes" if c.is_shown else ""),
        ]
        for c in found
    ]
    share = f">= {100 * TARGET_SHARE:.0f} %"
    print(table_text([*header, "bar of others", "inside it %", share, "in answers"], lines))
    for line in missed_lines(found):
        print(line)
    speeds = speeds_of(rows)
    gains = {task: half_precision_gain(speeds, task) for task in sorted({row.task for row in rows})}
    print("median gain of fp16 over fp32: " + ", ".join(f"{task} {gain:.2f}" for task, gain in gains.items()))
    print(
        f"A network that gains less than {HALF_GAIN:g} did not compute in half precision: its fp16 rows stand in no "
        f"route by speed rows.\nNetworks of the kinds {' and '.join(WIDE_KINDS)} are made of convolutions and have the "
        "wide bar by rates; waveglow, of dilated ones over sound in one dimension, is no stand-in for our network's "
        "kind, and stands for another one in fp32 alone."
    )
    gpus = len({row.gpu for row in rows})
    write_json_atomically(arguments.out, {"gpus": gpus, "half_gain": gains, "coverage": [asdict(c) for c in found]})
    print(f"written: {arguments.out.absolute()}")
    return 0
