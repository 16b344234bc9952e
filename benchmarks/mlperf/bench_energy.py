"""Fit and judge the energy of trainings on whole nodes: python benchmarks/mlperf/bench_energy.py

The factor k of E = k x TDP x GPUs x time is the median of the groups (system, benchmark) of the metered runs of MLPerf
Training, each group by the mean of its runs. Judged with each system left out, next to MLCost's fixed 1.04. Also
MLCost's own example by its formula. Writes results/benchmarks/mlperf_energy.json.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from benchmarks.claim_parts.claim import Claim, claims_text
from benchmarks.mlperf.power_runs import PowerRun, power_runs
from epochcast.cli import add_json_flag, make_parser, run_command
from epochcast.facts.regions import find_region
from epochcast.footprint.footprint import mlcost_energy
from epochcast.footprint.rules import FootprintRules
from epochcast.gpus.lookup import find_gpu
from epochcast.interval import Interval
from epochcast.mlperf.training_energy import node_power_share, training_footprints
from epochcast.output.text import json_line, table_text
from epochcast.paths import home, reference_data
from epochcast.storage.files import write_json_atomically

TARGET = 0.08  # mean error of the nodes with the system left out
EXAMPLE = ("A100-SXM-80GB", 8, 1255.7)  # of MLCost: BERT, 20.9 minutes
EXAMPLE_REGIONS = ("KR", "DE")

Groups = Mapping[tuple[str, str], float]  # mean k of the runs of a system and benchmark


@dataclass(frozen=True, slots=True)
class Fit:
    """The factor of one kind of power, and groups' errors by the other systems'."""

    k: float
    low: float  # of single runs
    high: float
    runs: int
    groups: int
    systems: int
    own_error: float  # mean, fitted to all
    left_out_error: float  # mean, with the system left out
    worst_error: float
    worst_group: str
    held: int  # groups within the lowest and highest run of the other systems
    rest: Mapping[str, float]  # of a system: the factor that the others give


def group_means(runs: Sequence[PowerRun], name: str) -> Groups:
    """Return the mean of one of `k`, `k_with_network` for each system and benchmark that has it."""
    values = defaultdict(list)
    for run in runs:
        if (value := getattr(run, name)) is not None:
            values[run.system, run.benchmark].append(value)
    return {group: fmean(own) for group, own in values.items()}


def fitted(runs: Sequence[PowerRun], name: str = "k") -> Fit:
    """Fit one of `k`, `k_with_network` and judge it with each system left out."""
    groups = group_means(runs, name)
    runs = [run for run in runs if (run.system, run.benchmark) in groups]
    k = median(groups.values())
    rest, held = {}, 0
    for left_out in dict.fromkeys(system for system, _ in groups):
        rest[left_out] = median(value for (system, _), value in groups.items() if system != left_out)
        others = [getattr(run, name) for run in runs if run.system != left_out]
        held += sum(min(others) <= value <= max(others) for (system, _), value in groups.items() if system == left_out)
    errors = {group: abs(rest[group[0]] / value - 1) for group, value in groups.items()}
    worst = max(errors, key=lambda group: errors[group])
    singles = [getattr(run, name) for run in runs]
    return Fit(
        k=k,
        low=min(singles),
        high=max(singles),
        runs=len(runs),
        groups=len(groups),
        systems=len(rest),
        own_error=fmean(abs(k / value - 1) for value in groups.values()),
        left_out_error=fmean(errors.values()),
        worst_error=errors[worst],
        worst_group=" ".join(worst),
        held=held,
        rest=rest,
    )


def mlcost_error(runs: Sequence[PowerRun]) -> float:
    """Return the mean error of MLCost's formula with the TDP of the data sheet."""
    k = mlcost_energy(Interval(1.0), 1.0).joules.value
    return fmean(abs(k / value - 1) for value in group_means(runs, "k").values())


def mlcost_example() -> dict[str, float]:
    """Return MLCost's own example by its formula and its prices: kWh, and USD by region."""
    name, gpus, sec = EXAMPLE
    rules = FootprintRules(regions=tuple(map(find_region, EXAMPLE_REGIONS)), energy_formula="mlcost")
    found = training_footprints(find_gpu(name), gpus, Interval(sec), rules)
    example = {} if found[0].wall_kwh is None else {"kwh": found[0].wall_kwh.value}
    for each in found:
        if each.electricity_usd is not None:
            example[f"usd_{each.rates.region.code}"] = each.electricity_usd.value
    return example


