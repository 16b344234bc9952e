"""Compare times of a calibrated and a bare roofline: python benchmarks/estimates/bench_roofline.py

On the reference A100 table: the law of six terms, whose coefficients are efficiencies, calibrated with the few
configurations that `epochcast next_runs` picks, judged on all others; beside it the roofline of the data sheet. With
`--networks` also how far a law of our CNN, calibrated on this processor, misses other Keras networks, measured here.
Writes results/benchmarks/roofline.json.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

import numpy as np

from benchmarks.claim_parts.claim import RANDOM, Claim, at_most
from benchmarks.lib.reference_table import steady_rows
from epochcast.cli import run_command
from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.rates import roof_of
from epochcast.machine.environment import utc_now
from epochcast.machine.host.host import cpu_name
from epochcast.model.selection.experimental_design import next_indices
from epochcast.model.selection.next_runs import plan_next
from epochcast.model.time_model.physics import Array, Law, fit_law
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.recipes import LAW_ALONE
from epochcast.output.text import table_text
from epochcast.paths import home
from epochcast.roofline.network import TrainedNetwork
from epochcast.roofline.roofline import Roof, step_roof
from epochcast.schema import AggRow, RunConfig
from epochcast.storage.files import write_json_atomically
from epochcast.workload.shape import layer_records

REFERENCE_GPU, REFERENCE_ARITHMETIC = "NVIDIA A100 80GB PCIe", "tf32"  # of the published measurements
PICKED = 8
DRAWS = 40
LIMIT = 5.0  # % of median error
MOST_SHOWN = 5  # rows where a figure is worst
LOW, HIGH = 0.05, 0.95  # quantiles of the factor by which a run takes longer than its roof

# of the second part: our CNN to calibrate, other networks to miss
IMAGES = 1024
ROUNDS = 8
CNN_GRID = [RunConfig(*values) for values in itertools.product((1, 2, 3), (8, 16, 32), (16, 64, 256))]
BATCH_SIZES = (32, 128)


def attainable_sec(configs: Sequence[RunConfig], train_n: int, roof: Roof) -> Array:
    """What an epoch takes at least under a roof, launches included, shape (n,)."""
    return np.array(
        [
            config.steps_per_epoch(train_n) * step_roof(layer_records(config), config.batch_size, roof).sec
            for config in configs
        ]
    )


def calibrated(table: Table, picked: Sequence[RunConfig]) -> tuple[Law, list[RunConfig], Array]:
    """The law through the picked rows, the other configurations, and its relative error on each of those."""
    is_in = np.array([config in picked for config in table.configs])
    known, rest = table.take(is_in), table.take(~is_in)
    law = fit_law(LAW_ALONE, known.configs, known.seconds, table.train_n)
    return law, rest.configs, law.seconds(rest.configs) / rest.seconds - 1


def a100_claims(rows: Sequence[AggRow], roof: Roof) -> tuple[list[Claim], dict[str, Any]]:
    """Both errors with all that tells them, and the same as JSON values."""
    table = Table.of(rows)
    picked = [run.config for run in plan_next([], table.configs, PICKED, None).runs]
    law, rest, error = calibrated(table, picked)
    blind = [table.configs[i] for i in next_indices(table.configs, [], PICKED, table.train_n)]
    draws = [RANDOM(seed).choice(len(table), PICKED, replace=False) for seed in range(DRAWS)]
    drawn = [100 * float(np.median(np.abs(calibrated(table, [table.configs[i] for i in draw])[2]))) for draw in draws]
    size = 100 * np.abs(error)
    worst = np.argsort(-size)[:MOST_SHOWN]
    factor = table.seconds / attainable_sec(table.configs, table.train_n, roof)
    low, median, high = (float(np.quantile(factor, q)) for q in (LOW, 0.5, HIGH))
    ends = np.argsort(factor)
    claims = [
        Claim("calibrated with", f"{len(picked)} configurations: {' '.join(map(str, picked))}"),
        at_most(f"median error on the {len(rest)} others", float(np.median(size)), LIMIT),
        Claim("90th percentile", f"{np.quantile(size, 0.9):.3g} %"),
        Claim("worst", "; ".join(f"{rest[i]} {100 * error[i]:+.1f} %" for i in worst)),
        Claim(
            "median error where no time guides the choice",
            f"{100 * np.median(np.abs(calibrated(table, blind)[2])):.3g} % ({' '.join(map(str, blind))})",
        ),
        Claim(
            f"median error with {PICKED} drawn at random, {DRAWS} draws",
            f"{np.median(drawn):.3g} % in the median, {max(drawn):.3g} % at worst",
        ),
        *(Claim(f"efficiency, {term}", words) for term, words in law.readings().items()),
        Claim(
            f"uncalibrated: a run takes so many times its roof, n = {len(factor)}",
            f"{median:.2g} in the median, {low:.2g} to {high:.3g} for {100 * LOW:g} to {100 * HIGH:g} %",
        ),
        Claim("median error of the bare roof", f"{100 * np.median(1 - 1 / factor):.3g} %"),
        Claim(
            "median error of the roof times its median factor", f"{100 * np.median(np.abs(median / factor - 1)):.3g} %"
        ),
        Claim("nearest to its roof", "; ".join(f"{table.configs[i]} {factor[i]:.2g}" for i in ends[:MOST_SHOWN])),
        Claim(
            "furthest from it", "; ".join(f"{table.configs[i]} {factor[i]:.3g}" for i in ends[: -MOST_SHOWN - 1 : -1])
        ),
    ]
    return claims, {
        "picked": [asdict(config) for config in picked],
        "n_others": len(rest),
        "median_error": float(np.median(size)) / 100,
        "p90_error": float(np.quantile(size, 0.9)) / 100,
        "worst_error": float(size.max()) / 100,
        "coefficients": law.coefficients.tolist(),
        "factor": {
            "median": median,
            "low": low,
            "high": high,
            "least": float(factor.min()),
            "most": float(factor.max()),
        },
    }


def networks_missed() -> dict[str, Any]:
    """A law of our CNN calibrated here with PICKED runs, and what it says of networks of other families."""
    from benchmarks.lib.other_networks import NETWORKS, fastest_epochs
    from epochcast.keras_layers.read_layers import read_layers
    from epochcast.machine.framework import keras_on_cpu
    from epochcast.workload.cnn import build_model

    keras = keras_on_cpu()
    picked = [run.config for run in plan_next([], CNN_GRID, PICKED, None).runs]
    configs = [*picked, *[config for config in CNN_GRID if config not in picked][::5]]
    others = [(name, *network, size) for name, network in NETWORKS.items() for size in BATCH_SIZES]
    models = [build_model(c) for c in configs] + [build(keras) for _, _, build, _ in others]
    jobs = list(zip(models, [c.batch_size for c in configs] + [size for *_, size in others], strict=True))
    seconds = fastest_epochs(jobs, IMAGES, ROUNDS, lambda words: print(words, file=sys.stderr))
    law = fit_law(LAW_ALONE, picked, np.array(seconds[:PICKED]), IMAGES)
    named = [(f"CNN {c}", "the law's own") for c in configs] + [(name, family) for name, family, *_ in others]
    found = []
    for (name, family), (model, batch_size), sec in list(zip(named, jobs, seconds, strict=True))[PICKED:]:
        work = TrainedNetwork(name, read_layers(model).records, batch_size, IMAGES).work
        law_sec = sum(law.parts_of(work).values())
        found.append(
            {"network": name, "family": family, "batch_size": batch_size, "measured_sec": sec, "law_sec": law_sec}
        )
    return {"device": cpu_name(), "readings": law.readings(), "networks": found}


def networks_table(report: dict[str, Any]) -> str:
    """Measured beside the law's, and by which factor a run took longer than the law says."""
    rows = [
        [n["network"], n["family"], n["batch_size"], n["measured_sec"], n["law_sec"], n["measured_sec"] / n["law_sec"]]
        for n in report["networks"]
    ]
    return table_text(["network", "family", "batch_size", "measured s", "law s", "measured / law"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", action="store_true", help="also train small networks on this processor (minutes)")
    parser.add_argument("--out", type=Path, default=home() / "results" / "benchmarks" / "roofline.json")
    arguments = parser.parse_args()

    def work() -> int:
        roof = roof_of(find_gpu(REFERENCE_GPU), REFERENCE_ARITHMETIC)
        claims, values = a100_claims(steady_rows(), roof)
        words = {True: "reached", False: "NOT REACHED", None: ""}
        print(
            table_text(
                ["claim", "found", "target", ""], [[c.what, c.found, c.target, words[c.reached]] for c in claims]
            )
        )
        report = {"created_utc": utc_now(), "a100": values, "claims": [asdict(claim) for claim in claims]}
        if arguments.networks:
            report["networks"] = networks_missed()
            print(networks_table(report["networks"]))
        write_json_atomically(arguments.out, report)
        print(f"written: {arguments.out.absolute()}")
        return 0 if all(claim.reached is not False for claim in claims) else 1

    return run_command(work)