def judge(runs: Sequence[PowerRun]) -> dict[str, Any]:
    """Return all figures as JSON values."""
    at_wall = [run for run in runs if not run.is_dc]
    behind = group_means([run for run in runs if run.is_dc], "k")
    before = {system.replace("-ac-", "-dc-"): system for system, _ in group_means(at_wall, "k")}
    means = group_means(at_wall, "k")
    losses = [1 - value / means[before[system], benchmark] for (system, benchmark), value in behind.items()]
    return {
        "runs": len(runs),
        "coverage_least": min(run.coverage for run in runs),
        "nodes": asdict(fitted(at_wall)),
        "nodes_and_switches": asdict(fitted(at_wall, "k_with_network")),
        "shipped": asdict(node_power_share()),
        "shipped_with_switches": asdict(node_power_share(has_network=True)),
        "mlcost_error": mlcost_error(at_wall),
        "loss_of_power_supplies": [min(losses), max(losses)],
        "mlcost_example": mlcost_example(),
        "groups": [_group_row(at_wall, group) for group in means],
    }


def _group_row(runs: Sequence[PowerRun], group: tuple[str, str]) -> dict[str, Any]:
    own = [run for run in runs if (run.system, run.benchmark) == group]
    switches = [run.k_with_network for run in own if run.k_with_network is not None]
    return {
        "system": group[0],
        "benchmark": group[1],
        "gpus": own[0].gpus,
        "runs": len(own),
        "sec": fmean(run.sec for run in own),
        "kj": fmean(run.node_j for run in own) / 1e3,
        "k": fmean(run.k for run in own),
        "k_low": min(run.k for run in own),
        "k_high": max(run.k for run in own),
        "k_with_network": fmean(switches) if switches else None,
    }


HEADER = ("system", "benchmark", "GPUs", "runs", "s", "kJ", "k", "lowest", "highest", "with switches", "others' k")


def report_text(report: dict[str, Any]) -> str:
    """Return all figures for people."""
    rest = report["nodes"]["rest"]
    rows = [[*group.values(), rest[group["system"]]] for group in report["groups"]]
    low, high = report["loss_of_power_supplies"]
    example = report["mlcost_example"]
    return "\n".join(
        [
            f"{report['runs']} metered runs; readings cover at least {report['coverage_least']:.1%} of each. Used are "
            f"those metered at the wall; what is metered behind the power supplies is {low:.1%} to {high:.1%} less.",
            table_text(HEADER, rows),
            "",
            claims_text(
                [
                    *_claims("nodes", report["nodes"], TARGET),
                    *_claims("nodes and switches", report["nodes_and_switches"]),
                ]
            ),
            f"MLCost's 1.04 on the same groups: mean error {report['mlcost_error']:.1%}",
            f"MLCost's example by its formula and prices: {example['kwh']:.3f} kWh, USD "
            + ", ".join(f"{example[f'usd_{code}']:.3f} in {code}" for code in EXAMPLE_REGIONS),
        ]
    )


def _claims(what: str, fit: Mapping[str, Any], target: float | None = None) -> list[Claim]:
    of = f"{fit['runs']} runs, {fit['groups']} groups, {fit['systems']} systems"
    return [
        Claim(f"k of {what}", f"{fit['k']:.3f}, runs {fit['low']:.3f} to {fit['high']:.3f} ({of})"),
        Claim(f"{what}: mean error, fitted to all", f"{fit['own_error']:.1%}"),
        Claim(
            f"{what}: mean error, system left out",
            f"{fit['left_out_error']:.1%}, worst {fit['worst_error']:.0%} ({fit['worst_group']})",
            "" if target is None else f"<= {target:.0%}",
            None if target is None else fit["left_out_error"] <= target,
        ),
        Claim(f"{what}: groups within the runs of other systems", f"{fit['held']} of {fit['groups']}"),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "bench_energy.py", (__doc__ or "").partition("\n")[0], "python benchmarks/mlperf/bench_energy.py --json"
    )
    add_json_flag(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        report = judge(power_runs(reference_data() / "mlperf"))
        path = home() / "results" / "benchmarks" / "mlperf_energy.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomically(path, report)
        print(json_line(report) if arguments.json else report_text(report))
        return 0

    return run_command(work)
